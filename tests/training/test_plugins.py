"""A recipe, an architecture or an importer with an error in its file."""

import pytest

import models
from core.errors import InputError
from models import architectures
from training import recipes
from training.data import importers


@pytest.mark.parametrize(
    ("package", "use"),
    [
        (recipes, recipes.load_recipe),
        (architectures, lambda name: models.build(name, 2)),
        (architectures, models.normalization),
        (importers, lambda name: importers.find_importer("photos", name)),
        (importers, lambda name: importers.find_importer("photos")),
    ],
)
def test_a_plug_in_that_does_not_load_is_one_sentence_that_names_it(package, use, tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("def (")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    with pytest.raises(InputError, match=rf"^the plug-in {package.__name__}\.broken does not load \(SyntaxError"):
        use("broken")


def test_a_recipe_with_a_bad_value_is_one_sentence_that_names_its_file(tmp_path, monkeypatch):
    code = "from dataclasses import replace\nfrom training.recipes import edge\nRECIPE = replace(edge.RECIPE, batch=1)"
    (tmp_path / "odd.py").write_text(code)
    monkeypatch.setattr(recipes, "__path__", [*recipes.__path__, str(tmp_path)])
    with pytest.raises(InputError, match=r"training\.recipes\.odd does not load \(InputError: batch is 1: give"):
        recipes.load_recipe("odd")
