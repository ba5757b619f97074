"""Train architectures on a pack with one recipe, and print the leaderboard."""

from __future__ import annotations

import logging
import signal
from argparse import SUPPRESS, Namespace, _ActionsContainer
from contextlib import ExitStack
from pathlib import Path

import cv2
import torch

import models
from core.cli import Parser, options_for
from core.errors import DeviceError, InputError, as_device_error
from training import recipes
from training.augment.prepare import PLACES
from training.commands.pack import add_pack_options, pack_options_of
from training.compute.distribution import init_distributed
from training.compute.mode import MEMORY_FORMATS, STEP_PRECISIONS
from training.compute.rules import AUTO_YES_NO, COMPILE_STEPS, GpuOptions
from training.recipe import DEFAULT, Recipe, overridable
from training.reports.leaderboard import write_leaderboard
from training.run.begin import begin_run, lock_run, make_jobs
from training.run.config import RunConfig
from training.run.interrupt import Interrupt
from training.run.job import TrainJob
from training.run.record import record_speed
from training.train import train

log = logging.getLogger(__name__)

OWN_ARCHITECTURES = ("mobilenet_inspired", "squeezenet_inspired", "resnet_inspired")
EPILOG = "Every field of the recipe can be set, for example with --batch 64 or --label-smoothing 0.1."


def parser() -> Parser:
    """Return the command line."""
    parser = Parser("python -m training train", description=__doc__, epilog=EPILOG, allow_abbrev=False)
    add = parser.add_argument
    add("source", metavar="DATA", help="a pack, or a data set to pack into RUN/pack first")
    add("--out", type=Path, required=True, metavar="RUN", help="the folder of the run, runs/NAME")
    add("--recipe", default="edge", metavar="NAME", help=f"the recipe: {', '.join(recipes.names())} (default: edge)")
    add(
        "--models", dest="archs", nargs="+", default=OWN_ARCHITECTURES, metavar="ARCH",
        help=f"architectures: {', '.join(models.names())}, or timm/NAME (default: the three of our own)",
    )  # fmt: skip
    add("--resume", action="store_true", help="continue a run that was stopped or killed")
    add("--scale-schedule", action="store_true", help="scale T_0, warm-up and patience in proportion to --epochs")
    add(
        "--pretrained", nargs="?", const=True, default=False, metavar="FILE",
        help="start a timm/NAME network from timm's weights, or from those of a .safetensors or .pth file",
    )  # fmt: skip
    add("--teacher", type=Path, metavar="FILE", help="distill from this checkpoint, a best.safetensors; see --distill")
    add(
        "--abstain-risk", type=float, default=0.05, metavar="RISK",
        help="share of wrong answers accepted on val when the abstain threshold is chosen (default: 0.05)",
    )  # fmt: skip
    _add_step_options(parser)
    add("--threads", type=int, help="number of CPU threads (default: one per core)")
    add("--json", dest="as_json", action="store_true", help="print progress as JSON lines on stdout")
    add_pack_options(parser.add_argument_group("packing, when DATA is not a pack (--seed also seeds the training)"))
    _add_recipe_fields(parser.add_argument_group("fields of the recipe"))
    return parser


def _add_step_options(parser: Parser) -> None:
    """Add the options that say where and how a step computes."""
    add = parser.add_argument
    add(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu",
        help="cpu, cuda or cuda:N (default: cuda where there is a GPU)",
    )  # fmt: skip
    add("--augment-on", default="auto", choices=PLACES, help="place of augmentation (auto: the device on a GPU)")
    add(
        "--precision", choices=STEP_PRECISIONS,
        help="precision of the step (default: bf16 on a GPU, the fastest on a CPU)",
    )  # fmt: skip
    add(
        "--memory-format", choices=MEMORY_FORMATS,
        help="memory format of the step (default: channels_last on a GPU, the fastest on a CPU)",
    )  # fmt: skip
    add(
        "--mode-from",
        type=Path,
        metavar="RUN",
        help="use the whole mode of another run; the flags --precision to --deterministic do not go with it",
    )
    add(
        "--compile", default="auto", choices=AUTO_YES_NO,
        help=f"use torch.compile (auto: on a GPU, in a run of {COMPILE_STEPS:,} steps or more per shape of a batch)",
    )  # fmt: skip
    add(
        "--capture", default="auto", choices=AUTO_YES_NO,
        help="replay steps as CUDA graphs (auto: on one GPU, except with fp16, mixup or cutmix)",
    )  # fmt: skip
    add(
        "--cudnn-benchmark", default="auto", choices=AUTO_YES_NO,
        help="have cuDNN time its kernels (auto: on a GPU, except for networks with depthwise convolutions)",
    )  # fmt: skip
    add(
        "--deterministic", action="store_true",
        help="the same bits in two runs on one GPU; without it cuDNN may add up gradients in any order",
    )  # fmt: skip


def _add_recipe_fields(group: _ActionsContainer) -> None:
    """Add an option for each field of the recipe; the form with underscores works, too, but the help leaves it out."""
    for item in overridable():
        name = item.name.replace("_", "-")
        dest = f"recipe_{item.name}"
        choices = item.metadata.get("choices")
        numbers = {"int": "N", "float": "NUMBER", "bool": "{true,false}"}
        metavar = f"{{{','.join(choices)}}}" if choices else numbers.get(str(item.type), "VALUE")
        group.add_argument(f"--{name}", dest=dest, metavar=metavar, help=item.metadata["help"])
        if name != item.name:
            group.add_argument(f"--{item.name}", dest=dest, help=SUPPRESS)


def parse(arguments: list[str]) -> RunConfig:
    """Return the settings on the command line. Raises InputError in one sentence."""
    args = parser().parse_args(arguments)
    settings = options_for(RunConfig, args) | {"recipe": _recipe_of(args), "archs": tuple(args.archs)}
    gpu = GpuOptions(**options_for(GpuOptions, args))
    return RunConfig(**settings, pack_options=pack_options_of(args), gpu=gpu)


def main(arguments: list[str]) -> int | None:
    """Pack if needed, train, and print the leaderboard. torchrun may start this command in several processes."""
    with init_distributed() as dist, ExitStack() as stack:
        config = dist.run_on_main(lambda: parse(arguments))
        dist.run_on_main(lambda: stack.enter_context(lock_run(config.out)))
        record = dist.run_on_main(lambda: begin_run(config, dist))
        cv2.setNumThreads(1)  # images are small: starting threads would cost more than it saves
        torch.set_num_threads(record.threads)
        jobs = make_jobs(config, record, dist)
        # a signal stops the run with 128 plus its number, as a shell expects
        if stopped := _train(jobs):
            return stopped
        return dist.run_on_main(lambda: _finish(config, jobs))


def _recipe_of(args: Namespace) -> Recipe:
    recipe = recipes.load_recipe(args.recipe)
    texts = {item.name: text for item in overridable() if (text := getattr(args, f"recipe_{item.name}")) is not None}
    if args.scale_schedule:
        recipe = recipe.scaled(recipe.with_overrides(texts).epochs)
    recipe = recipe.with_overrides(texts)
    known = [DEFAULT, *models.names()]  # a misspelled architecture would train with the default dropout, unsaid
    for name in recipe.dropout:
        if name not in known and not name.startswith("timm/"):
            raise InputError(f"--dropout names {name!r}, which is no architecture: choose from {', '.join(known)}")
    return recipe


def _train(jobs: list[TrainJob]) -> int | None:
    """Train the jobs that are not finished; return an exit code if a signal stopped them, else None."""
    with Interrupt() as interrupt:
        for job in jobs:
            if job.is_finished:
                continue
            try:
                train(job, interrupt)
            except InterruptedError as stopped:
                if job.is_main:
                    log.critical(f"stopped: {stopped}; continue with --resume")
                return 128 + (interrupt.signal_number or signal.SIGTERM)
            except RuntimeError as error:
                raise _explain_failure(error, job) from error
    return None


def _explain_failure(error: RuntimeError, job: TrainJob) -> Exception:
    """Return the error to raise for a failure of torch: a sentence for a person, or `error` for a fault of ours."""
    device = job.compute.device
    # torch raises RuntimeError for nearly everything, so the kind or the text must tell
    if isinstance(error, torch.OutOfMemoryError):
        return DeviceError(f"{job.arch} needs more memory than {device} has: give a --batch below {job.recipe.batch}")
    if isinstance(error, torch.AcceleratorError):
        return as_device_error(error, f"{device}, training {job.arch},")
    if "deterministic" in str(error):
        operation = str(error).split(" does not have")[0]
        return InputError(f"{operation} of {job.arch} has no deterministic form on {device}: leave out --deterministic")
    return error


def _finish(config: RunConfig, jobs: list[TrainJob]) -> None:
    """Add the measurements to run.json; write and print the leaderboard."""
    record_speed(config.out)
    table = write_leaderboard(config.out, jobs[0].pack.synthetic)
    if not config.as_json:
        print(table)
