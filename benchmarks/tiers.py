"""What hits of the tiers and of a cached function cost, beside their peers.

python benchmarks/tiers.py

One process, one thread, keys and values that are immutable. The peers take turns in rounds, so that
a slow moment of the machine hits all; the best of the rounds counts. Ratios are of the same run.
"""

from __future__ import annotations

import tempfile
import threading
import timeit
from typing import TYPE_CHECKING, Any

import cachetools
import django
from django.conf import settings
from django.core.cache.backends.locmem import LocMemCache
from recording import machine, record

import pmemcache

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 15
KEYS = 100
REPEATS = 20
TEXT = "A sentence of fifty characters, as is often cached"
BYTES = b"v" * 1024
POLICY = "hot=16MiB,warm=64MiB"

#: What was asked for: (name of a ratio, most that it may be).
TARGETS = {
    "hot hit of 50 B str / LocMemCache": 1 / 6,
    "hot hit of 50 B str / cachetools LRU with a lock": 1.3,
    "warm hit of 1 KiB / LocMemCache": 1 / 4,
    "decorated hit / cachetools.cached(TTLCache, lock)": 1.0,
}


class LockedLru:
    """A cachetools LRU cache as its documentation says that threads should use it."""

    def __init__(self) -> None:
        self._cache: cachetools.LRUCache[str, str] = cachetools.LRUCache(10 * KEYS)
        self._lock = threading.Lock()

    def set(self, key: str, value: str) -> None:
        """Store *value*."""
        with self._lock:
            self._cache[key] = value

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of *key*, or *default*."""
        with self._lock:
            return self._cache.get(key, default)


def get_loop(cache: Any, name: str, value: object) -> Callable[[], None]:
    """Store *value* under keys that begin with *name*, and return a loop that reads them."""
    keys = [f"{name}:of:user:{i}" for i in range(KEYS)]
    for key in keys:
        cache.set(key, value)
    get = cache.get

    def run() -> None:
        for _ in range(REPEATS):
            for key in keys:
                get(key)

    run(), run()  # so that all is hot that becomes so
    return run


def turns_loop(cache: pmemcache.TieredCache) -> Callable[[], None]:
    """Return a loop that sets each key and gets it."""
    keys = [f"turns:{i}" for i in range(KEYS)]
    get, put = cache.get, cache.set

    def run() -> None:
        for _ in range(REPEATS):
            for key in keys:
                put(key, TEXT)
                get(key)

    run()
    return run


def call_loop(function: Callable[[int], Any]) -> Callable[[], None]:
    """Return a loop that calls *function* with a few numbers."""

    def run() -> None:
        for _ in range(REPEATS):
            for number in range(KEYS):
                function(number)

    run(), run()
    return run


def loops(hot: pmemcache.TieredCache, warm: pmemcache.TieredCache) -> dict[str, Callable[[], None]]:
    """Return the loops to time, by name; each makes `KEYS * REPEATS` calls."""
    locmem = LocMemCache("tiers", {"OPTIONS": {"MAX_ENTRIES": 100 * KEYS}})

    def describe(number: int) -> str:
        return f"{TEXT} {number}"

    ttl_cache: cachetools.TTLCache[Any, str] = cachetools.TTLCache(10 * KEYS, 3600)
    peer = cachetools.cached(ttl_cache, lock=threading.Lock())(describe)
    ours = pmemcache.cached(cache=hot, ttl_seconds=3600, name="describe")(describe)
    return {
        "hot hit of 50 B str": get_loop(hot, "text", TEXT),
        "cachetools LRU with a lock, 50 B str": get_loop(LockedLru(), "text", TEXT),
        "LocMemCache, 50 B str": get_loop(locmem, "text", TEXT),
        "hot hit of 1 KiB": get_loop(hot, "bytes", BYTES),
        "warm hit of 1 KiB": get_loop(warm, "bytes", BYTES),
        "LocMemCache, 1 KiB": get_loop(locmem, "bytes", BYTES),
        "decorated hit": call_loop(ours),
        "cachetools.cached(TTLCache, lock)": call_loop(peer),
        "set and get in turn, both tiers": turns_loop(hot),
        "set and get in turn, warm only": turns_loop(warm),
    }


def ratios(us: dict[str, float]) -> dict[str, float]:
    """Return what the targets speak of."""
    hot = us["hot hit of 50 B str"]
    return {
        "hot hit of 50 B str / LocMemCache": hot / us["LocMemCache, 50 B str"],
        "hot hit of 50 B str / cachetools LRU with a lock": hot
        / us["cachetools LRU with a lock, 50 B str"],
        "warm hit of 1 KiB / LocMemCache": us["warm hit of 1 KiB"] / us["LocMemCache, 1 KiB"],
        "decorated hit / cachetools.cached(TTLCache, lock)": us["decorated hit"]
        / us["cachetools.cached(TTLCache, lock)"],
        "set and get in turn, both tiers / warm only": us["set and get in turn, both tiers"]
        / us["set and get in turn, warm only"],
    }


def main() -> None:
    """Measure, print and record."""
    settings.configure()
    django.setup()
    host = machine("tmpfs (/dev/shm), 4 KiB pages; tmpfs is not persistent memory")
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as folder,
        pmemcache.TieredCache(f"{folder}/hot.pool", policy=POLICY) as hot,
        pmemcache.TieredCache(
            f"{folder}/warm.pool", policy="warm=64MiB,placement=warm-only"
        ) as warm,
    ):
        timed = loops(hot, warm)
        best = dict.fromkeys(timed, float("inf"))
        for _ in range(ROUNDS):
            for name, run in timed.items():
                spent_us = timeit.timeit(run, number=1) / (KEYS * REPEATS) * 1e6
                best[name] = min(best[name], spent_us)
    found = ratios(best)
    for name, spent_us in best.items():
        print(f"{name:42} {spent_us:7.3f} us")
    for name, ratio in found.items():
        asked = f"(asked for: at most {TARGETS[name]:.3f})" if name in TARGETS else ""
        print(f"{name:52} {ratio:6.3f} {asked}")
    figures = {
        "us": {name: round(spent_us, 3) for name, spent_us in best.items()},
        "ratios": {name: round(ratio, 3) for name, ratio in found.items()},
    }
    host["django"], host["cachetools"] = django.get_version(), cachetools.__version__
    print(f"Wrote {record('tiers', host, figures)}")


if __name__ == "__main__":
    main()
