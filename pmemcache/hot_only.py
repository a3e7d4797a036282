"""Placement `hot-only`: each process has values of its own, and the pool has none.

What processes share are versions, tags, and a *marker* in the pool for each key: an entry without a
value, whose generation says that the values kept under it are good. It looks to all like an entry
whose tag was dropped, which is a miss. A `set`, `delete`, `clear` or dropped tag in any process
outdates the values of all; a load does not, it keeps its value under the marker that is there.

A value is in the pool for a moment when it was loaded and other processes wait for it: under a name
of its own, made of the key and the marker's generation, so it is found while it is good and then no
more.

Locking: a writer holds the hot tier's lock, so that `add` and `incr` are atomic among the threads
of this process. No serializer of a user's own and no loader runs under it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from pmemcache.binding import checked_ttl
from pmemcache.envelope import GENERATION_BYTES, Envelope
from pmemcache.faults import FAILURES
from pmemcache.immutability import is_immutable
from pmemcache.keys import INTERNAL_PREFIX, key_digest
from pmemcache.serializers import DecodeError
from pmemcache.warm import Reading, added

if TYPE_CHECKING:
    from collections.abc import Callable

    from pmemcache.codec import Codec
    from pmemcache.copies import Copies
    from pmemcache.hot import HotEntry
    from pmemcache.types import Key, Written
    from pmemcache.warm import WarmTier

__all__ = ["HotOnly"]

_NOWHERE: Final = Envelope(((b"hot-only".ljust(16, b"\0"), b"\0" * GENERATION_BYTES),))
"""Has a tag that nobody has, with a generation that none has."""

_LEFT_PREFIX: Final = INTERNAL_PREFIX + b"v:"
_LEFT_SECONDS: Final = 2.0
"""How long a loaded value is there for processes that wait; they look at once."""
_CHANGE_ATTEMPTS: Final = 1000


class HotOnly:
    """The values of this process alone.

    Args:
        warm: Where versions and tags are.
        codec: How values are kept that could be changed.
        copies: Where values are kept.
        clock: Counts seconds, for deadlines.
    """

    def __init__(
        self, warm: WarmTier, codec: Codec, copies: Copies, clock: Callable[[], float]
    ) -> None:
        self._warm = warm
        self._codec = codec
        self._copies = copies
        self._clock = clock

    # What a cache does

    def set(
        self, key: Key, value: Any, ttl_seconds: float | None, envelope: Envelope | None
    ) -> bool:
        """Keep *value*, and outdate what other processes have; return whether it was kept."""
        kept, reading = self._prepared(key, value, ttl_seconds, envelope)
        with self._copies.cache.lock:
            return bool(self._set_locked(key, kept, reading, ttl_seconds))

    def add(
        self, key: Key, value: Any, ttl_seconds: float | None, envelope: Envelope | None
    ) -> bool:
        """As `set`, if this process has no value; return whether it was kept."""
        kept, reading = self._prepared(key, value, ttl_seconds, envelope)
        with self._copies.cache.lock:
            if self._copies.live(key) is not None:
                return False
            return bool(self._set_locked(key, kept, reading, ttl_seconds))

    def touch(self, key: Key, ttl_seconds: float | None) -> bool:
        """Give *key* a new time to live; return whether this process had it."""
        for _attempt in range(_CHANGE_ATTEMPTS):
            version = self.watch(key)[1]
            entry = self._copies.live(key)
            if entry is None:
                return False
            value = self._value_of(entry)
            kept, reading = self._prepared(key, value, ttl_seconds, entry.envelope)
            with self._copies.cache.lock:
                is_set = self._set_locked(key, kept, reading, ttl_seconds, version)
            if is_set is not None:
                return is_set
        self._warm.faults.write("touching", TimeoutError(f"{key!r} changes all the time"))
        return False

    def incr(
        self, key: Key, delta: int, initial: int | None, ttl_seconds: float | None
    ) -> int | None:
        """Add to an int, atomically among the threads of this process; return the sum.

        Raises:
            NotAnIntegerError: The value is something else.
            IntegerOverflowError: The sum needs more than 64 bits; the value stays.
        """
        with self._copies.cache.lock:
            for _attempt in range(_CHANGE_ATTEMPTS):
                version = self.watch(key)[1]
                entry = self._copies.live(key)
                value, envelope, ttl = initial, None, ttl_seconds
                if entry is not None:
                    value, envelope, ttl = entry.value, entry.envelope, self._left_seconds(entry)
                elif value is None:
                    return None
                total = added(key, value, delta)
                _kept, reading = self._prepared(key, total, ttl, envelope)
                is_set = self._set_locked(key, total, reading, ttl, version)
                if is_set is not None:
                    return total if is_set else None
        self._warm.faults.write("counting", TimeoutError(f"{key!r} changes all the time"))
        return None

    def delete(self, key: Key) -> bool:
        """Drop the value in all processes; return whether this one had it.

        Raises:
            PmemCacheError: Others may still have it.
        """
        with self._copies.cache.lock:
            was_here = self._copies.live(key) is not None
            self._warm.pool.delete(key)
            return was_here

    def delete_many(self, keys: list[Key]) -> int:
        """Drop the values of all *keys*; return how many this process had. Raises at the end."""
        with self._copies.cache.lock:
            were_here = sum(self._copies.live(key) is not None for key in keys)
            self._warm.pool.delete_many(keys)
            return were_here

    def ttl(self, key: Key) -> float | None:
        """Return the seconds that *key* has left: `inf` without a deadline, None when missing."""
        entry = self._copies.live(key)
        if entry is None:
            return None
        left = self._left_seconds(entry)
        return math.inf if left is None else left

    def keys(self) -> list[Key]:
        """Return the keys that this process has values of, as they were given."""
        return [key for key in list(self._copies.entries) if self._copies.live(key) is not None]

    # What loads do

    def watch(self, key: Key) -> Written:
        """Return under what a value is good that is loaded from now on."""
        _payload, _tag, index, version, _ttl_ms, generation = self._warm.look(key)
        return index, version, generation

    def keep(
        self,
        key: Key,
        value: Any,
        ttl_seconds: float | None,
        envelope: Envelope | None,
        watch: Written,
    ) -> bool:
        """Keep what was loaded; return whether there was room.

        If anything happened to *key* since *watch*, it is never a hit; what was set stays.
        """
        kept, reading = self._prepared(key, value, ttl_seconds, envelope)
        if not watch[2]:
            watch = self._mark(key, watch[1]) or watch
        with self._copies.cache.lock:
            now = self._copies.live(key)
            if now is not None and now.generation != watch[2]:
                return True
            return self._keep_locked(key, kept, reading, watch)

    def replace(
        self,
        key: Key,
        value: Any,
        ttl_seconds: float | None,
        envelope: Envelope | None,
        watch: Written,
    ) -> bool:
        """As `keep`, and outdate what other processes have; no value stays if anything happened."""
        kept, reading = self._prepared(key, value, ttl_seconds, envelope)
        with self._copies.cache.lock:
            written = self._mark(key, watch[1])
            if written is not None:
                return self._keep_locked(key, kept, reading, written)
        self._warm.pool.delete(key)
        return True

    def leave(self, key: Key) -> bool:
        """Leave what is kept of *key* to other processes; return whether it could be left.

        It is what was loaded just now, or was set since. Should that be outdated already, there is
        nothing to leave: whoever waits loads anew.
        """
        entry = self._copies.live(key)
        if entry is None:
            return True
        left = self._left_seconds(entry)
        seconds = _LEFT_SECONDS if left is None else min(left, _LEFT_SECONDS)
        name = _left_key(key, entry.generation)
        payload, tag = self._codec.encode(name, self._value_of(entry), entry.envelope)
        try:
            return self._warm.pool.put(name, payload, ttl_seconds=seconds, tag=tag)
        except FAILURES as error:
            self._warm.faults.write("leaving a loaded value", error)
            return False

    def collect(
        self, key: Key, ttl_of: Callable[[Any, float], float | None]
    ) -> tuple[Any, bool] | None:
        """Return in a tuple what another process has left for this one, and keep it.

        Args:
            ttl_of: Says for how long a value loaded now is good; this one was loaded before.
        """
        watch = self.watch(key)
        reading = self._warm.read(_left_key(key, watch[2])) if watch[2] else None
        if reading is None or reading.fresh_ms is None or reading.fresh_ms <= 0:
            return None
        try:
            value = self._codec.decode(reading.payload, reading.tag)
        except DecodeError as error:
            self._warm.faults.decode(error)
            return None
        left, ttl = reading.fresh_ms / 1000, ttl_of(value, 0.0)
        if ttl is not None:
            ttl = min(ttl, left) if ttl < _LEFT_SECONDS else ttl - (_LEFT_SECONDS - left)
        return value, self.keep(key, value, ttl, reading.envelope, watch)

    # Keeping

    def _set_locked(
        self,
        key: Key,
        kept: Any,
        reading: Reading,
        ttl_seconds: float | None,
        version: int | None = None,
    ) -> bool | None:
        """Return whether it was kept; None: *key* no longer has *version*, and nothing was done."""
        if ttl_seconds is not None and ttl_seconds <= 0:
            self._warm.pool.delete(key)
            return True
        written = self._mark(key, version)
        if written is not None:
            return self._keep_locked(key, kept, reading, written)
        if version is not None and self.watch(key)[1] != version:
            return None
        self._copies.cache.drop(key)
        try:
            self._warm.pool.delete(key)
        except FAILURES as error:
            self._warm.faults.write("outdating the old value", error)
        return False

    def _mark(self, key: Key, version: int | None = None) -> Written | None:
        """Put a new marker, if the key still has *version*; None: it has not, or none could be."""
        marker, tag = self._codec.encode(key, b"", _NOWHERE)  # signed: or others would remove it
        try:
            written = self._warm.pool.put_versioned(key, marker, tag=tag, if_version=version)
        except FAILURES as error:
            self._warm.faults.write("storing", error)
            return None
        self._warm.faults.writes += version is None and written is None
        return written

    def _keep_locked(self, key: Key, kept: Any, reading: Reading, watch: Written) -> bool:
        """Return whether there was room."""
        index, version, generation = watch
        self._copies.cache.drop(key)
        self._copies.keep(
            key, kept, reading._replace(watch=(index, version), generation=generation)
        )
        return key in self._copies.entries

    def _prepared(
        self, key: Key, value: Any, ttl_seconds: float | None, envelope: Envelope | None
    ) -> tuple[Any, Reading]:
        """Return *value* as it is kept, and as if it had been read, under no version yet."""
        checked_ttl(ttl_seconds)
        begun = self._clock()
        payload, tag = self._codec.encode(key, value)
        _envelope, body = self._codec.unwrap(key, payload, tag)
        watches = self._warm.watch_tags(envelope.tags) if envelope is not None else ()
        ttl_ms = None if ttl_seconds is None else ttl_seconds * 1000
        if watches is None:  # a tag was dropped since: the value counts for nothing from the start
            watches, ttl_ms = (), 0.0
        if not (self._codec.is_faithful(tag) and is_immutable(value)):
            value = self._codec.decode(body, tag)
        return value, Reading(body, tag, (0, 0), watches, ttl_ms, envelope, 0, begun)

    def _value_of(self, entry: HotEntry) -> Any:
        return entry.value if entry.tag < 0 else self._codec.decode(entry.value, entry.tag)

    def _left_seconds(self, entry: HotEntry) -> float | None:
        return None if entry.deadline is None else entry.deadline - self._clock()


def _left_key(key: Key, generation: int) -> bytes:
    return _LEFT_PREFIX + key_digest(key, b"left") + generation.to_bytes(8, "little")
