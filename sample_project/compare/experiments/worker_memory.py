"""Memory of a site and its cache against the number of its workers."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from compare.driver import Drive, drive_in_own_process
from compare.figures import Figure, panel, series
from compare.memory import measure as measure_memory
from compare.plan import MIB
from compare.stage import Setting, served
from compare.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from compare.backends import Backend
    from compare.experiments.bench import Bench
    from compare.figures import Better, Panel


class Taken(NamedTuple):
    """What a site takes, and how often its cache has hit."""

    mebibytes: float
    hit_ratio: float


def measure(bench: Bench) -> Figure:
    """Return the figure."""
    backends = bench.caches("locmem", "redis", "pmemcache", "pmemcache_hot")
    seen: dict[str, dict[float, list[Taken]]] = {}
    for _repetition in bench.repetitions(bench.plan.restarts):
        for workers in bench.plan.worker_counts:
            for backend in backends:
                by_count = seen.setdefault(backend.key, {})
                by_count.setdefault(float(workers), []).append(_take(bench, backend, workers))
    return Figure(
        name="worker_memory",
        title="Memory against workers",
        lead=(
            f"{bench.plan.worker_requests:,} requests to sites of so many workers, one budget of "
            f"{bench.plan.cache_bytes / MIB:g} MiB for each, which LocMemCache divides among its "
            "workers. Proportional set size of gunicorn and the cache's server, and the pool's "
            "files; every page counts once."
        ),
        notes=[],
        columns=2,
        panels=[
            _panel("memory of site and cache", "MiB", "lower", seen, lambda one: one.mebibytes),
            _panel("hit ratio beside it", "hit ratio", "higher", seen, lambda one: one.hit_ratio),
        ],
    )


def _panel(
    title: str,
    y: str,
    better: Better,
    seen: dict[str, dict[float, list[Taken]]],
    figure: Callable[[Taken], float],
) -> Panel:
    return panel(
        title,
        x="gunicorn workers",
        y=y,
        better=better,
        series=[
            series(key, {count: [figure(one) for one in taken] for count, taken in by.items()})
            for key, by in seen.items()
        ],
    )


def _take(bench: Bench, backend: Backend, workers: int) -> Taken:
    plan = bench.plan
    with contextlib.ExitStack() as stack:
        store = open_store(backend, bench.pool_parent, budget_bytes=plan.cache_bytes, stack=stack)
        setting = Setting(
            cache=backend.key,
            location=store.location,
            cache_bytes=plan.cache_bytes,
            workers=workers,
            entry_bytes=bench.footprint["entry_bytes"],
        )
        server = stack.enter_context(served(bench.database, setting))
        drive = Drive(
            socket_path=server.socket_path,
            cities=bench.cities,
            seed=plan.seed,
            exponent=plan.exponent,
            connections=plan.closed_connections,
            limit=plan.worker_requests,
        )
        outcome = drive_in_own_process(drive)
        pids = [one.process.pid for one in store.running]
        taken = measure_memory(server.process.pid, pids, store.directory)
    lookups = outcome.cache_hits + outcome.cache_misses
    return Taken(taken.total_bytes / MIB, outcome.cache_hits / max(1, lookups))
