"""Steps of two processes that gloo joins, without torchrun: what a test compares with the steps of one."""

import multiprocessing
from dataclasses import replace

import numpy as np
import torch
import torch.distributed

from tests.training.learner import Learner
from training.compute.distribution import DistContext
from training.compute.mode import ComputeMode
from training.recipes import load_recipe

ARCH = "timm/test_convnext"
"""Without batch normalization: its statistics are shared on GPUs alone."""
BATCHES = (12, 12, 7)
"""The last cannot be halved."""


class Float64(ComputeMode):
    """A mode in which rounding is too small to be seen."""

    def prepare(self, network):
        return network.double()

    def logits(self, network, inputs_nchw):
        return network(inputs_nchw.double())


def take_steps(dist):
    """Return what each step returned, and every tensor after them."""
    torch.set_num_threads(1)
    recipe = replace(load_recipe("edge"), dropout={"default": 0.0})
    frames = np.random.default_rng(0).integers(0, 256, (max(BATCHES), 32, 32, 3), np.uint8)
    learner = Learner(ARCH, 3, recipe, Float64(), dist=dist)
    totals = []
    for step, n in enumerate(BATCHES):
        part = dist.shard(n)
        labels = (torch.arange(n) % 3)[part]
        totals.append(learner.step(torch.from_numpy(frames[:n][part]), labels, 1e-3, step, n).tolist())
    return totals, {name: value.numpy() for name, value in learner.state.tensors().items()}


def _one_of_two(rank, meeting, send):
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    result = take_steps(DistContext(rank, 2))
    if rank == 0:
        send.send(result)
    torch.distributed.destroy_process_group()


def steps_of_two(meeting):
    """Return what `take_steps` gives in the first of two processes, which meet through a new file."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([__name__, "tests.training.killed"])
    receive, send = server.Pipe(duplex=False)
    processes = [server.Process(target=_one_of_two, args=(rank, meeting, send)) for rank in range(2)]
    for process in processes:
        process.start()
    send.close()  # so that the end of both is the end of the pipe
    result = receive.recv()
    for process in processes:
        process.join()
    return result
