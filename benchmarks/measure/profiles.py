"""How much is measured, from everything to the little that a demo has time for; what was cut is said in the report."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.measure.robustness.corruptions import SEVERITIES
from core.stats import early_stopping_count


@dataclass(frozen=True)
class Effort:
    """The sizes of every measurement."""

    samples: int = early_stopping_count(0.99)
    """Frames a candidate, back to back."""
    cold_starts: int = 3
    paced_frames: int = early_stopping_count(0.99)
    """Frames of a paced run at camera rate; 0 for none."""
    corrupted_rows: tuple[int, int] = (60, 300)
    """Fewest and most test rows that are corrupted; (0, 0) for none."""
    severities: tuple[int, ...] = SEVERITIES
    strangers: int = 100
    """Pictures of each kind of stranger."""
    other_size_samples: int = early_stopping_count(0.9)
    """Frames of each bundle of another input size, for latency only; 0 for none."""

    def describe_cuts(self) -> list[str]:
        """Return what is less than the whole, a phrase each."""
        whole, cuts = Effort(), []
        if self.cold_starts < whole.cold_starts:
            cuts.append(f"{self.cold_starts} cold start a candidate instead of {whole.cold_starts}")
        if not self.paced_frames:
            cuts.append("no paced run")
        elif self.paced_frames < whole.paced_frames:
            cuts.append(f"{self.paced_frames} frames of the paced run instead of {whole.paced_frames}")
        if not self.corrupted_rows[1]:
            cuts.append("no robustness")
        elif self.corrupted_rows[1] < whole.corrupted_rows[1]:
            rows, severities = self.corrupted_rows[1], ", ".join(map(str, self.severities))
            cuts.append(
                f"robustness on {rows} rows at the severities {severities} and {self.strangers} strangers a kind"
            )
        if not self.other_size_samples:
            cuts.append("no other input sizes")
        return cuts


EFFORTS = {
    "whole": Effort(),
    "long": Effort(samples=early_stopping_count(0.999)),
    "thin": Effort(
        cold_starts=1,
        paced_frames=early_stopping_count(0.9),
        corrupted_rows=(60, 60),
        severities=(1, 3, 5),
        strangers=30,
        other_size_samples=0,
    ),
    "quick": Effort(cold_starts=1, paced_frames=0, corrupted_rows=(0, 0), other_size_samples=0),
}
"""By the name of the flag that asks for it; whole without one."""
