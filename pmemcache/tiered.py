"""`TieredCache`: a hot tier in each process over a pool that all share.

The hot tier holds copies of what the pool holds. A copy is good while the version of its key, one
word of shared memory that every change of the key in any process makes another, is what it was when
the copy was made; so a `set` or `delete` that returned is seen by every process's next `get`.
"""

from __future__ import annotations

import contextlib
import math
import random
import sys
import tempfile
import time
from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    ValuesView,
)
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pmemcache.awaited import AwaitedCache
from pmemcache.binding import checked_ttl
from pmemcache.codec import PLAIN_TAGS, Codec
from pmemcache.copies import BUMP_AT, BUMP_MASK, Copies
from pmemcache.envelope import Envelope, Generations, grace_ms_of
from pmemcache.faults import FAILURES, Faults
from pmemcache.hot_only import HotOnly
from pmemcache.keys import is_internal, pool_key
from pmemcache.loaders import Loading, LoadPlan, Shelved, bound
from pmemcache.policy import UsagePolicy
from pmemcache.pool import Pool
from pmemcache.serializers import TAG_BYTES, DecodeError
from pmemcache.stampede import LoadPolicy, checked_load_policy
from pmemcache.stats import TieredStats, counted
from pmemcache.warm import Reading, WarmTier, checked_tags, namespace_digest, tag_digest

if TYPE_CHECKING:
    import os
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from pmemcache.compression import Compression
    from pmemcache.hot import HotEntry
    from pmemcache.loaders import LoadOptions, TimeToLive
    from pmemcache.serializers import Serializer
    from pmemcache.signing import Signer
    from pmemcache.types import Key, Lifetime, Versioned

__all__ = ["TieredCache"]

Loader = Callable[[Any], Any]

_MISSING: Final = object()


class TieredCache(AwaitedCache, MutableMapping[Any, Any]):
    """A cache of Python values in two tiers, shared by all processes of a host.

    Safe for any number of threads and processes. A child made by fork goes on using it, with an
    empty hot tier. Keys are str or bytes, or what `keys.canonical` can write down: numbers, dates,
    tuples and so on. Also a `MutableMapping`, for use as a cachetools cache.

    Values that are immutable all the way down are handed out as one object; any other is decoded
    anew for every `get`, so no caller can change another's.

    When the pool cannot serve, reads are misses and writes are dropped and counted; a delete that
    cannot be made true raises. `strict=True` raises always.

    Args:
        path: The pool's file, or a directory for it; None: a private pool, shared with children
            made by fork. An open `Pool` is used as it is, of whatever size, and left open by
            `close`.
        policy: A `UsagePolicy`, its line, or its options in a dict; None: what the environment
            variable `PMEMCACHE_POLICY` says, or the default.
        serializer: "pickle", "json", "msgpack" or a `Serializer`; str, bytes and int need none.
        loader: Called with the key by a `get` that misses. Or a dict of prefixes to loaders.
        load: How loaders are called, see `LoadPolicy`.
        lifetime: As for `Pool`.
        compression: Compress large values.
        signer: Read only what was signed with a secret.
        readers: Serializers that only read.
        share: Hand out every hot value as one object, for callers that change none.
        strict: Raise when the pool cannot serve.
        clock: Counts seconds, for the deadlines of hot copies.
        chance: Draws from 0 to 1, for jitter and for loading early.

    Raises:
        PmemCacheError: The pool cannot be opened; see `Pool`.
    """

    def __init__(  # noqa: PLR0913 - the options of a cache, by keyword
        self,
        path: str | os.PathLike[str] | Pool | None = None,
        *,
        policy: UsagePolicy | str | Mapping[str, Any] | None = None,
        serializer: str | Serializer = "pickle",
        loader: Loader | Mapping[str, Loader] | None = None,
        load: LoadPolicy | None = None,
        lifetime: Lifetime = "volatile",
        compression: Compression | None = None,
        signer: Signer | None = None,
        readers: Iterable[Serializer] = (),
        share: bool = False,
        strict: bool = False,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.policy = UsagePolicy.of(policy)
        self.load_policy = checked_load_policy(load) or LoadPolicy()
        self._codec = Codec(serializer, compression=compression, signer=signer, readers=readers)
        loaders = loader if isinstance(loader, Mapping) else {"": loader}
        for prefix, each in loaders.items():
            _check_loader(prefix, each)
        self._owns_pool = not isinstance(path, Pool)
        if isinstance(path, Pool):
            # The environment speaks of the caches that open a pool.
            checked = UsagePolicy() if policy is None else self.policy
            checked.check_pool(path.options, lifetime)
        self.pool = path if isinstance(path, Pool) else _open_pool(path, self.policy, lifetime)
        self._faults = Faults(strict=strict)
        self._warm = WarmTier(self.pool, self._codec, self._faults)
        self._copies = Copies(self._warm, self.policy, share=share, clock=clock)
        self._here = (
            HotOnly(self._warm, self._codec, self._copies, clock)
            if self.policy.kind == "hot-only"
            else None
        )
        self._copy_of = self._copies.good if self._here is None else self._copies.live
        self._loading = Loading(
            self._warm,
            self._shelved,
            self._copies.keep_written,
            here=self._here,
            clock=clock,
            chance=chance,
        )
        self._loaders: list[tuple[str, Loader]] = []
        self._looks_ahead = False
        for prefix, each in loaders.items():
            if each is not None:
                self.add_loader(prefix, each)
        # What `find` needs, without another step to it.
        self._clock = clock
        self._hot_entries = self._copies.entries
        self._hot_hits = self._copies.hits
        self._makes_copies = self._copies.cache.maxsize > 0
        self._bump = self._copies.bump
        self._versions = self.pool.versions
        self._get_versioned = self.pool.get_versioned
        self._is_plain = self._codec.is_plain
        self._warm_hits = self._misses = 0

    # Reading

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value of *key*, or *default* when there is none.

        With a loader for *key*, a miss loads; see `get_or_load`.
        """
        if self._looks_ahead:
            loader = self._loader_of(key)
            if loader is not None:
                return self.get_or_load(key, loader)
        value = self.find(key, _MISSING)
        if value is not _MISSING:
            return value
        if self._loaders:
            loader = self._loader_of(key)
            if loader is not None:
                return self.load_missing(key, loader)
        self._misses += 1
        return default

    def find(self, key: Any, default: Any = None) -> Any:
        """As `get`, but nothing is loaded, and a miss is not counted."""
        entry = self._hot_entries.get(key)
        # What `is_good` and `use` of the copies do, written out: this is the path of every hot hit.
        if entry is not None and entry.tag < 0:
            versions = self._versions
            try:
                if versions[entry.version_index] == entry.version and (
                    entry.deadline is None or entry.deadline > self._clock()
                ):
                    for index, version in entry.dependencies:
                        if versions[index] != version:
                            break
                    else:
                        next(self._hot_hits)
                        entry.hits = hits = entry.hits + 1
                        if hits & BUMP_MASK == BUMP_AT:
                            self._bump(entry)
                        return entry.value
            except ValueError:  # the pool was closed
                pass
        value = self._find(key if type(key) is str or type(key) is bytes else pool_key(key))
        return default if value is _MISSING else value

    def _find(self, key: Key) -> Any:
        """Return the fresh value of *key* from whatever tier, or `_MISSING`."""
        entry = self._hot_entries.get(key)
        if entry is not None and self._copies.is_good(entry):
            return self._used(entry)
        # Before the read: were this thread held up after it, the deadline of a copy would be late.
        begun = self._clock() if self._makes_copies else 0.0
        try:
            found = self._get_versioned(key, 0 if entry is None else entry.generation)
        except FAILURES as error:
            self._faults.read("reading", error)
            return _MISSING
        payload, tag, index, version, ttl_ms, generation = found
        if payload is None:
            return self._find_unread(key, entry, found, begun)
        if tag >= PLAIN_TAGS or not self._is_plain:
            return self._find_wrapped(key, found, begun)
        try:
            value = payload if tag == TAG_BYTES else self._codec.decode(payload, tag)
        except DecodeError as error:
            self._warm.undecodable(key, version, error)
            return _MISSING
        self._warm_hits += 1
        if self._makes_copies and self._copies.wants(key, len(payload)):
            reading = Reading(payload, tag, (index, version), (), ttl_ms, None, generation, begun)
            self._copies.keep(key, value, reading)
        return value

    def _find_unread(self, key: Key, entry: HotEntry | None, found: Versioned, begun: float) -> Any:
        """Return the value of *entry*, which the pool has too, or `_MISSING` on a miss."""
        _payload, _tag, _index, version, ttl_ms, generation = found
        if entry is None or not generation:
            self._copies.asked(key)
            return _MISSING
        is_good = self._copies.revalidate(entry, generation, version, ttl_ms, begun)
        return self._used(entry) if is_good else _MISSING

    def _find_wrapped(self, key: Key, found: Versioned, begun: float) -> Any:
        shelved = self._shelve(key, self._warm.read(key, found, begun))
        if shelved is None or not shelved.is_fresh or shelved.is_error:
            return _MISSING
        self._warm_hits += 1
        return shelved.value

    def _used(self, entry: HotEntry) -> Any:
        """Return the value of a good copy, and count the hit; `_MISSING`: it has none."""
        shelved = self._shelved_hot(entry)
        if shelved is None:
            return _MISSING
        self._copies.use(entry)
        return shelved.value

    def _shelved(self, key: Key) -> Shelved | None:
        """Return what there is of *key*, fresh or stale, for a load whose caller has missed it."""
        entry = self._copy_of(key)
        if entry is not None:
            return self._shelved_hot(entry)
        return self._shelve(key, self._warm.read(key, begun=self._clock()))

    def _looked_up(self, key: Key) -> Shelved | None:
        """As `_shelved`, for a load that its caller begins with: this is the one look-up of it."""
        entry = self._copy_of(key)
        if entry is not None:
            self._copies.use(entry)
            return self._shelved_hot(entry)
        begun = self._clock()
        found = self._warm.look(key, is_own=False)
        shelved = self._shelve(key, self._warm.read(key, found, begun))
        if shelved is None or not shelved.is_fresh or shelved.is_error:
            self._misses += 1
        else:
            self._warm_hits += 1
        return shelved

    def _shelved_hot(self, entry: HotEntry) -> Shelved | None:
        """Return what a good hot copy holds."""
        watch = entry.version_index, entry.version
        try:
            value = entry.value if entry.tag < 0 else self._codec.decode(entry.value, entry.tag)
        except DecodeError as error:
            self._warm.undecodable(entry.key, entry.version, error)
            return None
        envelope: Envelope | None = entry.envelope
        return Shelved(
            value,
            None if entry.deadline is None else entry.deadline - self._clock(),
            watch,
            0.0 if envelope is None else envelope.load_ms / 1000,
            is_error=False,
        )

    def _shelve(self, key: Key, reading: Reading | None) -> Shelved | None:
        """Decode what was read from the pool, and keep a copy where the policy wants one."""
        if reading is None:
            return None
        try:
            value = self._codec.decode(reading.payload, reading.tag)
        except DecodeError as error:
            self._warm.undecodable(key, reading.watch[1], error)
            return None
        envelope, left_ms = reading.envelope, reading.fresh_ms
        is_error = envelope is not None and envelope.is_error
        if is_error:
            value = self._loading.read_error(value)
        elif (left_ms is None or left_ms > 0) and self._copies.wants(key, len(reading.payload)):
            self._copies.keep(key, value, reading)
        return Shelved(
            value,
            None if left_ms is None else left_ms / 1000,
            reading.watch,
            0.0 if envelope is None else envelope.load_ms / 1000,
            is_error,
        )

    @property
    def hot_entries(self) -> Mapping[Any, HotEntry]:
        """This process's copies by key, always the same mapping; some may be outdated."""
        return self._hot_entries

    # Writing

    def set(  # noqa: PLR0913 - what an entry may have
        self,
        key: Any,
        value: Any,
        ttl_seconds: float | None = None,
        *,
        tags: Iterable[str] | Generations = (),
        namespace: str | None = None,
        grace_seconds: float = 0.0,
    ) -> bool:
        """Store *value*; every `get` that begins after this returned sees it, in any process.

        Args:
            ttl_seconds: Time to live; None never expires, 0 and less deletes the key.
            tags: `drop_tag` of any of them, of which there are 254 at most, makes the entry a miss.
                Give what `generations` returned where the value was computed since.
            namespace: `clear` of it makes the entry a miss.
            grace_seconds: How long after that `get_or_load` may serve it stale.

        Returns:
            False when it was dropped: no room could be made, or the pool cannot serve.

        Raises:
            Exception: Whatever the serializer raises for a value that it cannot serialize.
        """
        name = pool_key(key)
        envelope = self._envelope(tags, namespace, grace_seconds)
        if self._here is not None:
            return self._here.set(name, value, ttl_seconds, envelope)
        begun = self._clock()
        try:
            stored = self._warm.store(name, value, ttl_seconds, envelope=envelope)
        except BaseException:
            self._copies.forget(name)
            raise
        self._copies.keep_written(name, value, stored, ttl_seconds, envelope, begun)
        return stored is not None

    def add(  # noqa: PLR0913 - as set
        self,
        key: Any,
        value: Any,
        ttl_seconds: float | None = None,
        *,
        tags: Iterable[str] | Generations = (),
        namespace: str | None = None,
        grace_seconds: float = 0.0,
    ) -> bool:
        """Store *value* if *key* has none; return whether it was stored. Otherwise as `set`."""
        name = pool_key(key)
        envelope = self._envelope(tags, namespace, grace_seconds)
        if self._here is not None:
            return self._here.add(name, value, ttl_seconds, envelope)
        return self._warm.add(name, value, ttl_seconds, envelope=envelope)

    def delete(self, key: Any) -> bool:
        """Remove *key*; return whether it was there for a `get` to find.

        No `get` that begins after this returned sees it, in any process.

        Raises:
            PmemCacheError: It may still be there.
        """
        name = pool_key(key)
        try:
            return (self._here or self._warm).delete(name)
        finally:
            self._copies.forget(name)

    def touch(self, key: Any, ttl_seconds: float | None = None) -> bool:
        """Give *key* a new time to live, None for none; return whether it was there."""
        name = pool_key(key)
        return (self._here or self._warm).touch(name, checked_ttl(ttl_seconds))

    def incr(
        self,
        key: Any,
        delta: int = 1,
        *,
        initial: int | None = None,
        ttl_seconds: float | None = None,
    ) -> int | None:
        """Add *delta* to an int, atomically among all processes; its time to live stays.

        Args:
            initial: What a missing key counts as; None: it stays missing.
            ttl_seconds: Time to live of an entry that this call creates.

        Returns:
            The sum; None when the key is missing and *initial* is None, or when it was dropped.

        Raises:
            NotAnIntegerError: The value is something else.
            IntegerOverflowError: The sum needs more than 64 bits; the value stays.
        """
        return (self._here or self._warm).incr(pool_key(key), delta, initial, ttl_seconds)

    def decr(self, key: Any, delta: int = 1, **options: Any) -> int | None:
        """Subtract *delta*; otherwise as `incr`."""
        return self.incr(key, -delta, **options)

    def generations(self, tags: Iterable[str] | Generations) -> Generations:
        """Return what to give to `set` as its *tags* for a value that is computed from now on.

        Should one of them be dropped before the `set`, the value is never a hit.
        """
        if isinstance(tags, Generations):
            return tags
        return Generations(self._warm.generations(_digests(tags, None)))

    def _envelope(
        self, tags: Iterable[str] | Generations, namespace: str | None, grace_seconds: float
    ) -> Envelope | None:
        if not tags and namespace is None and not grace_seconds:
            return None
        pairs = (*self.generations(tags), *self._warm.generations(_digests((), namespace)))
        return Envelope(pairs, grace_ms_of(grace_seconds))

    # Many keys

    def get_many(self, keys: Iterable[Any]) -> dict[Any, Any]:
        """Return `{key: value}` of those found; nothing is loaded."""
        found = {}
        for key in keys:
            value = self._find(pool_key(key))
            if value is _MISSING:
                self._misses += 1
            else:
                found[key] = value
        return found

    def set_many(
        self,
        mapping: Mapping[Any, Any],
        ttl_seconds: float | None = None,
        *,
        tags: Iterable[str] | Generations = (),
        **options: Any,
    ) -> list[Any]:
        """Store every value, each as `set` does; return the keys that were not stored."""
        now = self.generations(tags)
        return [
            key
            for key, value in mapping.items()
            if not self.set(key, value, ttl_seconds, tags=now, **options)
        ]

    def delete_many(self, keys: Iterable[Any]) -> int:
        """Remove every key; return how many were there. Raises as `delete`, after trying all."""
        names = [pool_key(key) for key in keys]
        try:
            return (self._here or self._warm).delete_many(names)
        finally:
            for name in names:
                self._copies.forget(name)

    # Groups

    def drop_tag(self, tag: str) -> None:
        """Make every entry with *tag* a miss, in all processes at once; costs one delete.

        Raises:
            PmemCacheError: They may still be hits.
        """
        self._warm.drop_tag(tag_digest(tag))

    def clear(self, namespace: str | None = None) -> None:
        """Remove everything, or make every entry of *namespace* a miss, which costs one delete.

        Raises:
            PmemCacheError: Entries may still be there.
        """
        if namespace is not None:
            self._warm.drop_tag(namespace_digest(namespace))
            return
        self.pool.clear()
        self._copies.cache.clear()

    # Loading

    def add_loader(self, prefix: str, loader: Loader) -> None:
        """Load keys that begin with *prefix* by *loader*; the longest prefix counts.

        Raises:
            TypeError: They are something else.
        """
        _check_loader(prefix, loader)
        self._loaders.append((prefix, loader))
        self._loaders.sort(key=lambda pair: len(pair[0]), reverse=True)
        self._looks_ahead = self.load_policy.looks_ahead

    def _loader_of(self, key: Any) -> Loader | None:
        for prefix, loader in self._loaders:
            if not prefix or (isinstance(key, str) and key.startswith(prefix)):
                return loader
        return None

    def get_or_load(
        self,
        key: Any,
        loader: Loader,
        ttl_seconds: TimeToLive = None,
        grace_seconds: float = 0.0,
        **options: Unpack[LoadOptions],
    ) -> Any:
        """Return the value of *key*; on a miss call *loader* once, however many ask.

        Concurrent misses of one key share a single call, in this process and in every other that is
        attached to the pool. A value is never stored that was loaded before the key was set,
        deleted or cleared, or one of its tags dropped.

        Args:
            loader: Called with *key* and without any lock held. If it raises, nothing is stored and
                every waiter of this host sees the error. None is a value.
            ttl_seconds: Time to live, or a function of the value that says it; None never expires,
                0 and less is returned but not stored.
            grace_seconds: How long after that one caller loads anew while the others are served
                the stale value at once; so are all when the loader fails.
            options: See `LoadOptions`.

        Raises:
            Exception: What *loader* raised, here or in the process that called it.
        """
        plan = self._plan(ttl_seconds, grace_seconds, **options)
        if plan.policy.looks_ahead:
            return self._load(key, loader, plan, self._looked_up)
        value = self.find(key, _MISSING)
        if value is not _MISSING:
            return value
        self._misses += 1
        return self._load(key, loader, plan)

    def load_missing(
        self,
        key: Any,
        loader: Loader,
        ttl_seconds: TimeToLive = None,
        grace_seconds: float = 0.0,
        **options: Unpack[LoadOptions],
    ) -> Any:
        """As `get_or_load`, for a *key* that `find` has not found just now.

        The two together are one look-up, and one miss in the statistics.
        """
        plan = self._plan(ttl_seconds, grace_seconds, **options)
        self._misses += 1
        return self._load(key, loader, plan)

    def _load(
        self,
        key: Any,
        loader: Loader,
        plan: LoadPlan,
        look: Callable[[Key], Shelved | None] | None = None,
    ) -> Any:
        return self._loading.get(pool_key(key), bound(loader, key), plan, look)

    def refresh(
        self,
        key: Any,
        loader: Loader,
        ttl_seconds: TimeToLive = None,
        grace_seconds: float = 0.0,
        **options: Unpack[LoadOptions],
    ) -> Any:
        """Call *loader* now, and store what it returns in place of what there is.

        Otherwise as `get_or_load`.

        Raises:
            PmemCacheError: It could neither be stored, nor what there is be removed.
        """
        plan = self._plan(ttl_seconds, grace_seconds, **options)
        return self._loading.refresh(pool_key(key), bound(loader, key), plan)

    def _plan(  # noqa: PLR0913 - what becomes of the value
        self,
        ttl_seconds: TimeToLive,
        grace_seconds: float,
        *,
        tags: Iterable[str] = (),
        namespace: str | None = None,
        unless: Callable[[Any], bool] | None = None,
        load: LoadPolicy | None = None,
    ) -> LoadPlan:
        """Return what becomes of a loaded value."""
        policy = (load and checked_load_policy(load)) or self.load_policy
        grace_ms = grace_ms_of(grace_seconds) if grace_seconds else 0
        return LoadPlan(ttl_seconds, grace_ms, _digests(tags, namespace), unless, policy)

    # What there is

    def tier_of(self, key: Any) -> str | None:
        """Return the tier that a `get` would find *key* in: "hot", "warm", or None."""
        name = pool_key(key)
        if self._copy_of(name) is not None:
            return "hot"
        return None if self._peek(name) is None else "warm"

    def ttl(self, key: Any) -> float | None:
        """Return the seconds that *key* has left: `inf` without a deadline, None when missing."""
        name = pool_key(key)
        if self._here is not None:
            return self._here.ttl(name)
        reading = self._peek(name)
        if reading is None:
            return None
        return math.inf if reading.fresh_ms is None else reading.fresh_ms / 1000

    def _peek(self, key: Key) -> Reading | None:
        reading = self._warm.read(key)
        return reading if reading is not None and reading.is_value else None

    def count(self, prefix: str) -> dict[str, int]:
        """Return the number of live entries in each tier whose keys begin with *prefix*.

        Looks at every entry, so the cost grows with the pool. When the pool cannot serve, there are
        none.
        """
        hot = [
            key
            for key in list(self._hot_entries)
            if isinstance(key, str) and key.startswith(prefix)
        ]
        return {
            "hot": sum(self._copy_of(key) is not None for key in hot),
            "warm": sum(self._peek(key) is not None for key in self._pool_keys(prefix)),
        }

    def _pool_keys(self, prefix: str | bytes) -> Iterator[bytes]:
        try:
            yield from self.pool.keys(prefix)
        except FAILURES as error:
            self._faults.read("listing keys", error)

    def stats(self) -> TieredStats:
        """Return what this process did with the cache, and what all did with the pool."""
        counts = self._loading.counts
        try:
            pool = self.pool.stats()
        except FAILURES as error:
            self._faults.read("reading statistics", error)
            pool = None
        return TieredStats(
            hot_hits=counted(self._hot_hits),
            warm_hits=self._warm_hits,
            misses=self._misses,
            stale=counts.stale,
            promotions=self._copies.made,
            revalidations=self._copies.revalidations,
            hot_evictions=self._copies.evictions,
            hot_entries=len(self._copies.cache),
            hot_bytes=int(self._copies.cache.currsize),
            hot_capacity_bytes=int(self._copies.cache.maxsize),
            loads=counts.loads,
            load_errors=counts.load_errors,
            load_waits=counts.waits,
            load_takeovers=counts.takeovers,
            loads_voided=counts.voided,
            read_failures=self._faults.reads,
            dropped_writes=self._faults.writes,
            undecodable=self._faults.undecodable,
            own_gets=self._warm.own_gets,
            own_hits=self._warm.own_hits,
            pool=pool,
        )

    @property
    def maxsize(self) -> int:
        """Most bytes of the pool, as cachetools names it."""
        return self.pool.options.size_bytes or sys.maxsize

    @property
    def currsize(self) -> int:
        """Bytes of keys and values in the pool, as cachetools names it; 0 when it cannot tell."""
        stats = self.stats().pool
        return 0 if stats is None else stats.payload_bytes

    # The mapping

    def __getitem__(self, key: Any) -> Any:
        """Return the value of *key*, loaded if it has a loader; raise KeyError on a miss."""
        value = self.get(key, _MISSING)
        if value is _MISSING:
            raise KeyError(key)
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        """Store *value* without a deadline."""
        self.set(key, value)

    def __delitem__(self, key: Any) -> None:
        """Remove *key*; raise KeyError when it is not there."""
        if not self.delete(key):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        """Whether a `get` would find *key*; nothing is loaded."""
        return self.tier_of(key) is not None

    def __iter__(self) -> Iterator[Key]:
        """Iterate over the keys as the pool has them: bytes, of which `get` finds the value.

        With the placement "hot-only", over those of this process, as they were given. A key that is
        neither str nor bytes stands there by its digest. There are none when the pool cannot serve.
        """
        if self._here is not None:
            yield from self._here.keys()
            return
        for key in self._pool_keys(b""):
            if not is_internal(key) and not self._warm.is_dead(key):
                yield key

    def __len__(self) -> int:
        """Return the number of entries, by a walk over the keys."""
        return sum(1 for _key in self)

    def __bool__(self) -> bool:
        """Return True: a cache is one, also when it is empty."""
        return True

    def items(self) -> ItemsView[Any, Any]:
        """Return a view of the keys with their values; what goes meanwhile is left out."""
        return _Items(self)

    def values(self) -> ValuesView[Any]:
        """Return a view of the values; what goes meanwhile is left out."""
        return _Values(self)

    def pop(self, key: Any, default: Any = _MISSING) -> Any:
        """Remove *key* and return its value, or *default*; of several callers one gets it.

        Raises:
            KeyError: There is neither.
        """
        value = self.find(key, _MISSING)
        self._misses += value is _MISSING
        if value is not _MISSING and self.delete(key):
            return value
        if default is _MISSING:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[Key, Any]:
        """Remove some key and return it with its value.

        Raises:
            KeyError: The cache is empty.
        """
        for key in self:
            with contextlib.suppress(KeyError):  # somebody else was faster
                return key, self.pop(key)
        message = "the cache is empty"
        raise KeyError(message)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Return the value of *key*, which is *default* from now on if it had none."""
        while True:
            value = self._find(pool_key(key))
            if value is not _MISSING:
                return value
            self._misses += 1
            if self.add(key, default) or self._find(pool_key(key)) is _MISSING:
                return default

    # The end

    def close(self) -> None:
        """Let go of the pool; later reads are misses. May be called again."""
        self._copies.cache.clear()
        if self._owns_pool:
            self.pool.close()

    def __enter__(self) -> Self:
        """Return the cache, to be closed at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the cache."""
        self.close()

    def __repr__(self) -> str:
        """Name the pool's file."""
        return f"<pmemcache.TieredCache {self.pool.path or '(private)'}>"


class _Items(ItemsView[Any, Any]):
    """The entries of a cache that others change meanwhile."""

    _mapping: TieredCache

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for key in self._mapping:
            value = self._mapping.find(key, _MISSING)
            if value is not _MISSING:
                yield key, value


class _Values(ValuesView[Any]):
    """Their values."""

    _mapping: TieredCache

    def __iter__(self) -> Iterator[Any]:
        for _key, value in _Items(self._mapping):
            yield value


def _open_pool(
    path: str | os.PathLike[str] | None, policy: UsagePolicy, lifetime: Lifetime
) -> Pool:
    directory = Path(tempfile.gettempdir() if path is None else path)
    if not directory.is_dir():
        directory = directory.parent
    return Pool(
        path,
        policy.warm_capacity(directory if directory.is_dir() else tempfile.gettempdir()),
        lifetime=lifetime,
        eviction=policy.eviction,
        memory=policy.memory,
    )


def _check_loader(prefix: object, loader: object) -> None:
    if not isinstance(prefix, str):
        message = f"{prefix!r} is no prefix of keys: give a str"
        raise TypeError(message)
    if not (loader is None or callable(loader)):
        message = f"a loader is a function of the key, not {type(loader).__name__}"
        raise TypeError(message)


def _digests(tags: Iterable[str], namespace: str | None) -> tuple[bytes, ...]:
    if tags == () and namespace is None:  # as in most calls
        return ()
    digests = tuple(map(tag_digest, checked_tags(tags)))
    return digests if namespace is None else (namespace_digest(namespace), *digests)
