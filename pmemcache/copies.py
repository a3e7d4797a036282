"""The copies that this process keeps, and under what each is good.

A copy is good while the version of its key, a word of shared memory, is what it was when the copy
was made. Several keys share a word; so when it has changed, the generation is asked for: the
same generation is the same value, and the copy is good under the new version. What is copied was
wanted before: a key that was asked for and then set, or one that the pool has answered and that was
asked for `promotion_count` times, as far as the hot tier remembers.

Locking: none of its own; see `hot`.
"""

from __future__ import annotations

import itertools
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from pmemcache.faults import FAILURES
from pmemcache.hot import ENTRY_OVERHEAD_BYTES, HotCache, HotEntry
from pmemcache.immutability import is_immutable
from pmemcache.keys import tag_key
from pmemcache.sizes import size_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pmemcache.envelope import Envelope
    from pmemcache.policy import UsagePolicy
    from pmemcache.types import Key, Written
    from pmemcache.warm import Reading, Stored, WarmTier, Watch

__all__ = ["BUMP_AT", "BUMP_MASK", "Copies"]

BUMP_AT: Final = 1
BUMP_MASK: Final = 31
"""The pool's entry is bumped with the first hot hit, and with one of 32 from then on."""

_CLOCK_GRAIN_SECONDS: Final = 0.01
"""A hot copy expires this much early, for the engine's clock ticks coarsely."""
_ODD: Final = 1
_HEAD_BYTES: Final = sys.getsizeof("")
"""Of one object, which `ENTRY_OVERHEAD_BYTES` has."""


class Copies:
    """The hot tier of one cache in this process.

    Args:
        warm: Of what the copies are.
        policy: How many, and of what.
        share: Hand out every value as one object, also one that could be changed.
        clock: Counts seconds, for deadlines.
    """

    def __init__(
        self,
        warm: WarmTier,
        policy: UsagePolicy,
        *,
        share: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        capacity = policy.hot_capacity(warm.pool.options.size_bytes)
        self.cache = HotCache(capacity, on_evict=self._evicted)
        self.entries = self.cache.entries
        """By key, always the same dict; to be read only. Some may be outdated."""
        # next() of a count is atomic: threads lose nothing.
        self.hits = itertools.count()
        self.made = 0
        self.evictions = 0
        self.revalidations = 0
        self._warm = warm
        self._versions = warm.pool.versions
        self._share = share
        self._clock = clock
        self._is_alone = policy.kind == "hot-only"
        self._promotion_count = policy.promotion_count
        self._value_max_bytes = policy.value_max_bytes or capacity

    # Using copies

    def good(self, key: Key) -> HotEntry | None:
        """Return the copy of *key* if it is good."""
        entry = self.entries.get(key)
        return entry if entry is not None and self.is_good(entry) else None

    def live(self, key: Key) -> HotEntry | None:
        """Return the copy of *key* if it is good, or can be shown to be."""
        entry = self.entries.get(key)
        if entry is None or self.is_good(entry):
            return entry
        begun = self._clock()
        payload, _tag, _index, version, ttl_ms, generation = self._warm.look(key, entry.generation)
        if payload is not None or not generation:
            return None
        return entry if self.revalidate(entry, generation, version, ttl_ms, begun) else None

    def is_good(self, entry: HotEntry) -> bool:
        """Whether nothing happened to *entry* since it was copied."""
        try:
            return (
                self._versions[entry.version_index] == entry.version
                and (entry.deadline is None or entry.deadline > self._clock())
                and self._hold(entry.dependencies)
            )
        except ValueError:  # the pool was closed
            return False

    def _hold(self, watches: tuple[Watch, ...]) -> bool:
        versions = self._versions
        return all(versions[index] == version for index, version in watches)

    def use(self, entry: HotEntry) -> None:
        """Count a hit of *entry*."""
        next(self.hits)
        entry.hits += 1
        if entry.hits & BUMP_MASK == BUMP_AT:
            self.bump(entry)

    def bump(self, entry: HotEntry) -> None:
        """Keep the pool's entry and its tags warm: the pool sees nothing of hot hits."""
        try:
            self._warm.pool.bump(entry.key)
            if entry.envelope is not None:
                for tag, _generation in entry.envelope.tags:
                    self._warm.pool.bump(tag_key(tag))
        except FAILURES as error:
            self._warm.faults.read("bumping", error)

    def revalidate(
        self, entry: HotEntry, generation: int, version: int, ttl_ms: float | None, begun: float
    ) -> bool:
        """Whether *entry*, whose value or marker the pool still has, is good under *version*.

        Args:
            generation: Of the value, as the pool has it now.
            ttl_ms: How long the pool keeps it, from a moment that is not before *begun*.
        """
        dependencies: tuple[Watch, ...] | None = ()
        if entry.envelope is not None:
            dependencies = self._warm.watch_tags(entry.envelope.tags)
            if ttl_ms is not None:
                ttl_ms -= entry.envelope.grace_ms
        deadline = _deadline(ttl_ms, begun)
        is_over = ttl_ms is not None and ttl_ms <= 0
        if self._is_alone:  # a marker has no time to live
            deadline = entry.deadline
            is_over = deadline is not None and deadline <= self._clock()
        if dependencies is None or is_over:
            return False
        if not version & _ODD and not _is_odd(dependencies):
            self.cache.revalidate(entry, generation, version, deadline, dependencies)
        self.revalidations += 1
        return True

    # Making copies

    def asked(self, key: Key) -> None:
        """Note that *key* was wanted and was nowhere: what is set now deserves a copy."""
        if self._value_max_bytes:
            self.cache.note_use(key)

    def wants(self, key: Key, size_bytes: int) -> bool:
        """Whether *key*, a payload of this size that the pool has answered now, deserves a copy."""
        if size_bytes > self._value_max_bytes:
            return False
        return (
            key in self.entries  # it had one, which is outdated
            or self.cache.note_use(key) >= self._promotion_count
        )

    def keep(self, key: Key, value: Any, reading: Reading) -> None:
        """Make a copy of *value*, which was read now, unless it is outdated already."""
        if reading.watch[1] & _ODD or _is_odd(reading.dependencies):
            return  # somebody is changing it just now
        is_shared = self._share or is_immutable(value)
        self._place(
            key,
            value if is_shared else reading.payload,
            -1 if is_shared else reading.tag,
            _kept_bytes(value) if is_shared else len(reading.payload),
            (*reading.watch, reading.generation),
            _deadline(reading.fresh_ms, reading.begun),
            reading.dependencies,
            reading.envelope,
        )

    def keep_written(  # noqa: PLR0913, PLR0917 - what a copy is made of
        self,
        key: Key,
        value: Any,
        stored: Stored | None,
        ttl_seconds: float | None,
        envelope: Envelope | None,
        begun: float,
    ) -> None:
        """Make a copy of *value*, which was stored since *begun*; None: it was not.

        Of what nobody has asked for there is none, and the one of before goes.
        """
        if key not in self.entries and not self.cache.was_used(key):
            return
        if stored is None or len(stored[0]) > self._value_max_bytes:
            self.cache.drop(key)
            return
        payload, tag, written = stored
        dependencies = () if envelope is None else self._warm.watch_tags(envelope.tags)
        if dependencies is None or written[1] & _ODD or (dependencies and _is_odd(dependencies)):
            self.cache.drop(key)
            return
        codec = self._warm.codec
        is_shared = codec.is_faithful(tag) and is_immutable(value)
        if not is_shared:
            _envelope, payload = codec.unwrap(key, payload, tag)
        self._place(
            key,
            value if is_shared else payload,
            -1 if is_shared else tag,
            _kept_bytes(value) if is_shared else len(payload),
            written,
            _deadline(None if ttl_seconds is None else ttl_seconds * 1000, begun),
            dependencies,
            envelope,
        )

    def forget(self, key: Key) -> None:
        """Drop the copy of *key*, which is outdated; should it be set again, it deserves one."""
        self.cache.drop(key)

    def _place(  # noqa: PLR0913, PLR0917 - what a copy is made of
        self,
        key: Key,
        kept: Any,
        tag: int,
        kept_bytes: int,
        written: Written,
        deadline: float | None,
        dependencies: tuple[Watch, ...],
        envelope: Envelope | None,
    ) -> None:
        """Put a copy in its place: the value itself, or with a *tag* its payload."""
        size = kept_bytes + sys.getsizeof(key) + ENTRY_OVERHEAD_BYTES
        index, version, generation = written
        old = self.entries.get(key)
        if (
            old is not None
            and old.tag == tag
            and old.envelope is envelope is None
            and self.cache.rewrite(old, kept, size, version, generation, deadline)
        ):
            self.made += 1
            return
        entry = HotEntry(
            key,
            kept,
            size,
            tag,
            index,
            version,
            generation,
            dependencies,
            deadline,
            envelope,
        )
        self.made += self.cache.admit(entry)

    def _evicted(self, _entry: HotEntry) -> None:
        self.evictions += 1


def _deadline(fresh_ms: float | None, begun: float) -> float | None:
    """Return when a copy ends that was fresh for so long at *begun* or later."""
    return None if fresh_ms is None else begun + fresh_ms / 1000 - _CLOCK_GRAIN_SECONDS


def _is_odd(watches: tuple[Watch, ...]) -> bool:
    """Whether one of several tags is being changed."""
    return any(version & _ODD for _index, version in watches)


def _kept_bytes(value: Any) -> int:
    """Return what a value that is kept takes beside the head of one object."""
    kind = type(value)
    if kind is str:
        # One of ASCII, as most are, has a byte for each character.
        return len(value) if value.isascii() else sys.getsizeof(value) - _HEAD_BYTES
    return len(value) if kind is bytes else size_of(value) - _HEAD_BYTES
