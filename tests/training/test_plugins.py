"""A recipe, an architecture or an importer with an error in its file."""

import pytest

import models
from core.errors import InputError
from core.plugins import _warn_once
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
        (importers, lambda name: importers.find_importer("tests")),  # it may be the one that reads this folder
    ],
)
def test_a_plug_in_that_does_not_load_is_one_sentence_that_names_it(package, use, tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("def (")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    with pytest.raises(InputError, match=rf"^the plug-in {package.__name__}\.broken does not load \(SyntaxError"):
        use("broken")


def test_a_broken_importer_stops_no_set_that_another_one_reads(tmp_path, monkeypatch, caplog):
    (tmp_path / "broken.py").write_text("def (")
    monkeypatch.setattr(importers, "__path__", [*importers.__path__, str(tmp_path)])
    _warn_once.cache_clear()
    assert importers.find_importer("synthetic://?frames=3").__name__.endswith("synthetic")
    assert "importers.broken does not load" in caplog.text


@pytest.mark.parametrize(
    ("package", "use"), [(recipes, recipes.load_recipe), (architectures, lambda name: models.build(name, 2))]
)
def test_a_plug_in_without_its_parts_is_one_sentence(package, use, tmp_path, monkeypatch):
    (tmp_path / "empty.py").touch()
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    with pytest.raises(InputError, match=rf"^the plug-in {package.__name__}\.empty has no \w+: correct or remove"):
        use("empty")


def test_a_recipe_with_a_bad_value_is_one_sentence_that_names_its_file(tmp_path, monkeypatch):
    code = "from dataclasses import replace\nfrom training.recipes import edge\nRECIPE = replace(edge.RECIPE, batch=1)"
    (tmp_path / "odd.py").write_text(code)
    monkeypatch.setattr(recipes, "__path__", [*recipes.__path__, str(tmp_path)])
    with pytest.raises(InputError, match=r"training\.recipes\.odd does not load \(InputError: batch is 1: give"):
        recipes.load_recipe("odd")
