"""Training by several processes, as `torchrun` starts them: which one this is, and what they exchange.

One process is a context of size 1, where nothing is sent and nothing is waited for.
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
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from core.errors import CheckError, InputError

T = TypeVar("T")
TIMEOUT = timedelta(days=1)
"""The longest wait of a process for another, which may be packing; torchrun ends them all when one dies."""


@dataclass(frozen=True)
class DistContext:
    """The processes that train together, and which of them this is; the main one alone writes files."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Tell whether this is the process that writes files and logs."""
        return self.rank == 0

    def shard(self, n: int) -> slice:
        """Return this process's part of a batch of n images."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def sum_over_processes(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over all processes, in place; return it."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def any_process(self, *flags: bool) -> tuple[bool, ...]:
        """Tell for each flag whether any process raised it, so that all processes turn off at the same step."""
        if self.size == 1:
            return flags
        return tuple(self.sum_over_processes(torch.tensor(flags, dtype=torch.int32)).bool().tolist())

    def run_on_main(self, work: Callable[[], T]) -> T:
        """Return to every process the result of `work` in the main one; an error in it ends all, reported once."""
        if self.size == 1:
            return work()
        box: list[Any] = [None, None]
        error: BaseException | None = None
        if self.is_main:
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

    def own_device(self, asked: str) -> str:
        """Return this process's own device: with `cuda`, one GPU each."""
        if self.size == 1 or asked != "cuda":
            return asked
        own = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(own)
        return own

    def data_parallel(self, network: nn.Module) -> nn.Module:
        """Return the network with its gradients averaged over processes; the same network when there is only one."""
        if self.size == 1:
            return network
        device = next(network.parameters()).device
        ids = [device] if device.type == "cuda" else None
        # the statistics of normalization are the same in each process already
        return DistributedDataParallel(network, ids, forward_sync_buffers=False, gradient_as_bucket_view=True)

    def check_batch(self, batch: int) -> None:
        """Raise InputError when a batch cannot be divided evenly among the processes."""
        if batch % self.size:
            below = batch // self.size * self.size or self.size
            raise InputError(f"batch {batch} cannot be shared by {self.size} processes: give --batch {below}")


NOT_DISTRIBUTED = DistContext()


@contextmanager
def init_distributed() -> Iterator[DistContext]:
    """Join the processes that torchrun started with this one, until the block ends."""
    if not dist.is_torchelastic_launched() or os.environ["WORLD_SIZE"] == "1":
        yield NOT_DISTRIBUTED
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=TIMEOUT)
    context = DistContext(dist.get_rank(), dist.get_world_size())
    try:
        yield context
        # gloo's threads outlive the group (DistributedDataParallel holds it), and one that still returns a tensor
        # when Python ends would abort the process: no process ends before everything that was sent has arrived
        dist.barrier()
    except RuntimeError as error:  # gloo's and NCCL's, when the process at the other end is gone
        if context.is_main or "onnection" not in str(error):
            raise
        raise CheckError(f"process {context.rank} of {context.size} stopped because another one did") from None
    dist.destroy_process_group()


def _exit_code(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return 2 if isinstance(error, InputError) else 1
