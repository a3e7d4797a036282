"""The envelope: what an entry knows beyond its value, in front of the payload.

    ======  =====  ===================================================================
    offset  bytes  what
    ======  =====  ===================================================================
    0       1      flags: bit 0, the payload is a pickled error
    1       1      number of tags
    2       4      grace in milliseconds: how long the entry outlives its freshness
    6       4      how long the value took to load, in milliseconds, as a float
    10      24     of each tag: its digest (16) and the generation it had (8)
    ======  =====  ===================================================================

Little-endian. An entry is fresh while more than its grace is left of its time to live, and stale
after that. It counts only while each of its tags has the generation written here. A generation is
eight random bytes, so one that was lost and made anew never brings an old entry back.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Final

__all__ = ["GENERATION_BYTES", "TAGS_MAX", "Envelope", "Generations", "TagPair", "grace_ms_of"]

TagPair = tuple[bytes, bytes]
"""The digest of a tag, and its generation."""


class Generations(tuple[TagPair, ...]):
    """Tags with the generations that they had at one moment."""

    __slots__ = ()


TAGS_MAX: Final = 254
"""Of one entry; with its namespace there are as many as a byte can count."""
GENERATION_BYTES: Final = 8
_HEADER: Final = struct.Struct("<BBIf")
_PAIR: Final = struct.Struct("<16s8s")
_FLAG_ERROR: Final = 1
_GRACE_MAX_MS: Final = 2**32 - 1


def grace_ms_of(grace_seconds: float) -> int:
    """Return *grace_seconds* as an envelope says it.

    Raises:
        TypeError, ValueError: It is no number of seconds, or less than 0.
    """
    try:
        if 0 <= grace_seconds < math.inf:
            return min(round(grace_seconds * 1000), _GRACE_MAX_MS)
    except TypeError:
        message = f"grace_seconds must be a number of seconds, not {type(grace_seconds).__name__}"
        raise TypeError(message) from None
    message = f"grace_seconds must be 0 or more seconds, not {grace_seconds}"
    raise ValueError(message)


@dataclass(frozen=True)
class Envelope:
    """What stands in front of a payload."""

    tags: tuple[TagPair, ...] = ()
    grace_ms: int = 0
    load_ms: float = 0.0
    is_error: bool = False

    def seal(self, payload: bytes) -> bytes:
        """Return *payload* with this envelope in front."""
        header = _HEADER.pack(
            _FLAG_ERROR if self.is_error else 0,
            len(self.tags),
            self.grace_ms,
            self.load_ms,
        )
        return b"".join((header, *(_PAIR.pack(*pair) for pair in self.tags), payload))

    @classmethod
    def unseal(cls, sealed: bytes) -> tuple[Envelope, bytes]:
        """Return the envelope in front of *sealed*, and the payload behind it.

        Raises:
            ValueError, struct.error: There is none.
        """
        flags, count, grace_ms, load_ms = _HEADER.unpack_from(sealed)
        start = _HEADER.size
        end = start + count * _PAIR.size
        if len(sealed) < end:
            message = "the envelope is cut short"
            raise ValueError(message)
        tags = tuple(_PAIR.iter_unpack(sealed[start:end]))
        return cls(tags, grace_ms, load_ms, bool(flags & _FLAG_ERROR)), sealed[end:]
