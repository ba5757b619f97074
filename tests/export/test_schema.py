"""bundle.schema.json says what bundle.json is, and agrees with the reader on the device."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from core.bundle import contract
from core.bundle.contract import INPUT, PRECISIONS, SCHEMA, Bundle, open_bundle
from core.bundle.production_choice import ProductionChoice, this_machine
from core.geometry.detector_config import DetectorConfig, DetectorInput
from core.geometry.preprocess import KERNELS, SIZE_RANGE_PX
from tests.bundles import make_bundle
from tests.export import runs

FILE = Path(contract.__file__).parent / "bundle.schema.json"


@pytest.fixture(scope="module")
def schema():
    body = json.loads(FILE.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(body)
    return body


def test_an_exported_bundle_is_valid(exported, schema):
    body = json.loads((exported / runs.ARCH / "bundle" / "bundle.json").read_text())
    Draft202012Validator(schema).validate(body)
    assert all("method" in gate for name, gate in body["gates"].items() if name == "int8")


def test_a_bundle_without_gates_facts_is_valid(tmp_path, schema):
    Draft202012Validator(schema).validate(make_bundle(tmp_path / "bundle").as_json())


def test_a_chosen_bundle_is_valid(tmp_path, schema):
    chosen = replace(make_bundle(tmp_path / "bundle"), choice=ProductionChoice("int8", "ort", 2, this_machine()))
    Draft202012Validator(schema).validate(chosen.as_json())


def test_a_bundle_with_a_detector_is_valid_and_read_back(tmp_path, schema):
    detector = DetectorConfig("yolox", DetectorInput("top_left", size_hw=(416, 416)), counts=("2",), every=3)
    made = replace(make_bundle(tmp_path / "bundle"), detector=detector)
    made.save()
    assert open_bundle(made.path) == made
    Draft202012Validator(schema).validate(made.as_json())
    assert not Draft202012Validator(schema).is_valid({**made.as_json(), "schema": 1})


def test_a_detector_leaves_the_contract_of_engines_as_it_was(tmp_path):
    made = make_bundle(tmp_path / "bundle")
    assert replace(made, detector=DetectorConfig("yolox")).contract_hash == made.contract_hash


def test_it_names_the_keys_and_constants_of_the_reader(schema):
    keys = {item.name for item in fields(Bundle)} - {"path"}
    written = keys | {"schema", "input", "contract", "digest"}
    assert set(schema["properties"]) == {*schema["required"], "detector"} == written
    properties = schema["properties"]
    assert properties["schema"]["enum"] == [1, SCHEMA]
    detector = {item.name for item in fields(DetectorConfig)}
    # not required: a bundle of an earlier version lacks it
    assert {*properties["detector"]["required"], "min_side_px"} == detector
    assert set(properties["detector"]["properties"]) == {"min_side_px"}
    assert properties["input"]["const"] == INPUT
    assert set(properties["gates"]["propertyNames"]["enum"]) == set(PRECISIONS)
    geometry = properties["geometry"]["properties"]
    assert set(geometry["kernel"]["enum"]) == set(KERNELS)
    assert (geometry["size_px"]["minimum"], geometry["size_px"]["maximum"]) == SIZE_RANGE_PX


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schema", 0),
        ("classes", ["car"]),
        ("temperature", 0),
        ("abstain_threshold", 2),
        ("files", {"../x": {"sha256": "0" * 64, "bytes": 1}}),
        ("gates", {"int3": {"passed": True, "checks": []}}),
        ("digest", "short"),
    ],
)
def test_it_refuses_what_the_reader_refuses(tmp_path, schema, key, value):
    body = {**make_bundle(tmp_path / "bundle").as_json(), key: value}
    assert not Draft202012Validator(schema).is_valid(body)
