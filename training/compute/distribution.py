"""Training by several processes, as `torchrun` starts them: the rank of this one, and what they exchange.

A single process is a context of size 1, which sends nothing and waits for nothing.
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
    """The number of processes that train together, and the rank of this one; only rank 0 writes files."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Tell whether this process writes the files and the log."""
        return self.rank == 0

    def shard(self, n: int) -> slice:
        """Return this process's part of a batch of n images; the parts differ by one image at most."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def sum_over_processes(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over all processes, in place; return it."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def any_process(self, *flags: bool) -> tuple[bool, ...]:
        """Tell for each flag whether any process raised it, so that all processes act on it at the same step."""
        if self.size == 1:
            return flags
        return tuple(self.sum_over_processes(torch.tensor(flags, dtype=torch.int32)).bool().tolist())

    def run_on_main(self, work: Callable[[], T]) -> T:
        """Run `work` in the main process and return its result in every process.

        An error of `work` ends all processes with its exit code, and the main one alone reports it.
        """
        if self.size == 1:
            return work()
        message: list[Any] = [None, None]  # the result, and the exit code of an error
        error: BaseException | None = None
        if self.is_main:
            try:
                message = [work(), None]
            except (InputError, CheckError, SystemExit) as raised:
                error = raised
                message = [None, _exit_code(raised)]
        # an error is sent as well: processes that wait for a message that never comes would wait for a day
        dist.broadcast_object_list(message, device=torch.device("cpu"))
        if error:
            raise error
        result, exit_code = message
        if exit_code is not None:
            raise SystemExit(exit_code)
        return result  # type: ignore[no-any-return]

    def own_device(self, asked: str) -> str:
        """Return the device of this process: for `cuda`, one GPU for each process."""
        if self.size == 1 or asked != "cuda":
            return asked
        own = f"cuda:{os.environ['LOCAL_RANK']}"  # the rank on this machine, set by torchrun
        torch.cuda.set_device(own)  # NCCL takes the current device
        return own

    def data_parallel(self, network: nn.Module) -> nn.Module:
        """Return the network with its gradients averaged over processes; a single process gets it unchanged."""
        if self.size == 1:
            return network
        device = next(network.parameters()).device
        ids = [device] if device.type == "cuda" else None
        # normalization counts over all processes, so its statistics are the same in each without being sent
        return DistributedDataParallel(network, ids, forward_sync_buffers=False, gradient_as_bucket_view=True)

    def check_batch(self, batch: int) -> None:
        """Raise InputError when a batch cannot be divided evenly among the processes."""
        if batch % self.size:
            below = batch // self.size * self.size or self.size  # the next smaller batch that can be shared
            raise InputError(f"batch {batch} cannot be shared by {self.size} processes: give --batch {below}")


NOT_DISTRIBUTED = DistContext()


@contextmanager
def init_distributed() -> Iterator[DistContext]:
    """Join the processes that torchrun started together with this one, until the end of the block."""
    if not dist.is_torchelastic_launched() or os.environ["WORLD_SIZE"] == "1":
        yield NOT_DISTRIBUTED
        return
    # gloo sends what lies on the CPU, such as the results of `run_on_main`
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=TIMEOUT)
    context = DistContext(dist.get_rank(), dist.get_world_size())
    try:
        yield context
        # gloo's threads outlive the group (DistributedDataParallel holds it), and one that still returns a tensor
        # when Python ends would abort the process: no process ends before everything that was sent has arrived
        dist.barrier()
    except RuntimeError as error:  # gloo's and NCCL's, when the process at the other end is gone
        if context.is_main or "onnection" not in str(error):  # "Connection closed by peer", "connection reset"
            raise
        raise CheckError(f"process {context.rank} of {context.size} stopped because another one did") from None
    dist.destroy_process_group()


def _exit_code(error: BaseException) -> int:
    """Return the exit code that `error` leads to in a process of its own."""
    if isinstance(error, SystemExit):
        # Python ends with 0 for None, and with 1 for a text, which it prints
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return 2 if isinstance(error, InputError) else 1
