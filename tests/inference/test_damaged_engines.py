"""Every engine is held against its manifest and the bundle, whether or not its backend can run here."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from core.bundle.engine_manifest import engines_of, load_manifest
from core.errors import CheckError, InputError
from core.files import write_json
from export.commands import package
from inference import cuda_device
from inference.backends import trt
from inference.commands import verify
from tests.bundles import make_bundle
from tests.export import fake_trt


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A bundle with two engines."""
    bundle = make_bundle(tmp_path_factory.mktemp("built") / "bundle", precisions=("fp32", "fp16"))
    with pytest.MonkeyPatch.context() as patch:
        fake_trt.put_here(patch, fake_trt.make("10.3.0"))
        for precision in bundle.precisions:
            trt.build(bundle, precision)
    return bundle


@pytest.fixture
def bundle(built, tmp_path, monkeypatch):
    """A copy of it, on a machine without a device."""
    monkeypatch.setattr(cuda_device, "unavailable_reason", lambda: "there is no CUDA device or no driver for it")
    return replace(built, path=shutil.copytree(built.path, tmp_path / "runs" / "tiny" / "production"))


def make_run(production):
    """Write the run that a production bundle was chosen in, with the bundle it is a copy of."""
    run = production.path.parent
    write_json(run / "run.json", {"schema": 1, "pack": {"path": "pack", "fingerprint": ""}})
    shutil.copytree(production.path, run / production.arch / "bundle")


def flip_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def damage_engine(engine):
    flip_bit(engine)
    return "its sha256 differs"


def damage_manifest(engine):
    flip_bit(engine.with_name(f"{engine.name}.json"))
    return f"{engine.name}.json"


def remove_engine(engine):
    engine.unlink()
    return "missing or of another size"


def remove_manifest(engine):
    engine.with_name(f"{engine.name}.json").unlink()
    return "has no manifest"


def rename(engine):
    """Another engine under this one's name: its hash holds, its name does not."""
    other = next(file for file in engine.parent.glob("*.engine") if file != engine)
    engine.write_bytes(other.read_bytes())
    manifest = load_manifest(other, "")
    engine.with_name(f"{engine.name}.json").write_bytes(other.with_name(f"{other.name}.json").read_bytes())
    return f"its file name is {manifest.engine}"


def change_contract(engine):
    replace(load_manifest(engine, ""), contract="0" * 64).save(engine.parent)
    return f"its contract is {'0' * 64}"


def change_onnx(engine):
    replace(load_manifest(engine, ""), onnx_sha256="0" * 64).save(engine.parent)
    return "its ONNX sha256 is"


def write_a_number(engine):
    """The digest agrees: written so by another program, or another version of this one."""
    manifest = load_manifest(engine, "")
    object.__setattr__(manifest, "target", 87)
    manifest.save(engine.parent)
    return "target is 87, not a text"


def prove_nowhere(engine):
    manifest = load_manifest(engine, "")
    object.__setattr__(manifest, "proved_on", {"sm": 87})
    object.__setattr__(manifest, "state", "proved")
    manifest.save(engine.parent)
    return "has a value of the wrong type ('name')"


DAMAGES = (
    damage_engine,
    damage_manifest,
    remove_engine,
    remove_manifest,
    rename,
    change_contract,
    change_onnx,
    write_a_number,
    prove_nowhere,
)


def test_whole_engines_pass_without_a_device(bundle, capsys):
    assert verify.main([str(bundle.path), "--json"]) == 0
    lines = {line["what"]: line["result"] for line in json.loads(capsys.readouterr().out)}
    assert [lines[engine.name] for engine in engines_of(bundle)] == ["passed", "passed"]
    assert lines["trt"] == "unavailable"


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_engine_is_a_failed_check_that_names_it(bundle, capsys, damage, number):
    engine = engines_of(bundle)[number]
    said = damage(engine)
    with pytest.raises(CheckError, match=f"1 checks failed, first {engine.name}"):
        verify.main([str(bundle.path), "--backends", "null", "--json"])
    line = next(line for line in json.loads(capsys.readouterr().out) if line["what"] == engine.name)
    assert line["result"] == "failed"
    assert said in line["detail"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_engine_is_not_packed(bundle, damage):
    run = bundle.path.parent
    make_run(bundle)
    damage(engines_of(bundle)[0])
    with pytest.raises(InputError, match=engines_of(bundle)[0].name):
        package.main([str(run)])
    assert not list(run.glob("*.tar.gz"))


@pytest.mark.parametrize("name", ["engines/net.plan", "engines/older/fp16.engine", "model.int3.onnx"])
def test_what_nothing_binds_is_not_packed(bundle, name):
    run, stray = bundle.path.parent, bundle.path / name
    make_run(bundle)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"not proved")
    with pytest.raises(InputError, match=f"{stray} is neither bound by"):
        package.main([str(run)])
    stray.unlink()
    assert package.main([str(run)]) == 0
