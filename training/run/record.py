"""The record of a run, run.json: written when the run begins, and read again when it is resumed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.codec import from_json, known_keys
from core.data.run_dir import open_run
from core.errors import InputError, check_threads
from core.files import read_json, write_json
from training.augment.prepare import PLACES
from training.compute.mode import ComputeMode
from training.recipe import upgrade_schema_1
from training.reports.leaderboard import read_metrics


@dataclass(frozen=True)
class RunRecord:
    """The settings in run.json that a resumed run takes from there, and not from its command line."""

    modes: dict[str, ComputeMode]
    augment_on: str
    commit: str
    threads: int

    def __post_init__(self) -> None:
        check_threads(self.threads)
        if self.augment_on not in PLACES:
            raise InputError(f"augment_on is {self.augment_on!r}: give one of {', '.join(PLACES)}")


def parse_record(out: Path, body: dict[str, Any]) -> RunRecord:
    """Return the record in the content of a run.json. Raises InputError naming the file and the key."""
    file, machine = out / "run.json", body.get("machine")
    settings = {
        "modes": _without_unknown_keys(body.get("modes")),
        "augment_on": body.get("augment_on", "host"),  # missing in the first runs, which knew no other place
        "commit": body.get("commit"),
        "threads": machine.get("threads") if isinstance(machine, dict) else None,
    }
    record = from_json(RunRecord, settings, f"{file} is damaged, train the run again")
    if missing := sorted(set(body["models"]) - set(record.modes)):
        raise InputError(f"{file} is damaged, train the run again: modes lacks {missing[0]}")
    return record


def modes_of(run: Path) -> dict[str, Any]:
    """Return the modes in another run's run.json, as JSON. Raises InputError naming the file and the key."""
    modes = open_run(run).metadata.get("modes", {})
    from_json(dict[str, ComputeMode], _without_unknown_keys(modes), f"{run / 'run.json'}: modes")
    return dict(modes)


def check_same_settings(out: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise InputError naming the first setting in which a resumed run would differ; the pack may have moved."""
    before = before | {"recipe": _recipe_in(out / "run.json", before)}
    names = ["models", "seed", "pretrained", "teacher"]
    names += ["abstain_risk"] if "abstain_risk" in before else []  # the first runs did not say it
    # a moved pack is the same pack: its fingerprint is compared, its path is not
    was, wanted = (body["recipe"] | {k: body.get(k) for k in names} | body["pack"] for body in (before, now))
    for name in wanted:
        if name != "path" and was.get(name) != wanted[name]:
            raise InputError(f"{out} was begun with {name} {was.get(name)!r}, not {wanted[name]!r}: name another --out")


def record_speed(out: Path) -> None:
    """Add each network's time, images per second and peak memory to run.json."""
    body = read_json(out / "run.json")
    names = ("seconds", "images_per_s", "peak_memory_mb")
    body["measured"] = {m["arch"]: {name: m[name] for name in names} for m in read_metrics(out)}
    write_json(out / "run.json", body)


def _without_unknown_keys(modes: Any) -> Any:
    """Return the modes in a run.json without keys of other meaning, such as the times of the choice."""
    if not isinstance(modes, dict):
        return modes  # from_json refuses it in a sentence
    return {arch: known_keys(ComputeMode, mode) for arch, mode in modes.items()}


def _recipe_in(file: Path, body: dict[str, Any]) -> dict[str, Any]:
    """Return the recipe in a run.json of any schema, in the current form. Raises InputError naming the file."""
    recipe = body.get("recipe")
    if not isinstance(recipe, dict):
        raise InputError(f"{file} holds no recipe: train the run again")
    try:
        return upgrade_schema_1(recipe) if body["schema"] == 1 else recipe
    except (KeyError, TypeError, InputError) as error:
        raise InputError(f"{file} holds no recipe of schema 1 ({error}): train the run again") from None
