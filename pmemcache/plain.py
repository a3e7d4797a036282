"""The serializer "plain": pickle's results for plain data, in less time.

Plain are `dict`, `list`, `tuple`, `str`, `bytes`, `int`, `float`, `bool`, `None`, `date`,
`datetime` without a zone or in UTC, `time`, `timedelta`, `Decimal` and `UUID`, of exactly these
types, and nothing that is reached twice. What holds anything else is pickled as a whole: a pickle
begins with another byte, so both are read by one function. See `native/binding/plain_codec.h`.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, Final

try:
    from pmemcache._short import plain_dumps, plain_loads
except ImportError:  # not CPython: everything is pickled

    def plain_dumps(_value: Any, /) -> bytes | None:
        """Return None: nothing is plain."""
        return None

    plain_loads = pickle.loads

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TAG_PLAIN", "PlainSerializer"]

TAG_PLAIN: Final = 6


class PlainSerializer:
    """What `PickleSerializer` can write, with the same results; plain data in less time.

    Reading it is reading a pickle, as far as trust goes.
    """

    tag: Final = TAG_PLAIN
    loads: Final[Callable[[bytes], Any]] = staticmethod(plain_loads)
    """Return the value of a payload; raise ValueError, or what pickle raises, for other bytes."""

    def dumps(self, value: Any, /) -> bytes:
        """Return the bytes of *value*, or its pickle."""
        payload = plain_dumps(value)
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL) if payload is None else payload
