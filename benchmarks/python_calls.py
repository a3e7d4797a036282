"""What one call costs from Python, beside py-lmdb and beside a busy thread.

python benchmarks/python_calls.py

Peers take turns in rounds, so that a slow moment of the machine hits all; the best of the rounds
counts for calls, the ratio of the bests for peers.
"""

from __future__ import annotations

import tempfile
import threading
import time
import timeit
from typing import TYPE_CHECKING, Any

from recording import machine, record

import pmemcache

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 7
KEYS = 1000
VALUE = b"v" * 1024
BUSY_SECONDS = 2.0


def best_us(function: Callable[[], Any], calls: int) -> float:
    """Return the microseconds of one of *calls* calls that *function* makes."""
    return min(timeit.repeat(function, number=1, repeat=3)) / calls * 1e6


def pool_calls(pool: pmemcache.Pool) -> dict[str, Callable[[], Any]]:
    """Return the loops to time, by name; each makes `KEYS` calls, the batches one of 100 keys."""
    text = [f"key:{i}" for i in range(KEYS)]
    raw = [key.encode() for key in text]
    hundred = raw[:100]

    def loop(function: Callable[[Any], Any], keys: list[Any]) -> Callable[[], None]:
        def run() -> None:
            for key in keys:
                function(key)

        return run

    def put() -> None:
        store = pool.put
        for key in raw:
            store(key, VALUE)

    def get_many() -> None:
        for _ in range(10):
            pool.get_many(hundred)

    return {
        "get 1 KiB, bytes key": loop(pool.get, raw),
        "get 1 KiB, str key": loop(pool.get, text),
        "put 1 KiB": put,
        "get_many(100) of 1 KiB": get_many,
    }


def lmdb_calls(folder: str) -> dict[str, Callable[[], Any]]:
    """Return py-lmdb's get and put of the same entries; empty where it is not installed."""
    try:
        import lmdb  # noqa: PLC0415 - a peer that need not be there
    except ImportError:
        print("py-lmdb is not installed and left out: pip install lmdb")
        return {}
    environment = lmdb.open(folder, map_size=64 << 20, sync=False, writemap=True)
    raw = [f"key:{i}".encode() for i in range(KEYS)]

    def put() -> None:
        for key in raw:
            with environment.begin(write=True) as transaction:
                transaction.put(key, VALUE)

    def get() -> None:
        for key in raw:
            with environment.begin(buffers=False) as transaction:
                transaction.get(key)

    put()
    return {"lmdb get 1 KiB": get, "lmdb put 1 KiB": put}


def beside_busy_thread(pool: pmemcache.Pool) -> float:
    """Return the share of calls/s that gets keep beside a thread that burns Python.

    It is relative to what a pure Python loop of the same length keeps.
    """
    alone, beside = _calls_per_second(lambda: pool.get(b"key:1"))
    plain_alone, plain_beside = _calls_per_second(lambda: sum(range(4)))
    return (beside / alone) / (plain_beside / plain_alone)


def _calls_per_second(function: Callable[[], Any]) -> tuple[float, float]:
    stop = threading.Event()

    def burn() -> None:
        total = 0
        while not stop.is_set():
            total += 1

    alone = _count(function)
    thread = threading.Thread(target=burn)
    thread.start()
    beside = _count(function)
    stop.set()
    thread.join()
    return alone, beside


def _count(function: Callable[[], Any]) -> float:
    done = 0
    end = time.perf_counter() + BUSY_SECONDS
    while time.perf_counter() < end:
        for _ in range(100):
            function()
        done += 100
    return done / BUSY_SECONDS


def main() -> None:
    """Measure, print and keep."""
    host = machine("tmpfs (/dev/shm), 4 KiB pages; tmpfs is not persistent memory")
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as folder,
        pmemcache.Pool(f"{folder}/bench.pool", "64MiB") as pool,
    ):
        loops = pool_calls(pool)
        loops["put 1 KiB"]()
        loops |= lmdb_calls(f"{folder}/lmdb")
        best: dict[str, float] = {}
        for turn in range(ROUNDS):
            print(f"round {turn + 1} of {ROUNDS} ...", flush=True)
            for name, function in loops.items():
                calls = 10 if "many" in name else KEYS
                best[name] = min(best.get(name, 1e9), best_us(function, calls))
        figures: dict[str, Any] = {name: round(value, 3) for name, value in best.items()}
        if "lmdb get 1 KiB" in best:
            figures["get: lmdb / pmemcache"] = round(
                best["lmdb get 1 KiB"] / best["get 1 KiB, bytes key"], 2
            )
        figures["share kept beside a busy thread"] = round(beside_busy_thread(pool), 2)
    for name, value in figures.items():
        print(f"{name:34} {value}")
    print(f"Wrote {record('python_calls', host, figures)}")


if __name__ == "__main__":
    main()
