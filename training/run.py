"""A run: several architectures, one recipe, one pack. It is checked and recorded in run.json before the first step."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import models
from core.codec import from_json, known_keys
from core.data.pack import Pack, open_pack
from core.data.run_dir import SCHEMA, folder_name, open_run
from core.errors import InputError
from core.files import read_json, sha256_of_file, write_json
from training.compute.distribution import DistContext
from training.compute.mode import Compute, ComputeMode, choose_mode
from training.compute.rules import GpuOptions, captured_if_possible, complete, explain_compile
from training.data.listing import Options
from training.data.pack_writer import pack as write_pack
from training.job import Job
from training.prepare import PLACES, choose_place
from training.recipe import Recipe, read_older
from training.reports.leaderboard import collect
from training.reports.machine import check_device, commit, describe_machine
from training.reports.pack_table import summary
from training.schedule import side_px
from training.teacher import Teacher

log = logging.getLogger(__name__)

DEFAULTS = GpuOptions()
MOST_THREADS = 1024


@dataclass(frozen=True)
class RunConfig:
    """The settings of a run, from the command line."""

    source: str
    """A pack, or a data set, which is packed into `out`/pack first."""
    out: Path
    recipe: Recipe
    archs: tuple[str, ...]
    pack_options: Options
    seed: int = 0
    resume: bool = False
    pretrained: bool | str = False
    teacher: Path | None = None
    abstain_risk: float = 0.05
    device: str = "cpu"
    augment_on: str = "auto"
    precision: str | None = None
    memory_format: str | None = None
    mode_from: Path | None = None
    """Another run, whose precision and memory format are used."""
    gpu: GpuOptions = DEFAULTS
    threads: int | None = None
    as_json: bool = False

    def __post_init__(self) -> None:
        if len(set(self.archs)) < len(self.archs):
            raise InputError("--models names an architecture twice: name each once")
        for arch in self.archs:
            models.check_name(arch)
        if self.threads is not None:
            check_threads(self.threads)

    @property
    def pack_path(self) -> Path:
        """The pack to train on: the source itself, or the pack that is made of it."""
        return Path(self.source) if (Path(self.source) / "pack.json").is_file() else self.out / "pack"

    def recipe_of(self, arch: str) -> Recipe:
        """Return the recipe of one network; one that takes images of a single size starts at full size."""
        return replace(self.recipe, start_size=1.0) if models.has_fixed_size(arch) else self.recipe


@dataclass(frozen=True)
class RunFacts:
    """The parts of run.json that every later start of the same run keeps."""

    modes: dict[str, ComputeMode]
    augment_on: str
    commit: str
    threads: int

    def __post_init__(self) -> None:
        check_threads(self.threads)
        if self.augment_on not in PLACES:
            raise InputError(f"augment_on is {self.augment_on!r}: give one of {', '.join(PLACES)}")


def check_threads(threads: int) -> None:
    """Refuse a number of threads that no machine can start."""
    if not 1 <= threads <= MOST_THREADS:
        raise InputError(f"threads is {threads}: give 1 to {MOST_THREADS}")


def begin_run(config: RunConfig, dist: DistContext) -> RunFacts:
    """Check the settings, pack the source if needed, and write run.json, or read that of the run to resume."""
    dist.check_batch(config.recipe.batch)
    if config.pretrained:  # refuse missing or unfit weights before anything is written
        for arch in config.archs:
            models.build(arch, 2, pretrained=config.pretrained)  # at its own size: the pack's is not known yet
    check_device(config.device)
    if dist.size > 1 and not config.device.startswith("cuda"):
        _check_norms(config.archs)
    _check_out(config.out, config.resume)
    pack = _open_pack(config)
    if config.teacher:
        _check_teacher(config.teacher, config.recipe, pack)
    torch.set_num_threads(config.threads or torch.get_num_threads())
    return _record(config, pack, dist)


def jobs(config: RunConfig, facts: RunFacts, dist: DistContext) -> list[Job]:
    """Return the job of each architecture."""
    pack, device = open_pack(config.pack_path), dist.device(config.device)
    return [
        Job(
            pack=pack,
            arch=arch,
            recipe=config.recipe_of(arch),
            compute=captured_if_possible(Compute(facts.modes[arch], device, dist), config.recipe_of(arch)),
            folder=config.out / folder_name(arch),
            seed=config.seed,
            pretrained=config.pretrained,
            teacher=config.teacher,
            augment_on=facts.augment_on,
            abstain_risk=config.abstain_risk,
            commit=facts.commit,
            as_json=config.as_json,
        )
        for arch in config.archs
    ]


def record_speed(out: Path) -> None:
    """Add each network's time, images per second and peak memory to run.json."""
    facts = read_json(out / "run.json")
    names = ("seconds", "images_per_s", "peak_memory_mb")
    facts["measured"] = {m["arch"]: {name: m[name] for name in names} for m in collect(out)}
    write_json(out / "run.json", facts)


def _check_norms(archs: tuple[str, ...]) -> None:
    """Refuse batch normalization on several CPU processes, each of which would normalize by its own images."""
    from models.sync_norm import has_batch_norm  # timm takes seconds to import

    for arch in archs:
        if has_batch_norm(models.build(arch, 2)):
            raise InputError(
                f"{arch} has batch normalization, which several processes share only on GPUs: start one process, "
                "without torchrun, or give --device cuda"
            )


def _check_teacher(teacher: Path, recipe: Recipe, pack: Pack) -> None:
    """Refuse a teacher that cannot be read or has other classes, and a teacher together with mixed images."""
    Teacher(teacher, pack.classes, Compute(ComputeMode()))
    if recipe.mixup_alpha or recipe.cutmix_alpha:
        raise InputError("--teacher does not go with mixed images: set --mixup-alpha and --cutmix-alpha to 0")


def _check_out(out: Path, resume: bool) -> None:
    """Refuse a folder that holds a run, unless it is to be resumed, or other files."""
    if (out / "run.json").is_file():
        if not resume:
            raise InputError(f"{out} is a run already: continue it with --resume, or name another --out")
    elif out.exists() and (not out.is_dir() or any(not f.name.startswith((".", "pack")) for f in out.iterdir())):
        raise InputError(f"{out} exists and is not a run: name another --out")


def _open_pack(config: RunConfig) -> Pack:
    if config.pack_path == Path(config.source):
        return open_pack(config.pack_path)
    made = write_pack(config.source, config.pack_path, config.pack_options)
    log.info(summary(made))
    return made


def _record(config: RunConfig, pack: Pack, dist: DistContext) -> RunFacts:
    """Write run.json, or read that of the run to resume and check that its settings are the same."""
    inside = pack.path.resolve().is_relative_to(config.out.resolve())
    facts: dict[str, Any] = {
        "schema": SCHEMA,
        "pack": {
            "path": pack.path.name if inside else str(pack.path.resolve()),
            "fingerprint": pack.fingerprint,
            "synthetic": pack.synthetic,
        },
        "recipe": config.recipe.as_json(),
        "models": list(config.archs),
        "seed": config.seed,
        "pretrained": config.pretrained,
        "teacher": sha256_of_file(config.teacher) if config.teacher else None,
    }
    if (config.out / "run.json").is_file():
        before = open_run(config.out).facts
        _check_same(config.out, before, facts)
        return _facts_of(config.out, before)
    _check_sizes(config, pack)
    head, dirty = commit()
    facts |= {
        "modes": _modes(config, pack, dist),
        "augment_on": choose_place(config.augment_on, config.device),
        "commit": head,
        "dirty": dirty,
        "processes": dist.size,
        "machine": describe_machine(config.device),
    }
    write_json(config.out / "run.json", facts)
    return _facts_of(config.out, facts)


def _facts_of(out: Path, run: dict[str, Any]) -> RunFacts:
    """Read what a run.json holds. Raises InputError naming the file and the key."""
    file, machine = out / "run.json", run.get("machine")
    facts = {
        "modes": _known_modes(run.get("modes")),
        "augment_on": run.get("augment_on", "host"),
        "commit": run.get("commit"),
        "threads": machine.get("threads") if isinstance(machine, dict) else None,
    }
    read = from_json(RunFacts, facts, f"{file} is damaged, train the run again")
    if missing := sorted(set(run["models"]) - set(read.modes)):
        raise InputError(f"{file} is damaged, train the run again: modes lacks {missing[0]}")
    return read


def _known_modes(modes: Any) -> Any:
    """Return the modes in a run.json without what else stands there, such as times."""
    return {arch: known_keys(ComputeMode, mode) for arch, mode in modes.items()} if isinstance(modes, dict) else modes


def _modes_from(path: Path) -> dict[str, Any]:
    """Return the modes of another run as they stand in its run.json. Raises InputError naming the file and the key."""
    modes = open_run(path).facts.get("modes", {})
    from_json(dict[str, ComputeMode], _known_modes(modes), f"{path / 'run.json'}: modes")
    return dict(modes)


def _check_sizes(config: RunConfig, pack: Pack) -> None:
    """Refuse a network that cannot take the images of the first epoch."""
    for arch in config.archs:
        recipe, size_px = config.recipe_of(arch), pack.geometry.size_px
        models.check_size(arch, len(pack.classes), size_px, side_px(recipe, 0, size_px))
        if recipe != config.recipe:
            log.info(f"{arch} takes images of one size only: they have full size from the first epoch")


def _modes(config: RunConfig, pack: Pack, dist: DistContext) -> dict[str, Any]:
    """Return the mode of each network as JSON, from the run `mode_from`, else by timing."""
    from_run = _modes_from(config.mode_from) if config.mode_from else {}
    modes = {}
    for arch in config.archs:
        modes[arch] = from_run.get(arch) or _choose_mode(config, pack, arch, dist)
        log.info(f"{arch} trains in {ComputeMode.from_json(modes[arch])}")
    return modes


def _choose_mode(config: RunConfig, pack: Pack, arch: str, dist: DistContext) -> dict[str, Any]:
    """Choose by rules on a GPU, and on a CPU by timing a few steps of a process's part of a batch."""
    recipe, classes, size_px = config.recipe_of(arch), len(pack.classes), pack.geometry.size_px
    device, asked = dist.device(config.device), (config.precision, config.memory_format)
    mode, timed_ms = choose_mode(arch, classes, size_px, recipe.batch // dist.size, device, asked)
    network, rows = models.build(arch, classes, size_px=size_px), len(pack.rows("train"))
    compute = complete(Compute(mode, device, dist), config.gpu, recipe, rows, size_px, network)
    if compute.on_gpu and config.gpu.compile == "auto":
        log.info(f"{arch}: {explain_compile(recipe, rows, size_px)}")
    return compute.mode.as_json() | {"timed_ms": timed_ms}


def _check_same(out: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise InputError naming the first setting in which a resumed run would differ; the pack may have moved."""
    before = before | {"recipe": _recipe_in(out / "run.json", before)}
    names = ("models", "seed", "pretrained", "teacher")
    was, asked = (run["recipe"] | {k: run.get(k) for k in names} | run["pack"] for run in (before, now))
    for name in asked:
        if name != "path" and was.get(name) != asked[name]:
            raise InputError(f"{out} was begun with {name} {was.get(name)!r}, not {asked[name]!r}: name another --out")


def _recipe_in(file: Path, run: dict[str, Any]) -> dict[str, Any]:
    """Return the recipe in a run.json of any schema, in today's form. Raises InputError naming the file."""
    recipe = run.get("recipe")
    if not isinstance(recipe, dict):
        raise InputError(f"{file} holds no recipe: train the run again")
    try:
        return read_older(recipe) if run["schema"] == 1 else recipe
    except (KeyError, TypeError, InputError) as error:
        raise InputError(f"{file} holds no recipe of schema 1 ({error}): train the run again") from None
