"""bundle.schema.json says what bundle.json is, and agrees with the reader on the device."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from core.bundle import contract
from core.bundle.choice import ProductionChoice, this_machine
from core.bundle.contract import INPUT, PRECISIONS, SCHEMA, Bundle
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


def test_it_names_the_keys_and_constants_of_the_reader(schema):
    keys = {item.name for item in fields(Bundle)} - {"path"}
    assert set(schema["properties"]) == set(schema["required"]) == keys | {"schema", "input", "contract", "digest"}
    properties = schema["properties"]
    assert properties["schema"]["const"] == SCHEMA
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
        ("gates", {"int4": {"passed": True, "checks": []}}),
        ("digest", "short"),
    ],
)
def test_it_refuses_what_the_reader_refuses(tmp_path, schema, key, value):
    body = {**make_bundle(tmp_path / "bundle").as_json(), key: value}
    assert not Draft202012Validator(schema).is_valid(body)
