"""The process that sends requests to the site and notes what comes back.

Closed loop: a fixed number of connections, each sending its next request when the last was
answered; this finds how many requests a second the site can serve. Open loop: requests arrive
at their own times whether or not earlier ones were answered; latency counts from the intended
arrival, so a request that had to wait for its turn is charged for the wait.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import selectors
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from compare import tasks
from compare.http_client import Response, exchange
from compare.staleness import RevisionLedger, is_stale
from compare.workload import City, Request, arrivals, requests

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

OK = 200
PROGRESS_INTERVAL_SECONDS = 0.25
SUMMED = (
    *("elapsed_seconds", "served", "unserved", "errors", "reads", "writes", "stale_reads"),
    *("cache_hits", "cache_misses", "database_queries"),
)


@dataclass(frozen=True, kw_only=True)
class Drive:
    """What to send, and how.

    Args:
        socket_path: The site's Unix socket.
        cities: Geonames id and country code of each city, most populous first.
        seed: Determines the requests and their arrival times.
        skip: Requests of the sequence that an earlier drive has already sent.
        limit: The most requests to send; `None` sends until the time is over.
        seconds: The time after which no request is sent; `None` sends up to the limit.
        rate: Requests a second of the open loop; `None` is the closed loop.
        connections: Requests under way at once.
        drain_seconds: How long an open loop waits for answers after its last arrival.
        acknowledged: City ids, revisions and moments of writes that earlier drives saw answered.
        moments: Whether to note when each request was answered, and its hits and misses.
    """

    socket_path: str
    cities: Sequence[Sequence[Any]]
    seed: int
    exponent: float
    connections: int
    skip: int = 0
    limit: int | None = None
    seconds: float | None = None
    rate: float | None = None
    drain_seconds: float = 2.0
    acknowledged: Sequence[Sequence[Any]] = ()
    moments: bool = False


@dataclass
class Outcome:
    """Everything one drive saw. Times are in microseconds unless named otherwise.

    `latencies_us` has one figure for every request that was due and did not fail: from intended
    start to answer, or, for the `unserved` ones, to the moment the driver gave up on them.
    `lateness_us` is how long after its intended start a request was really sent. `queue_seconds`
    is how long the answers of an open loop kept coming after its last arrival.
    """

    latencies_us: list[int] = field(default_factory=list)
    lateness_us: list[int] = field(default_factory=list)
    elapsed_seconds: float = 0.0
    queue_seconds: float = 0.0
    served: int = 0
    unserved: int = 0
    errors: int = 0
    first_error: str = ""
    reads: int = 0
    writes: int = 0
    stale_reads: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    database_queries: int = 0
    stale_ages_ms: list[float] = field(default_factory=list)
    requests_per_worker: dict[str, int] = field(default_factory=dict)
    acknowledged: list[tuple[int, int, float]] = field(default_factory=list)
    moments: list[tuple[float, int, int]] = field(default_factory=list)

    @property
    def sent(self) -> int:
        """How many requests of the sequence were used up."""
        return self.served + self.errors + self.unserved


class Driver:
    """Sends requests over the connections of one drive and fills its outcome."""

    def __init__(self, drive: Drive, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.outcome = Outcome()
        self._drive = drive
        self._clock = clock
        self._ledger = RevisionLedger()
        self._gave_up = False
        self._started = clock()
        for acknowledgement in drive.acknowledged:
            self._ledger.acknowledge(*acknowledgement)

    async def run(self) -> Outcome:
        """Send the whole drive and return what was seen."""
        cities = [City(*city) for city in self._drive.cities]
        sequence = requests(cities, seed=self._drive.seed, exponent=self._drive.exponent)
        stop = None if self._drive.limit is None else self._drive.skip + self._drive.limit
        planned = itertools.islice(sequence, self._drive.skip, stop)
        if self._drive.rate is None:
            await self._closed_loop(planned)
        else:
            await self._open_loop(planned, self._drive.rate)
        self.outcome.acknowledged = self._ledger.entries()
        return self.outcome

    async def _closed_loop(self, planned: Iterator[Request]) -> None:
        started = self._clock()
        seconds = self._drive.seconds
        deadline = float("inf") if seconds is None else started + seconds

        async def connection() -> None:
            for request in planned:
                if self._clock() >= deadline:
                    return
                await self._serve(request, self._clock())

        await asyncio.gather(*(connection() for _ in range(self._drive.connections)))
        self.outcome.elapsed_seconds = self._clock() - started

    async def _open_loop(self, planned: Iterable[Request], rate: float) -> None:
        waiting: asyncio.Queue[tuple[int, Request, float]] = asyncio.Queue()
        unanswered: dict[int, float] = {}

        async def connection() -> None:
            while True:
                number, request, intended = await waiting.get()
                await self._serve(request, intended)
                del unanswered[number]
                waiting.task_done()

        connections = [asyncio.create_task(connection()) for _ in range(self._drive.connections)]
        started = self._clock()
        seconds = float("inf") if self._drive.seconds is None else self._drive.seconds
        timetable = zip(planned, arrivals(seed=self._drive.seed, rate=rate), strict=False)
        for number, (request, due) in enumerate(timetable):
            if due > seconds:
                break
            await asyncio.sleep(max(0.0, started + due - self._clock()))
            unanswered[number] = started + due
            waiting.put_nowait((number, request, started + due))
        last_arrival = self._clock()
        try:
            await asyncio.wait_for(waiting.join(), self._drive.drain_seconds)
        except asyncio.TimeoutError:
            self._give_up(unanswered.values())
        self.outcome.elapsed_seconds = self._clock() - started
        self.outcome.queue_seconds = self._clock() - last_arrival
        # What is under way is waited for: the site must be idle when the next drive begins.
        while not waiting.empty():
            waiting.get_nowait()
            waiting.task_done()
        await waiting.join()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def _give_up(self, unanswered: Collection[float]) -> None:
        """Count what was due and is not answered; answers from now on are not noted."""
        self._gave_up = True
        now = self._clock()
        self.outcome.unserved = len(unanswered)
        self.outcome.latencies_us += [_microseconds(now - intended) for intended in unanswered]

    async def _serve(self, request: Request, intended: float) -> None:
        """Send *request* and note its answer; a failed request is noted, never raised."""
        outcome = self.outcome
        floor, sent = self._ledger.floor(request.city_id), self._clock()
        outcome.lateness_us.append(_microseconds(self._clock() - intended))
        try:
            response = await exchange(self._drive.socket_path, request.method, request.path)
        except OSError as error:
            self._note_error(request, repr(error))
            return
        latency_us = _microseconds(self._clock() - intended)
        if response.status != OK:
            self._note_error(request, f"status {response.status}")
        elif not self._gave_up:
            self._note_answer(response, latency_us)
            self._note_revision(request, response, floor, sent)

    def _note_answer(self, response: Response, latency_us: int) -> None:
        outcome = self.outcome
        outcome.latencies_us.append(latency_us)
        outcome.served += 1
        headers = response.headers
        hits, misses = int(headers.get("x-cache-hits", 0)), int(headers.get("x-cache-misses", 0))
        outcome.cache_hits += hits
        outcome.cache_misses += misses
        if self._drive.moments:
            outcome.moments.append((self._clock() - self._started, hits, misses))
        outcome.database_queries += int(headers.get("x-db-queries", 0))
        worker = headers.get("x-worker-pid", "unknown")
        outcome.requests_per_worker[worker] = outcome.requests_per_worker.get(worker, 0) + 1

    def _note_revision(self, request: Request, response: Response, floor: int, sent: float) -> None:
        """Acknowledge a write; judge a read by the writes answered before it was sent."""
        outcome = self.outcome
        if request.method == "POST":
            outcome.writes += 1
            revision = json.loads(response.body)["revision"]
            self._ledger.acknowledge(request.city_id, revision, self._clock())
            return
        outcome.reads += 1
        shown = int(response.headers.get("x-revision", floor))
        if is_stale(shown, floor):
            outcome.stale_reads += 1
            age = self._ledger.age(request.city_id, shown, sent)
            outcome.stale_ages_ms.append(round(age * 1000, 1))

    def _note_error(self, request: Request, what: str) -> None:
        if self._gave_up:
            return
        self.outcome.errors += 1
        self.outcome.first_error = (
            self.outcome.first_error or f"{request.method} {request.path}: {what}"
        )


async def _drive_and_tell(drive: Drive) -> Outcome:
    driver = Driver(drive)

    async def tell() -> None:
        while True:
            await asyncio.sleep(PROGRESS_INTERVAL_SECONDS)
            tasks.report_progress(driver.outcome.served)

    telling = asyncio.create_task(tell())
    try:
        return await driver.run()
    finally:
        telling.cancel()


def run(drive: Drive) -> Outcome:
    """Run *drive* in this process.

    The event loop waits with `select`, whose timeout has microseconds; `epoll` rounds up to
    whole milliseconds, which would send every request up to a millisecond late.
    """
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    try:
        return loop.run_until_complete(_drive_and_tell(drive))
    finally:
        loop.close()


def drive_in_own_process(
    drive: Drive, *, on_progress: Callable[[int], None] | None = None
) -> Outcome:
    """Run *drive* in a process of its own.

    Raises:
        TaskError: That process ended without a result.
    """
    return Outcome(**tasks.run_task("compare.driver", asdict(drive), on_progress=on_progress))


def combine(outcomes: Sequence[Outcome]) -> Outcome:
    """Return drives of one site, one after the other, as one outcome."""
    whole = Outcome()
    for outcome in outcomes:
        whole.latencies_us += outcome.latencies_us
        whole.lateness_us += outcome.lateness_us
        whole.stale_ages_ms += outcome.stale_ages_ms
        whole.queue_seconds = max(whole.queue_seconds, outcome.queue_seconds)
        whole.first_error = whole.first_error or outcome.first_error
        whole.acknowledged = outcome.acknowledged
        for name in SUMMED:
            setattr(whole, name, getattr(whole, name) + getattr(outcome, name))
        for worker, count in outcome.requests_per_worker.items():
            whole.requests_per_worker[worker] = whole.requests_per_worker.get(worker, 0) + count
    return whole


def _microseconds(seconds: float) -> int:
    return round(seconds * 1_000_000)


if __name__ == "__main__":
    tasks.report_result(asdict(run(Drive(**tasks.read_argument()))))
