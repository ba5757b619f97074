"""Train recipes with several seeds each, and write a table and a plot of their differences."""

from __future__ import annotations

import json
from pathlib import Path

import models
from core.cli import Parser
from core.data.run_dir import open_run
from core.errors import InputError
from core.files import write_json, write_text
from training import recipes
from training.commands.train import OWN_ARCHITECTURES
from training.compare.comparison import RecipeComparison, collect_rows, run_trials, summarize
from training.compare.page import draw_comparison, render_page
from training.compare.variants import Variant, ablations, parse_variant

EPILOG = """A variant is a recipe, or a recipe with fields changed: edge:batch=16,schedule=one_cycle. Each variant with
each seed is an ordinary run under DIR, so the same command continues a comparison that was stopped, and comparisons
with the same DIR, --pack, --epochs and --threads share the runs that they have in common."""


def parser() -> Parser:
    """Return the command line."""
    parser = Parser("python -m training compare", description=__doc__, epilog=EPILOG)
    add = parser.add_argument
    add("variants", nargs="*", metavar="VARIANT", help=f"{', '.join(recipes.names())}, or RECIPE:field=value,...")
    add("--pack", type=Path, required=True, help="the pack to train on")
    add("--out", type=Path, required=True, metavar="DIR", help="the folder of all runs and of the table")
    add("--name", default="compare", help="name of the table's files, DIR/NAME.json, .md and .png (default: compare)")
    add("--ablate", nargs=2, metavar=("FROM", "TO"), help="compare FROM, and FROM with each single change of TO")
    add(
        "--models",
        nargs="+",
        default=list(OWN_ARCHITECTURES),
        metavar="ARCH",
        help="architectures (default: the three of our own)",
    )
    add("--seeds", type=int, default=5, metavar="N", help="use the seeds 0 to N-1 (default: 5)")
    add("--epochs", type=int, help="epochs of every variant that does not set its own")
    add("--against", metavar="VARIANT", help="the reference of the differences (default: FROM, or the last variant)")
    add("--jobs", type=int, default=1, help="number of runs at a time (default: 1)")
    add("--threads", type=int, help="CPU threads of each run (default: as in train)")
    add("--table-only", action="store_true", help="train nothing, and write the table of the finished runs")
    add("--json", action="store_true", help="print the summary as JSON")
    return parser


def main(arguments: list[str]) -> int | None:
    """Train what is missing, then print the table."""
    args = parser().parse_args(arguments)
    for arch in args.models:
        models.check_name(arch)
    if not args.name or Path(args.name).name != args.name:
        raise InputError(f"--name {args.name!r} is no plain file name: give one without a slash, as recipes")
    variants = _variants(args.variants, args.ablate, args.models)
    against = args.against or (args.ablate[0] if args.ablate else variants[-1].name)
    if against not in {variant.name for variant in variants}:
        raise InputError(f"--against {against!r} is none of the variants: {', '.join(v.name for v in variants)}")
    if args.jobs < 1:
        raise InputError(f"--jobs is {args.jobs}: give 1 or more")
    comparison = RecipeComparison(
        tuple(variants), tuple(args.models), args.pack, args.out, args.seeds, args.epochs, args.threads
    )
    trials = comparison.trials()
    if not args.table_only:
        run_trials(trials, args.models, args.jobs)
    rows = collect_rows(trials, args.models)
    if not rows:
        raise InputError(f"{args.out} holds no finished run yet: leave --table-only out")
    summary = summarize(rows, against)
    run = next(open_run(trial.run).metadata for trial in trials if (trial.run / "run.json").is_file())
    ablation = [f"{args.ablate[0]} with each single change of {args.ablate[1]}"] if args.ablate else []
    title = f"{', '.join(dict.fromkeys(args.variants + ablation))} on {args.pack.resolve().parent.name}"
    page = render_page(title, run, summary, against)
    write_json(args.out / f"{args.name}.json", {"against": against, "run": run, "rows": rows, "summary": summary})
    write_text(args.out / f"{args.name}.md", page)
    draw_comparison(args.out / f"{args.name}.png", title, rows)
    print(json.dumps(summary, indent=1) if args.json else page, end="")
    return None


def _variants(texts: list[str], ablate: list[str] | None, archs: list[str]) -> list[Variant]:
    variants = [parse_variant(text) for text in texts] + (ablations(ablate[0], ablate[1], archs) if ablate else [])
    unique = list({variant.name: variant for variant in variants}.values())
    if len(unique) < 2:
        raise InputError("a comparison takes two variants or more: name recipes, as before after edge, or --ablate A B")
    return unique
