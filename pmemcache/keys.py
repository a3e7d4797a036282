"""Keys that are the same in every process, under every hash seed and Python version.

A key of a pool is bytes or str. Any other object, and the arguments of a cached function, are
written down here in one canonical form. Two rules decide it:

*   Numbers that are equal are one key, whatever their type, as they are in a `dict`: `1`, `1.0`,
    `True` and `Decimal(1)`. So are a subclass of `str`, `bytes` or `tuple` and its plain form.
*   Everything else is told apart by its type. What could change (a list), or has no lasting name (a
    lambda, an object without `__cache_key__`), is refused.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import hashlib
import ipaddress
import math
import numbers
import pathlib
import uuid
import zoneinfo
from typing import TYPE_CHECKING, Any, Final

from pmemcache.errors import KeyEncodingError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "INTERNAL_PREFIX",
    "MAIN_MODULES",
    "canonical",
    "digest",
    "is_internal",
    "key_digest",
    "pool_key",
    "tag_key",
]

INTERNAL_PREFIX: Final = b"\xff\x00pmc:"
"""Begins the keys that pmemcache makes for itself. No str has these bytes in its UTF-8."""

MAIN_MODULES: Final = frozenset({"__main__", "__mp_main__"})
"""What the program itself is called, and what it is called in processes of `multiprocessing`."""

_OBJECT_PREFIX: Final = INTERNAL_PREFIX + b"k:"
_TAG_PREFIX: Final = INTERNAL_PREFIX + b"t:"
_DIGEST_BYTES: Final = 16
_EXPONENT_MAX: Final = 10_000
"""Of a Decimal, which says in a few letters what fills all memory when it is written as an int."""
_DECIMAL_BITS_MAX: Final = 2048
"""Larger ints are written in base 16: Python may refuse to write them in base 10."""


def digest(data: bytes, purpose: bytes = b"") -> bytes:
    """Return 16 bytes that stand for *data*; different for each *purpose* of up to 16 bytes."""
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES, person=purpose).digest()


def key_digest(key: bytes | str, purpose: bytes) -> bytes:
    """Return what stands for a key of the pool in keys that are made of it."""
    return digest(key.encode() if isinstance(key, str) else key, purpose)


def pool_key(key: object) -> bytes | str:
    """Return the key of the pool that stands for any *key*; bytes and str stand for themselves.

    Raises:
        KeyEncodingError: *key* has no canonical form.
    """
    if type(key) is str or isinstance(key, (str, bytes)):
        return key
    return _OBJECT_PREFIX + digest(canonical(key), b"key")


def is_internal(key: bytes) -> bool:
    """Whether a key of a pool stands for none that a caller gave."""
    return key.startswith(INTERNAL_PREFIX) and not key.startswith(_OBJECT_PREFIX)


def tag_key(tag_digest: bytes) -> bytes:
    """Return the pool's key of a tag's generation, from the tag's digest."""
    return _TAG_PREFIX + tag_digest


def canonical(value: Any) -> bytes:
    """Return the canonical form of *value*; no form begins another.

    Raises:
        KeyEncodingError: *value*, or something in it, has none.
    """
    for kinds, write in _WRITERS:
        if isinstance(value, kinds):
            return write(value)
    return _object(value)


def _sized(mark: bytes, data: bytes) -> bytes:
    return b"%s%d:%s" % (mark, len(data), data)


def _text(value: str) -> bytes:
    return _sized(b"s", str.encode(value, "utf-8", "surrogatepass"))


def _number(value: Any) -> bytes:
    """Write equal numbers alike."""
    if isinstance(value, numbers.Rational):  # an int is one
        return _ratio(int(value.numerator), int(value.denominator))
    if isinstance(value, complex):
        if value.imag == 0:
            return _number(value.real)
        return b"c" + _number(value.real) + _number(value.imag)
    if isinstance(value, decimal.Decimal):
        return _decimal(value)
    try:
        top, bottom = value.as_integer_ratio()
    except (OverflowError, ValueError):
        return _endless(value)
    return _ratio(int(top), int(bottom))


def _decimal(value: decimal.Decimal) -> bytes:
    if not value.is_finite():
        return _endless(math.nan if value.is_nan() else float(value))
    if value and abs(value.adjusted()) > _EXPONENT_MAX:
        message = f"a Decimal of more than {_EXPONENT_MAX} places cannot be part of a key: give str"
        raise KeyEncodingError(message)
    return _ratio(*value.as_integer_ratio())


def _endless(value: float) -> bytes:
    """Write an infinity, or what is no number."""
    return b"f%s;" % str(float(value)).encode()


def _ratio(top: int, bottom: int) -> bytes:
    if max(top.bit_length(), bottom.bit_length()) > _DECIMAL_BITS_MAX:
        return b"x%x/%x;" % (top, bottom)
    return b"i%d;" % top if bottom == 1 else b"r%d/%d;" % (top, bottom)


def _items(value: tuple[Any, ...]) -> bytes:
    return b"(%d:%s)" % (len(value), b"".join(map(canonical, value)))


def _set(value: frozenset[Any]) -> bytes:
    return b"{%d:%s}" % (len(value), b"".join(sorted(map(canonical, value))))


def _named(value: object, content: bytes) -> bytes:
    return _sized(b"t", _type_name(type(value)).encode()) + content


def _type_name(kind: type) -> str:
    name = f"{kind.__module__}.{kind.__qualname__}"
    if "<locals>" in name or kind.__module__ in MAIN_MODULES:
        message = (
            f"the class {name} has no name that is the same in all processes: define it at the "
            "top of a module that is imported"
        )
        raise KeyEncodingError(message)
    return name


def _moment(value: Any) -> bytes:
    fold = getattr(value, "fold", 0)
    return _sized(b"d", f"{type(value).__name__} {value.isoformat()} {fold}".encode())


def _zone(value: dt.timezone) -> bytes:
    """Write a zone with its offset, for its name may be that of another."""
    return _sized(b"o", f"timezone {value.utcoffset(None)} {value}".encode())


def _shown(value: object) -> bytes:
    return _sized(b"o", f"{type(value).__name__} {value}".encode())


# The first that fits is used, so subclasses stand before what they are made from.
_WRITERS: Final[tuple[tuple[Any, Callable[[Any], bytes]], ...]] = (
    (type(None), lambda _none: b"N"),
    (str, _text),
    (int | float | complex | decimal.Decimal | fractions.Fraction, _number),
    (bytes, lambda value: _sized(b"b", bytes(value))),
    (tuple, _items),
    (frozenset, _set),
    # Some flags have no name; what the others are called depends on the version of Python.
    (enum.Flag, lambda value: _named(value, canonical(value.value))),
    (enum.Enum, lambda value: _named(value, _text(value.name))),
    (dt.date | dt.time, _moment),
    (dt.timedelta, lambda value: b"D%d,%d,%d;" % (value.days, value.seconds, value.microseconds)),
    (uuid.UUID, lambda value: _sized(b"u", value.bytes)),
    (range, lambda value: b"R" + _items((value.start, value.stop, value.step))),
    (type, lambda value: _sized(b"T", _type_name(value).encode())),
    (dt.timezone, _zone),
    (
        pathlib.PurePath
        | zoneinfo.ZoneInfo
        | ipaddress.IPv4Address
        | ipaddress.IPv6Address
        | ipaddress.IPv4Network
        | ipaddress.IPv6Network,
        _shown,
    ),
)


def _object(value: Any) -> bytes:
    """Write an object that says itself what it is: `__cache_key__`, a model, a frozen dataclass.

    Or a number of another kind, as NumPy has them.
    """
    if hasattr(value, "__cache_key__"):
        return _named(value, canonical(value.__cache_key__()))
    if isinstance(value, numbers.Integral) or (
        isinstance(value, numbers.Real) and hasattr(value, "as_integer_ratio")
    ):
        return _number(value)
    meta = getattr(value, "_meta", None)
    if meta is not None and hasattr(value, "pk") and hasattr(meta, "label_lower"):
        return _model(value, meta.label_lower)
    parameters = getattr(type(value), "__dataclass_params__", None)
    if parameters is not None and parameters.frozen and parameters.eq:
        names = [field.name for field in dataclasses.fields(value) if field.compare]
        return _named(value, _items(tuple(getattr(value, name) for name in names)))
    message = (
        f"a {type(value).__name__} cannot be part of a key: give bytes, str, numbers, dates, "
        "enums, tuples or frozensets of these, or an object with a __cache_key__() method"
    )
    raise KeyEncodingError(message)


def _model(value: Any, label: str) -> bytes:
    """Write a Django model instance: the row it stands for."""
    if value.pk is None:
        message = f"a {label} that was not saved has no primary key, so it cannot be part of a key"
        raise KeyEncodingError(message)
    return b"M" + _text(label) + canonical(value.pk)
