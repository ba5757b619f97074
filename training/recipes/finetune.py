"""The recipe for pretrained weights: `edge` at a low rate, in fewer epochs, at full size (docs/training.md)."""

from dataclasses import replace

from training.recipes.edge import RECIPE as EDGE

RECIPE = replace(
    EDGE, name="finetune", epochs=15, batch=32, learning_rate=1e-3, weight_decay=0.05, warmup_epochs=1.0, start_size=1.0
)
