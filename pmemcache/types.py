"""The small types that the public functions take and give."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

__all__ = [
    "BytesLike",
    "Cause",
    "EntryInfo",
    "Eviction",
    "Geometry",
    "Key",
    "Lease",
    "Lifetime",
    "Memory",
    "OnlyIf",
    "Versioned",
]

if sys.version_info >= (3, 12):
    from collections.abc import Buffer

    BytesLike: TypeAlias = Buffer
else:
    BytesLike: TypeAlias = Any  # no type before Python 3.12 says "has a buffer"

Key: TypeAlias = bytes | str
"""A str is its UTF-8, so `"k"` and `b"k"` are one key."""

Lifetime: TypeAlias = Literal["volatile", "restart"]
Eviction: TypeAlias = Literal["s3fifo", "lru", "none"]
Memory: TypeAlias = Literal["default", "conservative"]
Cause: TypeAlias = Literal["evicted", "expired", "requested"]
"""Why an entry left: to make room; its deadline had passed then; `Pool.evict`."""

OnlyIf: TypeAlias = Literal["absent", "present"] | int | None
"""The condition of a put; an int is the generation that the entry must still have."""


Versioned: TypeAlias = tuple[bytes | None, int, int, int, int | None, int]
"""(value, tag, version_index, version, ttl_ms, generation) of a versioned read. On a miss the value
is None, the tag 0 and the generation 0; without a deadline ttl_ms is None. The value is None too
when the entry's generation is the one that the caller knew."""

Written: TypeAlias = tuple[int, int, int]
"""(version_index, version, generation) of a versioned write."""


@dataclass(frozen=True)
class Lease:
    """The right to load a key, or the name of the lease that another has."""

    granted: bool
    token: int
    """Names the lease; 0: none is to be had, so load without."""
    version: int
    """The key's version when the lease was granted."""


@dataclass(frozen=True)
class EntryInfo:
    """What a pool knows about one entry."""

    value_size: int
    """Bytes of the value."""
    stored_bytes: int
    """Bytes the entry takes of the heap: key, header and rounding included."""
    ttl_seconds: float | None
    """Time to live that is left; None: no deadline."""
    heat: int
    """The eviction policy's mark of recent use, 0 to 3."""
    generation: int
    """Changes with every write of the key; never 0."""
    tag: int = 0
    """The byte that was stored with the value."""


@dataclass(frozen=True)
class Geometry:
    """What a pool is made of, and what it was made for."""

    size_bytes: int | None
    """Most bytes the heap may take; None: as much as the file system has."""
    shard_bytes: int
    """Bytes of the heap in one shard."""
    value_max_bytes: int
    """Largest key and value together that can be stored."""
    pool_id: int
    """A number drawn when the pool was made."""
    shards: int
    layout_version: int
    lifetime: Lifetime
    eviction: Eviction
    memory: Memory
    created: bool
    """Whether this attachment made the pool."""
