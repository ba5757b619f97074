"""The recipes, one file each with its `RECIPE`, found by file name. What each is worth: docs/RECIPES.md."""
