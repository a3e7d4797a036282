"""Django's cache API over a pool.

Every operation is short and ends in memory, so its async form runs it in place: handing it to
another thread would cost a hundred times what it takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT

from pmemcache.integrations.django.inspection import Inspection
from pmemcache.integrations.django.sharing import FAILURES

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import AsyncIterator, Iterable, Iterator


class PmemCache(Inspection):
    """A cache that all worker processes of a host share, without a server.

    `LOCATION` is the pool's file, or a directory for it; empty is a default pool in shared memory.
    `OPTIONS` are those of `pmemcache.Pool`, by name. An object of this class costs microseconds to
    make and holds nothing to close.
    """

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """Return the value of *key*, or *default*."""
        # What `_get` does with a key of Django's own that is hot, with no call but one.
        if self.key_func is self._plain_key_func:
            shared = self._shared
            number = self.version if version is None else version
            made = f"{self.key_prefix!s}:{number!s}:{key!s}"
            if made in shared.hot:  # so it is a key that Django has nothing to say about
                try:
                    return shared.find(made, default)
                except FAILURES as error:
                    shared.failed("get", error)
                    return default
        return self._get(key, default, version)

    async def aget(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """Return the value of *key*, or *default*."""
        return self._get(key, default, version)

    def set(  # noqa: PLR0913 - Django's arguments, and two of Redis
        self,
        key: Any,
        value: Any,
        timeout: float | None = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        nx: bool = False,
        xx: bool = False,
    ) -> Any:
        """Store *value*, with *nx* only if *key* holds nothing, with *xx* only if it does.

        Returns:
            Whether it was stored.
        """
        if nx or xx:
            return self._set_if(key, value, timeout, version, nx=nx, xx=xx)
        return self._set(key, value, timeout, version)

    async def aset(  # noqa: PLR0913 - Django's arguments, and two of Redis
        self,
        key: Any,
        value: Any,
        timeout: float | None = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        nx: bool = False,
        xx: bool = False,
    ) -> Any:
        """Store *value*, with *nx* only if *key* holds nothing, with *xx* only if it does.

        Returns:
            Whether it was stored.
        """
        if nx or xx:
            return self._set_if(key, value, timeout, version, nx=nx, xx=xx)
        return self._set(key, value, timeout, version)

    def add(
        self,
        key: Any,
        value: Any,
        timeout: float | None = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> bool:
        """Store *value* if *key* holds nothing; return whether it did."""
        return self._add(key, value, timeout, version)

    async def aadd(
        self,
        key: Any,
        value: Any,
        timeout: float | None = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> bool:
        """Store *value* if *key* holds nothing; return whether it did."""
        return self._add(key, value, timeout, version)

    def touch(
        self, key: Any, timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        """Give the entry a new timeout; return whether there is one."""
        return self._touch(key, timeout, version)

    async def atouch(
        self, key: Any, timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        """Give the entry a new timeout; return whether there is one."""
        return self._touch(key, timeout, version)

    def delete(self, key: Any, version: int | None = None) -> bool:
        """Remove the entry; return whether there was one. No process reads it after this."""
        return self._delete(key, version)

    async def adelete(self, key: Any, version: int | None = None) -> bool:
        """Remove the entry; return whether there was one. No process reads it after this."""
        return self._delete(key, version)

    def has_key(self, key: Any, version: int | None = None) -> bool:
        """Return whether *key* holds a value."""
        return self._has_key(key, version)

    async def ahas_key(self, key: Any, version: int | None = None) -> bool:
        """Return whether *key* holds a value."""
        return self._has_key(key, version)

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """Return the values of those *keys* that hold one."""
        return self._get_many(keys, version)

    async def aget_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """Return the values of those *keys* that hold one."""
        return self._get_many(keys, version)

    def set_many(
        self,
        data: dict[Any, Any],
        timeout: float | None = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> list[Any]:
        """Store all of *data*; return the keys that could not be stored."""
        return self._set_many(data, timeout, version)

    async def aset_many(
        self,
        data: dict[Any, Any],
        timeout: float | None = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> list[Any]:
        """Store all of *data*; return the keys that could not be stored."""
        return self._set_many(data, timeout, version)

    def delete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """Remove the entries of *keys*."""
        self._delete_many(keys, version)

    async def adelete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """Remove the entries of *keys*."""
        self._delete_many(keys, version)

    def get_or_set(
        self,
        key: Any,
        default: Any,
        timeout: float | None = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> Any:
        """Return the value of *key*; if it holds none, store *default*, called if callable."""
        return self._get_or_set(key, default, timeout, version)

    async def aget_or_set(
        self,
        key: Any,
        default: Any,
        timeout: float | None = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> Any:
        """Return the value of *key*; if it holds none, store *default*, called if callable."""
        return self._get_or_set(key, default, timeout, version)

    def incr(
        self,
        key: Any,
        delta: int = 1,
        version: int | None = None,
        *,
        default: int | None = None,
    ) -> int:
        """Add *delta* to a number and return the sum; no update of another process is lost.

        Args:
            default: What a missing key counts as; the entry then has the default timeout. None: a
                missing key is a ValueError.
        """
        return self._incr(key, delta, version, default)

    async def aincr(
        self,
        key: Any,
        delta: int = 1,
        version: int | None = None,
        *,
        default: int | None = None,
    ) -> int:
        """Add *delta* to a number and return the sum; no update of another process is lost.

        Args:
            default: What a missing key counts as; the entry then has the default timeout. None: a
                missing key is a ValueError.
        """
        return self._incr(key, delta, version, default)

    def decr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Subtract *delta* from a number and return the difference, as `incr` does."""
        return self._incr(key, -delta, version)

    async def adecr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Subtract *delta* from a number and return the difference, as `incr` does."""
        return self._incr(key, -delta, version)

    def incr_version(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Move the entry to its version plus *delta*, deadline and all; return that version."""
        return self._incr_version(key, delta, version)

    async def aincr_version(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Move the entry to its version plus *delta*, deadline and all; return that version."""
        return self._incr_version(key, delta, version)

    def decr_version(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Move the entry to its version minus *delta*, deadline and all; return that version."""
        return self._incr_version(key, -delta, version)

    async def adecr_version(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Move the entry to its version minus *delta*, deadline and all; return that version."""
        return self._incr_version(key, -delta, version)

    # Beyond Django, as django-redis has it

    def ttl(self, key: Any, version: int | None = None) -> int | None:
        """Return the seconds that *key* has left; None without an end, 0 when it is missing."""
        return self._ttl(key, version)

    async def attl(self, key: Any, version: int | None = None) -> int | None:
        """Return the seconds that *key* has left; None without an end, 0 when it is missing."""
        return self._ttl(key, version)

    def pttl(self, key: Any, version: int | None = None) -> int | None:
        """Return the milliseconds that *key* has left, otherwise as `ttl`."""
        return self._pttl(key, version)

    async def apttl(self, key: Any, version: int | None = None) -> int | None:
        """Return the milliseconds that *key* has left, otherwise as `ttl`."""
        return self._pttl(key, version)

    def persist(self, key: Any, version: int | None = None) -> bool:
        """Take the timeout from an entry; return whether there was one to take."""
        return self._persist(key, version)

    async def apersist(self, key: Any, version: int | None = None) -> bool:
        """Take the timeout from an entry; return whether there was one to take."""
        return self._persist(key, version)

    def expire(self, key: Any, timeout: float | None, version: int | None = None) -> bool:
        """Give the entry a new timeout; return whether there is one."""
        return self._touch(key, timeout, version)

    async def aexpire(self, key: Any, timeout: float | None, version: int | None = None) -> bool:
        """Give the entry a new timeout; return whether there is one."""
        return self._touch(key, timeout, version)

    def expire_at(self, key: Any, when: dt.datetime | float, version: int | None = None) -> bool:
        """End the entry at a moment or Unix time; return whether there is one."""
        return self._expire_at(key, when, version)

    async def aexpire_at(
        self, key: Any, when: dt.datetime | float, version: int | None = None
    ) -> bool:
        """End the entry at a moment or Unix time; return whether there is one."""
        return self._expire_at(key, when, version)

    def pop(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """Remove *key* and return its value, or *default*; one caller of several gets it."""
        return self._pop(key, default, version)

    async def apop(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """Remove *key* and return its value, or *default*; one caller of several gets it."""
        return self._pop(key, default, version)

    def keys(self, search: str = "*", version: int | None = None) -> list[str]:
        """Return the keys that match a glob. The cost grows with the pool."""
        return self._keys(search, version)

    async def akeys(self, search: str = "*", version: int | None = None) -> list[str]:
        """Return the keys that match a glob. The cost grows with the pool."""
        return self._keys(search, version)

    def iter_keys(self, search: str = "*", version: int | None = None) -> Iterator[str]:
        """Iterate over the keys that match a glob, without a list of all.

        Raises:
            PmemCacheError: The pool cannot be read.
        """
        return self._iter_keys(search, version)

    async def aiter_keys(self, search: str = "*", version: int | None = None) -> AsyncIterator[str]:
        """Iterate over the keys that match a glob, as `iter_keys`."""
        for key in self._iter_keys(search, version):
            yield key

    def delete_pattern(self, pattern: str, version: int | None = None) -> int:
        """Remove the keys that match a glob; return how many there were."""
        return self._delete_pattern(pattern, version)

    async def adelete_pattern(self, pattern: str, version: int | None = None) -> int:
        """Remove the keys that match a glob; return how many there were."""
        return self._delete_pattern(pattern, version)

    # The pool as a whole

    def clear(self) -> None:
        """Remove everything from the pool, the entries of other aliases of it too."""
        self._clear()

    async def aclear(self) -> None:
        """Remove everything from the pool, the entries of other aliases of it too."""
        self._clear()

    def close(self, **kwargs: Any) -> None:
        """Do nothing: the pool stays open for the next request."""

    async def aclose(self, **kwargs: Any) -> None:
        """Do nothing: the pool stays open for the next request."""
