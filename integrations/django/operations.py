"""What each operation of the cache does, in calls of the pool.

These methods are the backend's own. The public ones of `PmemCache` call them, in their sync and
their async form, and they never call a public one: tools that watch a cache replace its public
methods, and would count an operation twice.

What a pool cannot serve becomes a miss or a dropped write, and a line in the log. Two things are
never answered that way: wrong settings, and a delete, touch to zero or clear that may not have
happened, because its caller relies on the old value being gone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django.core.cache.backends.base import (
    DEFAULT_TIMEOUT,
    MEMCACHE_MAX_KEY_LENGTH,
    BaseCache,
    InvalidCacheKey,
    default_key_func,
)

from pmemcache.errors import (
    IntegerOverflowError,
    NotAnIntegerError,
    PoolFullError,
    ValueTooLargeError,
)
from pmemcache.integrations.django.sharing import FAILURES, shared_pool
from pmemcache.serializers import (
    INT64_MAX,
    INT64_MIN,
    TAG_BYTES,
    TAG_INT,
    DecodeError,
    decode,
    encode,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from pmemcache.pool import Pool
    from pmemcache.types import OnlyIf

_MISSING: Final = object()
# A put that no eviction can make room for; the pool leaves what the key held.
_REFUSALS: Final = (ValueTooLargeError, PoolFullError)

_KEY_MAX_BYTES: Final = 65_535
_CULL_BATCH: Final = 16
# A compare-and-set fails only when another writer of the key got in between.
_CAS_ATTEMPTS: Final = 1000


class Taken(NamedTuple):
    """An entry that was removed."""

    payload: bytes
    tag: int
    ttl_seconds: float | None


class PoolOperations(BaseCache):
    """Django's cache operations over a shared pool, without the public names."""

    def __init__(self, location: str | os.PathLike[str], params: dict[str, Any]) -> None:
        """Find the pool of *location*; it is opened by the first operation."""
        super().__init__(params)
        options = params.get("OPTIONS", {})
        self._shared = shared_pool(location, options)
        self._culls = "MAX_ENTRIES" in options or "max_entries" in params
        # Where keys are Django's own in every respect, they are made and tested here, in less time.
        self._plain_key_func = default_key_func if _has_plain_keys(type(self)) else None

    # Arguments

    def _pool_key(self, key: Any, version: int | None) -> str | bytes:
        """Return the pool's key, after the warnings that Django gives about it.

        A str is a key that has nothing to be warned of, bytes are any other.

        Raises:
            InvalidCacheKey: The key is longer than a pool can hold.
        """
        if self.key_func is self._plain_key_func:
            number = self.version if version is None else version
            made = f"{self.key_prefix!s}:{number!s}:{key!s}"
            if len(made) <= MEMCACHE_MAX_KEY_LENGTH and _is_harmless(made):
                return made
        else:
            made = self.make_key(key, version)
        self.validate_key(made)
        encoded = made.encode("utf-8", "surrogatepass")
        if len(encoded) > _KEY_MAX_BYTES:
            message = f"Cache key is longer than {_KEY_MAX_BYTES} bytes: {made[:50]!r}..."
            raise InvalidCacheKey(message)
        return encoded

    def _pool_keys(self, keys: Iterable[Any], version: int | None) -> dict[Any, Any]:
        """Return `{pool key: key}`, as `_pool_key` makes them."""
        given = list(keys)
        if self.key_func is self._plain_key_func:
            prefix = f"{self.key_prefix!s}:{self.version if version is None else version}:"
            made = {f"{prefix}{key!s}": key for key in given}
            longest = max(map(len, made), default=0)
            if longest <= MEMCACHE_MAX_KEY_LENGTH and _is_harmless("".join(made)):
                return made
        return {self._pool_key(key, version): key for key in given}

    def _ttl_seconds(self, timeout: Any) -> float | None:
        """Return the time to live for a `timeout` of Django: None never ends, 0 is over already."""
        if timeout is DEFAULT_TIMEOUT:
            timeout = self.default_timeout
        if timeout is None or timeout == math.inf:
            return None
        if timeout <= 0:
            return 0
        return timeout if type(timeout) is int else float(timeout)

    # Reads

    def _get(self, key: Any, default: Any, version: int | None) -> Any:
        try:
            return self._shared.find(self._pool_key(key, version), default)
        except FAILURES as error:
            self._shared.failed("get", error)
            return default

    def _get_many(self, keys: Iterable[Any], version: int | None) -> dict[Any, Any]:
        """Return what is there, in one call of the engine; hot copies would be no faster."""
        asked = self._pool_keys(keys, version)
        try:
            found = self._shared.pool().get_many_tagged(asked)
        except FAILURES as error:
            self._shared.failed("get_many", error)
            return {}
        values = {}
        for pool_key, (payload, tag) in found.items():
            try:
                value = payload if tag == TAG_BYTES else decode(payload, tag)
            except DecodeError:  # more than a value, or none: the cache knows what to do with it
                value = self._get(asked[pool_key], _MISSING, version)
            if value is not _MISSING:
                values[asked[pool_key]] = value
        return values

    def _has_key(self, key: Any, version: int | None) -> bool:
        pool_key = self._pool_key(key, version)
        try:
            return self._shared.pool().exists(pool_key)
        except FAILURES as error:
            self._shared.failed("has_key", error)
            return False

    def _get_or_set(self, key: Any, default: Any, timeout: Any, version: int | None) -> Any:
        value = self._get(key, _MISSING, version)
        if value is not _MISSING:
            return value
        if callable(default):
            default = default()
        self._add(key, default, timeout, version)
        return self._get(key, default, version)

    # Writes

    def _set(
        self, key: Any, value: Any, timeout: Any, version: int | None, only_if: OnlyIf = None
    ) -> bool:
        """Store *value*; return whether the pool took it."""
        pool_key = self._pool_key(key, version)
        entry = encode(value)
        ttl_seconds = self._ttl_seconds(timeout)
        try:
            return self._put(self._shared.pool(), pool_key, entry, ttl_seconds, only_if)
        except FAILURES as error:
            self._shared.failed("set", error)
            return False

    def _set_if(  # noqa: PLR0913 - what `set` takes
        self, key: Any, value: Any, timeout: Any, version: int | None, *, nx: bool, xx: bool
    ) -> bool:
        """Store *value* if *key* holds nothing (*nx*) or something (*xx*)."""
        if nx and xx:
            message = "nx and xx contradict each other: give one"
            raise ValueError(message)
        if nx:
            return self._add(key, value, timeout, version)
        return self._set(key, value, timeout, version, "present")

    def _put(
        self,
        pool: Pool,
        pool_key: str | bytes,
        entry: tuple[bytes, int],
        ttl_seconds: float | None,
        only_if: OnlyIf = None,
    ) -> bool:
        """Store *entry*; what can have no place leaves nothing in its place either."""
        if self._culls:
            self._cull(pool)
        payload, tag = entry
        try:
            return pool.put(pool_key, payload, ttl_seconds=ttl_seconds, only_if=only_if, tag=tag)
        except _REFUSALS as error:
            self._shared.failed("set", error)
        pool.delete(pool_key)  # or the next get would find what this set was to replace
        return False

    def _set_many(self, data: Mapping[Any, Any], timeout: Any, version: int | None) -> list[Any]:
        """Store all of *data*; return the keys of what the pool did not take."""
        keys = self._pool_keys(data, version)
        entries = {pool_key: encode(data[key]) for pool_key, key in keys.items()}
        ttl_seconds = self._ttl_seconds(timeout)
        try:
            refused = self._put_many(self._shared.pool(), entries, ttl_seconds)
        except FAILURES as error:
            self._shared.failed("set_many", error)
            return list(data)
        return [keys[pool_key] for pool_key in refused]

    def _put_many(
        self,
        pool: Pool,
        entries: dict[str | bytes, tuple[bytes, int]],
        ttl_seconds: float | None,
    ) -> list[str | bytes]:
        if not self._culls:
            try:
                return pool.put_many(entries, ttl_seconds=ttl_seconds)
            except _REFUSALS:
                pass  # one by one, to learn which
        return [
            pool_key
            for pool_key, entry in entries.items()
            if not self._put(pool, pool_key, entry, ttl_seconds)
        ]

    def _add(self, key: Any, value: Any, timeout: Any, version: int | None) -> bool:
        pool_key = self._pool_key(key, version)
        payload, tag = encode(value)
        ttl_seconds = self._ttl_seconds(timeout)
        try:
            pool = self._shared.pool()
            if ttl_seconds == 0 or self._culls:
                if pool.exists(pool_key):
                    return False
                if ttl_seconds == 0:
                    return True
                self._cull(pool)
            return pool.put(pool_key, payload, ttl_seconds=ttl_seconds, tag=tag, only_if="absent")
        except FAILURES as error:
            self._shared.failed("add", error)
            return False

    def _touch(self, key: Any, timeout: Any, version: int | None) -> bool:
        pool_key = self._pool_key(key, version)
        ttl_seconds = self._ttl_seconds(timeout)
        try:
            return self._shared.pool().touch(pool_key, ttl_seconds)
        except FAILURES as error:
            if ttl_seconds == 0:
                raise
            self._shared.failed("touch", error)
            return False

    # Removals

    def _delete(self, key: Any, version: int | None) -> bool:
        return self._shared.pool().delete(self._pool_key(key, version))

    def _delete_many(self, keys: Iterable[Any], version: int | None) -> None:
        self._shared.pool().delete_many(self._pool_keys(keys, version))

    def _clear(self) -> None:
        self._shared.pool().clear()

    def _discard(self, pool_key: str | bytes, error: DecodeError) -> None:
        """Drop an entry that cannot be read, so that `add` can put a good one in its place."""
        self._shared.failed("get", error)
        try:
            self._shared.pool().delete(pool_key)
        except FAILURES as failure:
            self._shared.failed("get", failure)

    def _cull(self, pool: Pool) -> None:
        """Make room as Django's `MAX_ENTRIES` and `CULL_FREQUENCY` say, before one more entry.

        Several processes may get here together: each evicts only while the pool is still above the
        mark that it aims for.
        """
        entries = pool.stats().entries
        if entries < self._max_entries:
            return
        if self._cull_frequency == 0:
            pool.clear()
            return
        target = entries - entries // self._cull_frequency
        while (surplus := pool.stats().entries - target) > 0:
            for _ in range(min(surplus, _CULL_BATCH)):
                if pool.evict() is None:
                    return

    # Counters and versions

    def _incr(self, key: Any, delta: Any, version: int | None, default: int | None = None) -> int:
        pool_key = self._pool_key(key, version)
        try:
            total: int | None = self._incr_entry(self._shared.pool(), pool_key, delta, default)
        except DecodeError as error:
            self._discard(pool_key, error)
        except FAILURES as error:
            self._shared.failed("incr", error)
        else:
            if total is not None:
                return total
        raise _key_not_found(key)

    def _incr_entry(
        self, pool: Pool, pool_key: str | bytes, delta: Any, default: int | None
    ) -> Any:
        """Return the sum, or None when there is no entry and no *default* for it."""
        if type(delta) is int and INT64_MIN <= delta <= INT64_MAX:
            try:
                if default is None:
                    return pool.incr(pool_key, delta)
                ttl_seconds = self._ttl_seconds(DEFAULT_TIMEOUT)
                return pool.incr(
                    pool_key, delta, initial=default, ttl_seconds=ttl_seconds, tag=TAG_INT
                )
            except (NotAnIntegerError, IntegerOverflowError):
                pass
        return self._incr_object(pool, pool_key, delta)

    def _incr_object(self, pool: Pool, pool_key: str | bytes, delta: Any) -> Any:
        """Add to what is not a 64-bit integer: a float, a longer int, anything that can be added.

        The deadline stays where it was, to the millisecond.
        """
        for _ in range(_CAS_ATTEMPTS):
            info = pool.info(pool_key)  # before the value: a later value fails the comparison
            found = pool.get_tagged(pool_key)
            if info is None or found is None:
                return None
            value = decode(*found) + delta
            payload, tag = encode(value)
            if pool.put(
                pool_key,
                payload,
                ttl_seconds=info.ttl_seconds,
                tag=tag,
                only_if=info.generation,
            ):
                return value
        return None

    def _incr_version(self, key: Any, delta: int, version: int | None) -> int:
        """Move the entry to another version, deadline and all.

        Of several callers at once exactly one moves it. Between the two steps neither version has
        it, which is a miss; never do both.
        """
        if version is None:
            version = self.version
        old_key = self._pool_key(key, version)
        new_key = self._pool_key(key, version + delta)
        try:
            moved = self._move(self._shared.pool(), old_key, new_key)
        except FAILURES as error:
            self._shared.failed("incr_version", error)
            moved = False
        if not moved:
            raise _key_not_found(key)
        return version + delta

    def _move(self, pool: Pool, old_key: str | bytes, new_key: str | bytes) -> bool:
        taken = self._take(pool, old_key)
        if taken is None:
            return False
        return pool.put(new_key, taken.payload, ttl_seconds=taken.ttl_seconds, tag=taken.tag)

    def _take(self, pool: Pool, pool_key: str | bytes) -> Taken | None:
        """Remove an entry and return what it was; of several callers one gets it."""
        for _ in range(_CAS_ATTEMPTS):
            info = pool.info(pool_key)
            found = pool.get_tagged(pool_key)
            if info is None or found is None:
                return None
            if pool.put(pool_key, b"", ttl_seconds=0, only_if=info.generation):
                return Taken(*found, info.ttl_seconds)
        return None


def _has_plain_keys(backend: type[BaseCache]) -> bool:
    return backend.make_key is BaseCache.make_key and backend.validate_key is BaseCache.validate_key


def _is_harmless(key: str) -> bool:
    """Whether Django has nothing to say about the characters of *key*; errs only towards no."""
    return key.isascii() and key.isprintable() and " " not in key


def _key_not_found(key: Any) -> ValueError:
    return ValueError(f"Key '{key}' not found")
