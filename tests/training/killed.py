"""Train, and die by SIGKILL at a chosen moment: `python -m tests.training.killed MOMENT NUMBER ARGUMENTS...`."""

import os
import signal
import sys
from pathlib import Path

import safetensors.torch

from training import loop
from training.commands.train import main
from training.learner import Learner

MOMENTS = ("step", "write", "between")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(moment: str, number: int) -> None:
    """Die at the `number`th step, inside the `number`th write of a file of weights, or after the best was written."""
    step, save, save_state = Learner.step, safetensors.torch.save_file, loop.save_state
    left = [number]

    def due() -> bool:
        left[0] -= 1
        return left[0] < 0

    def dying_step(self, *arguments):
        if due():
            die()
        return step(self, *arguments)

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
        Learner.step = dying_step
    elif moment == "write":
        safetensors.torch.save_file = dying_save
    else:
        loop.save_state = dying_state


if __name__ == "__main__":
    arm(sys.argv[1], int(sys.argv[2]))
    raise SystemExit(main(sys.argv[3:]))
