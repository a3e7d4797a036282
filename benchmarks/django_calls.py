"""What one call of the Django backend costs, as a part of what LocMemCache takes for it.

python benchmarks/django_calls.py

LocMemCache is the fastest cache that Django has: a dict of pickles in the process itself, which no
other worker sees. The caches take turns in rounds, so that a slow moment of the machine hits all;
the best of the rounds counts.
"""

from __future__ import annotations

import asyncio
import tempfile
import timeit
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django
from django.conf import settings
from django.utils.connection import ConnectionProxy
from recording import machine, record

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 9
KEYS = 100
REPEATS = 10
TEXT = "A sentence of fifty characters, as is often cached"
BYTES = b"v" * 1024
SESSION = {f"field{i}": [i, str(i) * 20, {"seen": True}] for i in range(32)}
"""About 2 KiB when pickled."""

Loops = dict[str, "Callable[[], Any]"]


def configure(folder: str) -> None:
    """Set up Django with the caches to compare; each tier of the backend has a pool of its own."""
    backend = "pmemcache.integrations.django.PmemCache"
    caches: dict[str, dict[str, Any]] = {
        "locmem": {
            "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
            "OPTIONS": {"MAX_ENTRIES": 10 * KEYS},
        }
    }
    for alias, options in {"warm": {"hot_size": 0}, "hot": {"hot_size": "16MiB"}}.items():
        place = str(Path(folder) / f"{alias}.pool")
        caches[alias] = {"BACKEND": backend, "LOCATION": place, "OPTIONS": options}
    settings.configure(CACHES=caches | {"default": caches["locmem"]})
    django.setup()


def loops(cache: Any) -> Loops:
    """Return the loops to time, by name; each makes `KEYS * REPEATS` calls."""
    return {
        "get str of 50": get_loop(cache, "text", TEXT),
        "get 1 KiB": get_loop(cache, "bytes", BYTES),
        "get 2 KiB dict": get_loop(cache, "session", SESSION),
        **batch_loops(cache),
        **write_loops(cache),
    }


def get_loop(cache: Any, name: str, value: object) -> Callable[[], None]:
    """Store *value* under keys that begin with *name*, and return a loop that reads them."""
    keys = [f"{name}:of:user:{i}" for i in range(KEYS)]
    for key in keys:
        cache.set(key, value)

    def run() -> None:
        for _ in range(REPEATS):
            for key in keys:
                cache.get(key)

    return run


def batch_loops(cache: Any) -> Loops:
    """Return the loops that read all keys at once, and asynchronously."""
    keys = [f"batch:{i}" for i in range(KEYS)]
    cache.set_many(dict.fromkeys(keys, BYTES))

    def get_many() -> None:
        for _ in range(REPEATS):
            cache.get_many(keys)

    async def read() -> None:
        for _ in range(REPEATS):
            for key in keys:
                await cache.aget(key)

    return {
        "get_many(100) of 1 KiB, per key": get_many,
        "aget 1 KiB": lambda: asyncio.run(read()),
    }


def write_loops(cache: Any) -> Loops:
    """Return the loops that write."""
    keys = [f"written:{i}" for i in range(KEYS)]
    cache.set("count", 0)

    def store() -> None:
        for _ in range(REPEATS):
            for key in keys:
                cache.set(key, BYTES)

    def count() -> None:
        for _ in range(REPEATS * KEYS):
            cache.incr("count")

    return {"set 1 KiB": store, "incr": count}


def measure(caches: dict[str, Loops]) -> dict[str, dict[str, float]]:
    """Return the microseconds of each call, by name of the call and of the cache."""
    best: dict[str, dict[str, float]] = {}
    for _ in range(ROUNDS):
        for cache, calls in caches.items():
            for name, run in calls.items():
                spent_us = timeit.timeit(run, number=1) / (KEYS * REPEATS) * 1e6
                row = best.setdefault(name, {})
                row[cache] = round(min(spent_us, row.get(cache, spent_us)), 3)
    return best


def main() -> None:
    """Measure, print and record."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        configure(folder)
        from django.core.cache import caches  # noqa: PLC0415 - needs settings

        host = machine("tmpfs (/dev/shm), 4 KiB pages; tmpfs is not persistent memory")
        aliases = ("locmem", "warm", "hot")
        backends = measure({alias: loops(caches[alias]) for alias in aliases})
        proxies = measure({alias: loops(ConnectionProxy(caches, alias)) for alias in aliases})
        for title, figures in (("backend object", backends), ("cache proxy", proxies)):
            print(title)
            for name, row in figures.items():
                us = "".join(f"{row[alias]:9.2f}" for alias in aliases)
                parts = "".join(f"{row[alias] / row['locmem']:7.2f}" for alias in aliases[1:])
                print(f"  {name:34}{us} us {parts}")
        host["django"] = django.get_version()
        print(record("django_calls", host, {"backend_us": backends, "proxy_us": proxies}))


if __name__ == "__main__":
    main()
