"""The codec: what is written is read back, strictly, and the schema says the same."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import NamedTuple

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from core.codec import from_json, schema_of, to_json
from core.errors import InputError


class Point(NamedTuple):
    x: float
    y: float


@dataclass(frozen=True)
class Absent:
    absent: str


@dataclass(frozen=True)
class Leaf:
    name: str
    points: tuple[Point, ...]
    size: tuple[int, int]
    seen: bool
    best: float | Absent
    note: str | None = None


@dataclass(frozen=True)
class Tree:
    leaves: dict[str, Leaf]
    facts: dict[str, object] = field(default_factory=dict)
    counts_n: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64), compare=False)
    times_nm: NDArray[np.float64] = field(default_factory=lambda: np.zeros((1, 1)), compare=False)

    def __post_init__(self):
        if "bad" in self.leaves:
            raise InputError("leaves.bad is not allowed: name it differently")


numbers = st.floats(allow_nan=False, allow_infinity=False)
points = st.builds(Point, numbers, numbers)
leaves = st.builds(
    Leaf, st.text(), st.lists(points, max_size=3).map(tuple), st.tuples(st.integers(), st.integers()), st.booleans(),
    numbers | st.builds(Absent, st.text()), st.none() | st.text(),
)  # fmt: skip
trees = st.builds(Tree, st.dictionaries(st.text().filter(lambda name: name != "bad"), leaves, max_size=3))


@given(trees, st.lists(st.integers(-(2**62), 2**62)))
def test_what_is_written_is_read_back_and_is_valid_by_the_schema(tree, counts):
    tree = Tree(tree.leaves, tree.facts, np.array(counts, np.int64), np.array([[0.1, 2], [3, 1e300]]))
    body = json.loads(json.dumps(to_json(tree), allow_nan=False))
    jsonschema.validate(body, schema_of(Tree))
    read = from_json(Tree, body, "x.json")
    assert read == tree
    for name in ("counts_n", "times_nm"):
        ours, theirs = getattr(tree, name), getattr(read, name)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


LEAF = {"name": "a", "points": [{"x": 1, "y": 2.5}], "size": [1, 2], "seen": True, "best": {"absent": "no meter"}}


def changed(**values):
    return {"leaves": {"one": {**LEAF, **values}}}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ([], "it is \\[\\], expected: object"),
        ({}, "it lacks the key 'leaves'"),
        ({"leaves": {}, "more": 1}, "it has the unknown key 'more': choose from counts_n, facts"),
        ({"leaves": {"one": {}}}, "leaves.one lacks the key 'name'"),
        (changed(name=3), "leaves.one.name is 3, expected: string"),
        (changed(seen=1), "leaves.one.seen is 1, expected: boolean"),
        (changed(size=[1, True]), r"leaves.one.size\[1\] is True, expected: integer"),
        (changed(size=[1]), "leaves.one.size has 1 items, not 2"),
        (changed(points=[{"x": 1}]), r"leaves.one.points\[0\] lacks the key 'y'"),
        (changed(points={}), "leaves.one.points is {}, expected: list"),
        (changed(best="fast"), "leaves.one.best is 'fast', expected: number"),
        (changed(best={"absent": 1}), "leaves.one.best.absent is 1"),
        (changed(note=False), "leaves.one.note is False"),
        ({"leaves": {}, "counts_n": [1.5]}, "counts_n holds values that are not numbers of type int64"),
        ({"leaves": {}, "counts_n": ["1"]}, "counts_n holds values"),
        ({"leaves": {}, "times_nm": [[1], [2, 3]]}, "times_nm has rows of different lengths"),
        ({"leaves": {"bad": LEAF}}, "leaves.bad is not allowed"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_key(body, said):
    with pytest.raises(InputError, match=f"x.json: .*{said}"):
        from_json(Tree, body, "x.json")


@pytest.mark.parametrize(
    "body", [{}, {"leaves": {}, "more": 1}, changed(name=3), changed(size=[1]), changed(points={})]
)
def test_the_schema_refuses_it_too(body):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(body, schema_of(Tree))


def test_a_whole_number_is_a_float_where_a_float_is_meant():
    read = from_json(Tree, changed(best=3), "x.json").leaves["one"].best
    assert (read, type(read)) == (3.0, float)
    with pytest.raises(InputError, match=r"best is nan"):
        from_json(Tree, changed(best=float("nan")), "x.json")


@pytest.mark.parametrize("value", [10**400, -(10**400), "x" * 999, [10**400]], ids=type)
def test_what_is_no_float_is_one_short_sentence(value):
    """Python refuses to make a float of 10**400 by an error of another kind."""
    with pytest.raises(InputError, match=r"^it:  is .{40}, expected: number$"):
        from_json(float, value, "it")
    assert from_json(float, 10**300, "it") == 1e300
