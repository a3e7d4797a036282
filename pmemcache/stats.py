"""The statistics of a pool, and of a cache over it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import itertools
    from typing import Any

__all__ = ["PoolStats", "TieredStats", "counted"]


def counted(count: itertools.count[int]) -> int:
    """Return how often next() was called on a count from 0, which is how threads count at once."""
    return int(repr(count).removeprefix("count(").removesuffix(")"))


@dataclass(frozen=True)
class PoolStats:
    """Totals over all processes since the pool was made.

    The fields are those of `pmemcache_stats.def`, in its order.
    """

    put: int
    """Values stored."""
    get: int
    """Look-ups: hit + miss."""
    hit: int
    """Look-ups that found a live entry."""
    miss: int
    """Look-ups that found none."""
    delete: int
    """Entries removed by delete."""
    evict: int
    """Entries removed to make room or on request."""
    expired: int
    """Entries removed because their deadline had passed."""
    rejected: int
    """Puts that were not stored for want of room or of a lock."""
    moved_bytes: int
    """Bytes of entries moved within the heap to make room."""
    written_bytes: int
    """Bytes of entries written into the heap."""
    entries: int
    """Entries in the pool now, expired ones included until they are swept."""
    dram_size_used: int
    """Bytes of memory that index, queues and ghosts take."""
    pool_size_used: int
    """Heap bytes taken by entries, headers and rounding included."""
    payload_bytes: int
    """Key and value bytes of the entries."""
    allocated_bytes: int
    """Heap bytes that the file system has allocated."""
    given_back_bytes: int
    """Heap bytes given back to the file system, whatever was allocated again."""
    growths_refused: int
    """Times that the file system had no more memory for the pool."""
    capacity_bytes: int
    """Most bytes the heap may take."""
    recoveries: int
    """Shards repaired after their lock's owner died or damage was found."""
    damaged: int
    """Entries dropped because their bytes made no sense."""
    lock_timeouts: int
    """Operations given up because a lock was not had in time."""
    attached: int
    """Processes attached now."""

    @property
    def hit_ratio(self) -> float:
        """Hits among look-ups, 0.0 to 1.0; 0.0 when there were none."""
        return self.hit / self.get if self.get else 0.0

    def as_dict(self) -> dict[str, int]:
        """Return the statistics by name."""
        return asdict(self)


@dataclass(frozen=True)
class TieredStats:
    """What a cache did in this process, and what its pool did in all."""

    hot_hits: int
    warm_hits: int
    misses: int
    """Look-ups that found no fresh value, though another's load or a stale value may have been the
    answer. Hits and misses together are the look-ups that were asked for, each counted once."""
    stale: int
    """Misses answered with a value after its time to live, within its grace."""
    promotions: int
    """Copies made in the hot tier."""
    revalidations: int
    """Hot hits whose version had changed, but whose value had not."""
    hot_evictions: int
    hot_entries: int
    hot_bytes: int
    hot_capacity_bytes: int
    loads: int
    load_errors: int
    load_waits: int
    """Calls that waited for another's load."""
    load_takeovers: int
    """Leases that ended without a value, so that a waiter went on."""
    loads_voided: int
    """Loaded values that were not stored, because the key changed meanwhile."""
    read_failures: int
    """Reads answered as misses because the pool could not serve."""
    dropped_writes: int
    undecodable: int
    """Values that could not be decoded, answered as misses."""
    own_gets: int
    """Look-ups of the pool for its own ends: of tags, and of what loaders go by."""
    own_hits: int
    """Those of them that found something."""
    pool: PoolStats | None
    """The statistics of all processes; None when the pool cannot tell."""

    @property
    def hits(self) -> int:
        """Hits of both tiers."""
        return self.hot_hits + self.warm_hits

    def as_dict(self) -> dict[str, Any]:
        """Return the statistics by name, the pool's under `pool`."""
        return asdict(self)
