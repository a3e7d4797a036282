"""A site that is being served on one backend, and what was measured of it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from compare.driver import Drive, Outcome, combine
from compare.memory import MemoryUse, measure
from compare.percentiles import summarise
from compare.results import BackendResult, Memory, Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compare.backends import Backend
    from compare.footprint import Footprint
    from compare.plan import Plan
    from compare.servers import Server
    from compare.stores import Store
    from compare.workload import City


class SiteError(RuntimeError):
    """A site answered no request at all; the message carries its first error."""


@dataclass
class Site:
    """The servers of one backend and the outcomes of the drives that they have seen."""

    backend: Backend
    web_server: Server
    store: Store
    cities: Sequence[City]
    memory: MemoryUse = field(init=False)
    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)
    acknowledged: Sequence[Sequence[Any]] = ()

    def drive(self, plan: Plan, **options: Any) -> Drive:
        """Return a drive of this site; *options* are the fields of `Drive` that vary."""
        return Drive(
            socket_path=self.web_server.socket_path,
            cities=self.cities,
            seed=plan.seed,
            exponent=plan.exponent,
            acknowledged=self.acknowledged,
            **options,
        )

    def note(self, load: str, outcome: Outcome) -> None:
        """Keep what a drive saw.

        Raises:
            SiteError: It saw no answer.
        """
        if not outcome.served:
            message = (
                f"{self.backend.label} answered no request ({outcome.first_error})\n"
                f"{self.web_server.log_tail()}"
            )
            raise SiteError(message)
        self.outcomes.setdefault(load, []).append(outcome)
        self.acknowledged = outcome.acknowledged

    def combined(self, load: str) -> Outcome:
        """Return all drives of one load as one."""
        return combine(self.outcomes.get(load, []))

    def measure_memory(self) -> None:
        """Note what the servers and the pool take now."""
        pids = [server.process.pid for server in self.store.running]
        self.memory = measure(self.web_server.process.pid, pids, self.store.directory)

    def _spread(self) -> dict[str, list[float]]:
        """Return least and most of the figures of single turns, by the metric's name."""
        turns = [phase_of(outcome) for outcome in self.outcomes["open"]]
        closed = [phase_of(outcome) for outcome in self.outcomes["closed"]]
        spread = {"requests_per_second": _range([one["requests_per_second"] for one in closed])}
        for name in ("p50_us", "p95_us", "p99_us"):
            spread[name] = _range([turn["latency"][name] for turn in turns])
        return spread

    def result(self, plan: Plan, footprint: Footprint) -> BackendResult:
        """Return everything that was measured, in the shape of the report."""
        warm_up = self.combined("warm-up")
        running = [*self.store.running, self.web_server]
        return BackendResult(
            key=self.backend.key,
            label=self.backend.label,
            setting=cache_setting(self.backend, self.store.location, plan, footprint),
            note=self.store.note,
            spread=self._spread(),
            commands=[shlex.join(server.command) for server in running],
            warmup_requests=warm_up.served,
            warmup_seconds=round(warm_up.elapsed_seconds, 2),
            closed=phase_of(self.combined("closed")),
            open=phase_of(self.combined("open")),
            memory=Memory(
                site_bytes=self.memory.site_bytes,
                server_bytes=self.memory.server_bytes,
                pool_bytes=self.memory.pool_bytes,
                total_bytes=self.memory.total_bytes,
            ),
        )


def _range(values: Sequence[float]) -> list[float]:
    return [min(values), max(values)]


def phase_of(outcome: Outcome) -> Phase:
    """Return the part of the report that *outcome* becomes."""
    return Phase(
        requests_per_second=outcome.served / outcome.elapsed_seconds,
        latency=summarise(outcome.latencies_us),
        lateness=summarise(outcome.lateness_us),
        elapsed_seconds=outcome.elapsed_seconds,
        queue_seconds=outcome.queue_seconds,
        served=outcome.served,
        unserved=outcome.unserved,
        errors=outcome.errors,
        first_error=outcome.first_error,
        reads=outcome.reads,
        writes=outcome.writes,
        stale_reads=outcome.stale_reads,
        cache_hits=outcome.cache_hits,
        cache_misses=outcome.cache_misses,
        database_queries=outcome.database_queries,
        requests_per_worker=outcome.requests_per_worker,
        latencies_us=outcome.latencies_us,
    )


def cache_setting(
    backend: Backend, location: str, plan: Plan, footprint: Footprint
) -> dict[str, Any]:
    """Return the CACHES entry that the site's settings make for *backend*."""
    from config.caches import CacheChoice, caches_setting  # noqa: PLC0415 - the site's own

    choice = CacheChoice(
        backend=backend.key,
        location=location,
        budget_bytes=plan.cache_bytes,
        entry_bytes=footprint["entry_bytes"],
        workers=plan.workers,
    )
    return caches_setting(choice)["default"]
