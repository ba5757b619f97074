"""Whatever is changed in a bundle is refused in one sentence that names the file, and nothing of it is run."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest

from core.bundle import engine_manifest, golden_file
from core.bundle.contract import onnx_name, open_bundle
from core.errors import InputError
from core.files import sealed, sha256_of_json
from inference.backends import open_backend
from inference.proof.verify import verify
from tests.bundles import make_bundle
from tests.export import runs

ENGINE = "fp32.tensorrt_rtx.sm86.b1-4-16.engine"


def flip_bit(path, place=0.5):
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1
    path.write_bytes(data)


def check_engine(bundle, **changes):
    source, engine = engine_manifest.source_of(bundle, "fp32"), bundle.path / "engines" / ENGINE
    made = engine_manifest.load_manifest(engine, "")
    facts = {"runtime": "tensorrt_rtx", "version": made.version, "sm": 86, **changes}
    return engine_manifest.check_engine_fits(source, engine, **facts)


@pytest.mark.parametrize("name", [onnx_name("fp32"), onnx_name("int8"), golden_file.NAME, "parity.json"])
@pytest.mark.parametrize("place", [0.01, 0.5, 0.999])
def test_one_bit_of_a_bound_file(bundle_path, name, place):
    flip_bit(bundle_path / name, place)
    with pytest.raises(InputError, match=f"{name} is not the file that was proved"):
        verify(open_bundle(bundle_path))


def test_one_bit_of_a_model_stops_the_backend_before_it_is_read(bundle_path, monkeypatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: pytest.fail("it was opened"))
    flip_bit(bundle_path / onnx_name("fp32"))
    with pytest.raises(InputError, match="not the file that was proved"):
        open_backend("ort", open_bundle(bundle_path), "fp32")


def test_any_value_of_bundle_json(bundle_path):
    body = json.loads((bundle_path / "bundle.json").read_text())
    for key in body:
        if key == "digest":
            continue
        changed = {**body, key: "other" if key != "schema" else 0}
        (bundle_path / "bundle.json").write_text(json.dumps(changed))
        with pytest.raises(InputError, match=r"bundle\.json"):
            open_bundle(bundle_path)


def test_a_threshold_changed_with_its_digest_breaks_the_contract(bundle_path):
    body = json.loads((bundle_path / "bundle.json").read_text())
    body["temperature"] *= 2
    body["digest"] = sha256_of_json({k: v for k, v in body.items() if k != "digest"})
    (bundle_path / "bundle.json").write_text(json.dumps(body))
    with pytest.raises(InputError, match="contract hash"):
        open_bundle(bundle_path)


def test_an_older_schema_and_keys_that_are_missing_or_unknown_are_named(bundle_path):
    file = bundle_path / "bundle.json"
    body = json.loads(file.read_text())
    for changed, said in [
        ({**body, "schema": 0}, "schema 0"),
        ({k: v for k, v in body.items() if k != "gates"}, "lacks gates"),
        ({**body, "extra": 1}, "unknown keys extra"),
    ]:
        file.write_text(json.dumps(changed))
        with pytest.raises(InputError, match=said):
            open_bundle(bundle_path)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("arch", None, "arch is None, expected: string"),
        ("synthetic", "no", "synthetic is 'no', expected: boolean"),
        ("temperature", 10**4000, "temperature is 10+, expected: number"),
        ("provenance", [], "provenance is .*, expected: object"),
        ("files", {"a": "b"}, "files.a is 'b', expected: object"),
        ("gates", [], "gates is .*, expected: object"),
        ("gates", {"fp32": "yes"}, "gates.fp32 is 'yes', expected: object"),
        ("gates", {"fp32": {"passed": "no"}}, "gates.fp32.passed is 'no', expected: boolean"),
    ],
)
def test_a_value_of_another_type_whose_digest_was_made_anew(bundle_path, key, value, said):
    body = json.loads((bundle_path / "bundle.json").read_text())
    body[key] = value
    (bundle_path / "bundle.json").write_text(json.dumps(sealed({k: v for k, v in body.items() if k != "digest"})))
    with pytest.raises(InputError, match=f"bundle.json is damaged, export the run again .*: {said}"):
        open_bundle(bundle_path)


def test_a_bound_name_that_leaves_the_folder(bundle_path):
    body = json.loads((bundle_path / "bundle.json").read_text())
    body["files"]["../../etc/passwd"] = {"sha256": "0" * 64, "bytes": 1}
    body["digest"] = sha256_of_json({k: v for k, v in body.items() if k != "digest"})
    (bundle_path / "bundle.json").write_text(json.dumps(body))
    with pytest.raises(InputError, match="leaves the bundle"):
        open_bundle(bundle_path)


def test_an_engine_with_one_other_bit(bundle_path):
    check_engine(open_bundle(bundle_path))
    flip_bit(bundle_path / "engines" / ENGINE)
    with pytest.raises(InputError, match="its sha256 differs"):
        check_engine(open_bundle(bundle_path))


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_manifest_with_one_other_bit(bundle_path, place):
    flip_bit(bundle_path / "engines" / f"{ENGINE}.json", place)
    with pytest.raises(InputError, match=f"{ENGINE}.json"):
        check_engine(open_bundle(bundle_path))


def test_an_engine_without_a_manifest_is_never_opened(bundle_path):
    (bundle_path / "engines" / f"{ENGINE}.json").unlink()
    with pytest.raises(InputError, match="has no manifest and is not opened"):
        check_engine(open_bundle(bundle_path))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sm": 89}, "its compute capability is sm86, here it is sm89"),
        ({"version": "0.1"}, "its runtime version is .*, here it is 0.1"),
        ({"runtime": "tensorrt"}, "its runtime is tensorrt_rtx, here it is tensorrt"),
    ],
)
def test_an_engine_of_another_device_or_runtime_names_both_sides(bundle_path, changes, said):
    with pytest.raises(InputError, match=said) as refused:
        check_engine(open_bundle(bundle_path), **changes)
    assert "python -m inference build" in str(refused.value)


def test_an_engine_of_another_bundle(bundle_path, tmp_path):
    other = make_bundle(tmp_path / "other")
    (other.path / "engines").mkdir()
    for name in (ENGINE, f"{ENGINE}.json"):
        (other.path / "engines" / name).write_bytes((bundle_path / "engines" / name).read_bytes())
    with pytest.raises(InputError, match="its contract is"):
        check_engine(other)


def write_golden(path, headers):
    """Write an archive of arrays whose headers claim these shapes and which hold nothing."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, shape in headers.items():
            stream = io.BytesIO()
            np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
            archive.writestr(f"{name}.npy", stream.getvalue())


@pytest.mark.parametrize("shape", [(2 << 30,), (1 << 62, 4), (65536, 65536, 3)])
def test_a_header_that_claims_gigabytes_allocates_nothing(tmp_path, shape):
    write_golden(tmp_path / golden_file.NAME, {"frame_0": shape})
    tracemalloc.start()
    with pytest.raises(InputError, match=r"golden\.npz is not a golden file .*claims \d+ bytes and does not hold them"):
        golden_file.load_golden(tmp_path / golden_file.NAME)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_bomb_of_zeros_is_refused_by_what_it_claims(tmp_path):
    with zipfile.ZipFile(tmp_path / golden_file.NAME, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("frame_0.npy", bytes(golden_file.LIMIT_BYTES + 1))
    with pytest.raises(InputError, match="at most"):
        golden_file.load_golden(tmp_path / golden_file.NAME)


def test_the_command_says_it_in_one_line_and_exits_2(bundle_path):
    flip_bit(bundle_path / onnx_name("int8"))
    done = subprocess.run(
        [sys.executable, "-m", "inference", "verify", str(bundle_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "model.int8.onnx" in done.stderr
    assert runs.ARCH not in done.stdout
