"""Train every architecture on a pack by one recipe; print the leaderboard."""

from __future__ import annotations

import logging
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import torch

import models
from core.cli import Parser
from core.data.pack import Pack, open_pack
from core.data.run_dir import SCHEMA, folder_name, open_run
from core.errors import InputError
from core.files import read_json, sha256_of_file, write_json
from training import recipes
from training.commands.pack import add_options, options_of, summary
from training.compute.distribution import DistContext, init_distributed
from training.compute.mode import COMPILING, FORMATS, PRECISIONS, Compute, ComputeMode, choose_mode, is_compiled
from training.data.pack_writer import pack as write_pack
from training.interrupt import Interrupt
from training.job import Job
from training.prepare import PLACES, choose_place
from training.recipe import Recipe, overridable
from training.reports.leaderboard import collect, write_leaderboard
from training.reports.machine import check_device, commit, describe_machine
from training.schedule import side_px
from training.teacher import Teacher
from training.train import train

log = logging.getLogger(__name__)

OURS = ("mobilenet_inspired", "squeezenet_inspired", "resnet_inspired")
EPILOG = "any field of the recipe can be set, as --batch 64 or --label-smoothing 0.1; --recipe NAME --help lists them"


def parser() -> Parser:
    """Return the command line."""
    it = Parser("python -m training train", description=__doc__, epilog=EPILOG, allow_abbrev=False)
    it.add_argument("source", metavar="PACK", help="a pack, or a data set, which is packed into OUT/pack first")
    it.add_argument("--out", type=Path, required=True, metavar="RUN", help="the folder of the run, runs/NAME")
    it.add_argument("--recipe", default="edge", metavar="NAME", help=f"one of {', '.join(recipes.names())} (edge)")
    it.add_argument("--models", nargs="+", default=OURS, metavar="ARCH", help=f"of {', '.join(models.names())}, timm/*")
    it.add_argument("--resume", action="store_true", help="go on with a run that was stopped, or killed")
    it.add_argument("--scale-schedule", action="store_true", help="scale T_0, warm-up and patience along with --epochs")
    it.add_argument(
        "--pretrained", nargs="?", const=True, default=False, metavar="FILE",
        help="start a timm/* network from timm's weights, or from those of a .safetensors or .pth file with its names",
    )  # fmt: skip
    it.add_argument("--teacher", type=Path, metavar="FILE", help="a best.safetensors to learn from, by --distill")
    it.add_argument("--abstain-risk", type=float, default=0.05, metavar="RISK", help="errors accepted on val (0.05)")
    it.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu, cuda or cuda:1")
    it.add_argument("--augment-on", default="auto", choices=PLACES, help="host or device (default: device, on a GPU)")
    it.add_argument("--precision", choices=PRECISIONS, help="of the step (default: the fastest, by timing)")
    it.add_argument("--memory-format", choices=FORMATS, help="of the step (default: the fastest, by timing)")
    it.add_argument(
        "--mode-from", type=Path, metavar="RUN", help="take precision and format from another run's run.json"
    )
    it.add_argument(
        "--compile",
        default="auto",
        choices=COMPILING,
        help="torch.compile (auto: on a GPU, in a run of 100,000 steps or more)",
    )
    it.add_argument("--threads", type=int, help="of the CPU (default: one a core)")
    it.add_argument("--json", action="store_true", help="JSON lines on stdout")
    add_options(it.add_argument_group("packing, when the source is not a pack"))
    fields_of = it.add_argument_group("fields of the recipe")
    for item in overridable():
        names = dict.fromkeys((f"--{item.name}", f"--{item.name.replace('_', '-')}"))
        fields_of.add_argument(*names, dest=f"recipe_{item.name}", metavar="VALUE", help=item.metadata["help"])
    return it


def main(arguments: list[str]) -> int | None:
    """Pack when needed, train, and print the leaderboard; started by torchrun, together with the other processes."""
    with init_distributed() as dist:
        given, recipe, run = dist.run_on_main(lambda: _prepare(arguments, dist))
        cv2.setNumThreads(1)  # pictures are small: threads cost more than they bring
        torch.set_num_threads(run["machine"]["threads"])
        pack = open_pack(Path(given.source) if _is_pack(given.source) else given.out / "pack")
        jobs = [_job(given, recipe, pack, run, arch, dist) for arch in given.models]
        if stopped := _train(jobs):
            return stopped
        return dist.run_on_main(lambda: _end(given, jobs))


def _prepare(arguments: list[str], dist: DistContext) -> tuple[Any, Recipe, dict[str, Any]]:
    """Check everything, pack when needed, and write run.json or read it; return what was asked, recipe and run.json."""
    given = parser().parse_args(arguments)
    recipe = _recipe(given)
    dist.check_batch(recipe.batch)
    for arch in given.models:
        models.check_name(arch)
        if given.pretrained:  # weights that are missing or do not fit are refused before anything is written
            models.build(arch, 2, pretrained=given.pretrained)  # at its own size: that of the pack is not known yet
    if len(set(given.models)) < len(given.models):
        raise InputError("--models names an architecture twice: name each once")
    check_device(given.device)
    if dist.size > 1 and not given.device.startswith("cuda"):
        _check_norms(given.models)
    _check_out(given.out, given.resume)
    pack = _open(given)
    _check_teacher(given, recipe, pack)
    torch.set_num_threads(given.threads or torch.get_num_threads())
    return given, recipe, _begin(given, recipe, pack, dist)


def _train(jobs: list[Job]) -> int | None:
    """Train what is not finished; return an exit code when a signal stopped it."""
    with Interrupt() as interrupt:
        for job in jobs:
            if job.finished:
                continue
            try:
                train(job, interrupt)
            except InterruptedError as stopped:
                if job.is_main:
                    log.critical(f"stopped: {stopped}; --resume goes on")
                return 128 + (interrupt.asked or signal.SIGTERM)
    return None


def _recipe(given: Any) -> Recipe:
    recipe = recipes.named(given.recipe)
    texts = {item.name: text for item in overridable() if (text := getattr(given, f"recipe_{item.name}"))}
    if given.scale_schedule:
        recipe = recipe.scaled(recipe.with_overrides(texts).epochs)
    return recipe.with_overrides(texts)


def _check_norms(archs: list[str]) -> None:
    """Refuse a network with batch normalisation on CPUs, where each process would normalise by its own images."""
    from models.sync_norm import has_batch_norm  # timm takes seconds to import

    for arch in archs:
        if has_batch_norm(models.build(arch, 2)):
            raise InputError(
                f"{arch} has batch normalisation, which several processes share on GPUs alone: start one process, "
                "without torchrun, or give --device cuda"
            )


def _check_teacher(given: Any, recipe: Recipe, pack: Pack) -> None:
    """Refuse a teacher that cannot be read or knows other classes, and pictures mixed of two, which it cannot judge."""
    if given.teacher:
        Teacher(given.teacher, pack.classes, Compute(ComputeMode("fp32")))
        if recipe.mixup_alpha or recipe.cutmix_alpha:
            raise InputError("--teacher cannot judge mixed pictures: set --mixup-alpha and --cutmix-alpha to 0")


def _check_out(out: Path, resume: bool) -> None:
    """Refuse a folder that holds a run, unless it is to be gone on with, or anything that is not ours."""
    if (out / "run.json").is_file():
        if not resume:
            raise InputError(f"{out} is a run already: go on with it by --resume, or name another --out")
    elif out.exists() and (not out.is_dir() or any(not f.name.startswith((".", "pack")) for f in out.iterdir())):
        raise InputError(f"{out} exists and is not a run: name another --out")


def _open(given: Any) -> Pack:
    if _is_pack(given.source):
        return open_pack(Path(given.source))
    made = write_pack(given.source, given.out / "pack", options_of(given))
    log.info(summary(made))
    return made


def _is_pack(source: str) -> bool:
    return (Path(source) / "pack.json").is_file()


def _begin(given: Any, recipe: Recipe, pack: Pack, dist: DistContext) -> dict[str, Any]:
    """Write run.json before the first step, or read that of the run to go on with and see that it is the same."""
    head, dirty = commit()
    inside = pack.path.resolve().is_relative_to(given.out.resolve())
    facts: dict[str, Any] = {
        "schema": SCHEMA,
        "pack": {
            "path": pack.path.name if inside else str(pack.path.resolve()),
            "fingerprint": pack.fingerprint,
            "synthetic": pack.synthetic,
        },
        "recipe": recipe.as_json(),
        "models": list(given.models),
        "seed": given.seed,
        "pretrained": given.pretrained,
        "teacher": sha256_of_file(given.teacher) if given.teacher else None,
    }
    if (given.out / "run.json").is_file():
        before = open_run(given.out).facts
        _check_same(given.out, before, facts)
        return before
    modes = dict(open_run(given.mode_from).facts.get("modes", {})) if given.mode_from else {}
    for arch in given.models:
        ours, size_px = _recipe_of(arch, recipe), pack.geometry.size_px
        models.check_size(arch, len(pack.classes), size_px, side_px(ours, 0, size_px))
        if ours != recipe:
            log.info(f"{arch} takes images of one size only: they are of full size from the first epoch")
    for arch in given.models:
        modes[arch] = modes.get(arch) or _choose(given, recipe, pack, arch, dist)
        log.info(f"{arch} trains in {ComputeMode.from_json(modes[arch])}")
    facts |= {
        "modes": {arch: modes[arch] for arch in given.models},
        "augment_on": choose_place(given.augment_on, given.device),
        "commit": head,
        "dirty": dirty,
        "processes": dist.size,
        "machine": describe_machine(given.device),
    }
    write_json(given.out / "run.json", facts)
    return facts


def _recipe_of(arch: str, recipe: Recipe) -> Recipe:
    """Return the recipe of one network: one that takes a single size begins with it."""
    return replace(recipe, start_size=1.0) if models.has_fixed_size(arch) else recipe


def _choose(given: Any, recipe: Recipe, pack: Pack, arch: str, dist: DistContext) -> dict[str, Any]:
    """Time a few steps of a process's part of a batch."""
    mode, timed_ms = choose_mode(
        arch, len(pack.classes), pack.geometry.size_px, recipe.batch // dist.size, dist.device(given.device),
        (given.precision, given.memory_format),
    )  # fmt: skip
    steps = recipe.epochs * len(pack.rows("train")) // recipe.batch
    mode = replace(mode, compiled=is_compiled(given.compile, given.device, steps))
    return mode.as_json() | {"timed_ms": timed_ms}


def _check_same(out: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise InputError naming the first thing in which a resumed run would differ."""
    names = ("models", "seed", "pretrained", "teacher")
    was, asked = (run["recipe"] | {k: run.get(k) for k in names} | run["pack"] for run in (before, now))
    for name in asked:
        if name not in {"path"} and was.get(name) != asked[name]:
            raise InputError(f"{out} was begun with {name} {was.get(name)!r}, not {asked[name]!r}: name another --out")


def _job(given: Any, recipe: Recipe, pack: Pack, run: dict[str, Any], arch: str, dist: DistContext) -> Job:
    return Job(
        pack, arch, _recipe_of(arch, recipe),
        Compute(ComputeMode.from_json(run["modes"][arch]), dist.device(given.device), dist),
        given.out / folder_name(arch),
        seed=given.seed, pretrained=given.pretrained, commit=run["commit"],
        abstain_risk=given.abstain_risk, as_json=given.json, augment_on=run.get("augment_on", "host"),
        teacher=given.teacher,
    )  # fmt: skip


def _end(given: Any, jobs: list[Job]) -> None:
    """Put what was measured into run.json; write and print the leaderboard."""
    facts = read_json(given.out / "run.json")
    names = ("seconds", "images_per_s", "peak_memory_mb")
    facts["measured"] = {m["arch"]: {name: m[name] for name in names} for m in collect(given.out)}
    write_json(given.out / "run.json", facts)
    table = write_leaderboard(given.out, jobs[0].pack.synthetic)
    if not given.json:
        print(table)
