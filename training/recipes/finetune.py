"""Ours for pretrained weights: a low rate, ten epochs that end annealed, averaged weights. See training/LOOP.md."""

from dataclasses import replace

from training.recipes.after import RECIPE as AFTER

RECIPE = replace(
    AFTER,
    name="finetune",
    epochs=10,
    batch=32,
    learning_rate=5e-4,
    weight_decay=0.05,
    decay_norm_bias=False,
    schedule="one_cycle",
    warmup_epochs=1.0,
    stop_patience=0,
    average_decay=0.99,
)
