"""Options of plug-ins: read from the command line, told from the code."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest

from core.errors import InputError
from core.plugins import PluginOptions, describe_options, load_plugin, parse_options


@dataclass(frozen=True)
class Some(PluginOptions):
    """Of every type."""

    count: int | None = None
    """How many,
    at most."""
    wide: bool = True
    """Whether it is wide."""
    sizes: tuple[int, ...] = (1, 4)
    """Its sizes."""


def test_texts_are_read_by_the_type_of_their_field():
    assert parse_options(Some, ["count=3", "wide=False", "sizes=2,8"], "it") == Some(3, False, (2, 8))
    assert parse_options(Some, [], "it") == Some()


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["size=1"], "it has no option 'size': choose from count, wide, sizes"),
        (["wide"], "it: the option wide is '', give true or false"),
        (["count=1.5"], "it: the option count is '1.5', give a whole number"),
        (["sizes=1,"], "it: the option sizes is '1,', give whole numbers with commas between"),
        (["count=1", "count=1"], "it: the option count is given twice"),
    ],
)
def test_what_cannot_be_is_one_sentence(texts, said):
    with pytest.raises(InputError) as refused:
        parse_options(Some, texts, "it")
    assert str(refused.value) == said


def test_a_plug_in_without_options_says_so():
    with pytest.raises(InputError, match="it has no option 'a': it has none"):
        parse_options(PluginOptions, ["a=1"], "it")


def test_each_field_is_told_with_its_default_and_its_docstring():
    assert describe_options(Some) == [
        "count=  How many, at most.", "wide=true  Whether it is wide.", "sizes=1,4  Its sizes."
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["raise RuntimeError('boom')", "def (", "import sys; sys.exit(7)", "import core.x"])
def test_a_plug_in_that_fails_as_it_is_imported_is_one_sentence(tmp_path, monkeypatch, text):
    (tmp_path / "broken_plug_ins").mkdir()
    (tmp_path / "broken_plug_ins" / "one.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("broken_plug_ins", None)
    with pytest.raises(
        InputError, match=r"the plug-in broken_plug_ins\.one does not load \([A-Z].*\): correct or remove"
    ):
        load_plugin("broken_plug_ins", "one")
