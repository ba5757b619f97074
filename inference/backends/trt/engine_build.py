"""Build an engine from an ONNX file of a bundle: TensorRT 10 and 11 and TensorRT-RTX, through one code path.

TensorRT builds for the device it runs on. TensorRT-RTX builds ahead of time, on a machine without a GPU too.
"""

from __future__ import annotations

import importlib
import logging
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

from core import plugins
from core.bundle.contract import INPUT, Bundle, onnx_name
from core.bundle.engine_manifest import FOLDER, EngineManifest, engine_name
from core.errors import CheckError, InputError
from core.files import replacing, sha256_of_file, write_text
from inference import cuda_device
from inference.backends.trt.build_progress import logger, monitor, show
from inference.backends.trt.kernel_cache import read_cache, timing_file, write_cache

log = logging.getLogger(__name__)

RUNTIMES = ("tensorrt", "tensorrt_rtx")
EFFORTS = range(6)
MIB = 1 << 20
RTX_TARGETS = "compute capabilities, 86 for 8.6, of SM75 to SM121 without SM87 (Orin) and SM90 (Hopper)"
"""What TensorRT-RTX builds for. Source: its support matrices; a version names its own when it refuses one."""
RTX_INT8 = "TensorRT-RTX documents int8 as weight-only; whether it is faster was not measured"
"""Source: the support matrix of TensorRT-RTX 1.5, column "INT8 WoQ GEMM"."""
INSTALL = "pip install tensorrt-rtx-cu13, or tensorrt from NVIDIA's index"


@dataclass(frozen=True)
class BuildOptions(plugins.PluginOptions):
    """The options that determine an engine, besides its ONNX file and its target."""

    batches: tuple[int, ...] = (1, 4, 16)
    """Regions at a time, with a profile for each; a frame's regions run on the smallest profile that holds them."""
    tf32: bool = False
    """Let the GPU round fp32 products to TF32, a mantissa of 10 bits."""
    level: int | None = None
    """The effort of the search for fast kernels, 0 to 5; the runtime's own default unless set."""
    workspace_mib: int = 1024
    """The most scratch memory, in MiB, of a kernel, while engines are built and run."""

    def __post_init__(self) -> None:
        if self.level is not None and self.level not in EFFORTS:
            raise InputError(f"level is {self.level}: give {EFFORTS.start} to {EFFORTS.stop - 1}")
        if self.workspace_mib < 1:
            raise InputError(f"workspace_mib is {self.workspace_mib}: give 1 or more")
        if not self.batches or any(n < 1 for n in self.batches) or len(set(self.batches)) != len(self.batches):
            raise InputError(f"batches is {self.batches}: give different whole numbers from 1")


def installed_runtimes() -> list[str]:
    """Return which of RUNTIMES are installed."""
    return [name for name in RUNTIMES if find_spec(name) is not None]


def supports(runtime: str, trt: Any, sm: int) -> bool:
    """Say whether a runtime has kernels for a compute capability, as far as can be known without a build."""
    if runtime == "tensorrt_rtx":
        return f"SM{sm}" in trt.ComputeCapability.__members__
    # Source: TensorRT's support matrices: Volta until 10.4, Turing and later since
    major, minor = (int(part) for part in trt.__version__.split(".")[:2])
    return sm >= (75 if (major, minor) >= (10, 5) else 70)


def supporting_runtimes(sm: int) -> list[str]:
    """Return which of the installed runtimes have kernels for a compute capability."""
    return [name for name in installed_runtimes() if supports(name, import_runtime(name), sm)]


def import_runtime(runtime: str) -> Any:
    """Import a runtime. Raises InputError when it is not one of RUNTIMES or not installed."""
    if runtime not in RUNTIMES:
        raise InputError(f"there is no runtime {runtime!r}: choose from {', '.join(RUNTIMES)}")
    if runtime not in installed_runtimes():
        raise InputError(f"{runtime} is not installed: {INSTALL}")
    return importlib.import_module(runtime)


def _default_runtime(sm: int | None, device: cuda_device.Device | None) -> str:
    """Return the first installed runtime that builds for the target: TensorRT itself builds on its device alone."""
    able = installed_runtimes()
    if not able:
        raise InputError(f"neither tensorrt nor tensorrt_rtx is installed: {INSTALL}")
    if device is None and "tensorrt_rtx" in able:
        able = ["tensorrt_rtx"]
    target = sm or (device.sm if device else None)
    for name in able:
        if target is None or supports(name, import_runtime(name), target):
            return name
    return able[0]


def build(
    bundle: Bundle,
    precision: str,
    *,
    runtime: str | None = None,
    sm: int | None = None,
    options: BuildOptions | None = None,
) -> Path:
    """Build the engine of one precision for one compute capability; write it with its manifest; return its path.

    sm: 86 for 8.6; None for the device of this machine. With a device the engine's layers are listed beside it.
    Raises InputError for a runtime or target that this machine cannot build for, CheckError with the runtime's reason.
    """
    options = options or BuildOptions()
    onnx = bundle.check_file(onnx_name(precision))
    device = None if cuda_device.unavailable_reason() else cuda_device.device()
    name = runtime or _default_runtime(sm, device)
    trt = import_runtime(name)
    target = _target(name, trt, sm, device)
    started = perf_counter()
    builder = trt.Builder(logger(trt))
    network, _parser = _parse(trt, builder, onnx)
    if precision == "int8":
        _check_int8(trt, network, bundle, onnx)
    config = _configure(trt, builder, bundle, options)
    if name == "tensorrt_rtx":
        # one target for one file: the manifest names a single compute capability
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{target}"), 0)
    path = bundle.path / FOLDER / engine_name(precision, name, f"sm{target}", options.batches)
    progress = monitor(trt, path.name)  # it must live until the build ends
    config.progress_monitor = progress
    engine = _serialize(trt, builder, network, config, f"{onnx.name} for sm{target}", timing_file(bundle, target))
    show("")  # clears the line of progress
    with replacing(path) as temporary:
        temporary.write_bytes(engine)
    EngineManifest(
        engine=path.name,
        engine_sha256=sha256_of_file(path),
        engine_bytes=path.stat().st_size,
        onnx=onnx.name,
        onnx_sha256=bundle.files[onnx.name]["sha256"],
        contract=bundle.contract_hash,
        precision=precision,
        runtime=name,
        version=trt.__version__,
        target=f"sm{target}",
        built_on=device.name if device else "no device: ahead of time",
        cuda=device.cuda if device else "",
        flags={"strongly_typed": True, **asdict(options), "batches": list(options.batches)},
        batches=options.batches,
        calibration=bundle.gates.get(precision, {}).get("calibration"),
        build_seconds=round(perf_counter() - started, 3),
    ).save(path.parent)
    _remove_older(path)
    if (name, precision) == ("tensorrt_rtx", "int8"):
        log.warning(f"{path.name}: {RTX_INT8}")
    if device:
        write_layers(trt, path)
    return path


def check_target(runtime: str, sm: int | None) -> None:
    """Raise InputError when this machine cannot build for a target: before an export, which takes minutes."""
    device = None if cuda_device.unavailable_reason() else cuda_device.device()
    _target(runtime, import_runtime(runtime), sm, device)


def _remove_older(engine: Path) -> None:
    """Remove the engines that this one replaces, built for other batch sizes, with what lies beside them."""
    # `find_engine` expects one engine for each precision, runtime and target
    kind = engine.name.rsplit(".b", 1)[0]
    for file in engine.parent.glob(f"{kind}.b*.engine*"):
        if not file.name.startswith(engine.name):
            file.unlink()


def _target(name: str, trt: Any, sm: int | None, device: cuda_device.Device | None) -> int:
    """Return the compute capability to build for."""
    if name == "tensorrt":
        if device is None:
            raise InputError(
                f"tensorrt builds only on a device: {cuda_device.unavailable_reason()}; use --runtime tensorrt_rtx"
            )
        if sm not in (None, device.sm):
            raise InputError(f"tensorrt builds for the device that is here (sm{device.sm}), not for sm{sm}")
        return device.sm
    if sm is None:
        if device is None:
            raise InputError(f"{cuda_device.unavailable_reason()}: name the target of the engine, for example --sm 86")
        sm = device.sm
    if not supports(name, trt, sm):
        known = sorted(int(key.removeprefix("SM")) for key in trt.ComputeCapability.__members__ if key.startswith("SM"))
        raise InputError(f"{name} {trt.__version__} has no target sm{sm}: choose from {', '.join(map(str, known))}")
    return sm


def _parse(trt: Any, builder: Any, onnx: Path) -> tuple[Any, Any]:
    """Return the network and its parser, which owns the weights. Raises CheckError with the parser's own reason."""
    # TensorRT 11 knows only strongly typed networks and may drop the flag
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    messages = logger(trt)
    parser = trt.OnnxParser(network, messages)
    if not parser.parse_from_file(str(onnx)):
        reasons = [parser.get_error(i).desc() for i in range(parser.num_errors)] or messages.errors
        raise CheckError(f"{onnx} does not parse in {trt.__name__} {trt.__version__} ({_first(reasons)})")
    return network, parser


def _check_int8(trt: Any, network: Any, bundle: Bundle, onnx: Path) -> None:
    """Raise CheckError when a layer would run in float that the search did not give back."""
    kept = bundle.gates.get("int8", {}).get("kept_float", [])
    if floats := [name for name in float_layers(trt, network) if name not in kept]:
        raise CheckError(f"{onnx}: the layers {', '.join(floats[:5])} would run in float ({len(floats)} in all)")


def _configure(trt: Any, builder: Any, bundle: Bundle, options: BuildOptions) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib * MIB)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else the inspector knows layers by name alone
    if options.level is not None:
        config.builder_optimization_level = options.level
    if not options.tf32 and hasattr(trt.BuilderFlag, "TF32"):
        config.clear_flag(trt.BuilderFlag.TF32)
    size = bundle.geometry.size_px
    for batch in options.batches:
        # smallest, best and largest shape are equal: kernels are chosen for exactly this batch size
        profile = builder.create_optimization_profile()
        shape = (batch, size, size, 3)
        profile.set_shape(INPUT["name"], shape, shape, shape)
        config.add_optimization_profile(profile)
    return config


def _serialize(trt: Any, builder: Any, network: Any, config: Any, what: str, timing: Path) -> Any:
    """Build; return the engine's bytes. Raises CheckError with the runtime's own reason.

    timing: where the timed tactics are kept between builds. TensorRT-RTX times nothing when it builds.
    """
    timed = trt.__name__ == "tensorrt" and hasattr(config, "create_timing_cache")
    bound_to = f"{trt.__name__} {trt.__version__}"
    if timed:
        cache = config.create_timing_cache(read_cache(timing, bound_to))
        config.set_timing_cache(cache, False)  # False: a cache of another device is refused, not used
    messages = logger(trt)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise CheckError(f"{bound_to} cannot build {what} ({_first(messages.errors)})")
    if timed:
        write_cache(timing, bound_to, bytes(config.get_timing_cache().serialize()))
    return engine


def layers_file(engine: Path) -> Path:
    """Return where the layers of an engine are listed."""
    return engine.with_name(f"{engine.name}.layers.txt")


def write_layers(trt: Any, engine: Path) -> None:
    """List the layers of an engine as its inspector tells them, with their precision and kernel. Needs the device."""
    runtime = trt.Runtime(logger(trt))
    opened = runtime.deserialize_cuda_engine(engine.read_bytes())
    if opened is None:
        return
    inspector = opened.create_engine_inspector()
    write_text(layers_file(engine), str(inspector.get_engine_information(trt.LayerInformationFormat.ONELINE)))


def _first(messages: list[str]) -> str:
    return " ".join(messages[0].split())[:300] if messages else "it gave no reason"


def float_layers(trt: Any, network: Any) -> list[str]:
    """Return the convolutions and matrix products of a parsed network that do not read dequantized inputs.

    A product of two activations (attention) has no weights to quantize and is not among them.
    """
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    producer = {layer.get_output(i).name: layer for layer in layers for i in range(layer.num_outputs)}
    kinds = trt.LayerType
    passing = {kinds.SHUFFLE, kinds.CAST, kinds.IDENTITY}

    def kind(tensor: Any) -> Any:
        layer = producer.get(tensor.name) if tensor is not None else None
        while layer is not None and layer.type in passing:
            layer = producer.get(layer.get_input(0).name)
        return layer and layer.type

    found = []
    for layer in layers:
        if layer.type in {kinds.CONVOLUTION, kinds.MATRIX_MULTIPLY}:
            read = [kind(layer.get_input(0)), kind(layer.get_input(1))]
            weighted = layer.type == kinds.CONVOLUTION or {kinds.CONSTANT, kinds.DEQUANTIZE} & set(read)
            if weighted and read != [kinds.DEQUANTIZE] * 2:
                found.append(layer.name)
    return found
