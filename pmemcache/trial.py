"""How fast a path is as the place of a pool: what `pmemcache bench` measures."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pmemcache.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Figure", "run_trial"]

_SIZES: Final = (64, 1024, 16 * 1024, 256 * 1024)
_POOL_BYTES: Final = 64 << 20
_KEYS: Final = 200
_MOST_CALLS: Final = 100_000
_WARMING: Final = 2  # rounds that are not counted: they meet page faults


@dataclass(frozen=True)
class Figure:
    """One line of the result: calls of one kind on values of one size."""

    call: str
    value_bytes: int
    calls_per_second: float
    p50_us: float
    p99_us: float


def run_trial(directory: Path, *, seconds: float = 0.5) -> Iterator[Figure]:
    """Measure put, get and a miss in a pool of 64 MiB that is made in *directory* and removed.

    Args:
        seconds: How long each kind of call is measured.

    Raises:
        ConfigurationError: A pool cannot be made there.
    """
    with (
        tempfile.TemporaryDirectory(dir=directory, prefix="pmemcache-bench-") as folder,
        Pool(Path(folder) / "bench.pool", _POOL_BYTES) as pool,
    ):
        keys = [f"key:{number}".encode() for number in range(_KEYS)]
        for size in _SIZES:
            yield _measure("put", size, partial(_put, pool, b"v" * size), keys, seconds)
            yield _measure("get", size, pool.get, keys, seconds)
        absent = [b"absent:" + key for key in keys]
        yield _measure("miss", 0, pool.get, absent, seconds)


def _put(pool: Pool, value: bytes, key: bytes) -> bool:
    return pool.put(key, value)


def _measure(
    call: str, size: int, function: Callable[[bytes], object], keys: list[bytes], seconds: float
) -> Figure:
    for _ in range(_WARMING):
        for key in keys:
            function(key)
    clock = time.perf_counter_ns
    spent: list[int] = []
    end = clock() + int(seconds * 1e9)
    while clock() < end and len(spent) < _MOST_CALLS:
        for key in keys:
            start = clock()
            function(key)
            spent.append(clock() - start)
    spent.sort()
    return Figure(
        call=call,
        value_bytes=size,
        calls_per_second=len(spent) / sum(spent) * 1e9,
        p50_us=spent[len(spent) // 2] / 1000,
        p99_us=spent[len(spent) * 99 // 100] / 1000,
    )
