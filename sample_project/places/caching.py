"""The one door between the site and its cache.

`cached_value` looks a value up and computes it on a miss; `forget_city` deletes what an edit of a
city made wrong. Pages and API take everything that is expensive through this door, so that the
cache backend can be exchanged without touching them.

The law: a writer deletes after its commit, never before. A reader that misses in between would
otherwise compute the old value from the old row and store it for good. One gap remains: a reader
that reads the old row before the commit and stores after the delete; that value lives until it
expires.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

from django.core.cache import cache

if TYPE_CHECKING:
    from collections.abc import Callable

V = TypeVar("V")

_MISSING = object()


@dataclass(slots=True)
class LookupCounts:
    """Hits and misses of the request that is being answered."""

    hits: int = 0
    misses: int = 0


lookup_counts: ContextVar[LookupCounts | None] = ContextVar("lookup_counts", default=None)


def cached_value(key: str, compute: Callable[[], V], timeout: int) -> V:
    """Return the value stored under *key*, computing and storing it on a miss.

    Two workers that miss at the same moment both compute. A value of `None` is stored and found
    like any other. What *compute* raises is passed on, and nothing is stored.

    Args:
        key: At most 200 printable ASCII characters without spaces.
        compute: Called without arguments on a miss; what it returns must be picklable.
        timeout: Seconds until the entry expires; `0` stores nothing.
    """
    value = cache.get(key, _MISSING)
    counts = lookup_counts.get()
    if value is not _MISSING:
        if counts is not None:
            counts.hits += 1
        return cast("V", value)
    if counts is not None:
        counts.misses += 1
    computed = compute()
    cache.set(key, computed, timeout)
    return computed


def city_key(city_id: int) -> str:
    """Return the key of a city's facts."""
    return f"city:{city_id}"


def neighbourhood_key(city_id: int) -> str:
    """Return the key of a city's nearest cities and airports."""
    return f"city:{city_id}:nearby"


def forget_city(city_id: int) -> None:
    """Delete every entry that was computed from the city; call it after the commit."""
    cache.delete_many([city_key(city_id), neighbourhood_key(city_id)])
