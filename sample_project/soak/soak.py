"""One soak: every kind of worker under mixed load, first dying all the time, then left alone.

In the storm workers are recycled by gunicorn and killed by us: it shows that nothing is wrong, lost
or stuck whatever dies. In the calm no worker dies: it shows that nothing grows in one that lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, TypedDict

from compare import servers
from compare.http_client import exchange
from compare.memory import family
from compare.stage import Setting, served
from compare.workload import read_cities

import pmemcache
from soak.rule import OK, Rule
from soak.visitors import Visitors, addresses
from soak.watch import REST_SECONDS, Tolerance, Watch
from soak.worker_memory import DIRECTORY, GUNICORN_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from compare.workload import City

    from soak.visitors import Tally
    from soak.watch import Growth, Sample

KINDS = (servers.SYNC, servers.GTHREAD, servers.ASGI)
STORM_SHARE = 0.5
SHOWN_FAULTS = 10
DESCRIPTORS_PER_THREAD = 3
"""The files of a database that a thread has opened."""


@dataclass(frozen=True, kw_only=True)
class SoakPlan:
    """How long, how many and how often.

    Args:
        seconds: Of all stages together.
        workers: gunicorn's worker processes.
        connections: Requests under way at once.
        cities: How many cities the pages are about.
        cache_bytes: Size of the pool; too small for all pages, so that entries are evicted.
        kill_seconds: A worker is killed about so often.
        max_requests: After how many requests gunicorn recycles a worker.
        memory_tolerance: The share by which memory may be more late in a stage than early. A short
            stage ends before a site has reached its steady size. In the storm it is the share of
            one worker: none lives long enough to grow, but one could be left over.
        more_blocks, more_malloc_bytes: What a worker may have in use at the end of a stage and not
            in its middle.
        seed: Of the requests and of the deaths.
    """

    seconds: float = 600.0
    workers: int = 4
    connections: int = 12
    cities: int = 300
    cache_bytes: int = 3 << 20
    kill_seconds: float = 2.5
    max_requests: int = 600
    memory_tolerance: float = 0.1
    more_blocks: int = 500
    more_malloc_bytes: int = 128 << 10
    seed: int = 1


class StageResult(TypedDict):
    """What came of one stage."""

    kind: str
    stage: str
    seconds: float
    requests: int
    edits: int
    favourites: int
    forgotten_favourites: int
    stale: int
    cut: int
    killed: int
    workers_seen: int
    memory_bytes: list[int]
    pool_bytes: list[int]
    descriptors: list[int]
    blocks_in_use: list[int]
    malloc_bytes_in_use: list[int]
    samples: list[Sample]
    recoveries: int
    evictions: int
    faults: list[str]


class SoakResult(TypedDict):
    """What came of all stages."""

    plan: dict[str, object]
    medium: str
    stages: list[StageResult]


@dataclass(frozen=True)
class Soak:
    """A soak of one database in one directory for pools."""

    plan: SoakPlan
    database: Path
    pool_parent: Path
    say: Callable[[str], None]

    def run(self) -> Iterator[StageResult]:
        """Yield what came of each stage: every kind of worker, in the storm and in the calm."""
        cities = read_cities(self.database, self.plan.cities)
        rule = self._learn(cities)
        for kind in KINDS:
            share = self.plan.seconds / len(KINDS)
            yield self._stage(kind, rule, cities, "storm", share * STORM_SHARE)
            yield self._stage(kind, rule, cities, "calm", share * (1 - STORM_SHARE))

    def _learn(self, cities: Sequence[City]) -> Rule:
        """Ask a site that has no cache for every page, and note what it answers."""
        rule = Rule()
        paths = addresses(cities)
        self.say(f"Learning what {len(paths)} pages have to show, from a site without a cache")

        async def ask_all(socket_path: str) -> None:
            waiting = iter(paths)

            async def ask() -> None:
                for path in waiting:
                    response = await exchange(socket_path, "GET", path)
                    if response.status != OK:
                        message = f"{path} is answered with status {response.status} by a new site"
                        raise servers.ServerError(message)
                    rule.learn(path, response.body)

            await asyncio.gather(*(ask() for _ in range(self.plan.workers)))

        with self._served(servers.SYNC, cache="none") as (server, _pool):
            asyncio.run(ask_all(server.socket_path))
        return rule

    def _stage(
        self,
        kind: servers.WorkerKind,
        rule: Rule,
        cities: Sequence[City],
        stage: str,
        seconds: float,
    ) -> StageResult:
        storm = stage == "storm"
        self.say(f"{kind.name} workers, {stage}: {seconds:.0f} s")
        rule.forget_edits()  # every stage begins with a new copy of the database
        recycled = self.plan.max_requests if storm else 0
        with self._served(kind, cache="pmemcache", max_requests=recycled) as (server, pool):
            visitors = Visitors(server.socket_path, rule, cities, seed=self.plan.seed)
            watch = Watch(server.process.pid, pool.parent, pool.parent.parent)
            reaper = Reaper(server.process.pid, self.plan) if storm else None
            asyncio.run(self._load(visitors, watch, reaper, seconds))
            stats, damage = _look_into(pool, self.plan.cache_bytes)
            log = server.log_tail()
        tally, killed = visitors.tally, reaper.killed if reaper else 0
        growth = watch.growth()
        # A worker of `sync` holds one request, the others whatever was accepted.
        held = 1 if kind is servers.SYNC else self.plan.connections
        faults = [*tally.faults, *damage]
        faults += growth.faults(self._tolerance(kind, storm=storm))
        faults += faults_of_death(tally, deaths=len(watch.workers), held=held, killed=killed)
        if tally.stale:
            faults.append(f"{tally.stale} pages were older than an edit that had been answered")
        if "Traceback" in log:
            faults.append(f"the server's log has an error: {log}")
        return StageResult(
            kind=kind.name,
            stage=stage,
            seconds=seconds,
            requests=tally.requests,
            edits=tally.edits,
            favourites=tally.favourites,
            forgotten_favourites=tally.forgotten_favourites,
            stale=tally.stale,
            cut=tally.cut,
            killed=killed,
            workers_seen=len(watch.workers | set(map(int, tally.requests_per_worker))),
            **_sizes(growth),
            samples=watch.samples,
            recoveries=stats.recoveries,
            evictions=stats.evict,
            faults=faults,
        )

    def _tolerance(self, kind: servers.WorkerKind, *, storm: bool) -> Tolerance:
        plan = self.plan
        one_worker = 1 / plan.workers if storm else 0.0
        return Tolerance(
            memory=max(plan.memory_tolerance, one_worker),
            descriptors=DESCRIPTORS_PER_THREAD * kind.threads,
            blocks=plan.more_blocks,
            malloc_bytes=plan.more_malloc_bytes,
        )

    async def _load(
        self, visitors: Visitors, watch: Watch, reaper: Reaper | None, seconds: float
    ) -> None:
        deadline = time.monotonic() + seconds

        def over() -> bool:
            return time.monotonic() >= deadline

        async def visit_and_rest() -> None:
            for _half in range(2):
                await visitors.run(self.plan.connections, seconds / 2 - REST_SECONDS)
                await watch.rest(workers_last=reaper is None)

        parts = [
            visit_and_rest(),
            watch.run(interval_seconds=min(2.0, seconds / 12), stopped=over),
        ]
        if reaper is not None:
            parts.append(reaper.run(stopped=over))
        await asyncio.gather(*parts)

    @contextlib.contextmanager
    def _served(
        self, kind: servers.WorkerKind, *, cache: str, max_requests: int = 0
    ) -> Iterator[tuple[servers.Server, Path]]:
        """Serve the site from a fresh state; yield server and pool."""
        with servers.scratch_directory(self.pool_parent) as directory:
            pool = directory / "pool" / "site.pool"
            pool.parent.mkdir()
            setting = Setting(
                cache=cache,
                location=str(pool),
                cache_bytes=self.plan.cache_bytes,
                workers=self.plan.workers,
                more={DIRECTORY: str(directory), "GUNICORN_CMD_ARGS": GUNICORN_OPTIONS},
            )
            with served(self.database, setting, kind=kind, max_requests=max_requests) as server:
                yield server, pool


class Reaper:
    """Kills a worker of a site every now and then, without a warning."""

    def __init__(self, master: int, plan: SoakPlan) -> None:
        self.killed = 0
        self._master = master
        self._source = random.Random(plan.seed)
        self._interval = plan.kill_seconds

    async def run(self, *, stopped: Callable[[], bool]) -> None:
        """Kill until *stopped* says so."""
        while not stopped():
            await asyncio.sleep(self._source.uniform(0.5, 1.5) * self._interval)
            workers = family(self._master)[1:]
            if workers and not stopped():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._source.choice(workers), signal.SIGKILL)
                    self.killed += 1


def faults_of_death(tally: Tally, *, deaths: int, held: int, killed: int) -> list[str]:
    """Return what cannot be explained by the workers that have died.

    A killed worker cuts the requests that it had accepted. So may one of `gthread` or asyncio that
    makes way for another, for what it has accepted and not read; one of `sync` may not.
    """
    explained = killed if held == 1 else deaths * held
    if tally.cut > explained:
        return [f"{tally.cut} requests were cut, {explained} can be explained by {killed} kills"]
    return []


def _look_into(path: Path, size_bytes: int) -> tuple[pmemcache.PoolStats, list[str]]:
    """Return the statistics of a pool that is being served from, and what is broken in it."""
    with pmemcache.Pool(path, size_bytes) as pool:
        return pool.stats(), [f"the pool is damaged: {damage}" for damage in pool.check()]


class _Sizes(TypedDict):
    memory_bytes: list[int]
    pool_bytes: list[int]
    descriptors: list[int]
    blocks_in_use: list[int]
    malloc_bytes_in_use: list[int]


def _sizes(growth: Growth) -> _Sizes:
    told = [rest.in_use.values() for rest in growth.resting if rest.in_use]
    return _Sizes(
        memory_bytes=[growth.early.memory_bytes, growth.late.memory_bytes],
        pool_bytes=[growth.early.pool_bytes, growth.late.pool_bytes],
        descriptors=[rest.descriptors for rest in growth.resting],
        blocks_in_use=[sum(each.blocks for each in workers) for workers in told],
        malloc_bytes_in_use=[sum(each.malloc_bytes for each in workers) for workers in told],
    )


def result_of(plan: SoakPlan, medium: str, stages: Sequence[StageResult]) -> SoakResult:
    """Return all stages as one result."""
    return SoakResult(plan=asdict(plan), medium=medium, stages=list(stages))
