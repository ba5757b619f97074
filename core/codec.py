"""Write dataclasses as JSON, read them back by their type hints, and make the JSON Schema of a type.

A dataclass or a NamedTuple is an object in JSON; another tuple or an array is a list. Reading is strict: an unknown
key, a missing key without a default, or a value of another type is an InputError that names the key.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from core.errors import InputError

T = TypeVar("T")
MAX_FLOAT = sys.float_info.max
PLAIN = {str: "string", bool: "boolean", int: "integer", float: "number", NoneType: "null"}
"""{type of a plain JSON value: its name in JSON Schema}."""


def to_json(value: Any) -> Any:
    """Return the JSON value of an object."""
    if _is_record(value):
        kind: Any = type(value)
        return {name: to_json(getattr(value, name)) for name in _hints(kind)}
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def from_json(kind: type[T], body: Any, where: str) -> T:
    """Return the object of type `kind` that `to_json` wrote as `body`. Raises InputError naming `where` and the key."""
    try:
        value: T = _read(kind, body, "")
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return value


def known_keys(kind: Any, body: Any) -> Any:
    """Return only the keys of an object that are fields of the dataclass `kind`, for files that hold more."""
    return {name: body[name] for name in _hints(kind) if name in body} if isinstance(body, dict) else body


def schema_of(kind: Any) -> dict[str, Any]:
    """Return the JSON Schema of what `from_json` reads as `kind`."""
    if kind is object:
        return {}  # anything
    if members := _members(kind):
        return {"anyOf": [schema_of(member) for member in members]}
    if _is_record(kind):  # before tuple, because a NamedTuple is one
        keys = {name: schema_of(hint) for name, hint in _hints(kind).items()}
        return {"type": "object", "properties": keys, "required": _required(kind), "additionalProperties": False}
    if get_origin(kind) is tuple:
        first, *others = get_args(kind)
        if others == [...]:
            return {"type": "array", "items": schema_of(first)}
        items = [schema_of(item) for item in (first, *others)]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if get_origin(kind) is dict:
        return {"type": "object", "additionalProperties": schema_of(get_args(kind)[1])}
    if get_origin(kind) is np.ndarray:
        # of one or two dimensions: the type hint does not say which
        number = {"type": "integer" if _dtype(kind) == np.int64 else "number"}
        return {"type": "array", "items": {"anyOf": [number, {"type": "array", "items": number}]}}
    return {"type": PLAIN[kind]}


def _read(kind: Any, body: Any, key: str) -> Any:
    if kind is object:
        return body
    if members := _members(kind):
        return _read_union(members, body, key)
    if _is_record(kind):
        return _read_record(kind, _expect(dict, body, key), key)
    if get_origin(kind) is dict:
        values = get_args(kind)[1]
        items = _expect(dict, body, key)
        return {name: _read(values, item, _inside(key, name)) for name, item in items.items()}
    if get_origin(kind) is np.ndarray:
        return _read_array(_dtype(kind), _expect(list, body, key), key)
    if get_origin(kind) is tuple:
        return _read_tuple(get_args(kind), _expect(list, body, key), key)
    return _read_plain(kind, body, key)


def _read_record(kind: Any, body: dict[str, Any], key: str) -> Any:
    hints = _hints(kind)
    if unknown := sorted(set(body) - set(hints)):
        raise InputError(f"{key or 'it'} has the unknown key {unknown[0]!r}: choose from {', '.join(sorted(hints))}")
    if missing := [name for name in _required(kind) if name not in body]:
        raise InputError(f"{key or 'it'} lacks the key {missing[0]!r}")
    read = {name: _read(hints[name], value, _inside(key, name)) for name, value in body.items()}
    return kind(**read)


def _read_tuple(items: tuple[Any, ...], body: list[Any], key: str) -> tuple[Any, ...]:
    if items[1:] == (...,):  # tuple[int, ...]: as many as there are
        items = items[:1] * len(body)
    if len(body) != len(items):
        raise InputError(f"{key} has {len(body)} items, not {len(items)}")
    pairs = enumerate(zip(items, body, strict=True))
    return tuple(_read(item, value, f"{key}[{i}]") for i, (item, value) in pairs)


def _read_union(members: tuple[Any, ...], body: Any, key: str) -> Any:
    """Read a value as one member of a union: an object as the member with most of its keys, else the first that fits.

    Keys choose between dataclasses, so that an error is about the member that was meant.
    """
    objects = [member for member in members if _is_record(member)]
    if isinstance(body, dict) and objects:
        likeliest = max(objects, key=lambda member: len(set(_hints(member)) & set(body)))
        return _read(likeliest, body, key)
    errors = []  # the first is raised: the usual type stands first in a union
    for member in members:
        try:
            return _read(member, body, key)
        except InputError as error:
            errors.append(error)
    raise errors[0]


def _read_plain(kind: Any, body: Any, key: str) -> Any:
    """Read a plain JSON value. A whole number may stand for a float; a bool is not a number."""
    # by exact type, because a bool is an instance of int
    fits = type(body) is kind or (kind is float and type(body) is int)
    # a comparison, since a whole number may be too large to become a float; NaN fails it
    if not fits or (kind is float and not -MAX_FLOAT <= body <= MAX_FLOAT):
        raise InputError(f"{key} is {body!r:.40}, expected: {PLAIN[kind]}")
    return float(body) if kind is float else body


def _read_array(dtype: np.dtype[Any], body: list[Any], key: str) -> Any:
    try:
        array = np.array(body) if body else np.empty(0, dtype)
    except ValueError:
        raise InputError(f"{key} has rows of different lengths") from None
    # same_kind lets integers stand for floats, and refuses 1.5 for an integer; it would let a bool stand for a number
    fits = np.can_cast(array.dtype, dtype, "same_kind") and array.dtype != bool
    if not fits or not np.isfinite(array).all():
        raise InputError(f"{key} holds values that are not numbers of type {dtype}")
    return array.astype(dtype)


def _expect(kind: type[T], body: Any, key: str) -> T:
    if not isinstance(body, kind):
        raise InputError(f"{key or 'it'} is {body!r:.40}, expected: {'object' if kind is dict else 'list'}")
    return body


def _inside(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


@cache  # get_type_hints evaluates the texts of the annotations each time
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _members(kind: Any) -> tuple[Any, ...]:
    """Return the members of a union; nothing for another type."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else ()


def _is_record(kind: Any) -> bool:
    """Return whether a value or its type is a dataclass or a NamedTuple."""
    return is_dataclass(kind) or hasattr(kind, "_fields")


def _required(kind: Any) -> list[str]:
    """Return the names of the fields that have no default."""
    if not is_dataclass(kind):
        return [name for name in _hints(kind) if name not in kind._field_defaults]
    return [item.name for item in fields(kind) if item.default is MISSING and item.default_factory is MISSING]


def _dtype(kind: Any) -> np.dtype[Any]:
    """Return the dtype of an array's type hint, `NDArray[...]`."""
    dtype: np.dtype[Any] = np.dtype(get_args(get_args(kind)[1])[0])
    return dtype
