"""Calls a second of one to four processes, and of one to four threads of one process."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from compare import tasks
from compare.figures import Figure, panel, series
from compare.opening import open_cache

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.core.cache.backends.base import BaseCache

    from compare.experiments.bench import Bench

BUDGET_BYTES = 32 << 20
KEYS = 1000
VALUE_BYTES = 1024
SET_SHARE = 0.1
TIMEOUT_SECONDS = 3600
START_SECONDS = 0.02
"""Until all know when to begin."""
READY = b"ready"


def measure(bench: Bench) -> Figure:
    """Return the figure."""
    counts = bench.plan.scaling_counts
    found = bench.run_on_stores(
        "compare.experiments.scaling",
        budget_bytes=BUDGET_BYTES,
        seconds=bench.plan.scaling_seconds,
        counts=counts,
        rounds=bench.plan.repetitions,
    )
    panels = [
        panel(
            f"{min(counts)} to {max(counts)} {unit}",
            x=f"{unit} that call at once",
            y="calls a second, all together (log)",
            y_scale="log",
            better="higher",
            series=[
                series(key, {float(count): rates for count, rates in by_count.items()})
                for key, by_count in found[unit].items()
            ],
        )
        for unit in ("processes", "threads")
    ]
    return Figure(
        name="scaling",
        title="Throughput of processes and threads",
        lead=(
            f"Nine reads for one write, {KEYS:,} values of {VALUE_BYTES:,} bytes, each as fast "
            "as it goes. With LocMemCache every process has a cache of its own; all others share "
            f"one. This machine has {len(os.sched_getaffinity(0))} cores, and a server needs one "
            "of them."
        ),
        notes=[f"Misses: {found['misses']:,} in all; every key was stored before."],
        columns=2,
        panels=panels,
    )


def run(argument: dict[str, Any]) -> dict[str, Any]:
    """Return calls a second by unit, backend and count, one for each round."""
    found: dict[str, Any] = {"processes": {}, "threads": {}, "misses": 0}
    units: dict[str, Callable[..., tuple[int, int]]] = {
        "processes": _processes,
        "threads": _threads,
    }
    for _round in range(argument["rounds"]):
        for key, location in argument["locations"].items():
            for unit, call_all in units.items():
                for count in argument["counts"]:
                    calls, misses = call_all(key, location, count, argument["seconds"])
                    by_count = found[unit].setdefault(key, {})
                    by_count.setdefault(count, []).append(calls / argument["seconds"])
                    found["misses"] += misses
    return found


def _processes(key: str, location: str, count: int, seconds: float) -> tuple[int, int]:
    """Return calls and misses of *count* processes together; they begin when all are ready."""
    children = []
    for number in range(count):
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            try:
                cache = _filled(key, location)
                theirs.sendall(READY)
                counted = _call(cache, number, float(theirs.recv(64)), seconds)
                theirs.sendall(b"%d %d" % counted)
            finally:
                os._exit(0)
        theirs.close()
        children.append((pid, ours))
    for _, ours in children:
        ours.recv(len(READY))
    begin = b"%r" % (time.monotonic() + START_SECONDS)
    for _, ours in children:
        ours.sendall(begin)
    calls = misses = 0
    for pid, ours in children:
        called, missed = ours.recv(64).split()
        ours.close()
        os.waitpid(pid, 0)
        calls, misses = calls + int(called), misses + int(missed)
    return calls, misses


def _threads(key: str, location: str, count: int, seconds: float) -> tuple[int, int]:
    """Return the same of *count* threads; each has a backend object of its own, as in Django."""
    shared = _filled(key, location)
    begin = time.monotonic() + START_SECONDS
    counted: list[tuple[int, int]] = []

    def work(number: int) -> None:
        cache = shared if count == 1 else open_cache(key, location, budget_bytes=BUDGET_BYTES)
        counted.append(_call(cache, number, begin, seconds))
        cache.close()

    workers = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(calls for calls, _ in counted), sum(misses for _, misses in counted)


def _filled(key: str, location: str) -> BaseCache:
    cache = open_cache(key, location, budget_bytes=BUDGET_BYTES)
    wanted = {f"scaling:{number}": bytes(VALUE_BYTES) for number in range(KEYS)}
    stored = cache.get_many(wanted)
    cache.set_many({key: wanted[key] for key in wanted if key not in stored}, TIMEOUT_SECONDS)
    return cache


def _call(cache: BaseCache, seed: int, begin: float, seconds: float) -> tuple[int, int]:
    """Return how many calls were made between *begin* and its end, and how many missed."""
    source = random.Random(seed)
    keys = [f"scaling:{min(KEYS - 1, int(source.paretovariate(0.9)))}" for _ in range(4096)]
    sets = [source.random() < SET_SHARE for _ in range(4096)]
    value = bytes(VALUE_BYTES)
    time.sleep(max(0.0, begin - time.monotonic()))
    calls = misses = 0
    end = begin + seconds
    while time.monotonic() < end:
        for _between_looks_at_the_clock in range(8):
            place = calls % 4096
            if sets[place]:
                cache.set(keys[place], value, TIMEOUT_SECONDS)
            else:
                misses += cache.get(keys[place]) is None
            calls += 1
    return calls, misses


if __name__ == "__main__":
    tasks.report_result(run(tasks.read_argument()))
