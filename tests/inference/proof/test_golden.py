"""The golden frames notice a wrong file, a wrong geometry and a wrong model."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace

import numpy as np
import onnx
import pytest

from core.bundle import golden_file
from core.bundle.contract import open_bundle
from core.errors import CheckError, InputError
from inference.backends import open_backend
from inference.backends.null import NullBackend
from inference.proof import golden_run
from inference.proof.self_test import run_self_test
from tests.bundles import make_bundle, tiny_graph


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path / "bundle")


def rows_of(bundle, precision="fp32", backend="ort", batch=1):
    opened = open_backend(backend, bundle, precision, batch=batch, threads=1)
    try:
        return golden_run.check_golden(bundle, backend, opened, precision)
    finally:
        opened.close()


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_the_model_that_was_proved_passes_at_every_batch(bundle, batch):
    rows = rows_of(bundle, batch=batch)
    assert [row.check for row in rows] == ["geometry, gray levels", "max |dprob|", "flips of a clear top-1"]
    assert all(row.passed for row in rows)
    assert rows[1].value < 1e-5


def test_another_model_fails(bundle):
    onnx.save(tiny_graph(3, scale=-0.05), bundle.path / "model.fp32.onnx")
    bundle.with_files(sorted(bundle.files)).save()
    failed = [row.check for row in rows_of(open_bundle(bundle.path)) if not row.passed]
    assert failed == ["max |dprob|", "flips of a clear top-1"]


def test_the_null_backend_is_checked_for_geometry_alone(bundle):
    rows = rows_of(bundle, backend="null")
    assert [row.check for row in rows] == ["geometry, gray levels"]
    assert rows[0].passed


def test_swapped_colours_fail_geometry(bundle):
    stored = golden_file.load_golden(bundle.path / golden_file.NAME)
    replace(stored, geometry_rhwc=stored.geometry_rhwc[..., ::-1].copy()).save(bundle.path / golden_file.NAME)
    bundle.with_files(sorted(bundle.files)).save()
    assert not rows_of(open_bundle(bundle.path))[0].passed


def test_it_is_loaded_as_it_was_saved(bundle):
    stored = golden_file.load_golden(bundle.path / golden_file.NAME)
    stored.save(bundle.path / "again.npz")
    assert (bundle.path / "again.npz").read_bytes() == (bundle.path / golden_file.NAME).read_bytes()


def test_a_changed_golden_file_is_refused(bundle):
    data = bytearray((bundle.path / golden_file.NAME).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle.path / golden_file.NAME).write_bytes(data)
    with pytest.raises(InputError, match="not the file that was proved"):
        rows_of(bundle)


@pytest.mark.parametrize("shape", [(1 << 31,), (1 << 20, 1 << 20), (7,)])
def test_an_array_header_that_claims_more_than_there_is_is_refused(tmp_path, shape):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(tmp_path / "golden.npz", "w") as archive:
        archive.writestr("rects_r4.npy", header.getvalue() + b"123")
    with pytest.raises(InputError, match="claims"):
        golden_file.load_golden(tmp_path / "golden.npz")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"not a zip"])
def test_a_file_that_is_no_archive_is_refused_in_one_sentence(tmp_path, data):
    (tmp_path / "golden.npz").write_bytes(data)
    with pytest.raises(InputError, match="not a golden file"):
        golden_file.load_golden(tmp_path / "golden.npz")


def test_a_tie_is_no_flip_but_a_clear_one_is():
    expected = np.array([[0.5, 0.5], [0.9, 0.1]], np.float32)
    tie = golden_file.compare_probs("ort", "int8", np.array([[0.49, 0.51], [0.9, 0.1]], np.float32), expected)
    clear = golden_file.compare_probs("ort", "int8", np.array([[0.5, 0.5], [0.1, 0.9]], np.float32), expected)
    assert (tie[1].value, clear[1].value) == (0, 1)


def test_nan_fails():
    expected = np.array([[0.9, 0.1]], np.float32)
    assert not golden_file.compare_probs("ort", "fp32", np.array([[np.nan, np.nan]], np.float32), expected)[0].passed


def test_power_on_drives_each_second_region_of_every_frame_and_checks_it(bundle):
    driven = []

    class Counted(NullBackend):
        def infer(self, n):
            driven.append(n)
            return super().infer(n)

    assert run_self_test(bundle, "null", Counted(bundle, "fp32", 1), "fp32")["passed"]
    assert sum(driven) == 3
    stored = golden_file.load_golden(bundle.path / golden_file.NAME)
    assert len(stored.rects_r4) == 5
    assert set(stored.every_nth(2).frame_of_r) == set(stored.frame_of_r)
    probs = stored.probs["fp32"].copy()
    probs[2] = probs[2, ::-1]  # the second of the three
    replace(stored, probs=stored.probs | {"fp32": probs}).save(bundle.path / golden_file.NAME)
    bundle.with_files(sorted(bundle.files)).save()
    opened = open_backend("ort", open_bundle(bundle.path), "fp32", threads=1)
    with pytest.raises(CheckError, match="self-test"):
        run_self_test(open_bundle(bundle.path), "ort", opened, "fp32")
    opened.close()
