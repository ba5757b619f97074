"""Time the whole loop of a prototype of the training step, for `make gpu-check`.

`python tests/gpu/prototype.py FILE SIZE BATCH STEPS ARCH...` with the folder of the project that FILE imports in the
variable PROJECT; prints JSON, {arch: images/s}. FILE has what ../shared/prototypes/cuda_graph_training.py has: `Data`,
`Trainer` with `graph` and `feeder`, `aug2` and `named`.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import queue
import sys
import threading
from itertools import count, islice
from time import perf_counter

import numpy as np
import torch

CLASSES, IMAGES = 6, 4096
WARM_UP_STEPS = 10


def main(file, size_px, batch, steps, *archs):
    prototype = load(file)
    rates = {arch: images_per_s(prototype, arch, int(size_px), int(batch), int(steps)) for arch in archs}
    print(json.dumps(rates))


def load(file):
    spec = importlib.util.spec_from_file_location("prototype", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def images_per_s(prototype, arch, size_px, batch, steps):
    """Time steps as the prototype's own `train` takes them, compiled and captured, on noise."""
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, size_px, size_px, 3), np.uint8)
    data = prototype.Data(images, np.arange(IMAGES) % CLASSES, np.full(IMAGES, "train"), CLASSES)
    recipe = dataclasses.replace(prototype.named("after"), batch=batch)
    augment = torch.compile(prototype.aug2, dynamic=False)
    trainer = prototype.Trainer(data, arch, recipe, 0, compiled=True, aug=augment)
    trainer.net.train()
    trainer.lr.fill_(1e-4)
    graph = trainer.graph(size_px)
    for number, (rows, params) in enumerate(islice(endless(trainer), WARM_UP_STEPS + steps)):
        if number == WARM_UP_STEPS:
            started = now()
        trainer.idx.copy_(rows, non_blocking=True)
        trainer.P.copy_(params, non_blocking=True)
        graph.replay()
    return round(batch * steps / (now() - started), 1)


def endless(trainer):
    """Yield batches as the prototype feeds them: one thread an epoch, eight batches ahead."""
    for epoch in count():
        batches = queue.Queue(8)
        threading.Thread(target=trainer.feeder, args=(epoch, batches), daemon=True).start()
        yield from iter(batches.get, None)


def now():
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return perf_counter()


if __name__ == "__main__":
    main(*sys.argv[1:])
