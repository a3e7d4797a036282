"""The warm tier: the pool, read and written through the codec, with tags and stale values.

Everything here is about shared memory; a process's own copies are the hot tier's. Failures of the
pool are answered as `Faults` says, but for deletes, which raise: a delete that returned is true.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pmemcache.codec import ENVELOPED
from pmemcache.envelope import GENERATION_BYTES, TAGS_MAX, Envelope
from pmemcache.errors import IntegerOverflowError, NotAnIntegerError
from pmemcache.faults import FAILURES
from pmemcache.keys import digest, tag_key
from pmemcache.serializers import TAG_INT, DecodeError
from pmemcache.types import Written

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pmemcache.codec import Codec
    from pmemcache.envelope import TagPair
    from pmemcache.faults import Faults
    from pmemcache.pool import Pool
    from pmemcache.types import Key, OnlyIf, Versioned

__all__ = [
    "Reading",
    "Stored",
    "WarmTier",
    "Watch",
    "added",
    "checked_tags",
    "namespace_digest",
    "tag_digest",
]

Watch = tuple[int, int]
"""A version's index and value."""

Stored = tuple[bytes, int, Written]
"""The payload and tag that were stored, in their envelope, and what a copy is good under."""

_ODD: Final = 1
_NOTHING: Final[Versioned] = (None, 0, 0, _ODD, None, 0)
_ADD_ATTEMPTS: Final = 8
_CAS_ATTEMPTS: Final = 1000
_INT64: Final = range(-(2**63), 2**63)


def checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Return *tags* in a form that can be read more than once.

    Raises:
        TypeError: It is one str, which would be taken for a tag of each letter.
        ValueError: There are too many for an entry.
    """
    if isinstance(tags, str):
        message = f"tags is an iterable of str, not the str {tags!r}: write ({tags!r},)"
        raise TypeError(message)
    listed = tuple(tags)
    if len(listed) > TAGS_MAX:
        message = f"{len(listed)} tags: an entry can have {TAGS_MAX}; give one to several things"
        raise ValueError(message)
    return listed


def tag_digest(tag: str) -> bytes:
    """Return what stands for *tag* in envelopes and keys.

    Raises:
        TypeError: It is no str.
    """
    return _digest_of(tag, b"tag")


def namespace_digest(namespace: str) -> bytes:
    """Return what stands for *namespace*: a tag that no name of a tag has.

    Raises:
        TypeError: It is no str.
    """
    return _digest_of(namespace, b"namespace")


def _digest_of(name: object, kind: bytes) -> bytes:
    if not isinstance(name, str):
        message = f"a {kind.decode()} is a str, not {name!r}: write {str(name)!r}"
        raise TypeError(message)
    return digest(name.encode(), kind)


class Reading(NamedTuple):
    """A live entry, as it was read."""

    payload: bytes
    """What `Codec.decode` reads the value from, with `tag`."""
    tag: int
    watch: Watch
    """The version it was read under."""
    dependencies: tuple[Watch, ...]
    """The versions of its tags, read before."""
    fresh_ms: float | None
    """How long it stays fresh; 0 and less: it is stale; None: for ever."""
    envelope: Envelope | None
    generation: int
    """Names what was written: the same generation is the same value."""
    begun: float = 0.0
    """A moment before it was read, by the clock of the reader: `fresh_ms` counts from no later."""

    @property
    def is_value(self) -> bool:
        """Whether a `get` finds it: it is fresh, and no error that is remembered for loaders."""
        if self.envelope is not None and self.envelope.is_error:
            return False
        return self.fresh_ms is None or self.fresh_ms > 0


class WarmTier:
    """A pool of values.

    Safe for any number of threads and processes.

    Args:
        pool: Where the entries are.
        codec: How values are written and read.
        faults: What to do when the pool cannot serve.
    """

    def __init__(self, pool: Pool, codec: Codec, faults: Faults) -> None:
        self.pool = pool
        self.codec = codec
        self.faults = faults
        self.own_gets = self.own_hits = 0
        """Look-ups that no caller asked for, of tags and by loaders; the pool counts them too."""

    # Reading

    def look(self, key: Key, known: int = 0, *, is_own: bool = True) -> Versioned:
        """Return the stored bytes of *key*, whatever they are worth, with their version.

        Args:
            known: As for `Pool.get_versioned`.
            is_own: No caller asked for it; it is counted apart, and a miss calls no callback.
        """
        try:
            found = (self.pool.look_versioned if is_own else self.pool.get_versioned)(key, known)
        except FAILURES as error:
            self.faults.read("reading", error)
            return _NOTHING
        if is_own:
            self._counted(is_hit=found[5] != 0)
        return found

    def _counted(self, *, is_hit: bool) -> None:
        self.own_gets += 1
        self.own_hits += is_hit

    def read(self, key: Key, found: Versioned | None = None, begun: float = 0.0) -> Reading | None:
        """Return the entry of *key*, fresh or stale, or None when there is none that counts.

        Args:
            found: What `look` gave for it just now.
            begun: A moment before that, for whoever wants to make a copy.
        """
        payload, tag, index, version, ttl_ms, generation = found or self.look(key)
        if payload is None:
            return None
        try:
            envelope, body = self.codec.unwrap(key, payload, tag)
        except DecodeError as error:
            self.undecodable(key, version, error)
            return None
        if envelope is None:
            return Reading(body, tag, (index, version), (), ttl_ms, None, generation, begun)
        dependencies = self.watch_tags(envelope.tags)
        if dependencies is None:
            return None
        fresh_ms = None if ttl_ms is None else ttl_ms - envelope.grace_ms
        watch = index, version
        return Reading(body, tag, watch, dependencies, fresh_ms, envelope, generation, begun)

    def version_to_load(self, key: Key) -> int:
        """Return the version under which what is loaded from now on may be stored.

        An entry that has expired is removed first: whoever swept it up during the load would change
        the version.
        """
        payload, _tag, _index, version, _ttl_ms, _generation = self.look(key)
        if payload is not None:
            return version
        try:
            self.pool.put_if_version(key, b"", version, ttl_seconds=0)
        except FAILURES as error:
            self.faults.read("looking for an expired entry", error)
        return self.look(key)[3]

    def undecodable(self, key: Key, version: int, error: DecodeError) -> None:
        """Count an entry that cannot be decoded, and remove it if it is still the one read."""
        self.faults.decode(error)
        try:
            self.pool.put_if_version(key, b"", version, ttl_seconds=0)
        except FAILURES as failure:
            self.faults.write("removing what cannot be decoded", failure)

    # Writing

    def store(  # noqa: PLR0913 - what an entry is made of
        self,
        key: Key,
        value: Any,
        ttl_seconds: float | None,
        *,
        envelope: Envelope | None = None,
        version: int | None = None,
        lease: int = 0,
        or_raise: bool = False,
    ) -> Stored | None:
        """Store *value*; return what was stored, or None when nothing was.

        Args:
            ttl_seconds: How long it is fresh; it is kept for the envelope's grace besides.
            version: Store only if nothing happened to *key* since it had this version.
            lease: Or since the lease of this token was taken.
            or_raise: When the pool cannot serve, raise what it does.

        Raises:
            Exception: Whatever the serializer raises for a value that it cannot serialize.
        """
        payload, tag = self.codec.encode(key, value, envelope)
        kept_seconds = _kept_seconds(ttl_seconds, envelope)
        try:
            written = self.pool.put_versioned(
                key, payload, ttl_seconds=kept_seconds, tag=tag, if_version=version, lease=lease
            )
        except FAILURES as error:
            if or_raise:
                raise
            self._put_failed(key, error, is_forgotten=version is None)
            return None
        if written is None:
            self.faults.writes += version is None
            return None
        return payload, tag, written

    def put(
        self,
        key: Key,
        value: Any,
        ttl_seconds: float | None,
        *,
        envelope: Envelope | None = None,
        only_if: OnlyIf = None,
    ) -> bool:
        """As `store`, but under the condition *only_if* of `Pool.put`; return whether it was."""
        payload, tag = self.codec.encode(key, value, envelope)
        kept_seconds = _kept_seconds(ttl_seconds, envelope)
        try:
            return self.pool.put(key, payload, ttl_seconds=kept_seconds, only_if=only_if, tag=tag)
        except FAILURES as error:
            self._put_failed(key, error, is_forgotten=only_if is None)
            return False

    def _put_failed(self, key: Key, error: BaseException, *, is_forgotten: bool) -> None:
        """Count a put that failed; the value that it should have replaced is not served on."""
        self.faults.write("storing", error)
        if not is_forgotten:
            return
        try:
            self.pool.delete(key)
        except FAILURES as failure:
            self.faults.write("removing the old value", failure)

    def add(
        self, key: Key, value: Any, ttl_seconds: float | None, *, envelope: Envelope | None
    ) -> bool:
        """Store *value* if there is no fresh entry; return whether it was stored."""
        for _attempt in range(_ADD_ATTEMPTS):
            if self.put(key, value, ttl_seconds, envelope=envelope, only_if="absent"):
                return True
            found = self.look(key)
            if found[0] is None:  # it went meanwhile, or the pool cannot serve
                continue
            reading = self.read(key, found)
            if reading is not None and reading.is_value:
                return False
            if self.store(key, value, ttl_seconds, envelope=envelope, version=found[3]):
                return True
        return False

    def delete(self, key: Key) -> bool:
        """Remove *key*; return whether it had a fresh entry.

        Raises:
            PmemCacheError: It may still be there.
        """
        is_dead = self.is_dead(key)
        return self.pool.delete(key) and not is_dead

    def delete_many(self, keys: list[Key]) -> int:
        """Remove every key; return how many had a fresh entry. Raises after trying all."""
        dead = sum(map(self.is_dead, keys))
        return max(0, self.pool.delete_many(keys) - dead)

    def is_dead(self, key: Key) -> bool:
        """Whether there is an entry that no `get` finds: stale, of a dropped tag, or an error."""
        found = self.look(key)
        if found[0] is None or not found[1] & ENVELOPED:
            return False
        reading = self.read(key, found)
        return reading is None or not reading.is_value

    def touch(self, key: Key, ttl_seconds: float | None) -> bool:
        """Give a fresh entry a new time to live; return whether there was one."""
        try:
            info = self.pool.info(key)
            if info is None:
                return False
            if info.tag & ENVELOPED:
                reading = self.read(key)
                if reading is None or not reading.is_value:
                    return False
                ttl_seconds = _kept_seconds(ttl_seconds, reading.envelope)
            return self.pool.touch(key, ttl_seconds)
        except FAILURES as error:
            self.faults.write("touching", error)
            return False

    def incr(
        self, key: Key, delta: int, initial: int | None, ttl_seconds: float | None
    ) -> int | None:
        """Add to an int, in whatever way it was stored; return the sum, or None when missing.

        Raises:
            NotAnIntegerError: The value is something else.
            IntegerOverflowError: The sum needs more than 64 bits; the value stays.
        """
        try:
            return self.pool.incr(key, delta, initial=initial, ttl_seconds=ttl_seconds, tag=TAG_INT)
        except NotAnIntegerError:
            return self._incr_wrapped(key, delta, initial, ttl_seconds)
        except FAILURES as error:
            self.faults.write("counting", error)
            return None

    def _incr_wrapped(
        self, key: Key, delta: int, initial: int | None, ttl_seconds: float | None
    ) -> int | None:
        """Add to an int that is in an envelope or signed: compare and swap."""
        for _attempt in range(_CAS_ATTEMPTS):
            found = self.look(key)
            reading = self.read(key, found)
            version = found[3]
            if reading is None or not reading.is_value:
                if initial is None:
                    return None
                if self.store(key, initial + delta, ttl_seconds, version=version):
                    return initial + delta
                continue
            try:
                value = self.codec.decode(reading.payload, reading.tag)
            except DecodeError as error:  # it is removed, and missing
                self.undecodable(key, version, error)
                continue
            total = added(key, value, delta)
            left = None if reading.fresh_ms is None else reading.fresh_ms / 1000
            if self.store(key, total, left, envelope=reading.envelope, version=version):
                return total
        self.faults.write("counting", TimeoutError(f"{key!r} changes all the time"))
        return None

    # Tags

    def generations(self, digests: Iterable[bytes]) -> tuple[TagPair, ...]:
        """Return each tag with its generation of now, made where there is none."""
        return tuple((each, self._generation(each)) for each in digests)

    def drop_tag(self, tag: bytes) -> None:
        """Make every entry with this tag a miss, in all processes at once.

        Raises:
            PmemCacheError: They may still be hits.
        """
        self.pool.delete(tag_key(tag))

    def _generation(self, tag: bytes) -> bytes:
        key = tag_key(tag)
        try:
            for _attempt in range(_ADD_ATTEMPTS):
                known = self.look(key)[0]
                if known is not None:
                    return known
                self.pool.put(key, os.urandom(GENERATION_BYTES), only_if="absent")
        except FAILURES as error:
            self.faults.write("reading a tag", error)
        return os.urandom(GENERATION_BYTES)  # of an entry that is never a hit

    def watch_tags(self, pairs: tuple[TagPair, ...]) -> tuple[Watch, ...] | None:
        """Return the versions to watch, or None when one of the tags was dropped."""
        watches = []
        for tag, generation in pairs:
            current, _tag, index, version, _ttl_ms, _generation = self.look(tag_key(tag))
            if current != generation:
                return None
            watches.append((index, version))
        return tuple(watches)


def added(key: Key, value: Any, delta: int) -> int:
    """Return the sum that `incr` makes of *value*.

    Raises:
        NotAnIntegerError: It is something else.
        IntegerOverflowError: The sum needs more than 64 bits.
    """
    if type(value) is not int:
        message = f"the value of {key!r} is not an integer: set one before counting"
        raise NotAnIntegerError(message)
    if value + delta not in _INT64:
        message = f"{key!r} plus {delta} needs more than 64 bits: the value stays as it was"
        raise IntegerOverflowError(message)
    return value + delta


def _kept_seconds(ttl_seconds: float | None, envelope: Envelope | None) -> float | None:
    """Return how long an entry is kept: its time to live and its grace."""
    if envelope is None or ttl_seconds is None or ttl_seconds <= 0:
        return ttl_seconds
    return ttl_seconds + envelope.grace_ms / 1000
