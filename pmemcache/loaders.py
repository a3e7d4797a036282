"""Loading a missing value once per host.

On a miss one thread of one process, the leader, gets a lease on the key in shared memory and loads;
the others wait for the lease to end and look again, or are served the stale value. No lock is held
meanwhile. What the leader loaded is stored only if nothing happened to the key since its lease
began, so a `set`, `delete`, `clear` or dropped tag during the load is never undone.

The protocol is written once, as a generator that asks for what may take time (`_Load`, `_Wait`);
one driver answers by calling and sleeping, the other by awaiting.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import pickle
import random
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pmemcache.envelope import Envelope
from pmemcache.errors import LoaderError
from pmemcache.faults import FAILURES
from pmemcache.keys import INTERNAL_PREFIX, digest
from pmemcache.serializers import DecodeError
from pmemcache.stampede import LoadPolicy
from pmemcache.types import Lease

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from pmemcache.envelope import TagPair
    from pmemcache.types import Key
    from pmemcache.warm import WarmTier, Watch

__all__ = ["LoadCounts", "LoadPlan", "Loading", "Shelved"]

_REPORT_TTL_SECONDS: Final = 10.0
"""How long waiters can learn how a load ended; they look at once."""
_WAIT_SLICE_SECONDS: Final = 0.1
"""A wait in the engine sees no signal before it ends."""
_NAP_MIN_SECONDS: Final = 0.001
_NAP_MAX_SECONDS: Final = 0.02
_REPORT_PREFIX: Final = INTERNAL_PREFIX + b"e:"
_NOT_KEPT: Final = "not kept"
_NO_LEASE: Final = Lease(granted=False, token=0, version=0)

Loader = Callable[[Any], Any]


@dataclass(frozen=True)
class LoadPlan:
    """What becomes of a loaded value."""

    ttl_seconds: float | Callable[[Any], float | None] | None = None
    """Time to live, or a function of the value that says it."""
    grace_seconds: float = 0.0
    """How long it may be served stale after that."""
    tags: tuple[bytes, ...] = ()
    """Digests of its tags and namespace."""
    unless: Callable[[Any], bool] | None = None
    """Values for which this is true are not stored."""
    policy: LoadPolicy = field(default_factory=LoadPolicy)

    def ttl_of(self, value: Any, chance: float) -> float | None:
        """Return the time to live of *value*, jittered by *chance*."""
        ttl = self.ttl_seconds(value) if callable(self.ttl_seconds) else self.ttl_seconds
        return self.policy.jittered(ttl, chance)

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

    def result(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.value


class _Load(NamedTuple):
    """Call the loader, and answer with its `_Outcome`."""


class _Wait(NamedTuple):
    """Wait for a lease, and answer whether it has ended."""

    token: int
    seconds: float


_Steps = Generator[_Load | _Wait, Any, _Outcome]

_loading: contextvars.ContextVar[frozenset[tuple[int, Key]]] = contextvars.ContextVar(
    "pmemcache_loading", default=frozenset()
)
"""The keys that the current thread or task is loading, with the `Loading` each belongs to."""


class Loading:
    """Loads values for one cache.

    Args:
        warm: Where leases are and values go.
        look: Returns what the cache has of a key, fresh or stale.
        clock: Counts seconds.
        chance: Draws from 0.0 to 1.0, for jitter and early recompute.
    """

    def __init__(
        self,
        warm: WarmTier,
        look: Callable[[Key], Shelved | None],
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.counts = LoadCounts()
        self._warm = warm
        self._look = look
        self._clock = clock
        self._chance = chance
        self._refreshing: set[Key] = set()

    # Drivers

    def get(self, key: Key, loader: Callable[[], Any], plan: LoadPlan) -> Any:
        """Return the value of *key*; on a miss, of one call of *loader* per host.

        Raises:
            Exception: What *loader* raised, here or in the process that loaded.
        """
        return self._drive(key, loader, self._get_steps(key, plan, loader))

    async def aget(
        self, key: Key, loader: Callable[[], Any | Awaitable[Any]], plan: LoadPlan
    ) -> Any:
        """As `get`, without blocking the event loop: a plain *loader* runs in a thread."""
        return await self._adrive(key, loader, self._get_steps(key, plan, None))

    def refresh(self, key: Key, loader: Callable[[], Any], plan: LoadPlan) -> Any:
        """Return a newly loaded value, which is what everybody sees from now on."""
        return self._drive(key, loader, self._refresh_steps(key, plan))

    async def arefresh(
        self, key: Key, loader: Callable[[], Any | Awaitable[Any]], plan: LoadPlan
    ) -> Any:
        """As `refresh`, without blocking the event loop."""
        return await self._adrive(key, loader, self._refresh_steps(key, plan))

    def _drive(self, key: Key, loader: Callable[[], Any], steps: _Steps) -> Any:
        answer: Any = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as stop:
                outcome: _Outcome = stop.value
                break
            answer = self._wait(key, step) if isinstance(step, _Wait) else self._call(key, loader)
        return outcome.result()

    async def _adrive(self, key: Key, loader: Callable[[], Any], steps: _Steps) -> Any:
        answer: Any = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as stop:
                outcome: _Outcome = stop.value
                break
            if isinstance(step, _Load):
                answer = await self._acall(key, loader)
            else:
                answer = await self._await(key, step)
        return outcome.result()

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
            if inspect.iscoroutinefunction(loader):
                value = await loader()
            else:
                value = await asyncio.to_thread(loader)
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

    async def _await(self, key: Key, wait: _Wait) -> bool:
        deadline = self._clock() + wait.seconds
        nap = _NAP_MIN_SECONDS
        while not self._wait(key, _Wait(wait.token, 0)):
            if self._clock() >= deadline:
                return False
            await asyncio.sleep(nap)
            nap = min(2 * nap, _NAP_MAX_SECONDS)
        return True

    # The protocol

    def _get_steps(self, key: Key, plan: LoadPlan, loader: Callable[[], Any] | None) -> _Steps:
        if (id(self), key) in _loading.get():  # the loader asks for what it is loading
            return (yield from _call_steps())
        shelved = self._look(key)
        if shelved is not None and shelved.is_fresh and not self._is_early(shelved, plan.policy):
            if loader is not None:
                self._refresh_ahead(key, shelved, plan, loader)
            return _served(shelved)
        deadline = self._clock() + plan.policy.longest_wait_seconds
        while True:
            lease = self._take(key, plan)
            if lease.granted:
                return (yield from self._lead(key, plan, lease, shelved))
            if shelved is not None:
                self.counts.stale += not shelved.is_fresh
                return _served(shelved)
            outcome = yield from self._follow(key, plan, lease, deadline)
            if outcome is not None:
                return outcome
            self.counts.takeovers += 1
            shelved = self._look(key)

    def _follow(
        self, key: Key, plan: LoadPlan, lease: Lease, deadline: float
    ) -> Generator[_Load | _Wait, Any, _Outcome | None]:
        """Wait for another's load; return None when it ended without a value."""
        if not lease.token or not (yield from self._wait_steps(lease.token, deadline)):
            return (yield from self._load_steps(key, plan))
        shelved = self._look(key)
        if shelved is not None and shelved.is_fresh:
            return _served(shelved)
        report = self._report(key, lease.token)
        if report is _NOT_KEPT:
            return (yield from self._load_steps(key, plan))
        return None if report is None else _Outcome(error=report)

    def _wait_steps(self, token: int, deadline: float) -> Generator[_Wait, Any, bool]:
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
            now = self._look(key)
            if now is not None and now.is_fresh and (before is None or now.watch != before.watch):
                return _served(now)
            outcome = yield from self._load_steps(key, plan, lease.token)
            if isinstance(outcome.error, Exception) and now is not None and not now.is_error:
                self.counts.stale += 1
                return _served(now)
            return outcome
        finally:
            self._release(key, lease.token)

    def _load_steps(self, key: Key, plan: LoadPlan, token: int = 0) -> _Steps:
        """Load, and store the value if nothing happened to the key meanwhile."""
        tags = self._warm.generations(plan.tags)
        version = self._warm.version_to_load(key)
        self.counts.loads += 1
        outcome: _Outcome = yield _Load()
        if outcome.error is None:
            kept = self._keep(key, plan, outcome, tags, version)
            if token and not kept:
                self._tell(key, token, _NOT_KEPT)
        elif isinstance(outcome.error, Exception):
            self.counts.load_errors += 1
            self._remember_error(key, plan, outcome.error, tags, version)
            if token:
                self._tell(key, token, outcome.error)
        return outcome

    def _refresh_steps(self, key: Key, plan: LoadPlan) -> _Steps:
        tags = self._warm.generations(plan.tags)
        version = self._warm.version_to_load(key)
        self.counts.loads += 1
        outcome: _Outcome = yield _Load()
        if outcome.error is not None:
            return outcome
        if not self._store(key, plan, outcome, tags, version):
            # Another load, begun earlier, may have been stored: no value is right, that one is not.
            self._warm.delete(key)
        return outcome

    # Storing

    def _keep(
        self,
        key: Key,
        plan: LoadPlan,
        outcome: _Outcome,
        tags: tuple[TagPair, ...],
        version: int,
    ) -> bool:
        """Store what was loaded; return False when its plan says that it is not to be kept."""
        ttl = plan.ttl_of(outcome.value, 0.0)
        if not plan.keeps(outcome.value) or (ttl is not None and ttl <= 0):
            return False
        self.counts.voided += not self._store(key, plan, outcome, tags, version)
        return True

    def _store(
        self,
        key: Key,
        plan: LoadPlan,
        outcome: _Outcome,
        tags: tuple[TagPair, ...],
        version: int,
    ) -> bool:
        ttl = plan.ttl_of(outcome.value, self._chance())
        if not plan.keeps(outcome.value):
            return False
        envelope = None
        if tags or plan.grace_seconds or plan.policy.early_beta:
            envelope = Envelope(tags, round(plan.grace_seconds * 1000), outcome.seconds * 1000)
        return self._warm.put(key, outcome.value, ttl, envelope=envelope, version=version)

    def _remember_error(
        self, key: Key, plan: LoadPlan, error: Exception, tags: tuple[TagPair, ...], version: int
    ) -> None:
        ttl = plan.policy.negative_ttl_seconds
        if ttl:
            envelope = Envelope(tags, is_error=True)
            self._warm.put(key, self._written(error), ttl, envelope=envelope, version=version)

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

    def _refresh_ahead(
        self, key: Key, shelved: Shelved, plan: LoadPlan, loader: Callable[[], Any]
    ) -> None:
        """Load anew in a thread when the time has come and nobody does."""
        ahead = plan.policy.refresh_ahead_seconds
        left = shelved.left_seconds
        if not ahead or left is None or left > ahead or key in self._refreshing:
            return
        lease = self._take(key, plan)
        if not lease.granted:
            return
        self._refreshing.add(key)
        threading.Thread(
            target=self._refresh_leased,
            args=(key, loader, plan, lease, shelved),
            name="pmemcache refresh",
            daemon=True,
        ).start()

    def _refresh_leased(
        self,
        key: Key,
        loader: Callable[[], Any],
        plan: LoadPlan,
        lease: Lease,
        shelved: Shelved,
    ) -> None:
        try:
            self._drive(key, loader, self._lead(key, plan, lease, shelved))
        finally:
            self._refreshing.discard(key)


def _call_steps() -> _Steps:
    """Load, and do nothing else."""
    outcome: _Outcome = yield _Load()
    return outcome


def _served(shelved: Shelved) -> _Outcome:
    if shelved.is_error:
        return _Outcome(error=shelved.value)
    return _Outcome(shelved.value)


def _report_key(key: Key, token: int) -> bytes:
    data = key.encode() if isinstance(key, str) else key
    return _REPORT_PREFIX + digest(data, b"report") + token.to_bytes(8, "little")
