"""The start of a run: its settings are checked, its pack is made, and run.json is written before the first step."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import models
from core.data.pack import Pack, open_pack
from core.data.run_dir import SCHEMA, folder_name, open_run
from core.errors import InputError
from core.files import sha256_of_file, write_json
from core.locks import locked_folder
from training.augment.prepare import choose_place
from training.compute.distribution import DistContext
from training.compute.mode import Compute, ComputeMode, choose_mode
from training.compute.rules import apply_rules, captured_if_possible, explain_compile
from training.data.pack_writer import write_pack
from training.recipe import Recipe
from training.reports.machine import check_device, current_commit, describe_machine
from training.reports.pack_table import pack_summary
from training.run.config import RunConfig
from training.run.job import TrainJob
from training.run.record import RunRecord, check_same_settings, modes_of, parse_record
from training.schedule import side_px_at
from training.teacher import Teacher

log = logging.getLogger(__name__)


@contextmanager
def lock_run(out: Path) -> Iterator[None]:
    """Keep the folder of a run, made if needed, for this process. Raises InputError while another one keeps it.

    The lock comes before `begin_run`, because two starts of one new run would each write a run.json.
    """
    is_new = not out.exists()
    if is_new:
        out.mkdir(parents=True, exist_ok=True)
    try:
        with locked_folder(out):
            yield
    finally:
        if is_new:
            with suppress(OSError):  # only an empty folder can be removed: the start was refused
                out.rmdir()


def begin_run(config: RunConfig, dist: DistContext) -> RunRecord:
    """Check the settings, pack the source if needed, and write run.json, or read that of the run to resume."""
    dist.check_batch(config.recipe.batch)
    if config.pretrained:  # missing or unfit weights are refused before anything is written
        for arch in config.archs:
            models.build(arch, 2, pretrained=config.pretrained)  # at its own size: the pack's is not known yet
    check_device(config.device)
    if dist.size > 1 and not config.device.startswith("cuda"):
        _refuse_unshared_norms(config.archs)
    _check_out(config.out, config.resume)
    pack = _open_pack(config)
    if config.teacher:
        _check_teacher(config.teacher, config.recipe, pack)
    torch.set_num_threads(config.threads or torch.get_num_threads())
    return _write_or_read_record(config, pack, dist)


def make_jobs(config: RunConfig, record: RunRecord, dist: DistContext) -> list[TrainJob]:
    """Return the job of each architecture."""
    pack = open_pack(config.pack_path)
    device = dist.own_device(config.device)
    return [
        TrainJob(
            pack=pack,
            arch=arch,
            recipe=config.recipe_of(arch),
            compute=captured_if_possible(Compute(record.modes[arch], device, dist), config.recipe_of(arch)),
            folder=config.out / folder_name(arch),
            seed=config.seed,
            pretrained=config.pretrained,
            teacher=config.teacher,
            augment_on=record.augment_on,
            abstain_risk=config.abstain_risk,
            commit=record.commit,
            as_json=config.as_json,
        )
        for arch in config.archs
    ]


def _refuse_unshared_norms(archs: tuple[str, ...]) -> None:
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
            raise InputError(
                f"{out} is a run already: continue it with --resume (make train: ARGS=--resume), "
                "or name another with --out (make train: RUN=NAME)"
            )
    elif out.exists() and (not out.is_dir() or any(not f.name.startswith((".", "pack")) for f in out.iterdir())):
        raise InputError(f"{out} exists and is not a run: name another --out")


def _open_pack(config: RunConfig) -> Pack:
    if config.pack_path == Path(config.source):
        pack = open_pack(config.pack_path)
        if config.size_px not in (None, pack.geometry.size_px):
            raise InputError(
                f"{pack.path} is a pack of {pack.geometry.size_px} px, and --size is {config.size_px}: leave it out, or"
                " give the data set, to pack it at that size"
            )
        return pack
    pack = write_pack(config.source, config.pack_path, config.pack_options)
    log.info(pack_summary(pack))
    return pack


def _write_or_read_record(config: RunConfig, pack: Pack, dist: DistContext) -> RunRecord:
    """Write run.json, or read that of the run to resume and check that its settings are the same."""
    # a pack inside the run's folder is named relative to it, so that the folder can be moved
    inside = pack.path.resolve().is_relative_to(config.out.resolve())
    body: dict[str, Any] = {
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
        "abstain_risk": config.abstain_risk,
    }
    if (config.out / "run.json").is_file():
        before = open_run(config.out).metadata
        check_same_settings(config.out, before, body)
        return _as_begun(config, parse_record(config.out, before))
    _check_sizes(config, pack)
    # from here on facts of this start, which a run that is resumed keeps
    commit, dirty = current_commit()
    body |= {
        "modes": _modes(config, pack, dist),
        "augment_on": choose_place(config.augment_on, config.device),
        "commit": commit,
        "dirty": dirty,
        "processes": dist.size,
        "machine": describe_machine(config.device),
    }
    write_json(config.out / "run.json", body)
    return parse_record(config.out, body)


def _as_begun(config: RunConfig, record: RunRecord) -> RunRecord:
    """Return the record of a run to resume, with the threads of the command line. Raises InputError naming a flag.

    A flag may repeat what the run was begun with; one that says otherwise would be ignored.
    """
    from_run = modes_of(config.mode_from) if config.mode_from else {}
    for arch, mode in record.modes.items():
        wanted = {flag: getattr(mode, name) == value for flag, (name, value) in config.mode_flags.items()}
        wanted["--mode-from"] = ComputeMode.from_json(from_run[arch]) == mode if arch in from_run else True
        if different := [flag for flag, is_same in wanted.items() if not is_same]:
            raise InputError(
                f"{config.out} was begun with {arch} in {mode}, which {different[0]} contradicts: leave it out"
            )
    if config.augment_on not in ("auto", record.augment_on):
        raise InputError(f"{config.out} was begun with --augment-on {record.augment_on}: leave out --augment-on")
    if config.threads in (None, record.threads):
        return record
    # they are of this machine, as the device is: the steps are the same but for the order of sums
    log.info(f"{config.threads} threads in place of {record.threads}: the results may differ in their last bits")
    return replace(record, threads=config.threads)


def _check_sizes(config: RunConfig, pack: Pack) -> None:
    """Refuse a network that cannot take the images of the first epoch, or those of full size."""
    for arch in config.archs:
        recipe = config.recipe_of(arch)
        size_px = pack.geometry.size_px
        models.check_size(arch, len(pack.classes), size_px, side_px_at(recipe, 0, size_px))
        if recipe != config.recipe:
            log.info(f"{arch} takes images of one size only: they have full size from the first epoch")


def _modes(config: RunConfig, pack: Pack, dist: DistContext) -> dict[str, Any]:
    """Return the mode of each network as JSON, from the run `mode_from`, else chosen here."""
    from_run = modes_of(config.mode_from) if config.mode_from else {}
    modes = {}
    for arch in config.archs:
        modes[arch] = from_run.get(arch) or _choose_mode(config, pack, arch, dist)
        log.info(f"{arch} trains in {ComputeMode.from_json(modes[arch])}")
    return modes


def _choose_mode(config: RunConfig, pack: Pack, arch: str, dist: DistContext) -> dict[str, Any]:
    """Choose by rules on a GPU, and on a CPU by timing a few steps of a process's part of a batch."""
    recipe = config.recipe_of(arch)
    classes = len(pack.classes)
    size_px = pack.geometry.size_px
    device = dist.own_device(config.device)
    fixed = (config.precision, config.memory_format)
    mode, timed_ms = choose_mode(arch, classes, size_px, recipe.batch // dist.size, device, fixed)
    network = models.build(arch, classes, size_px=size_px)
    rows = len(pack.rows("train"))
    compute = apply_rules(Compute(mode, device, dist), config.gpu, recipe, rows, size_px, network)
    if compute.on_gpu and config.gpu.compile == "auto":
        log.info(f"{arch}: {explain_compile(recipe, rows, size_px)}")
    return compute.mode.as_json() | {"timed_ms": timed_ms}
