"""The types of what training and export left beside the bundles, as the report shows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LossInterval:
    """A paired loss of accuracy with its 95% interval."""

    value: float
    low_95: float
    high_95: float


@dataclass(frozen=True)
class ParityResult:
    """A line of the precision report: one exported file against the network as trained, on the rows of a split."""

    name: str
    split: str
    rows: int
    max_dprob: float
    p99_dprob: float
    top1_agreement: float
    accuracy: float
    accuracy_loss: LossInterval
    flipped: tuple[int, ...]
    """Rows of the pack whose answer changed."""
    flips: tuple[object, ...] = ()
    """The answers of both sides to these rows; an older export kept none."""


@dataclass(frozen=True)
class EngineFacts:
    """An engine beside a bundle, as its manifest describes it."""

    arch: str
    engine: str
    """Its file name."""
    measured: bool = False
    precision: str = ""
    runtime: str = "tensorrt"
    version: str = ""
    target: str = ""
    state: str = "built"
    proved_on: dict[str, object] | None = None
    engine_bytes: int | None = None
    build_seconds: float | None = None
    onnx_sha256: str = ""

    @property
    def backend(self) -> str:
        """The backend that opens it."""
        return "trt" if self.runtime.startswith("tensorrt") else self.runtime


@dataclass(frozen=True)
class Artifacts:
    """What training and export left beside the bundles, by architecture."""

    learning: dict[str, dict[str, tuple[float | None, ...]]]
    """{architecture: {column of history.csv: its numbers}}."""
    precision_reports: dict[str, tuple[ParityResult, ...]]
    engines: tuple[EngineFacts, ...]
