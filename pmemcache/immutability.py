"""Which values may be handed to every caller as one object, because none can change them."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import fractions
import ipaddress
import uuid
import zoneinfo
from typing import Any, Final

__all__ = ["is_immutable"]

_PLAIN: Final = frozenset(
    {
        type(None),
        bool,
        int,
        float,
        complex,
        str,
        bytes,
        decimal.Decimal,
        fractions.Fraction,
        uuid.UUID,
        dt.date,
        dt.timedelta,
        dt.timezone,
        zoneinfo.ZoneInfo,
        range,
        ipaddress.IPv4Address,
        ipaddress.IPv6Address,
    }
)
_WITH_ZONE: Final = frozenset({dt.datetime, dt.time})
_CONTAINERS: Final = frozenset({tuple, frozenset})


def is_immutable(value: Any) -> bool:
    """Whether *value*, and all that it holds, can never change.

    Types are compared exactly, since a subclass may have attributes. Known besides: members of
    enumerations, named tuples, and strings that say they are safe HTML (`__html__`) and have no
    attributes of their own.
    """
    kind = type(value)
    if kind in _PLAIN:
        return True
    if kind in _WITH_ZONE:
        return value.tzinfo is None or type(value.tzinfo) in _PLAIN
    if isinstance(value, enum.Enum):
        return is_immutable(value.value)
    if kind in _CONTAINERS or (isinstance(value, tuple) and hasattr(kind, "_fields")):
        return not hasattr(value, "__dict__") and all(map(is_immutable, value))
    return isinstance(value, str) and hasattr(value, "__html__") and not hasattr(value, "__dict__")
