"""The contract of a recipe, checked on every one that is found by name."""

from __future__ import annotations

import dataclasses
import json

import pytest

import models
from core.errors import InputError
from training import recipes
from training.recipe import Recipe, as_text, overridable
from training.recipes import load_recipe
from training.schedule import Plateau, rate_at, side_px_at


@pytest.fixture(params=recipes.names())
def recipe(request):
    made = load_recipe(request.param)
    assert made.name == request.param
    return made


def test_it_is_valid_and_frozen(recipe):
    assert type(recipe) is Recipe
    assert dataclasses.replace(recipe) == recipe
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.epochs = 1


def test_json_restores_it(recipe):
    assert Recipe(**json.loads(json.dumps(recipe.as_json()))) == recipe


def test_the_command_line_can_set_each_field_to_its_own_value(recipe):
    assert (
        recipe.with_overrides({field.name: as_text(getattr(recipe, field.name)) for field in overridable()}) == recipe
    )


def test_a_field_out_of_range_is_refused_by_name(recipe):
    for field in overridable():
        with pytest.raises(InputError, match=field.name):
            recipe.with_overrides({field.name: "nan"} if "low" in field.metadata else {field.name: "?"})


def test_rate_and_size_are_usable_at_every_epoch(recipe):
    for epoch in range(recipe.epochs):
        assert 0 < rate_at(recipe, epoch, Plateau()) <= recipe.learning_rate
        assert 0 < side_px_at(recipe, epoch, 64) <= 64


def test_it_has_a_dropout_for_every_architecture(recipe):
    for arch in (*models.names(), "timm/resnet18"):
        assert 0 <= recipe.dropout_of(arch) < 1


def test_it_can_be_scaled_to_fewer_epochs(recipe):
    for epochs in (1, recipe.epochs // 2 or 1):
        assert recipe.scaled(epochs).epochs == epochs
