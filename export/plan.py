"""What an export will make, for what, and how long it took last time; nothing is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inference.backends.trt import PRECISIONS
from inference.contract import Bundle, open_bundle
from inference.errors import InputError
from inference.passport import FOLDER, engine_file
from inference.passport import load as load_passport


@dataclass(frozen=True)
class Item:
    """One thing that will be made."""

    arch: str
    what: str
    target: str
    last_seconds: float | None
    """None where it was never made."""

    @property
    def last(self) -> str:
        """The time it took, in words."""
        return "never made" if self.last_seconds is None else f"{self.last_seconds:.1f} s last time"


def plan(
    folder: Path,
    arch: str,
    precisions: Sequence[str],
    engines: Sequence[tuple[str, int | None]],
) -> list[Item]:
    """Return the items of one architecture. folder: its bundle. engines: (runtime, compute capability, None: here)."""
    bundle = _last(folder)
    seconds = bundle.provenance.get("export_seconds") if bundle else None
    items = [Item(arch, f"bundle with {', '.join(precisions)}", str(folder), seconds)]
    for runtime, sm in engines:
        for precision in [p for p in precisions if p in PRECISIONS]:
            target = f"sm{sm}" if sm else "the device that is here"
            items.append(
                Item(arch, f"engine {precision} {runtime}", target, _engine_seconds(bundle, precision, runtime, sm))
            )
    return items


def _last(folder: Path) -> Bundle | None:
    """Return the bundle that is there; none when it is missing or damaged, since it will be made anew."""
    try:
        return open_bundle(folder)
    except InputError:
        return None


def _engine_seconds(bundle: Bundle | None, precision: str, runtime: str, sm: int | None) -> float | None:
    if bundle is None:
        return None
    if sm is None:
        found = sorted((bundle.path / FOLDER).glob(f"{precision}.{runtime}.sm*.engine"))
    else:
        found = [engine_file(bundle, precision, runtime, sm)]
    try:
        return load_passport(found[0], "").build_seconds if found else None
    except InputError:
        return None


def as_table(items: Sequence[Item]) -> str:
    """Return one line an item, and the sum of what is known."""
    lines = [f"{item.arch:24} {item.what:32} {item.last:20} -> {item.target}" for item in items]
    known = [item.last_seconds for item in items if item.last_seconds is not None]
    lines.append(
        f"{len(items)} things to make; {len(known)} of them took {sum(known):.0f} s last time; nothing was made"
    )
    return "\n".join(lines)
