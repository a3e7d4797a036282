"""The one door between the site and its cache.

`cached_value` looks a value up and computes it on a miss, `cached_values` does so for many at once,
`cached_function` is the decorator; `forget_city` deletes what an edit of a city made wrong,
`forget_after_commit` drops besides, by their tags, all pages that may show the city. Pages and API
take everything that is expensive through this door, so that the cache backend can be exchanged
without touching them: what only pmemcache has is replaced here by the best that others allow.

The law: a writer deletes after its commit, never before. A reader that misses in between would
otherwise compute the old value from the old row and store it for good. With other caches one gap
remains: a reader that reads the old row before the commit and stores after the delete; that value
lives until it expires. pmemcache closes it, by `get_or_set` with tags or `single_flight` (see
`config/caches.py`): a value whose key or tag was deleted while it was being computed is not stored.
"""

from __future__ import annotations

import contextlib
import functools
import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

from django.core.cache import cache, caches
from django.core.cache.utils import make_template_fragment_key
from django.db import transaction

from places.latency import observe
from pmemcache.integrations.django import PmemCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from places.models import City

K = TypeVar("K")
V = TypeVar("V")
P = ParamSpec("P")

CITIES = "cities"
"""The tag of what may show any city: search results, the largest, who is near whom."""

_MISSING = object()


@dataclass(slots=True)
class LookupCounts:
    """Hits and misses of the request that is being answered."""

    hits: int = 0
    misses: int = 0


lookup_counts: ContextVar[LookupCounts | None] = ContextVar("lookup_counts", default=None)


def cached_value(
    key: str, compute: Callable[[], V], timeout: int, *, tags: Iterable[str] = ()
) -> V:
    """Return the value stored under *key*, computing and storing it on a miss.

    With pmemcache one worker computes and the others that miss meanwhile wait for it; with other
    caches each computes. A value of `None` is stored and found like any other. What *compute*
    raises is passed on, and nothing is stored.

    Args:
        key: At most 200 printable ASCII characters without spaces.
        compute: Called without arguments on a miss; what it returns must be picklable.
        timeout: Seconds until the entry expires; `0` stores nothing.
        tags: Dropping any of them makes the entry a miss.
    """
    started = time.perf_counter()
    computed = False

    def load() -> V:
        nonlocal computed
        computed = True
        return compute()

    try:
        return _get_or_set(key, load, timeout, tags)
    finally:
        observe("load" if computed else "hit", time.perf_counter() - started)
        _count(hits=not computed, misses=computed)


def cached_values(
    keys: Mapping[K, str], compute: Callable[[list[K]], Mapping[K, V]], timeout: int
) -> dict[K, V]:
    """Return the value of each of *keys*, all looked up by one call, in their order.

    What is missing is computed together and stored by one `set_many`. On pmemcache each is computed
    by itself, once for all workers: `set_many` would put back what an edit has just deleted.

    Args:
        keys: What is asked for, with the key that it is stored under.
        compute: Called with what was not there; what it leaves out is left out.
        timeout: Seconds until the new entries expire.
    """
    started = time.perf_counter()
    stored = cache.get_many(keys.values())
    observe("get_many", time.perf_counter() - started)
    missing = [asked for asked, key in keys.items() if key not in stored]
    _count(hits=len(keys) - len(missing), misses=len(missing))
    if _pmemcache() is not None:
        computed = dict(_computed_each(missing, keys, compute, timeout))
    else:
        computed = dict(compute(missing)) if missing else {}
        cache.set_many({keys[asked]: value for asked, value in computed.items()}, timeout)
    found = {asked: stored.get(key, computed.get(asked, _MISSING)) for asked, key in keys.items()}
    return {asked: value for asked, value in found.items() if value is not _MISSING}


def _computed_each(
    missing: Iterable[K],
    keys: Mapping[K, str],
    compute: Callable[[list[K]], Mapping[K, V]],
    timeout: int,
) -> Iterator[tuple[K, V]]:
    for asked in missing:
        with contextlib.suppress(KeyError):  # left out
            yield asked, _get_or_set(keys[asked], lambda: compute([asked])[asked], timeout, ())  # noqa: B023


def cached_function(
    *, timeout: int, tags: Sequence[str] = ()
) -> Callable[[Callable[P, V]], Callable[P, V]]:
    """Decorate a function, so that each result is computed once for all workers of the host.

    Args:
        timeout: Seconds until a result expires.
        tags: Dropping any of them forgets all results.
    """
    pmem = _pmemcache()
    if pmem is not None:
        return cast(
            "Callable[[Callable[P, V]], Callable[P, V]]", pmem.cached(timeout=timeout, tags=tags)
        )

    def decorate(function: Callable[P, V]) -> Callable[P, V]:
        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> V:
            key = f"{function.__module__}.{function.__qualname__}:{args}{kwargs or ''}"
            return cached_value(key, lambda: function(*args, **kwargs), timeout, tags=tags)

        return wrapper

    return decorate


def city_key(city_id: int) -> str:
    """Return the key of a city's facts."""
    return f"city:{city_id}"


def neighbourhood_key(city_id: int) -> str:
    """Return the key of a city's nearest cities and airports."""
    return f"city:{city_id}:nearby"


def country_tag(iso: str) -> str:
    """Return the tag of what is computed from the cities of a country."""
    return f"country:{iso}"


def forget_city(city_id: int) -> None:
    """Delete every entry that was computed from the city alone; call it after the commit."""
    cache.delete_many([city_key(city_id), neighbourhood_key(city_id)])


def forget_after_commit(city: City) -> None:
    """Forget all that may show the city, once the transaction that changes it is committed.

    Nobody knows which of 170,000 neighbourhoods and of the searches show it, and nobody has to:
    they have a tag, which costs one delete to drop. Other caches have no tags; there, what cannot
    be named stays until it expires.
    """
    keys = [
        city_key(city.pk),
        neighbourhood_key(city.pk),
        make_template_fragment_key("country_sidebar", [city.country_id]),
    ]
    pmem = _pmemcache()
    if pmem is not None:
        pmem.invalidate_on_commit(CITIES, country_tag(city.country_id), keys=keys)
    else:
        transaction.on_commit(lambda: cache.delete_many(keys))


def _count(*, hits: int = 0, misses: int = 0) -> None:
    counts = lookup_counts.get()
    if counts is not None:
        counts.hits += hits
        counts.misses += misses


def _get_or_set(key: str, load: Callable[[], V], timeout: int, tags: Iterable[str]) -> V:
    pmem = _pmemcache()
    if pmem is not None:
        return cast("V", pmem.get_or_set(key, load, timeout, tags=tags))
    value = cache.get(key, _MISSING)
    if value is _MISSING:
        value = load()
        cache.set(key, value, timeout)
    return cast("V", value)


def _pmemcache() -> PmemCache | None:
    """Return the site's cache, or None where it is another kind, for comparison."""
    backend = caches["default"]
    return backend if isinstance(backend, PmemCache) else None
