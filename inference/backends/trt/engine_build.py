"""Build an engine from the ONNX file of a bundle's precision or of a detector.

TensorRT 10 and 11 and TensorRT-RTX go through one code path. TensorRT builds for the device it runs on. TensorRT-RTX
builds ahead of time, on a machine without a GPU too.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from glob import escape
from pathlib import Path
from time import perf_counter
from typing import Any

from core import plugins
from core.bundle.contract import INPUT, Bundle, onnx_name
from core.bundle.engine_manifest import EngineManifest, EngineSource, detector_source, engine_name, source_of
from core.bundle.foreign_model import check_not_foreign
from core.errors import CheckError, InputError
from core.files import replacing, sha256_of_file
from core.geometry.detector_config import DetectorFile, stated_size_hw
from core.signals import holding_signals
from inference.backends.trt.build_progress import logger, monitor, show
from inference.backends.trt.kernel_cache import read_cache, timing_file, write_cache
from inference.backends.trt.layers import float_layers, write_layers
from inference.backends.trt.onnx_metadata import check_one_file, read_metadata
from inference.backends.trt.runtimes import Target, choose_target

log = logging.getLogger(__name__)

EFFORTS = range(6)
MIB = 1 << 20
RTX_INT8 = "TensorRT-RTX documents int8 as weight-only; whether it is faster was not measured"
"""Source: the support matrix of TensorRT-RTX 1.5, column "INT8 WoQ GEMM"."""


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
    size_hw: tuple[int, ...] = ()
    """Height and width of a detector's input, where its file leaves them free and does not name them."""

    def __post_init__(self) -> None:
        if self.level is not None and self.level not in EFFORTS:
            raise InputError(f"level is {self.level}: give {EFFORTS.start} to {EFFORTS.stop - 1}")
        if self.workspace_mib < 1:
            raise InputError(f"workspace_mib is {self.workspace_mib}: give 1 or more")
        if not self.batches or any(n < 1 for n in self.batches) or len(set(self.batches)) != len(self.batches):
            raise InputError(f"batches is {self.batches}: give different whole numbers from 1")
        if len(self.size_hw) not in (0, 2) or any(side < 1 for side in self.size_hw):
            raise InputError(f"size_hw is {self.size_hw}: give a height and a width")


@holding_signals()
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
    building = _Build(source_of(bundle, precision), choose_target(runtime, sm), options)
    if precision == "int8":
        _check_int8(building.target.trt, building.network, bundle, onnx)
    building.add_profiles(bundle.geometry.size_px, options.batches)
    engine = building.write(options, bundle.gates.get(precision, {}).get("calibration"))
    if (building.target.runtime, precision) == ("tensorrt_rtx", "int8"):
        log.warning(f"{engine.name}: {RTX_INT8}")
    return engine


@holding_signals()
def build_detector(
    file: DetectorFile, *, runtime: str | None = None, sm: int | None = None, options: BuildOptions | None = None
) -> Path:
    """Build the engine of a detector, for one picture at a time, into `engines` beside its file; return its path.

    Where the file leaves the size of the picture free it is that of the detector's settings, else of the file's
    metadata, else of the options. Raises as `build` does; CheckError for an output whose shape the picture decides.
    """
    options = options or BuildOptions()
    if not file.path.is_file():
        raise InputError(f"{file.path} is no file: give the ONNX file of a detector")
    check_not_foreign(file.path)
    check_one_file(file.path)
    source = detector_source(file.path, sha256_of_file(file.path))
    target = choose_target(runtime, sm)
    source.folder.mkdir(exist_ok=True)  # before the build, which takes seconds: the folder may be read-only
    building = _Build(source, target, options)
    size_hw = file.size_hw or stated_size_hw(read_metadata(file.path)) or options.size_hw
    fixed_hw = building.fix_shapes(size_hw)
    if options.size_hw not in ((), fixed_hw):
        stated = "x".join(map(str, fixed_hw)) or "fixed in the file"
        raise InputError(f"{file.path}: the size of its input is {stated}: leave out --backend-option size_hw")
    return building.write(replace(options, batches=(1,), size_hw=fixed_hw))


class _Build:
    """A network that was parsed from an ONNX file, and how it becomes an engine."""

    def __init__(self, source: EngineSource, target: Target, options: BuildOptions) -> None:
        self._started = perf_counter()
        self.source = source
        self.target = target
        self._trt = target.trt
        self._messages = logger(self._trt)
        self._builder = self._trt.Builder(self._messages)
        self.network = self._parse()
        self._config = self._configure(options)

    def _parse(self) -> Any:
        """Return the network. Raises CheckError with the parser's own reason."""
        trt = self._trt
        # TensorRT 11 knows only strongly typed networks and may drop the flag
        flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        network = self._builder.create_network(0 if flag is None else 1 << int(flag))
        self._parser = trt.OnnxParser(network, self._messages)  # kept, since it owns the weights
        if not self._parser.parse_from_file(str(self.source.onnx)):
            errors = [self._parser.get_error(i) for i in range(self._parser.num_errors)]
            reasons = [f"{error.node_operator()}: {error.desc()}" for error in errors] or self._messages.errors
            raise CheckError(
                f"{self.source.onnx} does not parse in {trt.__name__} {trt.__version__} ({_first(reasons)})"
            )
        return network

    def _configure(self, options: BuildOptions) -> Any:
        trt = self._trt
        config = self._builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib * MIB)
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else the inspector knows layers by name alone
        if options.level is not None:
            config.builder_optimization_level = options.level
        if not options.tf32 and hasattr(trt.BuilderFlag, "TF32"):
            config.clear_flag(trt.BuilderFlag.TF32)
        if self.target.runtime == "tensorrt_rtx":
            # one target for one file: the manifest names a single compute capability
            config.num_compute_capabilities = 1
            config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{self.target.sm}"), 0)
        return config

    def add_profiles(self, size_px: int, batches: Sequence[int]) -> None:
        """Add a profile for each batch size of a classifier."""
        for batch in batches:
            # smallest, best and largest shape are equal: kernels are chosen for exactly this batch size
            profile = self._builder.create_optimization_profile()
            shape = (batch, size_px, size_px, 3)
            profile.set_shape(INPUT["name"], shape, shape, shape)
            self._config.add_optimization_profile(profile)

    def fix_shapes(self, size_hw: Sequence[int]) -> tuple[int, ...]:
        """Fix the inputs to one picture of a size; return the size where the file left it free, else ().

        Raises InputError where a size is missing, CheckError where the network cannot take it or an output stays free.
        """
        fixed_hw: tuple[int, ...] = ()
        onnx = self.source.onnx
        network = self.network
        for tensor in [network.get_input(i) for i in range(network.num_inputs)]:
            shape = list(tensor.shape)
            if shape and shape[0] == -1:
                shape[0] = 1
            free = [axis for axis, side in enumerate(shape) if side == -1]
            if free and len(free) != len(size_hw):
                raise InputError(
                    f"{onnx}: its input {tensor.name} takes pictures of any size: state one as the detector's"
                    " input.size_hw, or build it with --backend-option size_hw=HEIGHT,WIDTH"
                )
            for axis, side in zip(free, size_hw, strict=False):
                shape[axis], fixed_hw = side, tuple(size_hw)
            tensor.shape = shape
        for tensor in [network.get_output(i) for i in range(network.num_outputs)]:
            if -1 in self._shape_of(tensor, fixed_hw):
                raise CheckError(
                    f"{onnx}: the shape of its output {tensor.name} depends on what the picture shows, as after a"
                    " suppression in the graph, and a GPU's buffer needs a fixed one: it runs on the CPU"
                )
        return fixed_hw

    def _shape_of(self, tensor: Any, size_hw: Sequence[int]) -> tuple[int, ...]:
        self._messages.errors.clear()
        try:
            return tuple(tensor.shape)
        except (RuntimeError, ValueError):  # what TensorRT raises where the layers do not fit together
            taken = "x".join(map(str, size_hw)) or "the size that it states"
            reason = _first(self._messages.errors)
            raise CheckError(f"{self.source.onnx} cannot take pictures of {taken} ({reason})") from None

    def write(self, options: BuildOptions, calibration: str | None = None) -> Path:
        """Build the engine; write it with its manifest, in place of older ones; return its path.

        Raises CheckError with the runtime's own reason.
        """
        source = self.source
        target = self.target
        trt = self._trt
        name = engine_name(source.stem, target.runtime, f"sm{target.sm}", options.batches)
        path = source.folder / name
        data = self._serialize(name)
        with replacing(path) as temporary:
            temporary.write_bytes(data)
        EngineManifest(
            engine=name,
            engine_sha256=sha256_of_file(path),
            engine_bytes=path.stat().st_size,
            onnx=source.onnx.name,
            onnx_sha256=source.sha256,
            contract=source.contract,
            precision=source.precision,
            runtime=target.runtime,
            version=trt.__version__,
            target=f"sm{target.sm}",
            built_on=target.device.name if target.device else "no device: ahead of time",
            cuda=target.device.cuda if target.device else "",
            flags={"strongly_typed": True, **{key: _as_json(value) for key, value in asdict(options).items()}},
            batches=options.batches,
            calibration=calibration,
            build_seconds=round(perf_counter() - self._started, 3),
        ).save(path.parent)
        _remove_older(path)
        if target.device:
            write_layers(trt, path)
        return path

    def _serialize(self, name: str) -> Any:
        trt = self._trt
        config = self._config
        # tactics that were timed are kept between builds; TensorRT-RTX times nothing when it builds
        timed = trt.__name__ == "tensorrt" and hasattr(config, "create_timing_cache")
        timing = timing_file(self.source.folder, self.target.sm)
        bound_to = f"{trt.__name__} {trt.__version__}"
        if timed:
            cache = config.create_timing_cache(read_cache(timing, bound_to))
            config.set_timing_cache(cache, False)  # False: a cache of another device is refused, not used
        progress = monitor(trt, name)  # it must live until the build ends
        config.progress_monitor = progress
        self._messages.errors.clear()
        engine = self._builder.build_serialized_network(self.network, config)
        show("")  # clears the line of progress
        if engine is None:
            what = f"{self.source.onnx.name} for sm{self.target.sm}"
            raise CheckError(f"{bound_to} cannot build {what} ({_first(self._messages.errors)})")
        if timed:
            write_cache(timing, bound_to, bytes(config.get_timing_cache().serialize()))
        return engine


def _as_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _remove_older(engine: Path) -> None:
    """Remove the engines that this one replaces, built for other batch sizes, with what lies beside them."""
    # `find_engine` expects one engine for each precision, runtime and target
    kind = engine.name.rsplit(".b", 1)[0]
    for file in engine.parent.glob(f"{escape(kind)}.b*.engine*"):
        if not file.name.startswith(engine.name):
            file.unlink()


def _check_int8(trt: Any, network: Any, bundle: Bundle, onnx: Path) -> None:
    """Raise CheckError when a layer would run in float that the search did not give back."""
    kept = bundle.gates.get("int8", {}).get("kept_float", [])
    if floats := [name for name in float_layers(trt, network) if name not in kept]:
        raise CheckError(f"{onnx}: the layers {', '.join(floats[:5])} would run in float ({len(floats)} in all)")


def _first(messages: list[str]) -> str:
    return " ".join(messages[0].split())[:300] if messages else "it gave no reason"
