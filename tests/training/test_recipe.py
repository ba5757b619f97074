import dataclasses
import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from core.errors import InputError
from training.recipe import Recipe, overridable, upgrade_schema_1
from training.recipes import load_recipe
from training.schedule import Plateau, rate_at, side_px_at

# ruff: noqa: C408
TABLE = {
    "before": dict(
        batch=32, epochs=50, optimizer="adam", weight_decay=1e-4, learning_rate=1e-3, schedule="plateau",
        plateau_factor=0.5, plateau_patience=5, stop_patience=10, stop_metric="loss", label_smoothing=0, clip_norm=0,
        flip_p=0.5, rotation_deg=15, brightness=0.3,
        contrast=0.3, saturation=0.2, hue=0.1, translate=0.1, scale_min=0.9, scale_max=1.1, perspective_p=0,
        grayscale_p=0, erase_p=0,
    ),
    "after": dict(
        batch=128, epochs=100, optimizer="adamw", weight_decay=1e-4, learning_rate=1e-3, min_learning_rate=1e-6,
        schedule="restarts", restart_epochs=10, restart_factor=2, stop_patience=15, stop_metric="accuracy",
        label_smoothing=0.1, clip_norm=1,
        flip_p=0.5, rotation_deg=20, brightness=0.4, contrast=0.4, saturation=0.3, hue=0.15, translate=0.15,
        scale_min=0.85, scale_max=1.15, perspective=0.2, perspective_p=0.3, grayscale_p=0.1, erase_p=0.3,
        erase_area_min=0.02, erase_area_max=0.15,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "field"), [(name, field) for name in TABLE for field in TABLE[name]])
def test_published_recipes_are_to_the_letter(name, field):
    assert getattr(load_recipe(name), field) == TABLE[name][field]


@pytest.mark.parametrize(("name", "dropouts"), [("before", [0.2, 0.5, 0.0]), ("after", [0.4, 0.5, 0.5])])
def test_the_published_dropouts_are_to_the_letter(name, dropouts):
    archs = ("mobilenet_inspired", "squeezenet_inspired", "resnet_inspired")
    assert [load_recipe(name).dropout_of(arch) for arch in archs] == dropouts


def test_an_unknown_recipe_lists_those_there_are():
    with pytest.raises(InputError, match="choose from after, before, edge"):
        load_recipe("aftr")


@given(st.sampled_from([f for f in overridable() if "low" in f.metadata]), st.data())
def test_a_number_out_of_range_is_refused_by_name(field, data):
    low, high = field.metadata["low"], field.metadata["high"]
    too_far = data.draw(st.sampled_from([low - 1, high * 2 + 1, math.nan, math.inf]))
    with pytest.raises(InputError, match=field.name):
        load_recipe("after").with_overrides({field.name: str(too_far)})


@given(st.sampled_from(overridable()), st.text(max_size=8))
@example(next(f for f in overridable() if f.name == "epochs"), "0")
def test_any_text_gives_a_recipe_or_one_sentence(field, text):
    try:
        made: Recipe | str = load_recipe("after").with_overrides({field.name: text})
    except InputError as error:
        made = str(error)
    assert isinstance(made, Recipe) or made.startswith(f"{field.name} is {text!r}: give ") or "above" in made


def test_epochs_alone_leave_the_schedule_as_it_is():
    shorter = load_recipe("after").with_overrides({"epochs": "30"})
    assert (shorter.restart_epochs, shorter.stop_patience) == (10, 15)


def test_scaled_shortens_cycle_warm_up_and_patience():
    half = dataclasses.replace(load_recipe("after"), warmup_epochs=4.0).scaled(50)
    assert (half.epochs, half.restart_epochs, half.warmup_epochs, half.stop_patience) == (50, 5.0, 2.0, 8)


def test_restarts_are_torch_s():
    recipe, steps = load_recipe("after"), 7
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=recipe.learning_rate)
    twin = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 10, 2, eta_min=recipe.min_learning_rate)
    for step in range(0, 75 * steps, 3):
        twin.step(step / steps)
        assert rate_at(recipe, step / steps) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)


def test_thirty_epochs_of_after_end_annealed():
    assert rate_at(load_recipe("after"), 30 - 1e-3) == pytest.approx(1e-6, rel=0.01)


def test_a_hundred_epochs_of_after_stop_in_the_middle_of_a_cycle():
    assert rate_at(load_recipe("after"), 100) > 0.6e-3


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=60))
def test_plateau_is_torch_s(losses):
    recipe = load_recipe("before")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=recipe.learning_rate)
    twin = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "min", factor=0.5, patience=5)
    plateau = Plateau()
    for loss in losses:
        twin.step(loss)
        plateau = plateau.with_loss(loss, recipe)
        assert rate_at(recipe, 0.0, plateau) == pytest.approx(optimizer.param_groups[0]["lr"])


def test_one_cycle_warms_up_and_ends_on_the_lowest_rate():
    recipe = load_recipe("edge")
    top = max(rate_at(recipe, e) for e in range(recipe.epochs))
    assert rate_at(recipe, 0) < 0.02 * recipe.learning_rate
    assert top == pytest.approx(recipe.learning_rate)
    assert rate_at(recipe, recipe.epochs) == pytest.approx(recipe.min_learning_rate)


def test_label_smoothing_spreads_over_the_true_class_too():
    logits = torch.tensor([[4.0, 0.0, 0.0, 0.0]])
    target = torch.tensor([[0.925, 0.025, 0.025, 0.025]])
    smooth = torch.nn.functional.cross_entropy(logits, torch.tensor([0]), label_smoothing=0.1)
    assert float(smooth) == pytest.approx(float(torch.nn.functional.cross_entropy(logits, target)))


def test_published_recipes_train_at_full_size():
    for name in ("before", "after"):
        assert {side_px_at(load_recipe(name), epoch, 50) for epoch in range(100)} == {50}


@given(st.floats(0.25, 1), st.floats(0, 1), st.integers(1, 60), st.integers(8, 640))
def test_images_grow_to_the_packs_size_and_stay_there(start, at, epochs, full_px):
    recipe = dataclasses.replace(load_recipe("edge"), start_size=start, full_size_at=at, epochs=epochs)
    sides = [side_px_at(recipe, epoch, full_px) for epoch in range(epochs)]
    assert sides == sorted(sides)
    assert all(8 <= side <= full_px for side in sides)
    assert all(side == full_px for epoch, side in enumerate(sides) if epoch >= at * epochs)


def test_the_first_images_have_the_side_asked_for():
    recipe = dataclasses.replace(load_recipe("edge"), start_size=0.5, full_size_at=0.5, epochs=30)
    assert [side_px_at(recipe, epoch, 64) for epoch in (0, 7, 15)] == [32, 48, 64]


def test_an_architecture_takes_its_own_dropout_or_the_default():
    recipe = load_recipe("after").with_overrides({"dropout": "resnet_inspired=0.3+default=0.1"})
    assert [recipe.dropout_of(arch) for arch in ("resnet_inspired", "new_arch")] == [0.3, 0.1]
    assert load_recipe("after").with_overrides({"dropout": "0.3"}).dropout_of("resnet_inspired") == 0.3


@pytest.mark.parametrize("text", ["resnet_inspired=0.3", "default=1.5", "default=", "=", "many"])
def test_a_dropout_without_a_default_or_out_of_range_is_refused(text):
    with pytest.raises(InputError, match=r"dropout is .*: give a number from 0 to 0\.99"):
        load_recipe("after").with_overrides({"dropout": text})


def test_the_recipe_of_a_run_of_schema_1_is_read():
    facts = load_recipe("after").as_json()
    del facts["dropout"]
    old = {"dropout_mobilenet": 0.4, "dropout_squeezenet": 0.5, "dropout_resnet": 0.5, "dropout_other": 0.2}
    assert upgrade_schema_1(facts | old) == load_recipe("after").as_json()
