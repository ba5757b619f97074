"""Ours for pretrained weights: `edge` at a quarter of the rate and a third of the length. See training/LOOP.md."""

from dataclasses import replace

from training.recipes.edge import RECIPE as EDGE

RECIPE = replace(EDGE, name="finetune", epochs=10, learning_rate=5e-4, warmup_epochs=1.0)
