"""How long it takes until a site's cache is warm again after all workers were restarted."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from compare.client import ask_all
from compare.driver import Drive, drive_in_own_process
from compare.figures import Figure, panel, series
from compare.stage import Setting, served
from compare.stores import open_store
from compare.workload import pages_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compare.backends import Backend
    from compare.experiments.bench import Bench

CACHE_BYTES = 64 << 20
RECENT = 100
"""The hit ratio is that of so many requests."""
WARM_SHARE = 0.95
BIN_SECONDS = 0.25
Moment = tuple[float, int, int]
"""Seconds since the site answers again, hits and misses of one request."""


def measure(bench: Bench) -> Figure:
    """Return the figure."""
    backends = bench.caches("locmem", "redis", "pmemcache")
    seen: dict[str, list[list[Moment]]] = {}
    for _repetition in bench.repetitions(bench.plan.restarts):
        for backend in backends:
            seen.setdefault(backend.key, []).append(_restart(bench, backend))
    labels = {backend.key: backend.label for backend in backends}
    notes = [
        f"{labels[key]}: 95 % {_spread([_seconds_to_warm(moments) for moments in attempts])}; "
        f"{_misses(attempts)} misses."
        for key, attempts in seen.items()
    ]
    return Figure(
        name="restart",
        title="After a restart of all workers",
        lead=(
            f"Pages of {bench.plan.restart_cities} cities, all of which fit the cache and were "
            "asked for before. gunicorn ends and starts "
            "again; the clock starts when the site answers. A server that was not restarted "
            "stays warm, and so "
            f'does a pool with lifetime="restart". Hit ratio of every {BIN_SECONDS:g} s; 95 % is '
            f"reached when {RECENT} requests in a row hit so often."
        ),
        notes=notes,
        columns=1,
        panels=[
            panel(
                f"hit ratio, {bench.rate:g} requests/s",
                x="seconds after the restart",
                y="hit ratio",
                better="higher",
                series=[series(key, _by_bin(attempts)) for key, attempts in seen.items()],
            )
        ],
    )


def _restart(bench: Bench, backend: Backend) -> list[Moment]:
    with contextlib.ExitStack() as stack:
        store = open_store(backend, bench.pool_parent, budget_bytes=CACHE_BYTES, stack=stack)
        setting = Setting(
            cache=backend.key,
            location=store.location,
            cache_bytes=CACHE_BYTES,
            workers=bench.plan.workers,
            entry_bytes=bench.footprint["entry_bytes"],
            lifetime="restart",
        )
        plan = bench.plan
        cities = bench.cities[: plan.restart_cities]
        with served(bench.database, setting) as server:
            ask_all(server, pages_of(cities), connections=plan.closed_connections)
        with served(bench.database, setting) as server:
            drive = Drive(
                socket_path=server.socket_path,
                cities=cities,
                seed=plan.seed,
                exponent=plan.exponent,
                connections=plan.open_connections,
                limit=max(1, round(bench.rate * plan.restart_seconds)),
                rate=bench.rate,
                moments=True,
            )
            outcome = drive_in_own_process(drive)
        return [(seconds, hits, misses) for seconds, hits, misses in outcome.moments]


def _seconds_to_warm(moments: Sequence[Moment]) -> float | None:
    """Return when the last of `RECENT` requests that hit so often was answered, if ever."""
    recent = min(RECENT, max(1, len(moments) // 4))
    for end in range(recent, len(moments) + 1):
        window = moments[end - recent : end]
        hits = sum(hit for _, hit, _ in window)
        lookups = hits + sum(miss for _, _, miss in window)
        if lookups and hits / lookups >= WARM_SHARE:
            # Warm from the first of them on, when nothing came before.
            return 0.0 if end == recent else window[-1][0]
    return None


def _spread(times: Sequence[float | None]) -> str:
    reached = sorted(moment for moment in times if moment is not None)
    if len(reached) < len(times):
        return f"not reached in {len(times) - len(reached)} of {len(times)} restarts"
    if reached[-1] == 0:
        return "from the first request on"
    return f"after {reached[0]:.2f} to {reached[-1]:.2f} s"


def _misses(attempts: Sequence[Sequence[Moment]]) -> int:
    return sum(miss for moments in attempts for _, _, miss in moments) // len(attempts)


def _by_bin(attempts: Sequence[Sequence[Moment]]) -> dict[float, list[float]]:
    """Return the hit ratios of all attempts by the middle of each bin."""
    ratios: dict[float, list[float]] = {}
    for moments in attempts:
        bins: dict[int, list[int]] = {}
        for seconds, hits, misses in moments:
            counts = bins.setdefault(int(seconds / BIN_SECONDS), [0, 0])
            counts[0] += hits
            counts[1] += hits + misses
        for place, (hits, lookups) in bins.items():
            if lookups:
                ratios.setdefault((place + 0.5) * BIN_SECONDS, []).append(hits / lookups)
    return ratios
