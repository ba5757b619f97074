"""Several processes that train one network together, as `torchrun` starts them: which one this is, what they agree on.

One process is a world of size 1, where nothing is sent and nothing is waited for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from core.errors import CheckError, InputError

T = TypeVar("T")
PATIENCE = timedelta(days=1)
"""How long a process waits for another, which may be packing; torchrun ends them all when one dies."""


@dataclass(frozen=True)
class World:
    """The processes that train together, and which of them this is; the first alone writes files."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Tell whether this is the process that writes and speaks."""
        return self.rank == 0

    def part(self, n: int) -> slice:
        """Return this process's part of a batch of n images."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def add(self, tensor: Tensor) -> Tensor:
        """Return the sum of all processes' tensors, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Tell of each flag whether a process raised it, so that all turn off at the same step."""
        if self.size == 1:
            return flags
        return tuple(self.add(torch.tensor(flags, dtype=torch.int32)).bool().tolist())

    def first(self, work: Callable[[], T]) -> T:
        """Return to every process what `work` gives in the first; an error of it ends all of them, and is said once."""
        if self.size == 1:
            return work()
        box: list[Any] = [None, None]
        error: BaseException | None = None
        if self.leads:
            try:
                box = [work(), None]
            except (InputError, CheckError, SystemExit) as raised:
                error, box = raised, [None, _exit_code(raised)]
        dist.broadcast_object_list(box, device=torch.device("cpu"))
        if error:
            raise error
        if box[1] is not None:
            raise SystemExit(box[1])
        result: T = box[0]
        return result

    def device(self, asked: str) -> str:
        """Return this process's own device: with `cuda`, one GPU each."""
        if self.size == 1 or asked != "cuda":
            return asked
        own = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(own)
        return own

    def check_batch(self, batch: int) -> None:
        """Raise InputError when a batch cannot be shared out evenly."""
        if batch % self.size:
            below = batch // self.size * self.size or self.size
            raise InputError(f"batch {batch} cannot be shared by {self.size} processes: give --batch {below}")


ALONE = World()


@contextmanager
def joined() -> Iterator[World]:
    """Join the processes that torchrun started with this one."""
    if not dist.is_torchelastic_launched() or os.environ["WORLD_SIZE"] == "1":
        yield ALONE
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    world = World(dist.get_rank(), dist.get_world_size())
    try:
        yield world
        # gloo's threads outlive the group (DistributedDataParallel holds it), and one that still gives back a tensor
        # when Python ends would abort the process: no process ends before the last of what was sent has arrived
        dist.barrier()
    except RuntimeError as error:  # gloo's and NCCL's, when the process at the other end is gone
        if world.leads or "onnection" not in str(error):
            raise
        raise CheckError(f"process {world.rank} of {world.size} stopped because another one did") from None
    dist.destroy_process_group()


def _exit_code(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return 2 if isinstance(error, InputError) else 1
