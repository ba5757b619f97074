"""Build an engine from an ONNX file of a bundle: TensorRT 10 and 11 and TensorRT-RTX, through one code path.

TensorRT builds for the device it runs on. TensorRT-RTX builds ahead of time, on a machine without a GPU too.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Any

from inference.backends import _cuda
from inference.contract import INPUT, Bundle, onnx_name
from inference.errors import CheckError, InputError
from inference.files import replacing, sha256_of_file
from inference.passport import Passport, engine_file

RUNTIMES = ("tensorrt", "tensorrt_rtx")
WORKSPACE_BYTES = 1 << 30


@dataclass(frozen=True)
class Options:
    """What decides an engine besides its ONNX file and its target."""

    batches: tuple[int, ...] = (1,)
    """One static profile each: exact shapes give the fastest kernels."""
    tf32: bool = False
    """Let a GPU round fp32 products to TF32. Off, so that fp32 is fp32."""

    def __post_init__(self) -> None:
        if not self.batches or any(n < 1 for n in self.batches) or len(set(self.batches)) != len(self.batches):
            raise InputError(f"batches is {self.batches}: give different whole numbers from 1")


def importable() -> list[str]:
    """Return which of RUNTIMES are installed."""
    return [name for name in RUNTIMES if find_spec(name) is not None]


def module_of(runtime: str | None) -> tuple[str, Any]:
    """Import a runtime, the first that is installed when None; return its name and module."""
    here = importable()
    if runtime is not None and runtime not in RUNTIMES:
        raise InputError(f"there is no runtime {runtime!r}: choose from {', '.join(RUNTIMES)}")
    if not here or (runtime and runtime not in here):
        raise InputError(
            f"{runtime or 'neither tensorrt nor tensorrt_rtx'} is {'not ' if runtime else ''}installed: "
            "pip install tensorrt-rtx-cu13, or tensorrt from NVIDIA's index"
        )
    import importlib

    name = runtime or here[0]
    return name, importlib.import_module(name)


_loggers: dict[str, Any] = {}


def logger(trt: ModuleType) -> Any:
    """Return the one logger of a runtime: it prints nothing, and keeps the errors for the sentence we print."""
    if trt.__name__ not in _loggers:

        class Kept(trt.ILogger):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.errors: list[str] = []

            def log(self, severity: Any, message: str) -> None:
                if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                    self.errors.append(message)

        _loggers[trt.__name__] = Kept()
    kept = _loggers[trt.__name__]
    kept.errors.clear()
    return kept


def build(
    bundle: Bundle, precision: str, *, runtime: str | None = None, sm: int | None = None, options: Options | None = None
) -> Path:
    """Build the engine of one precision for one compute capability; write it with its passport; return its path.

    sm: 86 for 8.6; None for the device that is here. Raises InputError when it cannot be asked for here, CheckError
    naming the runtime's reason when the runtime cannot build it.
    """
    options = options or Options()
    name, trt = module_of(runtime)
    onnx = bundle.check_file(onnx_name(precision))
    device = None if _cuda.absence() else _cuda.device()
    target = _target(name, trt, sm, device)
    started = perf_counter()
    engine = _serialise(trt, onnx, target, name == "tensorrt_rtx", bundle, precision, options)
    path = engine_file(bundle, precision, name, target)
    with replacing(path) as temporary:
        temporary.write_bytes(engine)
    Passport(
        engine=path.name,
        engine_sha256=sha256_of_file(path),
        engine_bytes=path.stat().st_size,
        onnx=onnx.name,
        onnx_sha256=bundle.files[onnx.name]["sha256"],
        contract=bundle.contract,
        precision=precision,
        runtime=name,
        version=trt.__version__,
        target=f"sm{target}",
        built_on=device.name if device else "no device: ahead of time",
        cuda=device.cuda if device else "",
        flags={"strongly_typed": True, "tf32": options.tf32, "workspace_bytes": WORKSPACE_BYTES},
        batches=options.batches,
        calibration=bundle.gates.get(precision, {}).get("calibration"),
        build_seconds=round(perf_counter() - started, 3),
    ).save(path.parent)
    return path


def _target(name: str, trt: Any, sm: int | None, device: _cuda.Device | None) -> int:
    """Return the compute capability to build for."""
    if name == "tensorrt":
        if device is None:
            raise InputError(f"tensorrt builds only on a device: {_cuda.absence()}; use --runtime tensorrt_rtx")
        if sm not in (None, device.sm):
            raise InputError(f"tensorrt builds for the device that is here (sm{device.sm}), not for sm{sm}")
        return device.sm
    if sm is None:
        if device is None:
            raise InputError(f"{_cuda.absence()}: name the target of the engine, for example --sm 86")
        sm = device.sm
    known = sorted(int(key.removeprefix("SM")) for key in trt.ComputeCapability.__members__ if key.startswith("SM"))
    if sm not in known:
        raise InputError(f"{name} {trt.__version__} has no target sm{sm}: choose from {', '.join(map(str, known))}")
    return sm


def _serialise(
    trt: Any, onnx: Path, target: int, ahead_of_time: bool, bundle: Bundle, precision: str, options: Options
) -> Any:
    """Parse and build; return the engine's bytes. Raises CheckError with the runtime's own reason."""
    log = logger(trt)
    builder = trt.Builder(log)
    # TensorRT 11 knows only strongly typed networks and may drop the flag
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(onnx)):
        reasons = [parser.get_error(i).desc() for i in range(parser.num_errors)] or log.errors
        raise CheckError(f"{onnx} does not parse in {trt.__name__} {trt.__version__} ({_first(reasons)})")
    if precision == "int8":
        kept = bundle.gates.get("int8", {}).get("kept_float", [])
        if floats := [name for name in float_layers(trt, network) if name not in kept]:
            raise CheckError(f"{onnx}: the layers {', '.join(floats[:5])} would run in float ({len(floats)} in all)")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    if not options.tf32 and hasattr(trt.BuilderFlag, "TF32"):
        config.clear_flag(trt.BuilderFlag.TF32)
    if ahead_of_time:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{target}"), 0)
    size = bundle.geometry.size_px
    for batch in options.batches:
        profile = builder.create_optimization_profile()
        shape = (batch, size, size, 3)
        profile.set_shape(INPUT["name"], shape, shape, shape)
        config.add_optimization_profile(profile)
    log.errors.clear()
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise CheckError(
            f"{trt.__name__} {trt.__version__} cannot build {onnx.name} for sm{target} ({_first(log.errors)})"
        )
    return engine


def _first(messages: list[str]) -> str:
    return " ".join(messages[0].split())[:300] if messages else "it gave no reason"


def float_layers(trt: Any, network: Any) -> list[str]:
    """Return the convolutions and matrix products of a parsed network that do not read dequantised inputs."""
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    producer = {layer.get_output(i).name: layer for layer in layers for i in range(layer.num_outputs)}
    passing = {trt.LayerType.SHUFFLE, trt.LayerType.CAST, trt.LayerType.IDENTITY}

    def dequantised(tensor: Any) -> bool:
        layer = producer.get(tensor.name) if tensor is not None else None
        while layer is not None and layer.type in passing:
            layer = producer.get(layer.get_input(0).name)
        return layer is not None and layer.type == trt.LayerType.DEQUANTIZE

    weighted = [item for item in layers if item.type in (trt.LayerType.CONVOLUTION, trt.LayerType.MATRIX_MULTIPLY)]
    return [item.name for item in weighted if not (dequantised(item.get_input(0)) and dequantised(item.get_input(1)))]
