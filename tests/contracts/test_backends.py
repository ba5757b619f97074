"""What every backend holds, found as the product finds it; those of a GPU run on a fake one, by ONNX Runtime's CPU."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest

from core.bundle.contract import open_bundle
from core.errors import DeviceError, InputError
from inference import backends
from inference.backends import UnavailableError, open_backend
from inference.proof import golden_run
from tests.bundles import make_bundle, tiny_graph
from tests.export import fake_trt
from tests.inference import fake_cuda, fake_ort_cuda

ROWS = 3
FACTS = {"backend", "runtime", "version", "device", "precision", "file", "threads"}


@pytest.fixture
def cuda(monkeypatch):
    """A device, a TensorRT and a CUDA provider."""
    fake_trt.put_here(monkeypatch, fake_trt.make("10.3.0"))
    fake_ort_cuda.put_provider(monkeypatch, fake_cuda.Buffer.cuda)
    return fake_cuda.Buffer.cuda


@pytest.fixture(params=backends.names())
def name(request, cuda):
    assert backends.availability(request.param).available, "its runtime is a package that the tests need"
    return request.param


@pytest.fixture
def bundle(name, tmp_path):
    """A bundle with all that the backend needs to open fp32."""
    made = make_bundle(tmp_path / "bundle")
    backends.build_missing(name, made, "fp32", [1, ROWS])
    return made


@pytest.fixture
def opened(name, bundle):
    with open_backend(name, bundle, "fp32", batch=ROWS, threads=1) as backend:
        yield backend


def fill(backend, seed=0):
    backend.input_nhwc[:] = np.random.default_rng(seed).integers(0, 256, backend.input_nhwc.shape, np.uint8)


@pytest.mark.parametrize("batch", [1, ROWS])
def test_the_golden_frames_hold_in_every_precision_at_every_batch(name, bundle, batch):
    for precision in set(backends.find(name).PRECISIONS) & set(bundle.precisions):
        backends.build_missing(name, bundle, precision, [1, ROWS])
        with open_backend(name, bundle, precision, batch=batch, threads=1) as backend:
            for exactly in (None, *backend.batch_sizes):
                rows = golden_run.check_golden(bundle, name, backend, precision, batch=exactly)
                assert rows
                assert all(row.passed for row in rows), rows


def test_buffers_are_the_backends_own_and_of_the_shape_that_was_said(opened, bundle):
    size = bundle.geometry.size_px
    frames = opened.input_nhwc
    assert (frames.dtype, frames.shape[1:], len(frames) >= ROWS) == (np.uint8, (size, size, 3), True)
    assert frames.flags.c_contiguous
    assert frames.flags.writeable
    fill(opened)
    before = frames.copy()
    for n in range(1, ROWS + 1):
        probs = opened.infer(n)
        assert (probs.dtype, probs.shape) == (np.float32, (n, len(bundle.classes)))
        assert np.allclose(probs.sum(1), 1, atol=1e-5)
    assert opened.input_nhwc is frames
    assert np.array_equal(frames, before), "the network writes into the pictures"


def test_an_answer_is_overwritten_by_the_next_call_and_by_no_other_backend(name, opened, bundle):
    fill(opened)
    first = opened.infer(ROWS)
    assert np.shares_memory(first, opened.infer(1)), "a call allocates"
    kept = opened.infer(ROWS).copy()
    with open_backend(name, bundle, "fp32", batch=ROWS, threads=1) as other:
        assert not np.shares_memory(other.input_nhwc, opened.input_nhwc)
        fill(other, seed=1)
        other.infer(ROWS)
    assert np.array_equal(first, kept)


def test_a_row_does_not_depend_on_the_rows_beside_it(opened):
    fill(opened)
    together = opened.infer(ROWS).copy()
    rows = opened.input_nhwc.copy()
    for i in range(ROWS):
        opened.input_nhwc[0], opened.input_nhwc[1:] = rows[i], 255 - rows[1:]
        assert np.allclose(opened.infer(1)[0], together[i], atol=1e-6)


def test_what_runs_is_said_in_full(name, opened, bundle):
    facts = opened.describe()
    assert set(facts) == FACTS
    assert (facts["backend"], facts["precision"]) == (name, "fp32")
    assert facts["file"] is None or list(bundle.path.rglob(facts["file"]))
    assert facts["threads"] >= 1
    assert json.loads(json.dumps(facts)) == facts


def test_closed_twice_is_closed_once_and_leaves_nothing_on_the_device(name, bundle, cuda):
    with open_backend(name, bundle, "fp32", batch=ROWS) as backend:
        backend.close()
    backend.close()
    assert (cuda.open, fake_cuda.Buffer.at) == (0, {})


def failing(*_, **__):
    raise RuntimeError("device lost")


RUNS = {
    "openvino": (openvino.InferRequest, "infer"),
    "ort": (onnxruntime.capi.onnxruntime_inference_collection.InferenceSession, "run_with_iobinding"),
    "ort_cuda": (fake_ort_cuda.Session, "run_with_iobinding"),
    "trt": (fake_cuda.Cuda, "cudaGraphLaunch"),
}
"""What each runtime runs a network by."""


def test_a_runtime_that_fails_while_it_runs_is_a_device_error(name, opened, monkeypatch):
    if name == "null":
        pytest.skip("it runs nothing")
    monkeypatch.setattr(*RUNS[name], failing if name != "trt" else lambda *_: cuda_failure())
    with pytest.raises(DeviceError, match="device lost") as failed:
        opened.infer(1)
    assert "\n" not in str(failed.value)
    assert opened.describe()["device"]


def cuda_failure():
    """What `inference.cuda_device.call` makes of an error of CUDA."""
    raise DeviceError("CUDA's cudaGraphLaunch failed (device lost): run `nvidia-smi` to see why")


def test_its_options_are_typed_and_told_and_a_wrong_one_is_refused_with_those_there_are(name, bundle):
    kind = backends.find(name).Options
    there = [item.name for item in fields(kind)]
    told = backends.option_help().splitlines()
    assert [line.split("=")[0].split() for line in told if line.split()[0] == name] == [
        [name, option] for option in there
    ]
    assert all(len(line.split("  ", 2)[-1]) > 20 for line in told), "a field lacks its docstring"
    with pytest.raises(InputError, match=f"the backend {name} has no option 'colour': .*{'.*'.join(there)}"):
        open_backend(name, bundle, "fp32", options=["colour=red"])
    for option in there:
        with pytest.raises(InputError, match=f"the backend {name}: the option {option} is 'red', give"):
            open_backend(name, bundle, "fp32", options=[f"{option}=red"])


def test_an_error_inside_closes_it(name, bundle, monkeypatch):
    backend, closed = open_backend(name, bundle, "fp32"), []
    monkeypatch.setattr(backend, "close", lambda close=backend.close: closed.append(close()))
    with pytest.raises(ZeroDivisionError), backend:
        _ = 1 / 0
    assert closed == [None]


def test_opening_and_running_write_nothing(name, bundle):
    def files():
        return {file: file.read_bytes() for file in bundle.path.rglob("*") if file.is_file()}

    before = files()
    with open_backend(name, bundle, "fp32", batch=ROWS) as backend:
        backend.infer(ROWS)
    assert files() == before


@pytest.mark.parametrize("precision", ["int3", "", "FP32"])
def test_a_precision_that_there_is_not_is_wrong_input(name, bundle, precision):
    with pytest.raises(InputError, match=r"has no precision .*choose from") as refused:
        open_backend(name, bundle, precision)
    assert not isinstance(refused.value, UnavailableError)


def test_a_precision_that_the_bundle_lacks_is_wrong_input(name, bundle):
    """No engine can be built of it: that it is missing is not the answer."""
    lacking = set(backends.find(name).PRECISIONS) - set(bundle.precisions)
    for precision in lacking:
        with pytest.raises(InputError, match=f"no {precision}") as refused:
            open_backend(name, bundle, precision)
        assert not isinstance(refused.value, UnavailableError)


def bit(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def cut(file):
    file.write_bytes(file.read_bytes()[:-20])


def other(file):
    """A model that loads: only its hash is not the one that was proved."""
    onnx.save(tiny_graph(3, scale=-0.05), file)


@pytest.mark.parametrize("damage", [bit, cut, other, Path.unlink])
def test_a_damaged_file_is_refused_by_name(name, bundle, damage):
    with open_backend(name, bundle, "fp32") as backend:
        file = backend.describe()["file"]
    if file is None:
        pytest.skip("it opens no file")
    damage(next(bundle.path.rglob(file)))
    with pytest.raises(InputError, match="fp32") as refused:
        open_backend(name, bundle, "fp32")
    assert "\n" not in str(refused.value)


def test_a_file_that_is_no_model_is_refused_by_name(name, bundle):
    """Its hash holds: so it was exported."""
    with open_backend(name, bundle, "fp32") as backend:
        file = backend.describe()["file"]
    if file not in bundle.files:
        pytest.skip("it opens no file that the bundle binds")
    (bundle.path / file).write_bytes(b"no model")
    bundle.with_files(sorted(bundle.files)).save()
    with pytest.raises(InputError, match=f"{file} does not load") as refused:
        open_backend(name, open_bundle(bundle.path), "fp32")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", backends.names())
def test_without_any_runtime_it_is_unavailable_and_says_what_helps(name, tmp_path, monkeypatch):
    bundle = make_bundle(tmp_path / "bundle")
    for package in ("onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "cuda"):
        monkeypatch.setitem(sys.modules, package, None)
    found = backends.availability(name)
    assert found.available == (name == "null")
    if name != "null":
        assert found.reason
        assert found.hint
        with pytest.raises(UnavailableError, match=f"the backend {name} is not available"):
            open_backend(name, bundle, "fp32")
