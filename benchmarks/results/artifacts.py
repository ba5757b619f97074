"""The artifacts of training and export in the report: learning curves, precision reports, engines."""

from __future__ import annotations

from dataclasses import dataclass, field

from core.bundle.parity_file import ParityResult


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
    """The artifacts of training and export beside the bundles, by architecture."""

    learning: dict[str, dict[str, tuple[float | None, ...]]]
    """{architecture: {column of history.csv: its numbers}}."""
    precision_reports: dict[str, tuple[ParityResult, ...]]
    engines: tuple[EngineFacts, ...]
    abstention: dict[str, str] = field(default_factory=dict)
    """{architecture: what its abstain threshold was fitted on and reached there}; empty in older results."""
