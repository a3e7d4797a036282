"""The cost of one call against the size of its value, 64 bytes to 16 MiB, and its type."""

from __future__ import annotations

import random
import statistics
import time
from typing import TYPE_CHECKING, Any

from compare import tasks
from compare.figures import Figure, panel, series
from compare.opening import open_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from django.core.cache.backends.base import BaseCache

    from compare.experiments.bench import Bench

BUDGET_BYTES = 256 << 20
KINDS = ("bytes", "str", "dict")
OPERATIONS = ("get", "set")
LEAST_CALLS, MOST_CALLS = 3, 400
CELL_SECONDS = 0.02
KEYS = tuple(f"value:{number}" for number in range(4))
LARGE_BYTES = 1 << 20
"""Values from here on have one key."""
LARGEST_BYTES = {"bytes": 1 << 24, "str": 1 << 24, "dict": 1 << 22}
"""A dict of more takes a third of a second to pickle, whatever the cache is."""
TIMEOUT_SECONDS = 3600


def measure(bench: Bench) -> Figure:
    """Return the figure."""
    found = bench.run_on_stores(
        "compare.experiments.value_sizes",
        budget_bytes=BUDGET_BYTES,
        sizes=bench.plan.value_sizes,
        rounds=bench.plan.repetitions,
    )
    panels = [
        panel(
            f"{operation}, {kind}",
            x="size of the value, bytes (log)",
            y="µs a call (log)",
            x_scale="log2",
            y_scale="log",
            better="lower",
            series=[
                series(key, {float(size): taken for size, taken in by_size.items()})
                for key, by_size in found["taken"][kind][operation].items()
            ],
        )
        for kind, operation in (("bytes", "get"), ("bytes", "set"), ("str", "get"), ("dict", "get"))
    ]
    return Figure(
        name="value_sizes",
        title="One call against the size of its value",
        lead=(
            f"One process, {BUDGET_BYTES >> 20} MiB for each cache. A dict has words as keys and "
            "lists of numbers as values. Every point is the median of its calls, the band least "
            "and most of the repetitions. No misses: every get is checked to return what was "
            "stored."
        ),
        notes=[f"Not stored, so not drawn: {text}." for text in found["refused"]],
        columns=2,
        panels=panels,
    )


def payload(kind: str, size: int) -> object:
    """Return a value that is pickled to about *size* bytes."""
    source = random.Random(size)
    if kind == "bytes":
        return source.randbytes(size)
    if kind == "str":
        words = "".join(source.choices("abcdefghij klmnop", k=min(size, 4096)))
        return words * (size // len(words))
    # A name and a list of eight numbers take about 56 bytes.
    return {
        f"name-{number}": [(number << 20) + place for place in range(8)]
        for number in range(max(1, size // 56))
    }


def run(argument: dict[str, Any]) -> dict[str, Any]:
    """Return microseconds by kind, operation, backend and size, one for each round."""
    taken: dict[str, Any] = {kind: {operation: {} for operation in OPERATIONS} for kind in KINDS}
    refused: list[str] = []
    sizes = {
        kind: [size for size in argument["sizes"] if size <= LARGEST_BYTES[kind]] for kind in KINDS
    }
    values = {(kind, size): payload(kind, size) for kind in KINDS for size in sizes[kind]}
    for key, location in argument["locations"].items():
        cache = open_cache(key, location, budget_bytes=BUDGET_BYTES)
        for (kind, size), value in values.items():
            names = KEYS if size < LARGE_BYTES else KEYS[:1]
            costs = _cell(cache, names, value, argument["rounds"])
            if not costs:
                refused.append(f"{kind} of {size:,} bytes on {key}")
            for operation in OPERATIONS:
                by_size = taken[kind][operation].setdefault(key, {})
                by_size[size] = [cost[operation] for cost in costs]
        cache.clear()
        cache.close()
    return {"taken": taken, "refused": refused}


def _cell(
    cache: BaseCache, keys: Sequence[str], value: object, rounds: int
) -> list[dict[str, float]]:
    """Return the cost of each operation in each round; nothing when *value* is not kept."""
    try:
        for key in keys:
            cache.set(key, value, TIMEOUT_SECONDS)
        if any(cache.get(key) != value for key in keys):
            return []
    except Exception:  # noqa: BLE001 - a client that refuses a value says so in its own way
        return []
    calls: dict[str, Callable[[str], object]] = {
        "get": cache.get,
        "set": lambda key: cache.set(key, value, TIMEOUT_SECONDS),
    }
    return [
        {operation: _median_us(call, keys) for operation, call in calls.items()}
        for _round in range(rounds)
    ]


def _median_us(call: Callable[[str], object], keys: Sequence[str]) -> float:
    clock = time.perf_counter_ns
    taken: list[int] = []
    end = clock() + CELL_SECONDS * 1e9
    while len(taken) < LEAST_CALLS or (len(taken) < MOST_CALLS and clock() < end):
        key = keys[len(taken) % len(keys)]
        started = clock()
        call(key)
        taken.append(clock() - started)
    return statistics.median(taken) / 1000


if __name__ == "__main__":
    tasks.report_result(run(tasks.read_argument()))
