"""Django's cache API over a pool.

Every operation is short and ends in memory, so its async form runs it in place: handing it to
another thread would cost a hundred times what it takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT

from pmemcache.integrations.django.operations import PoolOperations
from pmemcache.integrations.django.sharing import FAILURES

if TYPE_CHECKING:
    from collections.abc import Iterable


class PmemCache(PoolOperations):
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

    def set(
        self,
        key: Any,
        value: Any,
        timeout: float | None = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> None:
        """Store *value*, in place of what *key* held."""
        self._set(key, value, timeout, version)

    async def aset(
        self,
        key: Any,
        value: Any,
        timeout: float | None = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> None:
        """Store *value*, in place of what *key* held."""
        self._set(key, value, timeout, version)

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

    def incr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Add *delta* to a number and return the sum; no update of another process is lost."""
        return self._incr(key, delta, version)

    async def aincr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Add *delta* to a number and return the sum; no update of another process is lost."""
        return self._incr(key, delta, version)

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
