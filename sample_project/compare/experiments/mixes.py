"""Loads that do not suit pmemcache: many writes, a hot tier that is too small, several hosts."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import time
from typing import TYPE_CHECKING, Any

from compare import servers, tasks
from compare.backends import BY_KEY
from compare.client import ask
from compare.figures import Figure, Panel, panel, series
from compare.opening import open_cache
from compare.stage import Setting, copy_database
from compare.stores import open_store

if TYPE_CHECKING:
    from django.core.cache.backends.base import BaseCache

    from compare.backends import Backend
    from compare.experiments.bench import Bench

BUDGET_BYTES = 16 << 20
VALUE_BYTES = 1024
KEYS = 6000
FEW_KEYS = 200
HOT_WORKERS = 4
"""The hot tier is that of one of four workers: 1 MiB, a sixth of all values."""
TIMEOUT_SECONDS = 3600
HOSTS_CITIES = 20
Mix = tuple[str, int, float]
MIXES: tuple[Mix, ...] = (
    ("200 values,\nread only", FEW_KEYS, 0.0),
    ("6,000 values,\nread only", KEYS, 0.0),
    ("6,000 values,\n1/2 writes", KEYS, 0.5),
    ("6,000 values,\n9/10 writes", KEYS, 0.9),
    ("200 values,\n1/2 writes", FEW_KEYS, 0.5),
)


def measure(bench: Bench) -> Figure:
    """Return the figure."""
    found = bench.run_on_stores(
        "compare.experiments.mixes",
        budget_bytes=BUDGET_BYTES,
        seconds=bench.plan.mix_seconds,
        rounds=bench.plan.repetitions,
    )
    misses = ", ".join(f"{BY_KEY[key].label} {ratio:.3f}" for key, ratio in found["misses"].items())
    mixes = panel(
        "one process, calls a second by kind of load",
        x="",
        y="calls a second (log)",
        y_scale="log",
        better="higher",
        kind="bars",
        ticks=[name for name, _, _ in MIXES],
        series=[
            series(key, {float(place): rates for place, rates in by_mix.items()})
            for key, by_mix in found["rates"].items()
        ],
    )
    return Figure(
        name="mixes",
        title="Loads that pmemcache does not like",
        lead=(
            f"Values of {VALUE_BYTES:,} bytes, any of them equally likely, in "
            f"{BUDGET_BYTES >> 20} MiB. The hot tier of one of four workers holds a sixth of "
            "6,000 values: nearly every read makes a copy that is thrown away before it is used. "
            "Several hosts: the site runs twice on one database, as on two machines; a city is "
            "edited on one and read on the other. Two hosts can share a server, and cannot share "
            "a pool."
        ),
        notes=[f"Miss ratio of the reads: {misses}."],
        columns=1,
        panels=[mixes, _hosts(bench)],
    )


def _hosts(bench: Bench) -> Panel:
    """Return how many pages of a second host are stale after an edit on the first."""
    stale = {}
    for backend in bench.caches("memcached", "redis", "pmemcache"):
        with contextlib.ExitStack() as stack:
            stale[backend.key] = [_stale_share(bench, backend, stack)]
    return panel(
        "two hosts: share of pages on host B that are stale after an edit on host A",
        x="",
        y="stale pages, share",
        better="lower",
        kind="bars",
        ticks=["read on B after an edit on A"],
        series=[series(key, {0.0: shares}) for key, shares in stale.items()],
    )


def _stale_share(bench: Bench, backend: Backend, stack: contextlib.ExitStack) -> float:
    directory = stack.enter_context(servers.scratch_directory())
    database = directory / "places.sqlite3"
    copy_database(bench.database, database)
    one_store = open_store(backend, bench.pool_parent, budget_bytes=BUDGET_BYTES, stack=stack)
    locations = [one_store.location] * 2
    if backend.store == "pool":
        locations[1] = open_store(
            backend, bench.pool_parent, budget_bytes=BUDGET_BYTES, stack=stack
        ).location
    hosts = []
    for location in locations:
        setting = Setting(cache=backend.key, location=location, workers=1)
        sockets = stack.enter_context(servers.scratch_directory())
        hosts.append(
            stack.enter_context(
                servers.site(sockets, workers=1, environment=setting.variables(database))
            )
        )
    stale = 0
    for city in bench.cities[:HOSTS_CITIES]:
        page = f"/city/{city.geonameid}/"
        for host in hosts:
            ask(host, page)
        edited = ask(hosts[0], f"/api/city/{city.geonameid}/revision/", method="POST")
        shown = int(ask(hosts[1], page).headers["x-revision"])
        stale += shown < json.loads(edited.body)["revision"]
    return stale / HOSTS_CITIES


def run(argument: dict[str, Any]) -> dict[str, Any]:
    """Return calls a second by backend and mix, one for each round, and the miss ratios."""
    rates: dict[str, dict[int, list[float]]] = {}
    missed: dict[str, list[int]] = {}
    for key, location in argument["locations"].items():
        cache = open_cache(
            key,
            location,
            budget_bytes=BUDGET_BYTES,
            workers=HOT_WORKERS if key == "pmemcache_hot" else 1,
            entry_bytes=VALUE_BYTES + 250,
        )
        value = bytes(VALUE_BYTES)
        cache.set_many({f"mix:{number}": value for number in range(KEYS)}, TIMEOUT_SECONDS)
        for _round, (place, mix) in itertools.product(range(argument["rounds"]), enumerate(MIXES)):
            calls, reads, misses = _call(cache, mix, value, argument["seconds"])
            by_mix = rates.setdefault(key, {})
            by_mix.setdefault(place, []).append(calls / argument["seconds"])
            before = missed.get(key, [0, 0])
            missed[key] = [before[0] + reads, before[1] + misses]
        cache.clear()
        cache.close()
    return {
        "rates": rates,
        "misses": {key: misses / reads for key, (reads, misses) in missed.items()},
    }


def _call(cache: BaseCache, mix: Mix, value: bytes, seconds: float) -> tuple[int, int, int]:
    """Return calls, reads and misses of one mix in so many seconds."""
    _, keys, set_share = mix
    source = random.Random(5)
    planned = [
        (f"mix:{source.randrange(keys)}", source.random() < set_share) for _ in range(keys * 4)
    ]
    reads = misses = 0
    end = time.monotonic() + seconds
    for calls, (name, writes) in enumerate(itertools.cycle(planned), start=1):
        if writes:
            cache.set(name, value, TIMEOUT_SECONDS)
        else:
            reads += 1
            misses += cache.get(name) is None
        if not calls % 16 and time.monotonic() >= end:
            return calls, reads, misses
    raise AssertionError


if __name__ == "__main__":
    tasks.report_result(run(tasks.read_argument()))
