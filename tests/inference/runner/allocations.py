"""Counts the arrays that numpy allocates: a memory handler of ours in the place of numpy's own.

tracemalloc sees what is alive; an array that is made and dropped within a frame it does not. OpenCV's Python binding
makes its results through numpy, so they are counted too. Source: NEP 49, numpy/ndarraytypes.h (PyDataMem_Handler).
"""

from __future__ import annotations

import ctypes
from contextlib import contextmanager

import numpy as np

SET_HANDLER = 304
"""Place of PyDataMem_SetHandler in numpy's C interface since 1.22. Source: numpy/__multiarray_api.h."""
SIZE, POINTER = ctypes.c_size_t, ctypes.c_void_p
LIBC = ctypes.CDLL(None)
for name, result, arguments in (
    ("malloc", POINTER, [SIZE]), ("calloc", POINTER, [SIZE, SIZE]), ("realloc", POINTER, [POINTER, SIZE]),
    ("free", None, [POINTER]),
):  # fmt: skip
    getattr(LIBC, name).restype, getattr(LIBC, name).argtypes = result, arguments
counted: list[int] = []
counting = [False]


def note(size):
    if counting[0]:
        counted.append(size)


MALLOC = ctypes.CFUNCTYPE(POINTER, POINTER, SIZE)
CALLOC = ctypes.CFUNCTYPE(POINTER, POINTER, SIZE, SIZE)
REALLOC = ctypes.CFUNCTYPE(POINTER, POINTER, POINTER, SIZE)
FREE = ctypes.CFUNCTYPE(None, POINTER, POINTER, SIZE)


@MALLOC
def malloc(_, size):
    note(size)
    return LIBC.malloc(size)


@CALLOC
def calloc(_, count, size):
    note(count * size)
    return LIBC.calloc(count, size)


@REALLOC
def realloc(_, old, size):
    note(size)
    return LIBC.realloc(old, size)


@FREE
def free(_, old, size):
    LIBC.free(old)


class Handler(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char * 127), ("version", ctypes.c_uint8), ("context", POINTER),
        ("malloc", MALLOC), ("calloc", CALLOC), ("realloc", REALLOC), ("free", FREE),
    )  # fmt: skip


HANDLER = Handler(b"counting", 1, None, malloc, calloc, realloc, free)
"""Never dropped: arrays made under it are freed by it."""


def set_handler(capsule):
    """Put a handler in the place of the present one, which is returned."""
    pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
    pointer_of.restype, pointer_of.argtypes = POINTER, [ctypes.py_object, ctypes.c_char_p]
    table = ctypes.cast(pointer_of(np._core._multiarray_umath._ARRAY_API, None), ctypes.POINTER(POINTER))
    prototype = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)
    return prototype(table[SET_HANDLER])(capsule)


@contextmanager
def count_arrays():
    """Yield a list that receives the size in bytes of every array whose data numpy allocates."""
    make = ctypes.pythonapi.PyCapsule_New
    make.restype, make.argtypes = ctypes.py_object, [POINTER, ctypes.c_char_p, POINTER]
    old = set_handler(make(ctypes.addressof(HANDLER), b"mem_handler", None))
    counted.clear()
    counting[0] = True
    try:
        yield counted
    finally:
        counting[0] = False
        set_handler(old)
