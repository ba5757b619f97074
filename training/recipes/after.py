"""The published recipe after its overhaul, without changes.

Measured: test accuracy resnet 75.7 +- 0.8%, squeezenet 74.1 +- 0.6%, mobilenet 70.5 +- 1.8%
(3,725 photographs of 5 classes at 64 px, 30 epochs, 5 seeds, AMD EPYC, 2026-11-25:
`make compare DATA=../shared/data/roaduser SIZE=64 EPOCHS=30`).
"""

from training.recipe import Recipe

RECIPE = Recipe(
    name="after",
    epochs=100,
    batch=128,
    optimizer="adamw",
    learning_rate=1e-3,
    min_learning_rate=1e-6,
    weight_decay=1e-4,
    schedule="restarts",
    restart_epochs=10.0,
    restart_factor=2,
    stop_metric="accuracy",
    stop_patience=15,
    label_smoothing=0.1,
    clip_norm=1.0,
    dropout={"mobilenet_inspired": 0.4, "squeezenet_inspired": 0.5, "resnet_inspired": 0.5, "default": 0.2},
    flip_p=0.5,  # in both published programs, not in the published table
    rotation_deg=20.0,
    brightness=0.4,
    contrast=0.4,
    saturation=0.3,
    hue=0.15,
    translate=0.15,
    scale_min=0.85,
    scale_max=1.15,
    perspective=0.2,
    perspective_p=0.3,
    grayscale_p=0.1,
    erase_p=0.3,
    erase_area_min=0.02,
    erase_area_max=0.15,
)
