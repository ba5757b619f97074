"""Ours: a schedule that ends annealed, smaller batches, decay that bites, averaged weights. See training/RECIPES.md."""

from dataclasses import replace

from training.recipes.after import RECIPE as AFTER

RECIPE = replace(
    AFTER,
    name="edge",
    batch=32,
    learning_rate=2e-3,
    weight_decay=0.05,
    decay_norm_bias=False,
    schedule="one_cycle",
    warmup_epochs=3.0,
    stop_patience=0,
    average_decay=0.99,
    dropout_mobilenet=0.2,
    dropout_squeezenet=0.2,
    dropout_resnet=0.2,
)
