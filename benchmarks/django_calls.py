"""What one call of the Django backend costs, beside Django's other caches, with targets.

python benchmarks/django_calls.py

LocMemCache is the fastest cache that Django has: a dict of pickles in the process itself, which no
other worker sees. Redis, by Django's RedisCache and by django-redis, is in its best case: a unix
socket, nobody else, a core of its own for the server. The caches take turns in rounds, so that a
slow moment of the machine hits all; the best of the rounds counts, and only ratios of one run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import shutil
import subprocess
import tempfile
import threading
import time
import timeit
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django
from django.conf import settings
from django.utils.connection import ConnectionProxy
from recording import machine, record

from pmemcache.serializers import PLAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 7
KEYS = 100
REPEATS = 20
THREADS = 4
THREAD_SECONDS = 0.5
TEXT = "A sentence of fifty characters, as is often cached"
BYTES = b"v" * 1024
SESSION = {f"field{i}": [i, str(i) * 20, {"seen": True}] for i in range(32)}
"""About 2 KiB when pickled."""

# What is measured, against what, and the ratio that is aimed at; see docs/django.md.
TARGETS = [
    ("backend", "get str of 50", "hot", "locmem", 1 / 5),
    ("backend", "get 1 KiB", "hot", "locmem", 1 / 5),
    ("proxy", "get str of 50", "hot", "locmem", 2 / 3),
    ("proxy", "get 1 KiB", "hot", "locmem", 2 / 3),
    ("proxy", "get str of 50", "hot", "django-redis", 1 / 20),
    ("proxy", "get 1 KiB", "hot", "django-redis", 1 / 20),
    ("backend", "get 2 KiB dict", "hot", "locmem", 0.95),
    ("backend", "get 2 KiB dict", "hot", "django-redis", 1 / 4),
    ("backend", "set 1 KiB", "hot", "locmem", 1 / 2),
    ("backend", "get_many(100) of 1 KiB, per key", "hot", "django-redis", 1 / 8),
    ("backend", "get_many(100) of 1 KiB, per key", "hot", "locmem", 1 / 6),
    ("backend", "incr", "hot", "locmem", 1 / 3),
]

Loops = dict[str, "Callable[[], Any]"]

_loop = asyncio.new_event_loop()  # one, so that starting it is not measured


@contextlib.contextmanager
def redis_server(folder: str) -> Iterator[str | None]:
    """Run a Redis of our own on the last core; give its socket, or None where there is none."""
    program = shutil.which("redis-server")
    if program is None:
        print("redis-server is not installed: RedisCache and django-redis are left out")
        yield None
        return
    socket = str(Path(folder) / "redis.sock")
    command = [program, "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder) as server:
        os.sched_setaffinity(server.pid, {max(os.sched_getaffinity(0))})
        while not Path(socket).exists():
            time.sleep(0.01)
        try:
            yield socket
        finally:
            server.terminate()


def configure(folder: str, socket: str | None) -> list[str]:
    """Set up Django with the caches to compare; return their aliases.

    Each tier of the backend has a pool of its own.
    """
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
    if socket is not None:
        kinds = {
            "RedisCache": "django.core.cache.backends.redis.RedisCache",
            "django-redis": "django_redis.cache.RedisCache",
        }
        for number, (alias, kind) in enumerate(kinds.items()):
            caches[alias] = {"BACKEND": kind, "LOCATION": f"unix://{socket}?db={number}"}
    settings.configure(CACHES=caches | {"default": caches["locmem"]})
    django.setup()
    return list(caches)


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
        "aget 1 KiB": lambda: _loop.run_until_complete(read()),
    }


def write_loops(cache: Any) -> Loops:
    """Return the loops that write."""
    keys = [f"written:{i}" for i in range(KEYS)]
    cache.set("count", 0)

    def store() -> None:
        for _ in range(REPEATS):
            for key in keys:
                cache.set(key, BYTES)

    def store_dict() -> None:
        for _ in range(REPEATS):
            for key in keys:
                cache.set(key, SESSION)

    def count() -> None:
        for _ in range(REPEATS * KEYS):
            cache.incr("count")

    return {"set 1 KiB": store, "set 2 KiB dict": store_dict, "incr": count}


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


def thread_losses(caches: Any, aliases: list[str]) -> dict[str, float]:
    """Return which part of one thread's calls a second four threads together lose, by alias."""
    losses = {}
    for alias in aliases:
        rates = [gets_per_second(caches, alias, count) for count in (1, THREADS) * 3]
        losses[alias] = round(1 - max(rates[1::2]) / max(rates[::2]), 3)
    return losses


def gets_per_second(caches: Any, alias: str, threads: int) -> float:
    """Return how many gets of 1 KiB so many threads make together."""
    counts: list[int] = []
    start = threading.Barrier(threads)

    def work() -> None:
        cache, keys, count = caches[alias], [f"bytes:of:user:{i}" for i in range(KEYS)], 0
        start.wait()
        end = time.perf_counter() + THREAD_SECONDS
        while time.perf_counter() < end:
            for key in keys:
                cache.get(key)
            count += KEYS
        counts.append(count)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / THREAD_SECONDS


def serializers() -> dict[str, dict[str, float]]:
    """Return the microseconds of one session in each serializer."""
    pickled, plain = pickle.dumps(SESSION, pickle.HIGHEST_PROTOCOL), PLAIN.dumps(SESSION)
    calls: dict[str, dict[str, Callable[[], Any]]] = {
        "loads": {
            "pickle": lambda: pickle.loads(pickled),  # noqa: S301 - made here
            "plain": lambda: PLAIN.loads(plain),
        },
        "dumps": {
            "pickle": lambda: pickle.dumps(SESSION, pickle.HIGHEST_PROTOCOL),
            "plain": lambda: PLAIN.dumps(SESSION),
        },
    }
    figures = {
        name: {
            kind: round(min(timeit.repeat(call, number=1000, repeat=ROUNDS)) * 1000, 2)
            for kind, call in row.items()
        }
        for name, row in calls.items()
    }
    return figures | {"bytes": {"pickle": len(pickled), "plain": len(plain)}}


def construction_us(caches: Any, alias: str) -> float:
    """Return the microseconds that Django takes to make a backend, with its settings."""
    make = caches.create_connection
    return round(min(timeit.repeat(lambda: make(alias), number=1000, repeat=ROUNDS)) * 1000, 2)


def judge(figures: dict[str, dict[str, dict[str, float]]]) -> list[dict[str, Any]]:
    """Return each target with the ratio that was measured."""
    judged: list[dict[str, Any]] = []
    for kind, call, ours, theirs, target in TARGETS:
        row = figures[kind][call]
        if theirs in row:
            ratio = round(row[ours] / row[theirs], 3)
            what = f"{call}, {kind}: {ours} / {theirs}"
            judged.append({"what": what, "ratio": ratio, "target": round(target, 3)})
    row = figures["backend"]
    ratio = round(row["aget 1 KiB"]["hot"] / row["get 1 KiB"]["hot"], 3)
    judged.append({"what": "aget / get of 1 KiB, backend: hot", "ratio": ratio, "target": 2.0})
    return judged


def show(title: str, figures: dict[str, dict[str, float]], aliases: list[str]) -> None:
    """Print one table."""
    print(f"{title:36}" + "".join(f"{alias:>13}" for alias in aliases) + "  us")
    for name, row in figures.items():
        print(f"  {name:34}" + "".join(f"{row[alias]:13.2f}" for alias in aliases))


def main() -> None:
    """Measure, print and record."""
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as folder,
        redis_server(folder) as socket,
    ):
        aliases = configure(folder, socket)
        from django.core.cache import caches  # noqa: PLC0415 - needs settings

        host = machine("tmpfs (/dev/shm), 4 KiB pages; tmpfs is not persistent memory")
        host["django"] = django.get_version()
        figures = {
            "backend": measure({alias: loops(caches[alias]) for alias in aliases}),
            "proxy": measure({alias: loops(ConnectionProxy(caches, alias)) for alias in aliases}),
        }
        for title, table in figures.items():
            show(title, table, aliases)
        rest: dict[str, Any] = {
            "targets": judge(figures),
            "thread_losses": thread_losses(caches, ["locmem", "warm", "hot"]),
            "serializers_us": serializers(),
            "construction_us": construction_us(caches, "hot"),
        }
        for each in rest["targets"]:
            verdict = "met" if each["ratio"] <= each["target"] else "MISSED"
            print(f"  {each['what']:62} {each['ratio']:6.3f} of {each['target']:.3f}: {verdict}")
        print(f"  {THREADS} threads lose: {rest['thread_losses']} (target: hot under 0.3)")
        print(f"  session of 2 KiB: {rest['serializers_us']}")
        print(f"  making a backend: {rest['construction_us']} us (target: under 20)")
        print(record("django_calls", host, figures | rest))


if __name__ == "__main__":
    main()
