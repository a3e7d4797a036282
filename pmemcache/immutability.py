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
    if type(value) in _PLAIN:
        return True
    left = [value]  # a value may be deeper than calls can be
    while left:
        each = left.pop()
        kind = type(each)
        if kind in _PLAIN:
            continue
        if kind in _WITH_ZONE:
            left.append(each.tzinfo)
        elif isinstance(each, enum.Enum):
            left.append(each.value)
        elif hasattr(each, "__dict__"):
            return False
        elif kind in _CONTAINERS or (isinstance(each, tuple) and hasattr(kind, "_fields")):
            left += each
        elif not (isinstance(each, str) and hasattr(each, "__html__")):
            return False
    return True
