"""Loading a missing value once per host.

On a miss one thread of one process, the leader, gets a lease on the key in shared memory and loads;
the others wait for the lease to end and look again, or are served the stale value. No lock is held
meanwhile. What the leader loaded is stored only if nothing happened to the key since its lease
began: a change makes the lease void. So a `set`, `delete`, `clear` or dropped tag during the load
is never undone.

The protocol is written once, as a generator that asks for all that may take time (`_Load`,
`_Wait`, `_Do`); one driver answers by calling and sleeping, the other by awaiting.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import inspect
import os
import pickle
import random
import threading
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, TypedDict, TypeVar

from pmemcache.binding import checked_ttl
from pmemcache.envelope import Envelope
from pmemcache.errors import LoaderError, WouldWaitError
from pmemcache.faults import FAILURES
from pmemcache.keys import INTERNAL_PREFIX, key_digest
from pmemcache.serializers import DecodeError
from pmemcache.stampede import LoadPolicy
from pmemcache.types import Lease

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from pmemcache.envelope import TagPair
    from pmemcache.hot_only import HotOnly
    from pmemcache.pool import Pool
    from pmemcache.types import Key
    from pmemcache.warm import Stored, WarmTier, Watch

__all__ = [
    "LoadCounts",
    "LoadOptions",
    "LoadPlan",
    "Loading",
    "Shelved",
    "TimeToLive",
    "bound",
    "is_coroutine_function",
    "without_blocking",
]

T = TypeVar("T")

_REPORT_TTL_SECONDS: Final = 10.0
"""How long waiters can learn how a load ended; they look at once."""
_WAIT_SLICE_SECONDS: Final = 0.1
"""A wait in the engine sees no signal before it ends."""
_NAP_MIN_SECONDS: Final = 0.001
_NAP_MAX_SECONDS: Final = 0.02
_REPORT_PREFIX: Final = INTERNAL_PREFIX + b"e:"
_KNOCK_PREFIX: Final = INTERNAL_PREFIX + b"w:"
_NOT_KEPT: Final = "not kept"
_NO_LEASE: Final = Lease(granted=False, token=0, version=0)

_Flight: TypeAlias = "concurrent.futures.Future[Exception | str | None]"
"""A load of this process alone: how it ended, as `_report` says it of others."""

TimeToLive: TypeAlias = float | Callable[[Any], float | None] | None
"""Seconds, or a function of the value that says them; None: for ever."""


class LoadOptions(TypedDict, total=False):
    """What `get_or_load` and `refresh` take besides."""

    tags: Iterable[str]
    """`drop_tag` of any of them makes the entry a miss."""
    namespace: str | None
    """`clear` of it makes the entry a miss."""
    unless: Callable[[Any], bool] | None
    """Values for which this is true are returned but not stored."""
    load: LoadPolicy | None
    """Other than the cache's `LoadPolicy`."""


@dataclass(frozen=True)
class LoadPlan:
    """What becomes of a loaded value."""

    ttl_seconds: TimeToLive = None
    """Time to live, or a function of the value that says it."""
    grace_ms: int = 0
    """How long it may be served stale after that."""
    tags: tuple[bytes, ...] = ()
    """Digests of its tags and namespace."""
    unless: Callable[[Any], bool] | None = None
    """Values for which this is true are not stored."""
    policy: LoadPolicy = field(default_factory=LoadPolicy)

    def ttl_of(self, value: Any, chance: float) -> float | None:
        """Return the time to live of *value*, jittered by *chance*."""
        ttl = self.ttl_seconds(value) if callable(self.ttl_seconds) else self.ttl_seconds
        return self.policy.jittered(checked_ttl(ttl), chance)

    def keeps(self, value: Any) -> bool:
        """Whether *value* is to be stored."""
        return self.unless is None or not self.unless(value)


class Shelved(NamedTuple):
    """A value that a look found."""

    value: Any
    left_seconds: float | None
    """How long it stays fresh; 0 and less: it is stale; None: for ever."""
    watch: Watch
    load_seconds: float
    is_error: bool
    """The value is the error of a loader."""

    @property
    def is_fresh(self) -> bool:
        """Whether it may be served without loading anew."""
        return self.left_seconds is None or self.left_seconds > 0


@dataclass
class LoadCounts:
    """What loading did in this process. Counted without a lock."""

    loads: int = 0
    load_errors: int = 0
    stale: int = 0
    waits: int = 0
    takeovers: int = 0
    voided: int = 0


class _Outcome(NamedTuple):
    """How a call ends: with a value or an error."""

    value: Any = None
    error: BaseException | None = None
    seconds: float = 0.0
    is_kept: bool = True
    """False: no waiter will find the value, for its plan or its size forbids to keep it."""

    def result(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.value


class _Ready(NamedTuple):
    """Under what a loaded value may be stored."""

    tags: tuple[TagPair, ...]
    version: int
    token: int
    """Of the lease; 0: there is none."""


class _Load(NamedTuple):
    """Call the loader, and answer with its `_Outcome`."""


class _Wait(NamedTuple):
    """Wait for a lease, and answer whether it has ended."""

    token: int
    seconds: float


class _Do(NamedTuple):
    """Make a call on the pool, and answer with what it returns."""

    call: Callable[[], Any]


class _Join(NamedTuple):
    """Wait for a load of another thread or task of this process; answer whether it has ended."""

    flight: _Flight
    seconds: float


_Step = _Load | _Wait | _Join | _Do
_Steps = Generator[_Step, Any, _Outcome]
_Look = Callable[["Key"], "Shelved | None"]
_Background = Callable[[_Steps], object]
"""Takes steps while its caller goes on."""

_loading: contextvars.ContextVar[frozenset[tuple[int, Key]]] = contextvars.ContextVar(
    "pmemcache_loading", default=frozenset()
)
"""The keys that the current thread or task is loading, with the `Loading` each belongs to."""


class Loading:
    """Loads values for one cache.

    Args:
        warm: Where leases are and values go.
        look: Returns what the cache has of a key, fresh or stale.
        keep_copy: Called with each key and value that was loaded and what of it was stored, its
            time to live, its envelope and a moment before: it may keep a copy.
        here: Where values stay in this process, in place of the pool.
        clock: Counts seconds.
        chance: Draws from 0.0 to 1.0, for jitter and early recompute.
    """

    def __init__(  # noqa: PLR0913 - what a load touches, injected
        self,
        warm: WarmTier,
        look: _Look,
        keep_copy: Callable[
            [Key, Any, Stored | None, float | None, Envelope | None, float], object
        ],
        *,
        here: HotOnly | None = None,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.counts = LoadCounts()
        self._warm = warm
        self._look = look
        self._keep_copy = keep_copy
        self._here = here
        self._flights: dict[tuple[int, Key], _Flight] = {}
        self._clock = clock
        self._chance = chance
        self._refreshing: set[tuple[int, Key]] = set()  # by process, as flights are
        self._tasks: set[asyncio.Task[Any]] = set()  # the loop holds them weakly

    # Drivers

    def get(
        self, key: Key, loader: Callable[[], Any], plan: LoadPlan, look: _Look | None = None
    ) -> Any:
        """Return the value of *key*; on a miss, of one call of *loader* per host.

        Args:
            look: For the first look, in place of the usual one.

        Raises:
            Exception: What *loader* raised, here or in the process that loaded.
        """
        steps = self._get_steps(key, plan, self._in_thread(key, loader), look or self._look)
        return self._drive(key, loader, steps)

    async def aget(
        self,
        key: Key,
        loader: Callable[[], Any | Awaitable[Any]],
        plan: LoadPlan,
        look: _Look | None = None,
    ) -> Any:
        """As `get`, without blocking the event loop: a plain *loader* runs in a thread."""
        steps = self._get_steps(key, plan, self._in_task(key, loader), look or self._look)
        return await self._adrive(key, loader, steps)

    def refresh(self, key: Key, loader: Callable[[], Any], plan: LoadPlan) -> Any:
        """Return a newly loaded value, which is what everybody sees from now on."""
        return self._drive(key, loader, self._refresh_steps(key, plan))

    async def arefresh(
        self, key: Key, loader: Callable[[], Any | Awaitable[Any]], plan: LoadPlan
    ) -> Any:
        """As `refresh`, without blocking the event loop."""
        return await self._adrive(key, loader, self._refresh_steps(key, plan))

    def _drive(self, key: Key, loader: Callable[[], Any], steps: _Steps) -> Any:
        send, answer = steps.send, None
        while True:
            try:
                step = send(answer)
            except StopIteration as stop:
                outcome: _Outcome = stop.value
                break
            try:
                answer, send = self._answer(key, loader, step), steps.send
            except BaseException as error:  # noqa: BLE001 - the steps end their lease, and raise it
                answer, send = error, steps.throw
        return outcome.result()

    def _answer(self, key: Key, loader: Callable[[], Any], step: _Step) -> Any:
        if isinstance(step, _Do):
            return step.call()
        if isinstance(step, _Join):
            seconds = min(step.seconds, threading.TIMEOUT_MAX)
            return bool(concurrent.futures.wait([step.flight], seconds).done)
        return self._wait(key, step) if isinstance(step, _Wait) else self._call(key, loader)

    async def _adrive(self, key: Key, loader: Callable[[], Any], steps: _Steps) -> Any:
        send, answer = steps.send, None
        while True:
            try:
                step = send(answer)
            except StopIteration as stop:
                outcome: _Outcome = stop.value
                break
            try:
                answer, send = await self._aanswer(key, loader, step), steps.send
            except BaseException as error:  # noqa: BLE001 - the steps end their lease, and raise it
                answer, send = error, steps.throw
        return outcome.result()

    async def _aanswer(self, key: Key, loader: Callable[[], Any], step: _Step) -> Any:
        if isinstance(step, _Do):
            return await without_blocking(self._warm.pool, step.call)
        if isinstance(step, _Wait):
            at_once = step._replace(seconds=0)
            return await self._await(lambda: self._wait(key, at_once), step.seconds)
        if isinstance(step, _Join):
            return await self._await(step.flight.done, step.seconds)
        return await self._acall(key, loader)

    def _call(self, key: Key, loader: Callable[[], Any]) -> _Outcome:
        entered = _loading.set(_loading.get() | {(id(self), key)})
        begun = self._clock()
        try:
            return _Outcome(loader(), None, self._clock() - begun)
        except BaseException as error:  # noqa: BLE001 - the lease is released, then it is raised
            return _Outcome(None, error, self._clock() - begun)
        finally:
            _loading.reset(entered)

    async def _acall(self, key: Key, loader: Callable[[], Any]) -> _Outcome:
        entered = _loading.set(_loading.get() | {(id(self), key)})
        begun = self._clock()
        try:
            is_awaited = is_coroutine_function(loader)
            value = loader() if is_awaited else await asyncio.to_thread(loader)
            if inspect.isawaitable(value):  # a lambda gives one, too
                value = await value
            return _Outcome(value, None, self._clock() - begun)
        except BaseException as error:  # noqa: BLE001 - the lease is released, then it is raised
            return _Outcome(None, error, self._clock() - begun)
        finally:
            _loading.reset(entered)

    def _wait(self, key: Key, wait: _Wait) -> bool:
        try:
            return self._warm.pool.lease_wait(key, wait.token, wait.seconds)
        except FAILURES as error:
            self._warm.faults.read("waiting for a lease", error)
            return True

    async def _await(self, has_ended: Callable[[], bool], seconds: float) -> bool:
        deadline = self._clock() + seconds
        nap = _NAP_MIN_SECONDS
        while not has_ended():
            if self._clock() >= deadline:
                return False
            await asyncio.sleep(nap)
            nap = min(2 * nap, _NAP_MAX_SECONDS)
        return True

    # The protocol

    def _get_steps(
        self, key: Key, plan: LoadPlan, in_background: _Background, look: _Look
    ) -> _Steps:
        if (id(self), key) in _loading.get():  # the loader asks for what it is loading
            return (yield from _call_steps())
        shelved = yield _Do(functools.partial(look, key))
        if shelved is not None and shelved.is_fresh and not self._is_early(shelved, plan.policy):
            if self._is_ahead(key, shelved, plan.policy):
                lease = yield _Do(functools.partial(self._take, key, plan))
                if lease.granted:
                    in_background(self._ahead_steps(key, plan, lease, shelved))
            return _served(shelved)
        deadline = self._clock() + plan.policy.longest_wait_seconds
        if self._here is not None:
            return (yield from self._here_steps(key, plan, self._here, deadline))
        while True:
            lease = yield _Do(functools.partial(self._take, key, plan))
            if lease.granted:
                return (yield from self._lead(key, plan, lease, shelved))
            if shelved is not None:
                self.counts.stale += not shelved.is_fresh
                return _served(shelved)
            outcome = yield from self._follow(key, plan, lease, deadline)
            if outcome is not None:
                return outcome
            self.counts.takeovers += 1
            shelved = yield _Do(functools.partial(self._look, key))

    def _follow(
        self, key: Key, plan: LoadPlan, lease: Lease, deadline: float
    ) -> Generator[_Step, Any, _Outcome | None]:
        """Wait for another's load; return None when it ended without a value."""
        if not lease.token or not (yield from self._wait_steps(lease.token, deadline)):
            return (yield from self._load_steps(key, plan))
        shelved = yield _Do(functools.partial(self._look, key))
        if shelved is not None and shelved.is_fresh:
            return _served(shelved)
        report = yield _Do(functools.partial(self._report, key, lease.token))
        if report is _NOT_KEPT:
            return (yield from self._load_steps(key, plan))
        return None if report is None else _Outcome(error=report)

    def _wait_steps(self, token: int, deadline: float) -> Generator[_Step, Any, bool]:
        """Wait for a lease until *deadline*; return whether it has ended."""
        self.counts.waits += 1
        while True:
            left = deadline - self._clock()
            if left <= 0:
                return False
            if (yield _Wait(token, min(left, _WAIT_SLICE_SECONDS))):
                return True

    def _lead(self, key: Key, plan: LoadPlan, lease: Lease, before: Shelved | None) -> _Steps:
        """Load under a lease, unless somebody did between the look and the lease."""
        try:
            now = yield _Do(functools.partial(self._look, key))
            if now is not None and now.is_fresh and (before is None or now.watch != before.watch):
                return _served(now)
            outcome = yield from self._load_steps(key, plan, lease)
            if isinstance(outcome.error, Exception) and now is not None and not now.is_error:
                self.counts.stale += 1
                return _served(now)
            return outcome
        finally:
            yield _Do(functools.partial(self._release, key, lease.token))

    def _ahead_steps(self, key: Key, plan: LoadPlan, lease: Lease, before: Shelved) -> _Steps:
        """Load before it must be; when that fails, what there is goes on."""
        if self._here is None:
            return (yield from self._lead(key, plan, lease, before))
        outcome = yield from self._lead_for_all(key, plan, self._here, lease)
        return _served(before) if isinstance(outcome.error, Exception) else outcome

    def _load_steps(self, key: Key, plan: LoadPlan, lease: Lease = _NO_LEASE) -> _Steps:
        """Load, and store the value if nothing happened to the key meanwhile."""
        ready = yield _Do(functools.partial(self._ready, key, plan, lease))
        self.counts.loads += 1
        outcome: _Outcome = yield _Load()
        yield _Do(functools.partial(self._loaded, key, plan, outcome, ready))
        return outcome

    def _refresh_steps(self, key: Key, plan: LoadPlan) -> _Steps:
        if self._here is not None:
            return (yield from self._refresh_here(key, plan, self._here))
        ready = yield _Do(functools.partial(self._ready, key, plan, _NO_LEASE))
        self.counts.loads += 1
        outcome: _Outcome = yield _Load()
        if outcome.error is None:
            yield _Do(functools.partial(self._replace, key, plan, outcome, ready))
        return outcome

    # The protocol where the pool holds no values

    def _here_steps(self, key: Key, plan: LoadPlan, here: HotOnly, deadline: float) -> _Steps:
        """Load once for all threads and tasks of this process."""
        name = os.getpid(), key  # a child made by fork has none of its parent's loads
        while True:
            flight: _Flight = concurrent.futures.Future()
            other = self._flights.setdefault(name, flight)
            if other is flight:
                return (yield from self._lead_here(name, plan, here, flight, deadline))
            self.counts.waits += 1
            if not (yield _Join(other, max(0.0, deadline - self._clock()))):
                return (yield from self._load_here(key, plan, here, here.keep))
            shelved = yield _Do(functools.partial(self._look, key))
            if shelved is not None and shelved.is_fresh:
                return _served(shelved)
            report = other.result()
            if report is _NOT_KEPT:
                return (yield from self._load_here(key, plan, here, here.keep))
            if isinstance(report, Exception):
                return _Outcome(error=report)
            self.counts.takeovers += 1

    def _lead_here(
        self,
        name: tuple[int, Key],
        plan: LoadPlan,
        here: HotOnly,
        flight: _Flight,
        deadline: float,
    ) -> _Steps:
        """Load, unless somebody did between the look and now; say how it ended."""
        report: Exception | str | None = None
        try:
            now = yield _Do(functools.partial(self._look, name[1]))
            if now is not None and now.is_fresh:
                return _served(now)
            outcome = yield from self._share_steps(name[1], plan, here, deadline)
        except Exception as error:
            report = _report_of(error)
            raise
        else:
            if isinstance(outcome.error, Exception):
                report = outcome.error
            elif not outcome.is_kept:
                report = _NOT_KEPT
            return outcome
        finally:
            del self._flights[name]
            flight.set_result(report)

    def _share_steps(self, key: Key, plan: LoadPlan, here: HotOnly, deadline: float) -> _Steps:
        """Load once for all processes that ask meanwhile: who loads leaves it for who waits."""
        while True:
            lease = yield _Do(functools.partial(self._take, key, plan))
            if lease.granted:
                return (yield from self._lead_for_all(key, plan, here, lease))
            yield _Do(functools.partial(self._knock, key, plan, lease))
            if not lease.token or not (yield from self._wait_steps(lease.token, deadline)):
                return (yield from self._load_here(key, plan, here, here.keep))
            found: _Outcome | None = yield _Do(functools.partial(self._collect, key, plan, here))
            if found is not None:
                return found
            report = yield _Do(functools.partial(self._report, key, lease.token))
            if report is _NOT_KEPT:
                return (yield from self._load_here(key, plan, here, here.keep))
            if report is not None:
                return _Outcome(error=report)
            self.counts.takeovers += 1

    def _lead_for_all(self, key: Key, plan: LoadPlan, here: HotOnly, lease: Lease) -> _Steps:
        """Load under a lease, unless it was loaded and left between the look and the lease."""
        try:
            found: _Outcome | None = yield _Do(functools.partial(self._collect, key, plan, here))
            if found is not None:
                return found
            try:
                outcome = yield from self._load_here(key, plan, here, here.keep)
            except Exception as error:
                told = _Outcome(error=error)
                yield _Do(functools.partial(self._leave, key, lease.token, told, here))
                raise
            yield _Do(functools.partial(self._leave, key, lease.token, outcome, here))
            return outcome
        finally:
            yield _Do(functools.partial(self._release, key, lease.token))

    def _collect(self, key: Key, plan: LoadPlan, here: HotOnly) -> _Outcome | None:
        """Return what another process has loaded and left, which is then kept here too."""
        found = here.collect(key, plan.ttl_of)
        return None if found is None else _Outcome(found[0])

    def _knock(self, key: Key, plan: LoadPlan, lease: Lease) -> None:
        """Let the leader know that somebody waits in another process, and for how long."""
        seconds = min(plan.policy.longest_wait_seconds, plan.policy.lease_seconds)
        try:
            self._warm.pool.put(_knock_key(key, lease.token), b"", ttl_seconds=seconds)
        except FAILURES as error:
            self._warm.faults.write("waiting for a value", error)

    def _leave(self, key: Key, token: int, outcome: _Outcome, here: HotOnly) -> None:
        """Leave the value for those who wait in other processes, if any do; or how it ended."""
        if self._warm.look(_knock_key(key, token))[0] is None:
            return
        if isinstance(outcome.error, Exception):
            self._tell(key, token, outcome.error)
        elif outcome.error is None and not (outcome.is_kept and here.leave(key)):
            self._tell(key, token, _NOT_KEPT)

    def _load_here(
        self, key: Key, plan: LoadPlan, here: HotOnly, keep: Callable[..., bool]
    ) -> _Steps:
        """Load, and keep the value if nothing happened to the key meanwhile."""
        tags = yield _Do(functools.partial(self._warm.generations, plan.tags))
        watch = yield _Do(functools.partial(here.watch, key))
        self.counts.loads += 1
        outcome: _Outcome = yield _Load()
        self.counts.load_errors += isinstance(outcome.error, Exception)
        if outcome.error is not None:
            return outcome
        if not self._is_kept(plan, outcome):
            return outcome._replace(is_kept=False)
        ttl = plan.ttl_of(outcome.value, self._chance())
        envelope = Envelope(tags) if tags else None
        has_room = yield _Do(functools.partial(keep, key, outcome.value, ttl, envelope, watch))
        return outcome._replace(is_kept=has_room)

    def _refresh_here(self, key: Key, plan: LoadPlan, here: HotOnly) -> _Steps:
        outcome = yield from self._load_here(key, plan, here, here.replace)
        if not outcome.is_kept:
            yield _Do(functools.partial(here.delete, key))
        return outcome

    # Storing

    def _ready(self, key: Key, plan: LoadPlan, lease: Lease) -> _Ready:
        """Return under what a value that is loaded from now on may be stored."""
        tags = self._warm.generations(plan.tags)
        if lease.granted:
            return _Ready(tags, lease.version, lease.token)
        return _Ready(tags, self._warm.version_to_load(key), 0)

    def _loaded(self, key: Key, plan: LoadPlan, outcome: _Outcome, ready: _Ready) -> None:
        """Store what was loaded, or remember the error; tell the waiters of the lease."""
        if outcome.error is None:
            report: Exception | str | None = None
            try:
                report = None if self._keep(key, plan, outcome, ready) else _NOT_KEPT
            except Exception as error:
                report = _report_of(error)
                raise
            finally:
                if ready.token and report is not None:
                    self._tell(key, ready.token, report)
        elif isinstance(outcome.error, Exception):
            self.counts.load_errors += 1
            self._remember_error(key, plan, outcome.error, ready)
            if ready.token:
                self._tell(key, ready.token, outcome.error)

    def _keep(self, key: Key, plan: LoadPlan, outcome: _Outcome, ready: _Ready) -> bool:
        """Store what was loaded; return False when its plan or the pool does not keep it."""
        if not self._is_kept(plan, outcome):
            return False
        is_stored = self._store(key, plan, outcome, ready)
        self.counts.voided += is_stored is False
        return is_stored is not None

    @staticmethod
    def _is_kept(plan: LoadPlan, outcome: _Outcome) -> bool:
        """Whether the plan of a loaded value is to keep it."""
        if not plan.keeps(outcome.value):  # asked first: what it excludes may have no time to live
            return False
        ttl = plan.ttl_of(outcome.value, 0.0)
        return ttl is None or ttl > 0

    def _replace(self, key: Key, plan: LoadPlan, outcome: _Outcome, ready: _Ready) -> None:
        if not plan.keeps(outcome.value) or not self._store(key, plan, outcome, ready):
            # Another load, begun earlier, may have been stored: no value is right, that one is not.
            self._warm.delete(key)

    def _store(self, key: Key, plan: LoadPlan, outcome: _Outcome, ready: _Ready) -> bool | None:
        """Return whether it was stored; False: its load is void; None: the pool cannot have it."""
        ttl = plan.ttl_of(outcome.value, self._chance())
        envelope = None
        if ready.tags or plan.grace_ms or plan.policy.early_beta:
            envelope = Envelope(ready.tags, plan.grace_ms, outcome.seconds * 1000)
        begun = self._clock()
        try:
            stored = self._warm.store(
                key,
                outcome.value,
                ttl,
                envelope=envelope,
                version=ready.version,
                lease=ready.token,
                or_raise=True,
            )
        except FAILURES as error:
            self._warm.faults.write("storing", error)
            return None
        self._keep_copy(key, outcome.value, stored, ttl, envelope, begun)
        return stored is not None

    def _remember_error(self, key: Key, plan: LoadPlan, error: Exception, ready: _Ready) -> None:
        ttl = plan.policy.negative_ttl_seconds
        if ttl:
            self._warm.store(
                key,
                self._written(error),
                ttl,
                envelope=Envelope(ready.tags, is_error=True),
                version=ready.version,
                lease=ready.token,
            )

    # Telling waiters how a load ended

    def _tell(self, key: Key, token: int, report: Exception | str) -> None:
        written = b"" if isinstance(report, str) else self._written(report)
        self._warm.put(_report_key(key, token), written, _REPORT_TTL_SECONDS)

    def _report(self, key: Key, token: int) -> Any:
        """Return the error of the load under *token*, `_NOT_KEPT`, or None."""
        reading = self._warm.read(_report_key(key, token))
        if reading is None:
            return None
        try:
            written = self._warm.codec.decode(reading.payload, reading.tag)
        except DecodeError as error:
            return error
        return self.read_error(written) if written else _NOT_KEPT

    def _written(self, error: Exception) -> bytes | str:
        """Return a form of *error* that another process can read."""
        if self._warm.codec.pickles:
            try:
                pickled = pickle.dumps(error, pickle.HIGHEST_PROTOCOL)
                if type(pickle.loads(pickled)) is type(error):  # noqa: S301 - our own
                    return b"\0" + pickled
            except Exception:  # noqa: BLE001, S110 - any object may fail in any way: say its repr
                pass
        return f"the loader raised {error!r}"

    def read_error(self, written: bytes | str) -> Exception:
        """Return the error that another process wrote."""
        if isinstance(written, str):
            return LoaderError(written)
        try:
            error = pickle.loads(written[1:])  # noqa: S301 - the pool is trusted with pickles
        except Exception as failure:  # noqa: BLE001 - unpickling raises anything
            return LoaderError(f"the loader raised an error that cannot be read here: {failure!r}")
        return error if isinstance(error, Exception) else LoaderError(repr(error))

    # Leases

    def _take(self, key: Key, plan: LoadPlan) -> Lease:
        try:
            return self._warm.pool.lease_take(key, plan.policy.lease_seconds)
        except FAILURES as error:
            self._warm.faults.read("taking a lease", error)
            return _NO_LEASE

    def _release(self, key: Key, token: int) -> None:
        try:
            self._warm.pool.lease_release(key, token)
        except FAILURES as error:
            self._warm.faults.write("releasing a lease", error)

    # Loading before it must be

    def _is_early(self, shelved: Shelved, policy: LoadPolicy) -> bool:
        left = shelved.left_seconds
        if left is None or shelved.is_error or not policy.early_beta:
            return False
        return policy.is_early(left, shelved.load_seconds, 1.0 - self._chance())

    def _is_ahead(self, key: Key, shelved: Shelved, policy: LoadPolicy) -> bool:
        """Whether the time has come to load anew in the background, and nobody here does."""
        left = shelved.left_seconds
        ahead = policy.refresh_ahead_seconds
        if not ahead or left is None or left > ahead:
            return False
        return (os.getpid(), key) not in self._refreshing

    def _in_thread(self, key: Key, loader: Callable[[], Any]) -> _Background:
        """Return what takes steps in a thread of their own."""
        name = os.getpid(), key

        def run(steps: _Steps) -> None:
            try:
                self._drive(key, loader, steps)
            finally:
                self._refreshing.discard(name)

        def start(steps: _Steps) -> None:
            self._refreshing.add(name)
            threading.Thread(
                target=run, args=(steps,), name="pmemcache refresh", daemon=True
            ).start()

        return start

    def _in_task(self, key: Key, loader: Callable[[], Any | Awaitable[Any]]) -> _Background:
        """Return what takes steps in a task of the running loop."""
        name = os.getpid(), key

        def end(task: asyncio.Task[Any]) -> None:
            self._refreshing.discard(name)
            self._tasks.discard(task)

        def start(steps: _Steps) -> None:
            self._refreshing.add(name)
            task = asyncio.ensure_future(self._adrive(key, loader, steps))
            self._tasks.add(task)
            task.add_done_callback(end)

        return start


async def without_blocking(pool: Pool, call: Callable[[], T]) -> T:
    """Make a short call on *pool* here, or in a thread if it would have to wait."""
    try:
        with pool.without_waiting:
            return call()
    except WouldWaitError:
        return await asyncio.to_thread(call)


def bound(loader: Any, key: Any, *, is_awaited: bool = False) -> Callable[[], Any]:
    """Return a call of *loader* for *key*.

    Raises:
        TypeError: It cannot be called, or is a coroutine function that nobody would await.
    """
    if not callable(loader):
        message = f"a loader is a function of the key, not {type(loader).__name__}"
        raise TypeError(message)
    if not is_awaited and is_coroutine_function(loader):
        message = f"{loader!r} is a coroutine function: load by it with aget_or_load or aget"
        raise TypeError(message)
    return functools.partial(loader, key)


def is_coroutine_function(loader: Callable[..., Any]) -> bool:
    """Whether a call gives a coroutine; also of an object whose `__call__` gives one."""
    while isinstance(loader, functools.partial):
        loader = loader.func
    return inspect.iscoroutinefunction(loader) or inspect.iscoroutinefunction(
        getattr(type(loader), "__call__", None)  # noqa: B004 - of its class
    )


def _call_steps() -> _Steps:
    """Load, and do nothing else."""
    outcome: _Outcome = yield _Load()
    return outcome


def _served(shelved: Shelved) -> _Outcome:
    if shelved.is_error:
        return _Outcome(error=shelved.value)
    return _Outcome(shelved.value)


def _report_of(error: Exception) -> Exception | str:
    """Return what to tell those who wait, of a load whose value could not be stored.

    A value that cannot be serialized would not be by others either; so they get the error.
    """
    return _NOT_KEPT if isinstance(error, FAILURES) else error


def _report_key(key: Key, token: int) -> bytes:
    return _REPORT_PREFIX + key_digest(key, b"report") + token.to_bytes(8, "little")


def _knock_key(key: Key, token: int) -> bytes:
    return _KNOCK_PREFIX + key_digest(key, b"knock") + token.to_bytes(8, "little")
