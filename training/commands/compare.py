"""Train recipes side by side over several seeds; write the table of their differences, and its picture."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path

import models
from core.cli import Parser
from core.data.pack import open_pack
from core.data.run_dir import open_run
from core.errors import InputError
from core.files import write_json, write_text
from training import recipes
from training.commands.train import OURS
from training.compare.comparison import Trial, carry_out, collect, summarize
from training.compare.page import draw, markdown
from training.compare.variants import Variant, one_change, parse

EPILOG = """a variant is a recipe, or a recipe with fields changed: edge:batch=16,schedule=one_cycle. Every variant x
seed is an ordinary run under OUT, so a comparison that was stopped is gone on with by the same command, and comparisons
with the same OUT, --pack, --epochs and --threads share the runs that they have in common."""


def parser() -> Parser:
    """Return the command line."""
    it = Parser("python -m training compare", description=__doc__, epilog=EPILOG)
    it.add_argument("variants", nargs="*", metavar="VARIANT", help=f"{', '.join(recipes.names())}, R:field=value")
    it.add_argument("--pack", type=Path, required=True, help="the pack that all are trained on")
    it.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder of all the runs and the table")
    it.add_argument("--name", default="compare", help="of the table: OUT/NAME.json, .md and .png (compare)")
    it.add_argument("--ablate", nargs=2, metavar=("FROM", "TO"), help="FROM, and FROM with each single change of TO")
    it.add_argument("--models", nargs="+", default=list(OURS), metavar="ARCH")
    it.add_argument("--seeds", type=int, default=5, metavar="N", help="seeds 0 to N-1 (5)")
    it.add_argument("--epochs", type=int, help="of every variant that does not set its own")
    it.add_argument(
        "--against", metavar="VARIANT", help="differences are taken against it (default: FROM, or the last)"
    )
    it.add_argument("--jobs", type=int, default=1, help="runs at a time (1)")
    it.add_argument("--threads", type=int, help="of each run (default: as train)")
    it.add_argument("--table-only", action="store_true", help="train nothing: tell what is finished")
    it.add_argument("--json", action="store_true", help="the summary on stdout as JSON")
    return it


def main(arguments: list[str]) -> int | None:
    """Train what is missing, then print the table."""
    given = parser().parse_args(arguments)
    for arch in given.models:
        models.check_name(arch)
    if not given.name or Path(given.name).name != given.name:
        raise InputError(f"--name {given.name!r} is no plain file name: give one without a slash, as recipes")
    variants = _variants(given.variants, given.ablate, given.models)
    against = given.against or (given.ablate[0] if given.ablate else variants[-1].name)
    if against not in {variant.name for variant in variants}:
        raise InputError(f"--against {against!r} is none of the variants: {', '.join(v.name for v in variants)}")
    for name in ("seeds", "jobs"):
        if getattr(given, name) < 1:
            raise InputError(f"--{name} is {getattr(given, name)}: give 1 or more")
    trials = plan(variants, given)
    if not given.table_only:
        carry_out(trials, given.models, given.jobs)
    rows = collect(trials, given.models)
    if not rows:
        raise InputError(f"{given.out} holds no finished run yet: leave --table-only out")
    summary = summarize(rows, against)
    run = next(open_run(trial.run).facts for trial in trials if (trial.run / "run.json").is_file())
    ablation = [f"{given.ablate[0]} with each single change of {given.ablate[1]}"] if given.ablate else []
    title = f"{', '.join(dict.fromkeys(given.variants + ablation))} on {given.pack.resolve().parent.name}"
    page = markdown(title, run, summary, against)
    write_json(given.out / f"{given.name}.json", {"against": against, "run": run, "rows": rows, "summary": summary})
    write_text(given.out / f"{given.name}.md", page)
    draw(given.out / f"{given.name}.png", title, rows)
    print(json.dumps(summary, indent=1) if given.json else page, end="")
    return None


def _variants(texts: list[str], ablate: list[str] | None, archs: list[str]) -> list[Variant]:
    variants = [parse(text) for text in texts] + (one_change(ablate[0], ablate[1], archs) if ablate else [])
    unique = list({variant.name: variant for variant in variants}.values())
    if len(unique) < 2:
        raise InputError("a comparison takes two variants or more: name recipes, as before after edge, or --ablate A B")
    return unique


def plan(variants: list[Variant], given: Namespace) -> list[Trial]:
    """Return the trials, seed by seed, so that a comparison cut short holds whole seeds.

    All take precision and memory format from one run: the first that has them for every network, or else the first.
    """
    pack = open_pack(given.pack).path.resolve()
    runs = [(variant, seed, given.out / variant.folder / f"seed{seed}")
            for seed in range(given.seeds) for variant in variants]  # fmt: skip
    modes_from = next((run for *_, run in runs if _has_modes(run, given.models)), runs[0][2])
    trials: list[Trial] = []
    for variant, seed, run in runs:
        command = [sys.executable, "-m", "training", "train", str(pack), "--out", str(run), "--resume", "--json",
                   "--seed", str(seed), "--models", *given.models, *variant.flags(given.epochs)]  # fmt: skip
        command += ["--threads", str(given.threads)] if given.threads else []
        other = modes_from if run != modes_from else None
        command += ["--mode-from", str(other)] if other else []
        trials.append(Trial(variant, seed, run, tuple(command), other))
    return trials


def _has_modes(run: Path, archs: list[str]) -> bool:
    return (run / "run.json").is_file() and set(archs) <= set(open_run(run).facts.get("modes", {}))
