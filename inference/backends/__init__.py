"""Backends: one file each, found by its name. A backend opens one file of a bundle and runs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any

from numpy.typing import NDArray

from core.bundle.contract import Bundle, Probs
from core.bundle.foreign_model import check_not_foreign
from core.errors import InputError
from core.geometry.detector_config import DetectorFile
from core.geometry.frame import Bytes
from core.plugins import PluginOptions, describe_options, load_plugin, load_usable, names_in, parse_options


class UnavailableError(InputError):
    """A precision cannot run on this machine, or has no engine for it; nothing is wrong with the bundle."""


ONNX_HINT = "export it again, for an opset that this version knows, or take another backend"
"""The hint where a runtime does not load an ONNX file."""
DETECTOR_ON_CPU = "python -m inference run BUNDLE --detector-backend ort"
PARTS = ("PRECISIONS", "Options", "availability", "open_backend")
"""The parts that the module of each backend has."""


@dataclass(frozen=True)
class Availability:
    """Whether a backend can run on this machine; if not, the reason and the one command that helps."""

    available: bool
    version: str
    reason: str = ""
    hint: str = ""


class Backend(ABC):
    """An open model, as a context manager. Not thread-safe: one thread opens it, uses it and closes it."""

    input_nhwc: Bytes
    """uint8 (batch, S, S, 3), owned by the backend (pinned where that helps): geometry writes straight into it."""

    @abstractmethod
    def infer(self, n: int) -> Probs:
        """Run the first `n` rows of `input_nhwc`; return float32 (n, classes), overwritten by the next call.

        Raises DeviceError when the runtime or its device fails.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return what runs: {"backend", "runtime", "version", "device", "precision", "file", "threads"}."""

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The batch sizes that have kernels of their own, whose results may differ: each is proved."""
        return (len(self.input_nhwc),)

    @property
    def proved(self) -> bool:
        """Whether the golden frames have passed on this file and device; False only for an engine not proved yet."""
        return True

    def mark_proved(self) -> None:
        """Record that the golden frames passed here; only an engine has a manifest to record it in."""
        return

    @abstractmethod
    def close(self) -> None:
        """Free the runtime's resources; the backend cannot be used afterwards. A second call does nothing."""

    def __enter__(self) -> Backend:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Tensor:
    """An input or output of a network. shape: None where a side is not fixed."""

    name: str
    dtype: str
    """numpy's name of it, such as float32."""
    shape: tuple[int | None, ...]

    def fixed_shape(self, file: Path) -> tuple[int, ...]:
        """Return the shape of its buffer on a GPU. Raises UnavailableError where a side is not fixed, or none is."""
        sides = tuple(side for side in self.shape if side)
        if not sides or len(sides) < len(self.shape):
            raise UnavailableError(f"{file}: {self} has no fixed shape for a GPU's buffer: {DETECTOR_ON_CPU}")
        return sides

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} ({', '.join('?' if n is None else str(n) for n in self.shape)})"


class Network(ABC):
    """An ONNX file of any inputs and outputs, open, such as a detector's. Not thread-safe; a context manager."""

    backend: str
    """The backend that runs it."""
    file: Path
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    metadata: Mapping[str, str]
    """What the exporter wrote into the file."""

    @property
    def opened(self) -> str:
        """The name of what runs: of the file, or of an engine that was built from it."""
        return self.file.name

    @abstractmethod
    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return every output by name, owned by the caller. feeds: an array for each input."""

    def mark_proved(self) -> None:
        """Record that the golden frames passed here; only an engine has a manifest to record it in."""
        return

    @abstractmethod
    def close(self) -> None:
        """Free the runtime's resources. A second call does nothing."""

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def names() -> list[str]:
    """Return the backends there are, by file name."""
    return names_in(__path__)


def find(name: str) -> ModuleType:
    """Import the backend `name`.

    Each module has `PRECISIONS: tuple[str, ...]`, `Options` (a dataclass), `availability() -> Availability` and
    `open_backend(bundle, precision, batch, options) -> Backend`; where it runs detectors,
    `open_network(path, threads) -> Network` too; where engines are built, `BuildOptions`,
    `build_missing(bundle, precision, batches)` and `build_missing_detector(file)`.
    Raises InputError naming the backends there are, or what is wrong with the file of this one.
    """
    if name not in names():
        raise InputError(f"there is no backend {name!r}: choose from {', '.join(names())}")
    return load_plugin(__name__, name, PARTS)


def usable() -> dict[str, ModuleType]:
    """Return the backends whose files load; a warning names each that does not, and why."""
    return load_usable(__name__, names(), PARTS)


def availability(name: str) -> Availability:
    """Return whether the backend `name` can run here. One that fails to load is unavailable, with the reason."""
    try:
        found: Availability = find(name).availability()
    except Exception as error:  # a broken installation or device may raise anything
        if name not in names():
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if isinstance(error, InputError):  # the sentence of a plug-in that does not load
            reason, _, hint = reason.rpartition(": ")
            return Availability(False, "", reason, hint)
        return Availability(False, "", f"it does not load: {reason}", "pip check")
    return found


def open_backend(
    name: str,
    bundle: Bundle,
    precision: str,
    *,
    batch: int = 1,
    threads: int | None = None,
    options: Sequence[str] = (),
) -> Backend:
    """Open `precision` of `bundle` on the backend `name`. Nothing is built and nothing is written.

    options: `name=value` texts. threads: for a backend that has this option, where `options` does not name it.
    Raises UnavailableError when backend or engine is not there, InputError when backend or bundle lacks the precision.
    """
    module = find(name)
    chosen = _options(name, options, threads)
    found = availability(name)
    if not found.available:
        raise UnavailableError(f"the backend {name} is not available ({found.reason}): {found.hint}")
    if precision not in module.PRECISIONS:
        raise InputError(
            f"the backend {name} has no precision {precision!r}: choose from {', '.join(module.PRECISIONS)}"
        )
    if precision not in bundle.precisions:
        raise InputError(f"{bundle.path} has no {precision} model: choose from {', '.join(bundle.precisions)}")
    # availability came first: what this machine lacks is told before what the bundle lacks
    opened: Backend = module.open_backend(bundle, precision, batch, chosen)
    return opened


def _options(name: str, texts: Sequence[str], threads: int | None) -> PluginOptions:
    kind: type[PluginOptions] = find(name).Options
    stated = {text.partition("=")[0] for text in texts}
    # an option of the backend itself is the more specific wish: it wins over --threads
    if threads is not None and "threads" in _names(kind) and "threads" not in stated:
        texts = [*texts, f"threads={threads}"]
    return parse_options(kind, texts, f"the backend {name}")


def without_spinning(name: str, texts: Sequence[str]) -> list[str]:
    """Return the options by which threads without work leave the cores to others, where `texts` do not say `spin`."""
    stated = {text.partition("=")[0] for text in texts}
    wanted = "spin" in _names(find(name).Options) and "spin" not in stated
    return [*texts, "spin=false"] if wanted else list(texts)


def _names(kind: type[PluginOptions]) -> list[str]:
    return [item.name for item in fields(kind)]


def options_by_backend(backends: Sequence[str], texts: Sequence[str]) -> dict[str, list[str]]:
    """Return for each of several backends those of the texts that it has an option for.

    Raises InputError when none of them has it, or for a value that it cannot have.
    """
    loaded = usable()
    known = {name: _names(loaded[name].Options) if name in loaded else [] for name in backends}
    shared = {}
    for name in backends:
        shared[name] = [text for text in texts if text.partition("=")[0] in known[name]]
    for text in texts:
        if not any(text in kept for kept in shared.values()):
            there = "; ".join(f"{name}: {', '.join(options)}" for name, options in known.items() if options)
            raise InputError(f"no backend has an option {text.partition('=')[0]!r}: choose from {there or 'none'}")
    # parsed for its errors alone: a wrong value is told before the first backend is opened
    for name in loaded.keys() & set(backends):
        _options(name, shared[name], None)
    return shared


def option_help(attribute: str = "Options") -> str:
    """Return the options of every backend for people. attribute: BuildOptions for those that engines are built with."""
    modules = usable()
    lines = []
    for name, module in modules.items():
        if kind := getattr(module, attribute, None):
            lines += [f"  {name} {line}" for line in describe_options(kind)]
    for name in names():
        if name not in modules:
            lines.append(f"  {name} cannot be used: {availability(name).reason}")
    return "\n".join(lines)


def build_missing(name: str, bundle: Bundle, precision: str, batches: Sequence[int]) -> None:
    """Build what is missing for the backend `name` to open `precision` for these batch sizes.

    Does nothing for a backend that opens ONNX files. Raises InputError or CheckError when it cannot be built.
    """
    module = find(name)
    if hasattr(module, "build_missing"):
        module.build_missing(bundle, precision, batches)


def build_missing_detector(name: str, file: DetectorFile) -> None:
    """Build what is missing for the backend `name` to run a detector; otherwise as `build_missing`."""
    module = find(name)
    if hasattr(module, "build_missing_detector"):
        module.build_missing_detector(file)


def open_network(name: str, path: Path, *, threads: int | None = None) -> Network:
    """Open an ONNX file of any inputs and outputs on the backend `name`.

    Raises UnavailableError when the backend is unavailable or opens bundles alone, InputError when the file does not
    load.
    """
    module, found = find(name), availability(name)
    if not found.available:
        raise UnavailableError(f"the backend {name} is not available ({found.reason}): {found.hint}")
    if not hasattr(module, "open_network"):
        able = ", ".join(other for other, module in usable().items() if hasattr(module, "open_network"))
        raise UnavailableError(f"the backend {name} runs no detector: choose from {able}")
    if not path.is_file():
        raise InputError(f"{path} is no file: give the ONNX file of a detector")
    check_not_foreign(path)
    opened: Network = module.open_network(path, threads=threads)
    return opened
