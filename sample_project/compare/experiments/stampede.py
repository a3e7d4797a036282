"""Two hundred clients ask at once for a page that is in no cache."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, NamedTuple

from compare.backends import BY_KEY
from compare.client import OK
from compare.figures import Figure, panel, series
from compare.http_client import exchange
from compare.servers import WorkerKind
from compare.stage import Setting, served
from compare.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compare.backends import Backend
    from compare.experiments.bench import Bench

CLIENTS = 200
WARMING_CLIENTS = 16
KIND = WorkerKind(name="gthread", worker_class="gthread", threads=CLIENTS // 4)
STEPS = 120
DECORATED = "pmemcache, @cached"


class Visit(NamedTuple):
    """When a client asked and was answered, and when its query ran, if it had one."""

    asked: float
    answered: float
    computed: tuple[float, float] | None


def measure(bench: Bench) -> Figure:
    """Return the figure."""
    ways = [
        (backend, "plain") for backend in bench.caches("locmem", "memcached", "redis", "pmemcache")
    ]
    ways += [(backend, "decorated") for backend in bench.caches("pmemcache")]
    seen = {
        _label(backend, way): (backend.key, _overrun(bench, backend, way)) for backend, way in ways
    }
    notes = []
    for label, (_key, attempts) in seen.items():
        counts = [sum(visit.computed is not None for visit in visits) for visits in attempts]
        slowest = max(visit.answered - visit.asked for visit in attempts[0])
        notes.append(
            f"{label}: {_queries(counts)} for {CLIENTS} requests, the last answered after "
            f"{slowest:.2f} s."
        )
    longest = max(visit.answered for _, attempts in seen.values() for visit in attempts[0])
    moments = [longest * step / STEPS for step in range(STEPS + 1)]
    lines = {label: (key, attempts[0]) for label, (key, attempts) in seen.items()}
    return Figure(
        name="stampede",
        title="A stampede: 200 clients on a cold page",
        lead=(
            f"Four workers of {KIND.threads} threads, gunicorn's gthread. The page needs one "
            "query that reads every city. The caches are asked, and on a miss everybody "
            "computes; a function with @pmemcache.cached lets one caller of the host compute "
            "while the others wait. The first of the repetitions is drawn."
        ),
        notes=notes,
        columns=1,
        panels=[
            panel(
                "requests in flight",
                x="seconds since all have asked",
                y="requests",
                kind="steps",
                series=[
                    series(
                        key, _count(moments, [(v.asked, v.answered) for v in visits]), label=label
                    )
                    for label, (key, visits) in lines.items()
                ],
            ),
            panel(
                "database queries running",
                x="seconds since all have asked",
                y="queries",
                kind="steps",
                series=[
                    series(
                        key,
                        _count(moments, [v.computed for v in visits if v.computed]),
                        label=f"{label}: {sum(v.computed is not None for v in visits)} in all",
                    )
                    for label, (key, visits) in lines.items()
                ],
            ),
        ],
    )


def _label(backend: Backend, way: str) -> str:
    return DECORATED if way == "decorated" else BY_KEY[backend.key].label


def _queries(counts: Sequence[int]) -> str:
    least, most = min(counts), max(counts)
    if least == most:
        return f"{least} quer{'y' if least == 1 else 'ies'}"
    return f"{least} to {most} queries"


def _overrun(bench: Bench, backend: Backend, way: str) -> list[list[Visit]]:
    """Return the visits of each attempt; each is for a page that nobody has asked for."""
    with contextlib.ExitStack() as stack:
        budget = bench.plan.cache_bytes
        store = open_store(backend, bench.pool_parent, budget_bytes=budget, stack=stack)
        setting = Setting(
            cache=backend.key,
            location=store.location,
            cache_bytes=budget,
            more={
                "DJANGO_SETTINGS_MODULE": "demonstrations.settings",
                "PMEMCACHE_PATH": str(store.directory / "decorated.pool"),
                "PMEMCACHE_POLICY": "hot=1MiB,warm=16MiB",
            },
        )
        server = stack.enter_context(served(bench.database, setting, kind=KIND))
        page = f"/populations/{way}/?attempt="
        # So that every worker has opened its database and its cache.
        asyncio.run(_visit_all(server.socket_path, f"{page}warm-up", clients=WARMING_CLIENTS))
        return [
            asyncio.run(_visit_all(server.socket_path, f"{page}{attempt}", clients=CLIENTS))
            for attempt in range(bench.plan.stampedes)
        ]


async def _visit_all(socket_path: str, path: str, *, clients: int) -> list[Visit]:
    begin = time.monotonic()

    async def visit() -> Visit:
        asked = time.monotonic() - begin
        response = await exchange(socket_path, "GET", path)
        if response.status != OK:
            message = f"{path} is answered with status {response.status}"
            raise OSError(message)
        computed = response.headers.get("x-computed")
        interval = None
        if computed is not None:
            first, last = (float(moment) - begin for moment in computed.split())
            interval = (first, last)
        return Visit(asked, time.monotonic() - begin, interval)

    return await asyncio.gather(*(visit() for _ in range(clients)))


def _count(
    moments: Sequence[float], intervals: Sequence[tuple[float, float]]
) -> dict[float, list[float]]:
    """Return how many intervals hold each moment."""
    return {
        moment: [float(sum(first <= moment < last for first, last in intervals))]
        for moment in moments
    }
