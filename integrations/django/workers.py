"""What each worker process did with its hot tier and its loaders, told to the others.

A pool counts for all processes, a hot tier only for its own. So each worker adds what it did to one
entry of the pool, at most once a second at the end of a request, and whoever asks reads the sums
there. That entry is a cache entry like others: eviction or `clear` begins the sums anew.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import threading
import time
import weakref
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pmemcache.integrations.django.sharing import FAILURES, open_pools
from pmemcache.keys import INTERNAL_PREFIX

if TYPE_CHECKING:
    from pmemcache.integrations.django.sharing import SharedPool
    from pmemcache.pool import Pool
    from pmemcache.stats import TieredStats

__all__ = [
    "OWN_GETS",
    "OWN_HITS",
    "SUMS",
    "Worker",
    "WorkerReport",
    "add_to_report",
    "count",
    "read_report",
]

_COUNTS: Final[dict[str, str]] = {
    "hot_hits": "look-ups answered by the worker's own memory",
    "promotions": "copies made in a hot tier",
    "hot_evictions": "copies given up to make room in a hot tier",
    "stale": "values served after their time to live, within their grace",
    "loads": "values loaded by a loader",
    "load_errors": "loaders that raised",
    "load_waits": "calls that waited for the load of another",
    "load_takeovers": "leases that ended without a value, so that a waiter went on",
    "loads_voided": "loaded values not stored, because the key changed meanwhile",
    "read_failures": "reads answered as misses because the pool could not serve",
    "dropped_writes": "writes dropped because the pool could not serve",
    "undecodable": "values that could not be decoded, answered as misses",
}
"""What is summed over the workers, with its meaning; names of `TieredStats`."""
OWN_GETS, OWN_HITS = "own_gets", "own_hits"
SUMS: Final = {
    **_COUNTS,
    OWN_GETS: "look-ups of the pool that no caller asked for: of tags, leases and this report",
    OWN_HITS: "those of them that found something",
}
"""All that a report has sums of."""

_KEY: Final = INTERNAL_PREFIX + b"workers"
_INTERVAL_SECONDS: Final = 1.0
_GONE_SECONDS: Final = 60.0
_CAS_ATTEMPTS: Final = 8


@dataclass(frozen=True)
class WorkerReport:
    """What the workers said of themselves."""

    totals: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SUMS, 0))
    """Each of `SUMS`, and what `count` added to, over all workers, ended ones included."""
    workers: tuple[Worker, ...] = ()
    """Those that have reported in the last minute, by process id."""


@dataclass(frozen=True)
class Worker:
    """One process, as it was when it last reported."""

    pid: int
    reported_at: float
    """Unix time."""
    hot_hits: int
    hot_entries: int
    hot_bytes: int
    hot_capacity_bytes: int


class _Reporter:
    """Reports for this process to one pool. Threads that come at the same time pass by."""

    def __init__(self, shared: SharedPool) -> None:
        self._shared = shared
        self._lock = threading.Lock()
        self._due = 0.0
        self._told = dict.fromkeys(SUMS, 0)
        self._reads = self._hits = 0
        self._own: collections.Counter[str] = collections.Counter()
        self._own_lock = threading.Lock()

    def count(self, name: str, number: int) -> None:
        """Add to a sum of the site's own."""
        with self._own_lock:
            self._own[name] += number

    def read(self) -> WorkerReport:
        """Return what all have told, and what this process would tell now."""
        report = self._read()
        with self._own_lock:
            untold = self._untold(self._counts(self._shared.cache().stats())) + self._own
        for name, number in untold.items():
            report.totals[name] = report.totals.get(name, 0) + number
        return report

    def _read(self) -> WorkerReport:
        told = self._shared.pool().get(_KEY)
        self._reads += 1
        self._hits += told is not None
        return _parsed(told)

    def report(self, now: float) -> None:
        """Add what happened since the last time, if a second has passed and the pool is open."""
        if now < self._due or not self._shared.is_open or not self._lock.acquire(blocking=False):
            return
        try:
            self._due = now + _INTERVAL_SECONDS
            self._tell()
        except FAILURES as error:
            self._shared.failed("reporting", error)
        finally:
            self._lock.release()

    def forked(self) -> None:
        """Begin anew in a child: what its parent did is the parent's to tell."""
        self._lock, self._own_lock = threading.Lock(), threading.Lock()
        self._own.clear()
        self._due = 0.0
        with contextlib.suppress(*FAILURES):
            self._told = self._counts(self._shared.cache().stats())

    def _counts(self, stats: TieredStats) -> dict[str, int]:
        counts = {name: getattr(stats, name) for name in _COUNTS}
        counts[OWN_GETS] = stats.own_gets + self._reads
        counts[OWN_HITS] = stats.own_hits + self._hits
        return counts

    def _untold(self, counts: dict[str, int]) -> collections.Counter[str]:
        """Return what is new; a pool that was opened anew counts from nothing."""
        return collections.Counter(
            {
                name: count - told if count >= (told := self._told[name]) else count
                for name, count in counts.items()
            }
        )

    def _tell(self) -> None:
        pool = self._shared.pool()
        stats = self._shared.cache().stats()
        counts = self._counts(stats)
        worker = Worker(
            os.getpid(),
            time.time(),
            stats.hot_hits,
            stats.hot_entries,
            stats.hot_bytes,
            stats.hot_capacity_bytes,
        )
        with self._own_lock:
            own, self._own = self._own, collections.Counter()
        is_told = False
        try:
            is_told = self._add(pool, self._untold(counts) + own, worker)
        finally:
            if is_told:
                self._told = counts
            else:
                with self._own_lock:
                    self._own.update(own)

    def _add(self, pool: Pool, added: collections.Counter[str], worker: Worker) -> bool:
        """Add to the entry by compare-and-set; return whether it was done."""
        for _attempt in range(_CAS_ATTEMPTS):
            info = pool.info(_KEY)  # before the value: a later value fails the comparison
            report = WorkerReport() if info is None else self._read()
            others = [each for each in report.workers if each.pid != worker.pid]
            told = {
                "totals": collections.Counter(report.totals) + added,
                "workers": [asdict(each) for each in (*others, worker)],
            }
            only_if: Any = "absent" if info is None else info.generation
            if pool.put(_KEY, json.dumps(told).encode(), only_if=only_if):
                return True
        return False


def count(shared: SharedPool, name: str, number: int = 1) -> None:
    """Add *number* to a sum of the site's own, over all workers, told with the next report.

    Costs less than a look-up. Needs `"pmemcache.integrations.django"` in `INSTALLED_APPS`,
    whose workers report.

    Args:
        name: Its name in `WorkerReport.totals`; a site has a few hundred of these at most, for all
            are in one entry.
    """
    _reporter(shared).count(name, number)


def add_to_report(shared: SharedPool) -> None:
    """Tell what this process did, unless it did so in the last second. Never raises."""
    _reporter(shared).report(time.monotonic())


def read_report(shared: SharedPool) -> WorkerReport:
    """Return what the workers of a pool have told.

    Raises:
        PmemCacheError: The pool cannot be read.
    """
    return _reporter(shared).read()


def _parsed(told: bytes | None) -> WorkerReport:
    """Read the entry; what another version of this program wrote counts as nothing."""
    if told is None:
        return WorkerReport()
    try:
        content = json.loads(told)
        oldest = time.time() - _GONE_SECONDS
        workers = (Worker(**each) for each in content["workers"])
        totals: dict[str, int] = content["totals"]
        return WorkerReport(
            {**WorkerReport().totals, **{name: int(sum_) for name, sum_ in totals.items()}},
            tuple(
                sorted(
                    (each for each in workers if each.reported_at > oldest),
                    key=lambda each: each.pid,
                )
            ),
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return WorkerReport()


_reporters: weakref.WeakKeyDictionary[SharedPool, _Reporter] = weakref.WeakKeyDictionary()


def _reporter(shared: SharedPool) -> _Reporter:
    return _reporters.get(shared) or _reporters.setdefault(shared, _Reporter(shared))


def _after_fork_in_child() -> None:
    for shared in open_pools():
        _reporter(shared).forked()


os.register_at_fork(after_in_child=_after_fork_in_child)
