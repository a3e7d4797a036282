"""How many bytes an object takes, with all that it holds."""

from __future__ import annotations

import enum
import sys
from collections import deque
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Final

__all__ = ["size_of"]

_CONTAINERS: Final = (tuple, list, frozenset, set, deque)
_SHARED: Final = (type, enum.Enum, ModuleType, FunctionType, BuiltinFunctionType, MethodType)
"""What is there once, however many refer to it."""
_SMALL_INTS: Final = range(-5, 257)
"""CPython has one object of each."""
_ROUNDING: Final = 15
"""Memory of objects comes by 16 bytes."""


def size_of(value: Any) -> int:
    """Return the bytes of *value* and of what it holds, each object counted once.

    What an extension keeps outside of its objects is known if they tell `sys.getsizeof`.
    """
    total, left, seen = 0, [value], set()
    while left:
        each = left.pop()
        kind = type(each)
        if each is None or kind is bool or (kind is int and each in _SMALL_INTS):
            continue
        if id(each) in seen or isinstance(each, _SHARED):
            continue
        seen.add(id(each))
        total += sys.getsizeof(each) + _ROUNDING & ~_ROUNDING
        if isinstance(each, dict):
            left += each.keys()
            left += each.values()
        elif isinstance(each, _CONTAINERS):
            left += each
        elif kind.__module__ != "builtins":
            left += _attributes(each)
    return total


def _attributes(value: Any) -> list[Any]:
    """Return what an object of a class has, in its `__dict__` and in its slots."""
    found = [vars(value)] if hasattr(value, "__dict__") else []
    names = [name for kind in type(value).__mro__ for name in _slots_of(kind)]
    return found + [getattr(value, name) for name in names if hasattr(value, name)]


def _slots_of(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)
