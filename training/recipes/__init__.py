"""The recipes, one module each with its `RECIPE`, found by name. docs/recipes.md compares them."""

from core.errors import InputError
from core.plugins import load_plugin, names_in
from training.recipe import Recipe


def names() -> list[str]:
    """Return the recipes there are, by file name."""
    return names_in(__path__)


def load_recipe(name: str) -> Recipe:
    """Return a recipe by its file name. Raises InputError with the names there are."""
    if name not in names():
        raise InputError(f"there is no recipe {name!r}: choose from {', '.join(names())}")
    recipe: Recipe = load_plugin(__name__, name, ["RECIPE"]).RECIPE
    return recipe
