"""What a device keeps beside an engine, and what reaches its builder; the device is a fake, the files are real."""

from __future__ import annotations

import signal

import pytest

from core.bundle.engine_manifest import FOLDER, load_manifest
from core.errors import InputError
from inference.backends import open_backend, trt
from inference.backends.trt import build_progress
from inference.backends.trt.kernel_cache import read_cache, runtime_file, timing_file, write_cache
from inference.backends.trt.layers import layers_file
from tests.bundles import make_bundle
from tests.export import fake_trt


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path / "bundle")


@pytest.fixture
def put(monkeypatch):
    """Return a function that puts a fake runtime and a device of compute capability 8.7 here."""
    return lambda module: fake_trt.put_here(monkeypatch, module)


def test_the_timing_cache_is_kept_and_reused_by_the_same_version_alone(bundle, put):
    module = put(fake_trt.make("10.3.0"))
    trt.build(bundle, "fp32")
    kept = timing_file(bundle.path / FOLDER, 87)
    assert read_cache(kept, "tensorrt 10.3.0") == b"+timed"
    trt.build(bundle, "int8")
    assert module.config.cache.kept == b"+timed"
    put(fake_trt.make("11.0.0"))
    trt.build(bundle, "fp32")
    assert read_cache(kept, "tensorrt 11.0.0") == b"+timed"


def test_a_damaged_cache_is_not_given_to_the_runtime(tmp_path):
    write_cache(tmp_path / "a.cache", "tensorrt 10.3.0", b"tactics")
    assert read_cache(tmp_path / "a.cache", "tensorrt 10.3.0") == b"tactics"
    assert read_cache(tmp_path / "a.cache", "tensorrt 11.0.0") == b""
    data = bytearray((tmp_path / "a.cache").read_bytes())
    data[-1] ^= 1
    (tmp_path / "a.cache").write_bytes(data)
    assert read_cache(tmp_path / "a.cache", "tensorrt 10.3.0") == b""
    assert read_cache(tmp_path / "none.cache", "x") == b""


@pytest.mark.parametrize(("typed_flag", "flags"), [(True, 2), (False, 0)])
def test_what_was_asked_for_reaches_the_builder_and_the_passport(bundle, put, typed_flag, flags):
    module = put(fake_trt.make("11.0.0", typed_flag=typed_flag))
    engine = trt.build(bundle, "fp32", options=trt.BuildOptions((1, 3), level=5, workspace_mib=64))
    size = bundle.geometry.size_px
    assert module.network_flags == flags
    assert module.config.builder_optimization_level == 5
    assert module.config.limits == {"workspace": 64 << 20}
    assert module.config.cleared == ["tf32"]
    assert module.config.profiles == [(1, size, size, 3), (3, size, size, 3)]
    manifest = load_manifest(engine, "")
    assert manifest.flags | {"level": 5, "workspace_mib": 64, "tf32": False} == manifest.flags
    assert (manifest.built_on, manifest.target) == ("Fake Orin", "sm87")


def test_progress_is_said(bundle, put, monkeypatch):
    module, said = put(fake_trt.make("10.3.0")), []
    monkeypatch.setattr(build_progress, "show", said.append)
    trt.build(bundle, "fp32")
    assert said[0] == "fp32.tensorrt.sm87.b1-4-16.engine: timing, 1 of 2"
    assert module.went_on == [True]


class StoppedError(Exception):
    """What the handler of a command raises."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_inside_a_callback_ends_the_build_and_reaches_the_command(bundle, put, monkeypatch, number):
    module = put(fake_trt.make("10.3.0"))

    def stop(number, frame):
        raise StoppedError

    before = signal.signal(number, stop)
    monkeypatch.setattr(build_progress, "show", lambda sentence: signal.raise_signal(number) if sentence else None)
    try:
        with pytest.raises(StoppedError):
            trt.build(bundle, "fp32")
        assert signal.getsignal(number) is stop
        monkeypatch.undo()
        put(fake_trt.make("10.3.0"))
        trt.build(bundle, "fp32")
    finally:
        signal.signal(number, before)
    assert module.went_on == [False]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_the_process_ignores_stops_no_build(bundle, put, monkeypatch, number):
    module = put(fake_trt.make("10.3.0"))
    monkeypatch.setattr(build_progress, "show", lambda sentence: signal.raise_signal(number) if sentence else None)
    before = signal.signal(number, signal.SIG_IGN)
    try:
        trt.build(bundle, "fp32")
    finally:
        signal.signal(number, before)
    assert module.went_on == [True]


def test_the_layers_of_an_engine_stand_beside_it_where_there_is_a_device(bundle, put):
    put(fake_trt.make("10.3.0"))
    engine = trt.build(bundle, "fp32")
    assert layers_file(engine).read_text() == "Conv_0 int8"


def test_compiled_kernels_are_kept_with_the_proof_and_found_again(bundle, put, capsys):
    module = put(fake_trt.make("1.7.1", "tensorrt_rtx", compiles_late=True))
    engine = trt.build(bundle, "fp32", runtime="tensorrt_rtx")
    with open_backend("trt", bundle, "fp32") as backend:
        assert "kernels compiled" in capsys.readouterr().err
        assert not runtime_file(engine).exists()
        backend.mark_proved()
    assert read_cache(runtime_file(engine), load_manifest(engine, "").engine_sha256) == b"+timed"
    open_backend("trt", bundle, "fp32").close()
    assert module.contexts[-1][0].cache.kept == b"+timed"
    assert "kernels found in" in capsys.readouterr().err


def test_tensorrt_is_asked_for_no_runtime_cache(bundle, put):
    module = put(fake_trt.make("10.3.0"))
    engine = trt.build(bundle, "fp32", options=trt.BuildOptions((1,)))
    with open_backend("trt", bundle, "fp32") as backend:
        backend.mark_proved()
    assert module.contexts == [()]
    assert not runtime_file(engine).exists()


@pytest.mark.parametrize("options", [{"level": 6}, {"workspace_mib": 0}, {"batches": ()}, {"batches": (1, 1)}])
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        trt.BuildOptions(**options)
