"""What each operation of the cache does, in calls of the pool.

These methods are the backend's own. The public ones of `PmemCache` call them, in their sync and
their async form, and they never call a public one: tools that watch a cache replace its public
methods, and would count an operation twice.

What a pool cannot serve becomes a miss or a dropped write, and a line in the log. Two things are
never answered that way: wrong settings, and a delete, touch to zero or clear that may not have
happened, because its caller relies on the old value being gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pmemcache.codec import ENVELOPED
from pmemcache.errors import PoolFullError, ValueTooLargeError
from pmemcache.integrations.django.keys import PoolKeys
from pmemcache.integrations.django.sharing import FAILURES
from pmemcache.serializers import TAG_BYTES, DecodeError, decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pmemcache.envelope import Generations
    from pmemcache.pool import Pool
    from pmemcache.types import OnlyIf

    Tags = Iterable[str] | Generations

_MISSING: Final = object()
# A put that no eviction can make room for; the pool leaves what the key held.
_REFUSALS: Final = (ValueTooLargeError, PoolFullError)

_CULL_BATCH: Final = 16


class PoolOperations(PoolKeys):
    """Django's cache operations over a shared pool, without the public names."""

    # Reads

    def _get(self, key: Any, default: Any, version: int | None) -> Any:
        try:
            return self._shared.find(self._pool_key(key, version), default)
        except FAILURES as error:
            self._shared.failed("get", error)
            return default

    def _get_many(self, keys: Iterable[Any], version: int | None) -> dict[Any, Any]:
        """Return what is there, in one call of the engine; hot copies would be no faster."""
        try:
            asked = self._pool_keys(keys, version)
            found = self._shared.pool().get_many_tagged(asked)
        except FAILURES as error:
            self._shared.failed("get_many", error)
            return {}
        values = {}
        for pool_key, (payload, tag) in found.items():
            if tag == TAG_BYTES:
                values[asked[pool_key]] = payload
                continue
            try:
                value = decode(payload, tag)
            except DecodeError:  # more than a value, or none: the cache knows what to do with it
                value = self._get(asked[pool_key], _MISSING, version)
            if value is not _MISSING:
                values[asked[pool_key]] = value
        return values

    def _has_key(self, key: Any, version: int | None) -> bool:
        try:
            return self._holds(self._pool_key(key, version))
        except FAILURES as error:
            self._shared.failed("has_key", error)
            return False

    def _holds(self, pool_key: str | bytes) -> bool:
        """Whether there is an entry that counts."""
        pool = self._shared.pool()
        if not pool.exists(pool_key):
            return False
        info = pool.info(pool_key)
        return info is not None and self._counts(pool_key, info.tag)

    def _counts(self, pool_key: str | bytes, tag: int) -> bool:
        """Whether an entry with this tag byte is one still: none of its tags was dropped."""
        return not tag & ENVELOPED or self._shared.cache().ttl(pool_key) is not None

    # Writes

    def _set(  # noqa: PLR0913 - what `set` takes
        self,
        key: Any,
        value: Any,
        timeout: Any,
        version: int | None,
        *,
        only_if: OnlyIf = None,
        tags: Tags = (),
    ) -> bool:
        """Store *value*; return whether the pool took it."""
        ttl_seconds = self._ttl_seconds(timeout)
        entry = None if tags else encode(value, self._shared.serializer)
        try:
            pool_key = self._pool_key(key, version)
            if entry is None:
                return self._put_tagged(pool_key, value, ttl_seconds, tags)
            return self._put(self._shared.pool(), pool_key, entry, ttl_seconds, only_if)
        except FAILURES as error:
            self._shared.failed("set", error)
            return False

    def _set_if(  # noqa: PLR0913 - what `set` takes
        self,
        key: Any,
        value: Any,
        timeout: Any,
        version: int | None,
        *,
        nx: bool,
        xx: bool,
        tags: Tags,
    ) -> bool:
        """Store *value* if *key* holds nothing (*nx*) or something (*xx*)."""
        if nx and xx:
            message = "nx and xx contradict each other: give one"
            raise ValueError(message)
        if nx:
            return self._add(key, value, timeout, version, tags=tags)
        if tags:
            message = "xx stores in place of an entry with its own tags: give no others"
            raise ValueError(message)
        if not self._has_key(key, version):
            return False
        return self._set(key, value, timeout, version, only_if="present")

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
            self._refused(pool_key, error)
        return False

    def _put_tagged(
        self, pool_key: str | bytes, value: Any, ttl_seconds: float | None, tags: Tags
    ) -> bool:
        """As `_put`, of a value that is a miss once one of *tags* is dropped."""
        cache = self._shared.cache()
        if self._culls:
            self._cull(cache.pool)
        try:
            return cache.set(pool_key, value, ttl_seconds, tags=tags)
        except _REFUSALS as error:
            self._refused(pool_key, error)
        return False

    def _refused(self, pool_key: str | bytes, error: Exception) -> None:
        """Remove the old value, or the next get would find what a set was to replace."""
        self._shared.failed("set", error)
        self._shared.pool().delete(pool_key)

    def _set_many(
        self, data: Mapping[Any, Any], timeout: Any, version: int | None, tags: Tags = ()
    ) -> list[Any]:
        """Store all of *data*; return the keys of what the pool did not take."""
        ttl_seconds = self._ttl_seconds(timeout)
        encoded = {key: encode(value, self._shared.serializer) for key, value in data.items()}
        try:
            keys = self._pool_keys(data, version)
            if tags:
                return self._put_many_tagged(keys, data, ttl_seconds, tags)
            entries = {pool_key: encoded[key] for pool_key, key in keys.items()}
            refused = self._put_many(self._shared.pool(), entries, ttl_seconds)
        except FAILURES as error:
            self._shared.failed("set_many", error)
            return list(data)
        return [keys[pool_key] for pool_key in refused]

    def _put_many_tagged(
        self,
        keys: Mapping[Any, Any],
        data: Mapping[Any, Any],
        ttl_seconds: float | None,
        tags: Tags,
    ) -> list[Any]:
        now = self._shared.cache().generations(tags)
        return [
            key
            for pool_key, key in keys.items()
            if not self._put_tagged(pool_key, data[key], ttl_seconds, now)
        ]

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

    def _add(
        self, key: Any, value: Any, timeout: Any, version: int | None, *, tags: Tags = ()
    ) -> bool:
        ttl_seconds = self._ttl_seconds(timeout)
        entry = encode(value, self._shared.serializer)
        try:
            pool_key = self._pool_key(key, version)
            if ttl_seconds == 0 or self._culls:
                if self._holds(pool_key):
                    return False
                if ttl_seconds == 0:
                    return True
                self._cull(self._shared.pool())
            if tags:
                return self._shared.cache().add(pool_key, value, ttl_seconds, tags=tags)
            return self._put_absent(pool_key, entry, ttl_seconds)
        except FAILURES as error:
            self._shared.failed("add", error)
            return False

    def _put_absent(
        self, pool_key: str | bytes, entry: tuple[bytes, int], ttl_seconds: float | None
    ) -> bool:
        """Store *entry* if there is none, or one that does not count."""
        pool = self._shared.pool()
        payload, tag = entry
        if pool.put(pool_key, payload, ttl_seconds=ttl_seconds, tag=tag, only_if="absent"):
            return True
        info = pool.info(pool_key)
        if info is None or self._counts(pool_key, info.tag):
            return False
        now = info.generation
        return pool.put(pool_key, payload, ttl_seconds=ttl_seconds, tag=tag, only_if=now)

    def _touch(self, key: Any, timeout: Any, version: int | None) -> bool:
        ttl_seconds = self._ttl_seconds(timeout)
        try:
            return self._shared.cache().touch(self._pool_key(key, version), ttl_seconds)
        except FAILURES as error:
            if ttl_seconds == 0:
                raise
            self._shared.failed("touch", error)
            return False

    # Removals

    def _delete(self, key: Any, version: int | None) -> bool:
        return self._shared.cache().delete(self._pool_key(key, version))

    def _delete_many(self, keys: Iterable[Any], version: int | None) -> None:
        self._shared.pool().delete_many(self._pool_keys(keys, version))

    def _clear(self) -> None:
        """Remove everything, or what is in this alias's namespace."""
        if self._namespace is None:
            self._shared.pool().clear()
        else:
            self._namespace.clear()

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
