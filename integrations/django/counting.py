"""Counters, and entries that move: what reads and writes an entry in one step.

Several threads and processes may do so at once, and none loses what another did: the engine counts
64-bit integers, and everything else is a compare-and-set on the entry's generation.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django.core.cache.backends.base import DEFAULT_TIMEOUT

from pmemcache.codec import ENVELOPED
from pmemcache.envelope import Envelope
from pmemcache.errors import IntegerOverflowError, NotAnIntegerError
from pmemcache.integrations.django.keys import key_not_found
from pmemcache.integrations.django.operations import PoolOperations
from pmemcache.integrations.django.sharing import FAILURES
from pmemcache.serializers import (
    INT64_MAX,
    INT64_MIN,
    TAG_INT,
    DecodeError,
    decode,
    encode,
)

if TYPE_CHECKING:
    from pmemcache.pool import Pool
    from pmemcache.types import EntryInfo

# A compare-and-set fails only when another writer of the key got in between.
_CAS_ATTEMPTS: Final = 1000


class Found(NamedTuple):
    """An entry that counts, as it is stored."""

    payload: bytes
    tag: int
    info: EntryInfo

    def opened(self) -> tuple[Any, Envelope | None]:
        """Return the value, and the envelope that it was in.

        Raises:
            DecodeError: They cannot be read.
        """
        if not self.tag & ENVELOPED:
            return decode(self.payload, self.tag), None
        try:
            envelope, body = Envelope.unseal(self.payload)
        except (ValueError, struct.error) as error:
            message = f"the envelope of an entry with tag {self.tag} cannot be read: {error}"
            raise DecodeError(message) from error
        return decode(body, self.tag & ~ENVELOPED), envelope


def _is_int64(number: Any) -> bool:
    return type(number) is int and INT64_MIN <= number <= INT64_MAX


class Counting(PoolOperations):
    """Counters, versions and `pop`, without the public names."""

    def _incr(self, key: Any, delta: Any, version: int | None, default: int | None = None) -> int:
        try:
            pool_key = self._pool_key(key, version)
            total: int | None = self._incr_entry(self._shared.pool(), pool_key, delta, default)
        except DecodeError as error:
            self._discard(pool_key, error)
        except FAILURES as error:
            self._shared.failed("incr", error)
        else:
            if total is not None:
                return total
        raise key_not_found(key)

    def _incr_entry(
        self, pool: Pool, pool_key: str | bytes, delta: Any, default: int | None
    ) -> Any:
        """Return the sum, or None when there is no entry and no *default* for it."""
        if _is_int64(delta) and (default is None or _is_int64(default)):
            try:
                if default is None:
                    return pool.incr(pool_key, delta)
                ttl_seconds = self._ttl_seconds(DEFAULT_TIMEOUT)
                return pool.incr(
                    pool_key, delta, initial=default, ttl_seconds=ttl_seconds, tag=TAG_INT
                )
            except (NotAnIntegerError, IntegerOverflowError):
                pass
        return self._incr_object(pool, pool_key, delta, default)

    def _incr_object(self, pool: Pool, pool_key: str | bytes, delta: Any, default: Any) -> Any:
        """Add to what is not a 64-bit integer: a float, a longer int, anything that can be added.

        The deadline stays where it was, to the millisecond, and so do tags. What is missing, or has
        lost a tag, counts as *default*.
        """
        for _ in range(_CAS_ATTEMPTS):
            found = self._look(pool, pool_key)
            if found is None:
                if default is None:
                    return None
                entry = encode(default + delta, self._shared.serializer)
                if self._put_absent(pool_key, entry, self._ttl_seconds(DEFAULT_TIMEOUT)):
                    return default + delta
                continue
            value, envelope = found.opened()
            total = value + delta  # not in its place: a list is extended by what cannot be added
            payload, tag = encode(total, self._shared.serializer)
            if envelope is not None:
                payload, tag = envelope.seal(payload), tag | ENVELOPED
            info = found.info
            if pool.put(
                pool_key, payload, ttl_seconds=info.ttl_seconds, tag=tag, only_if=info.generation
            ):
                return total
        return None

    def _look(self, pool: Pool, pool_key: str | bytes) -> Found | None:
        """Return the entry, if there is one that counts."""
        info = pool.info(pool_key)  # before the value: a later value fails the comparison
        stored = pool.get_tagged(pool_key)
        if info is None or stored is None or not self._counts(pool_key, stored[1]):
            return None
        return Found(*stored, info)

    def _incr_version(self, key: Any, delta: int, version: int | None) -> int:
        """Move the entry to another version, deadline and all.

        Of several callers at once exactly one moves it. Between the two steps neither version has
        it, which is a miss; never do both.
        """
        if version is None:
            version = self.version
        try:
            old_key = self._pool_key(key, version)
            new_key = self._pool_key(key, version + delta)
            moved = self._move(self._shared.pool(), old_key, new_key)
        except FAILURES as error:
            self._shared.failed("incr_version", error)
            moved = False
        if not moved:
            raise key_not_found(key)
        return version + delta

    def _move(self, pool: Pool, old_key: str | bytes, new_key: str | bytes) -> bool:
        taken = self._take(pool, old_key)
        if taken is None:
            return False
        left = taken.info.ttl_seconds
        return pool.put(new_key, taken.payload, ttl_seconds=left, tag=taken.tag)

    def _pop(self, key: Any, default: Any, version: int | None) -> Any:
        """Remove *key* and return its value; of several callers at once exactly one gets it."""
        try:
            taken = self._take(self._shared.pool(), self._pool_key(key, version))
            return default if taken is None else taken.opened()[0]
        except FAILURES as error:  # a value that cannot be decoded is one
            self._shared.failed("pop", error)
            return default

    def _take(self, pool: Pool, pool_key: str | bytes) -> Found | None:
        """Remove an entry and return what it was; of several callers one gets it."""
        for _ in range(_CAS_ATTEMPTS):
            found = self._look(pool, pool_key)
            if found is None:
                return None
            if pool.put(pool_key, b"", ttl_seconds=0, only_if=found.info.generation):
                return found
        return None
