"""Run the comparison: every backend under both kinds of load, then the single calls.

Every site starts from the same state: a fresh copy of the database, fresh servers, an empty
cache, the same warm-up. Then the sites take turns, so that a noisy host treats them alike.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from rich.markup import escape

from compare import calls, environment, workload
from compare.backends import BACKENDS, Backend, why_skipped
from compare.driver import drive_in_own_process
from compare.experiments import (
    capacity,
    load_curve,
    mixes,
    request_parts,
    restart,
    scaling,
    stale_ages,
    stampede,
    value_sizes,
    worker_memory,
)
from compare.experiments.bench import Bench
from compare.footprint import Footprint, weigh_in_own_process
from compare.plan import QUICK
from compare.results import Report, WorkingSet
from compare.servers import ServerError
from compare.site import Site, SiteError, phase_of
from compare.stage import Setting, served
from compare.stores import open_store
from compare.tasks import TaskError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from compare.driver import Drive
    from compare.figures import Figure
    from compare.plan import Plan
    from compare.stores import Store
    from compare.workload import City


WEIGHED_REQUESTS = 400
FAILURES = (OSError, ServerError, SiteError, TaskError)
"""What a cache that cannot be run here ends in."""
EXPERIMENTS: tuple[Any, ...] = (
    *(load_curve, stampede, stale_ages, capacity, value_sizes, scaling, worker_memory, restart),
    *(request_parts, mixes),
)
"""Each measures one figure of the report, in this order."""


class Experiment(Protocol):
    """A module that measures one figure."""

    def measure(self, bench: Bench) -> Figure:
        """Return the figure."""


class Narrator(Protocol):
    """Somebody who tells the user what is being done."""

    def say(self, text: str) -> None:
        """Tell what happens next, or what was found."""

    def step(
        self, text: str, *, total: float | None
    ) -> contextlib.AbstractContextManager[Callable[[float], None]]:
        """Show a step's progress; the yielded function takes how much of *total* is done."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What to compare and where.

    Args:
        plan: Sizes, times and rates.
        database: The site's loaded SQLite file; never changed.
        pool_parent: Directory for the pool: a DAX file system, tmpfs, or any other.
        narrator: Told about every step.
        chosen: Keys of the backends to compare.
    """

    plan: Plan
    database: Path
    pool_parent: Path
    narrator: Narrator
    chosen: Sequence[str]

    def run(self, *, command: str, form: str) -> Report:
        """Measure everything and return the report.

        All sites run side by side and take turns; those that wait are idle. A cache that cannot be
        run is left out from then on, a figure that cannot be measured is missing; the report says
        which and why.

        Raises:
            BackendUnavailableError: A backend cannot be imported.
            SiteError: No site is left.
        """
        started, clock = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), time.monotonic()
        skipped = {
            backend.label: reason for backend in BACKENDS if (reason := self._why_skipped(backend))
        }
        for label, reason in skipped.items():
            self.narrator.say(f"[yellow]{label} is left out: {reason}[/]")
        backends = [backend for backend in BACKENDS if backend.label not in skipped]
        described = environment.describe(self.pool_parent)
        cities = workload.read_cities(self.database, self.plan.cities)
        footprint = self._weigh(cities)
        lost: dict[str, str] = {}
        with contextlib.ExitStack() as stack:
            sites = self._all_started(backends, cities, footprint, stack, lost)
            rate = self.plan.rate or offered_rate(sites, share=self.plan.rate_share)
            sites = self._drive_all(sites, rate, lost)
            results = [site.result(self.plan, footprint) for site in sites]
            backends = [site.backend for site in sites]
            measured_calls = self._calls(backends, lost)
            bench = Bench(
                plan=self.plan,
                database=self.database,
                pool_parent=self.pool_parent,
                cities=cities,
                footprint=footprint,
                backends=backends,
                sites=sites,
                rate=rate,
                say=self.narrator.say,
            )
            figures = self._figures(bench, lost)
        return Report(
            command=command,
            started=started,
            quick=form == "quick",
            form=form,
            plan=asdict(self.plan),
            rate=rate,
            environment=described,
            footprint=footprint,
            working_set=self._working_set(cities, rate, footprint),
            skipped=skipped,
            lost=lost,
            backends=results,
            calls=measured_calls,
            figures=figures,
            load_average_after=[round(value, 2) for value in os.getloadavg()],
            seconds=round(time.monotonic() - clock, 1),
        )

    def _why_skipped(self, backend: Backend) -> str | None:
        if backend.key not in self.chosen:
            return "not asked for, or not part of this form (make demo FULL=1 has all)"
        return why_skipped(backend)

    def _weigh(self, cities: Sequence[City]) -> Footprint:
        with self.narrator.step("Weighing the site's cache entries", total=None):
            sample = itertools.islice(self._sequence(cities), WEIGHED_REQUESTS)
            footprint = weigh_in_own_process(sample, self.database)
        plan = self.plan
        entries = plan.cache_bytes // plan.workers // footprint["entry_bytes"]
        self.narrator.say(
            f"An entry takes {footprint['entry_bytes']:,} bytes in LocMemCache, so its "
            f"{plan.cache_bytes / 2**20:g} MiB are {entries:,} entries in each of "
            f"{plan.workers} workers."
        )
        return footprint

    def _all_started(
        self,
        backends: Sequence[Backend],
        cities: Sequence[City],
        footprint: Footprint,
        stack: contextlib.ExitStack,
        lost: dict[str, str],
    ) -> list[Site]:
        """Return the sites that could be served and warmed up."""
        sites = []
        for backend in backends:
            with contextlib.ExitStack() as own:
                try:
                    sites.append(self._started(backend, cities, footprint, own))
                except FAILURES as error:
                    self._lose(lost, backend.label, error)
                else:
                    stack.push(own.pop_all())
        return _some(sites, lost)

    def _lose(self, lost: dict[str, str], what: str, error: Exception) -> None:
        """Note that *what* is not part of the report, and say so now."""
        lost[what] = str(error).strip() or repr(error)
        self.narrator.say(f"[red]{what} is left out:[/] {escape(lost[what])}")

    def _started(
        self,
        backend: Backend,
        cities: Sequence[City],
        footprint: Footprint,
        stack: contextlib.ExitStack,
    ) -> Site:
        """Serve the site on *backend* from a fresh state until *stack* ends, and warm it up."""
        with self.narrator.step(f"{backend.label}: starting", total=None):
            store = self._store(backend, stack)
            setting = Setting(
                cache=backend.key,
                location=store.location,
                cache_bytes=self.plan.cache_bytes,
                workers=self.plan.workers,
                entry_bytes=footprint["entry_bytes"],
            )
            web_server = stack.enter_context(served(self.database, setting))
        site = Site(backend, web_server, store, cities)
        self._warm_up(site)
        return site

    def _warm_up(self, site: Site) -> None:
        plan = self.plan
        drive = site.drive(
            plan,
            limit=plan.warmup_requests,
            seconds=plan.warmup_seconds,
            connections=plan.closed_connections,
        )
        text = f"{site.backend.label}: warm-up"
        with self.narrator.step(text, total=plan.warmup_requests) as advance:
            site.note("warm-up", drive_in_own_process(drive, on_progress=advance))
        done = site.combined("warm-up")
        self.narrator.say(f"{text}, {done.served:,} requests in {done.elapsed_seconds:.1f} s")

    def _drive_all(self, sites: list[Site], rate: float, lost: dict[str, str]) -> list[Site]:
        """Measure all sites in turns: the open loop, the memory, then the closed loop.

        Returns those that answered to the end.

        The open loop comes first because all sites have served the same requests until its
        end, whatever they are fast or slow at.
        """
        plan = self.plan
        limit = max(1, round(rate * plan.open_seconds))
        self.narrator.say(
            f"Open loop: {rate:g} requests/s for every backend, latency from the intended start."
        )
        for number, site in self._turns(sites, "open", seconds=plan.open_seconds):
            skip = plan.warmup_requests + number * limit
            drive = site.drive(
                plan, skip=skip, limit=limit, rate=rate, connections=plan.open_connections
            )
            self._drive(site, "open", drive, lost)
        sites = _still_there(sites, lost)
        for site in sites:
            site.measure_memory()
            self._tell(site, "open", f"{rate:g} requests/s offered")
        for _, site in self._turns(sites, "closed", seconds=plan.closed_seconds):
            skip = plan.warmup_requests + plan.rounds * limit + site.combined("closed").sent
            drive = site.drive(
                plan,
                skip=skip,
                seconds=plan.closed_seconds,
                connections=plan.closed_connections,
            )
            self._drive(site, "closed", drive, lost)
        sites = _still_there(sites, lost)
        for site in sites:
            self._tell(site, "closed", "as fast as it goes")
        return sites

    def _drive(self, site: Site, load: str, drive: Drive, lost: dict[str, str]) -> None:
        """Let *drive* at a site, unless it is one that has failed."""
        if site.backend.label not in lost:
            try:
                site.note(load, drive_in_own_process(drive))
            except FAILURES as error:
                self._lose(lost, site.backend.label, error)

    def _turns(
        self, sites: Sequence[Site], load: str, *, seconds: float
    ) -> Iterator[tuple[int, Site]]:
        """Yield number of the round and site; each round begins with another site."""
        turns = self.plan.rounds * len(sites)
        title = f"{load.capitalize()} loop, {turns} turns of {seconds:g} s"
        with self.narrator.step(title, total=turns) as advance:
            for turn in range(turns):
                number, place = divmod(turn, len(sites))
                yield number, sites[(place + number) % len(sites)]
                advance(turn + 1)

    def _tell(self, site: Site, load: str, text: str) -> None:
        phase = phase_of(site.combined(load))
        latency = phase["latency"]
        errors = f", [red]{phase['errors']} errors: {phase['first_error']}[/]"
        self.narrator.say(
            f"{site.backend.label}, {text}: {phase['requests_per_second']:,.0f} requests/s, "
            f"p50 {latency['p50_us'] / 1000:.1f} ms, p99 {latency['p99_us'] / 1000:.1f} ms"
            + (errors if phase["errors"] else "")
        )

    def _store(self, backend: Backend, stack: contextlib.ExitStack) -> Store:
        """Start what *backend* needs."""
        budget = self.plan.cache_bytes
        return open_store(backend, self.pool_parent, budget_bytes=budget, stack=stack)

    def _figures(self, bench: Bench, lost: dict[str, str]) -> list[Figure]:
        """Measure every figure, one after the other; one that fails costs no other."""
        figures = []
        for number, experiment in enumerate(EXPERIMENTS, start=1):
            name = experiment.__name__.rpartition(".")[2].replace("_", " ")
            title = f"Figure {number} of {len(EXPERIMENTS)}, {name}"
            started = time.monotonic()
            with self.narrator.step(title, total=None):
                try:
                    figures.append(measure_with_those_that_can(experiment, bench))
                except Exception as error:  # noqa: BLE001 - forty minutes are not thrown away
                    self._lose(lost, title, error)
            self.narrator.say(f"{title}: {time.monotonic() - started:.0f} s")
        return figures

    def _sequence(self, cities: Sequence[City]) -> Iterator[workload.Request]:
        return workload.requests(cities, seed=self.plan.seed, exponent=self.plan.exponent)

    def _working_set(self, cities: Sequence[City], rate: float, footprint: Footprint) -> WorkingSet:
        count = self.plan.warmup_requests + self.plan.rounds * round(rate * self.plan.open_seconds)
        entries = workload.cached_entries(itertools.islice(self._sequence(cities), count))
        return WorkingSet(requests=count, entries=entries, bytes=entries * footprint["entry_bytes"])

    def _calls(self, backends: Sequence[Backend], lost: dict[str, str]) -> calls.CallCosts:
        """Measure single calls; if that fails, without those that fail by themselves."""
        try:
            return self._calls_of(backends, self.plan)
        except FAILURES as error:
            able = []
            for backend in filter(lambda backend: backend.caches, backends):
                try:
                    self._calls_of([backend], QUICK)
                except FAILURES as reason:
                    self._lose(lost, f"single calls of {backend.label}", reason)
                else:
                    able.append(backend)
            if not able:
                self._lose(lost, "single calls", error)
                return calls.CallCosts(timer_us=0.0, costs={})
            return self._calls_of(able, self.plan)

    def _calls_of(self, backends: Sequence[Backend], sizes: Plan) -> calls.CallCosts:
        with contextlib.ExitStack() as stack:
            plan = calls.CallPlan(
                locations={
                    backend.key: self._store(backend, stack).location
                    for backend in backends
                    if backend.caches
                },
                budget_bytes=self.plan.cache_bytes,
                rounds=sizes.call_rounds,
                calls_per_round=sizes.calls_per_round,
            )
            text = "Single cache calls, backends in turns"
            advance = stack.enter_context(self.narrator.step(text, total=plan.rounds))
            return calls.measure_in_own_process(plan, on_progress=advance)


def measure_with_those_that_can(experiment: Experiment, bench: Bench) -> Figure:
    """Return the figure; if that fails, of the backends that do not fail by themselves."""
    try:
        return experiment.measure(bench)
    except FAILURES:
        reasons: dict[str, str] = {}
        once = replace(bench.plan, repetitions=1, restarts=1, stampedes=1)
        for backend in bench.backends:
            try:
                experiment.measure(bench.only([backend], plan=once))
            except FAILURES as error:
                reasons[backend.label] = str(error).strip()
            except Exception:  # noqa: BLE001, S110 - it has no part in this figure
                pass
        if not reasons:
            raise
        able = [backend for backend in bench.backends if backend.label not in reasons]
        figure = experiment.measure(bench.only(able, plan=bench.plan))
        figure["notes"] += [f"{label} is missing: {why}" for label, why in reasons.items()]
        return figure


def _still_there(sites: Sequence[Site], lost: Mapping[str, str]) -> list[Site]:
    return _some([site for site in sites if site.backend.label not in lost], lost)


def _some(sites: list[Site], lost: Mapping[str, str]) -> list[Site]:
    if not sites:
        message = "\n".join(["No cache could be measured.", *lost.values()])
        raise SiteError(message)
    return sites


def offered_rate(sites: Sequence[Site], *, share: float) -> float:
    """Return *share* of what the slowest cache served in its warm-up, rounded to two digits."""
    slowest = min(
        done.served / done.elapsed_seconds
        for site in sites
        if (site.backend.caches or len(sites) == 1)
        for done in [site.combined("warm-up")]
    )
    return float(f"{share * slowest:.2g}")
