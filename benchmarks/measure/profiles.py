"""Profiles: the amount of each measurement, from the full one to that of a demo."""

from __future__ import annotations

from dataclasses import dataclass

from core.stats import early_stopping_count

SEVERITIES = (1, 2, 3, 4, 5)
"""Severities of the corruptions."""


@dataclass(frozen=True)
class Profile:
    """The sizes of every measurement; the default is the full profile."""

    samples: int = early_stopping_count(0.99)
    """Frames of each candidate, back to back."""
    cold_starts: int = 3
    paced_frames: int = early_stopping_count(0.99)
    """Frames of a paced run at camera rate; 0 for none."""
    corrupted_rows: tuple[int, int] = (60, 300)
    """Fewest and most test rows that are corrupted; (0, 0) for none."""
    severities: tuple[int, ...] = SEVERITIES
    ood_images: int = 100
    """Out-of-distribution pictures of each kind."""
    labeled_frames: int = 500
    """The most labeled frames that are measured; 0 for none."""
    other_size_samples: int = early_stopping_count(0.9)
    """Frames of each bundle of another input size, for latency only; 0 for none."""

    def describe_cuts(self) -> tuple[str, ...]:
        """Return what this profile measures less than the full one, a phrase each."""
        # only what is less than in the full profile: a figure that is missing must not look like one that is zero
        full, cuts = Profile(), []
        if self.cold_starts < full.cold_starts:
            cuts.append(f"{self.cold_starts} cold start of each candidate instead of {full.cold_starts}")
        if not self.paced_frames:
            cuts.append("no paced run")
        elif self.paced_frames < full.paced_frames:
            cuts.append(f"{self.paced_frames} frames of the paced run instead of {full.paced_frames}")
        rows = self.corrupted_rows[1]
        if not rows:
            cuts.append("no robustness")
        elif rows < full.corrupted_rows[1]:
            severities = ", ".join(map(str, self.severities))
            ood = "out-of-distribution pictures of each kind"
            cuts.append(f"robustness on {rows} rows at the severities {severities} and {self.ood_images} {ood}")
        if self.labeled_frames < full.labeled_frames:
            few = f"{self.labeled_frames} labeled frames at most instead of {full.labeled_frames}"
            cuts.append(few if self.labeled_frames else "no labeled frames")
        if not self.other_size_samples:
            cuts.append("no other input sizes")
        return tuple(cuts)


# in every profile the samples of a frame are enough to claim a p99, which the policy limits
PROFILES = {
    "full": Profile(),
    "long": Profile(samples=early_stopping_count(0.999)),
    "demo": Profile(
        cold_starts=1,
        paced_frames=early_stopping_count(0.9),
        corrupted_rows=(60, 60),
        severities=(1, 3, 5),
        ood_images=30,
        labeled_frames=60,
        other_size_samples=0,
    ),
    "quick": Profile(cold_starts=1, paced_frames=0, corrupted_rows=(0, 0), labeled_frames=0, other_size_samples=0),
}
"""{name of the command-line flag: profile}; `full` is used without a flag."""
