"""Distillation: a trained network, the teacher, gives soft targets for each augmented image."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate, kl_div, log_softmax

from core.errors import InputError
from models.checkpoint import load_checkpoint
from training.compute.mode import Compute


class Teacher:
    """A checkpoint in eval mode, run at the image size of its own training."""

    def __init__(self, path: Path, classes: tuple[str, ...], compute: Compute) -> None:
        checkpoint = load_checkpoint(path)
        if checkpoint.metadata.classes != classes:
            raise InputError(
                f"{path} knows {', '.join(checkpoint.metadata.classes)}, the pack {', '.join(classes)}: "
                "give --teacher a checkpoint that was trained on the same classes"
            )
        self.size_px = checkpoint.metadata.geometry.size_px
        self.mode = compute.mode
        self.deployed = checkpoint.build_network().to(compute.device)
        self.network = compute.mode.prepare(self.deployed.network)

    @torch.no_grad()
    def logits(self, frames_nhwc: Tensor) -> Tensor:
        """Return the teacher's logits of uint8 (n, S, S, 3) frames, float32 (n, classes)."""
        inputs = self.deployed.normalize(frames_nhwc)
        if inputs.shape[-1] != self.size_px:  # the student's images are smaller in the first epochs
            inputs = interpolate(inputs, (self.size_px, self.size_px), mode="bilinear", antialias=False)
        return self.mode.logits(self.network, inputs)

    def divergence(self, frames_nhwc: Tensor, logits: Tensor, temperature: float) -> Tensor:
        """Return the Kullback-Leibler divergence of the student's softened logits from the teacher's, a batch mean.

        It is scaled by the squared temperature, so that gradients keep their size. Source: Hinton et al. 2015,
        section 2.
        """
        student = log_softmax(logits / temperature, 1)
        teacher = log_softmax(self.logits(frames_nhwc) / temperature, 1)
        return kl_div(student, teacher, log_target=True, reduction="batchmean") * temperature**2
