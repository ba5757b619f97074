"""Train, and die by SIGKILL at a chosen moment: `python -m tests.training.killed MOMENT NUMBER ARGUMENTS...`."""

import multiprocessing
import os
import signal
import sys
from pathlib import Path

import safetensors.torch

from training import step as steps_of
from training.commands.train import main
from training.state import TrainState

MOMENTS = ("step", "write", "between")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(moment: str, number: int) -> None:
    """Die at the `number`th step, inside the `number`th write of a file of weights, or after the best was written."""
    step, save, save_state = steps_of.train_step, safetensors.torch.save_file, TrainState.save
    left = [number]

    def due() -> bool:
        left[0] -= 1
        return left[0] < 0

    def dying_step(*arguments):
        if due():
            die()
        step(*arguments)

    def dying_save(tensors, path, metadata=None):
        save(tensors, path, metadata)
        if due():
            os.truncate(path, Path(path).stat().st_size // 2)
            die()

    def dying_state(*arguments):
        if due():
            die()
        save_state(*arguments)

    if moment == "step":
        steps_of.train_step = dying_step
    elif moment == "write":
        safetensors.torch.save_file = dying_save
    else:
        TrainState.save = dying_state


def train_until(moment: str, number: int, arguments: list[str]) -> None:
    """Train, to be killed; a process that ends before that ends well."""
    arm(moment, number)
    raise SystemExit(main(arguments))


def kill(moment: str, number: int, arguments: list[str]) -> int:
    """Train in a process of its own; return its exit code, -SIGKILL when it was killed.

    The process is forked off a server that has imported everything, and trains nothing itself.
    """
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([__name__, "tests.training.compute.joined"])
    process = server.Process(target=train_until, args=(moment, number, arguments))
    process.start()
    process.join()
    return process.exitcode


if __name__ == "__main__":
    train_until(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
