"""The published recipe before its overhaul, without changes.

Measured: test accuracy resnet 86.3 +- 1.9%, squeezenet 84.6 +- 0.9%, mobilenet 83.2 +- 1.6%
(3,725 photographs of 5 classes at 64 px, 30 epochs, 5 seeds, AMD EPYC, 2026-11-25:
`make compare DATA=../shared/data/roaduser SIZE=64 EPOCHS=30`).
"""

from training.recipe import Recipe

RECIPE = Recipe(
    name="before",
    epochs=50,
    batch=32,
    optimizer="adam",
    learning_rate=1e-3,
    min_learning_rate=0.0,
    weight_decay=1e-4,
    schedule="plateau",
    plateau_factor=0.5,
    plateau_patience=5,
    stop_metric="loss",
    stop_patience=10,
    label_smoothing=0.0,
    clip_norm=0.0,
    dropout={"mobilenet_inspired": 0.2, "squeezenet_inspired": 0.5, "resnet_inspired": 0.0, "default": 0.2},
    flip_p=0.5,  # in both published programs, not in the published table
    rotation_deg=15.0,
    brightness=0.3,
    contrast=0.3,
    saturation=0.2,
    hue=0.1,
    translate=0.1,
    scale_min=0.9,
    scale_max=1.1,
    perspective=0.0,
    perspective_p=0.0,
    grayscale_p=0.0,
    erase_p=0.0,
    erase_area_min=0.02,
    erase_area_max=0.15,
)
