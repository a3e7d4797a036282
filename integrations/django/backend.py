"""Django's cache API over a pool.

Every operation is short and ends in memory, so its async form runs it in place: handing it to
another thread would cost a hundred times what it takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT

from pmemcache.decorator import cached
from pmemcache.integrations.django.functions import AliasCache
from pmemcache.integrations.django.inspection import Inspection
from pmemcache.integrations.django.sharing import FAILURES

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from pmemcache.envelope import Generations
    from pmemcache.integrations.django.locks import Lock
    from pmemcache.integrations.django.operations import Tags


class PmemCache(Inspection):
    """A cache that all worker processes of a host share, without a server.

    `LOCATION` is the pool's file, or a directory for it; empty is a default pool in shared memory.
    `OPTIONS` are those of `pmemcache.Pool`, by name. An object of this class costs microseconds to
    make and holds nothing to close.
    """

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """Return the value of *key*, or *default*."""
        # What `_get` does with a key of Django's own that is hot, with no call but one.
        if version is None and self.key_func is self._hot_key_func:
            shared = self._shared
            made = self._start + key if type(key) is str else f"{self._start}{key!s}"
            if made in shared.hot:  # so it is a key that Django has nothing to say about
                try:
                    return shared.find(made, default)
                except FAILURES as error:
                    shared.failed("get", error)
                    return default
        return self._get(key, default, version)

    _get_hot = get  # under a name that no tool replaces

    async def aget(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """Return the value of *key*, or *default*."""
        return self._get_hot(key, default, version)

    def set(  # noqa: PLR0913 - Django's arguments, two of Redis, and tags
        self,
        key: Any,
        value: Any,
        timeout: float | None = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        nx: bool = False,
        xx: bool = False,
        tags: Tags = (),
    ) -> Any:
        """Store *value*, with *nx* only if *key* holds nothing, with *xx* only if it does.

        Args:
            tags: `invalidate` of any of them makes the entry a miss.

        Returns:
            Whether it was stored.
        """
        if nx or xx:
            return self._set_if(key, value, timeout, version, nx=nx, xx=xx, tags=tags)
        return self._set(key, value, timeout, version, tags=tags)

    async def aset(  # noqa: PLR0913 - Django's arguments, two of Redis, and tags
        self,
        key: Any,
        value: Any,
        timeout: float | None = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        nx: bool = False,
        xx: bool = False,
        tags: Tags = (),
    ) -> Any:
        """Store *value*, with *nx* only if *key* holds nothing, with *xx* only if it does.

        Args:
            tags: `invalidate` of any of them makes the entry a miss.

        Returns:
            Whether it was stored.
        """
        if nx or xx:
            return self._set_if(key, value, timeout, version, nx=nx, xx=xx, tags=tags)
        return self._set(key, value, timeout, version, tags=tags)

    def add(
        self,
        key: Any,
        value: Any,
        timeout: float | None = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: Tags = (),
    ) -> bool:
        """Store *value* if *key* holds nothing; return whether it did."""
        return self._add(key, value, timeout, version, tags=tags)

    async def aadd(
        self,
        key: Any,
        value: Any,
        timeout: float | None = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: Tags = (),
    ) -> bool:
        """Store *value* if *key* holds nothing; return whether it did."""
        return self._add(key, value, timeout, version, tags=tags)

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
        *,
        tags: Tags = (),
    ) -> list[Any]:
        """Store all of *data*; return the keys that could not be stored."""
        return self._set_many(data, timeout, version, tags)

    async def aset_many(
        self,
        data: dict[Any, Any],
        timeout: float | None = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: Tags = (),
    ) -> list[Any]:
        """Store all of *data*; return the keys that could not be stored."""
        return self._set_many(data, timeout, version, tags)

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
        *,
        tags: Tags = (),
    ) -> Any:
        """Return the value of *key*; if it holds none, store *default*, called if callable.

        With `OPTIONS["single_flight"]` or *tags*, one caller of the host computes it and the others
        wait; an error of *default* is raised to all of them.
        """
        return self._get_or_set(key, default, timeout, version, tags)

    async def aget_or_set(
        self,
        key: Any,
        default: Any,
        timeout: float | None = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: Tags = (),
    ) -> Any:
        """Return the value of *key*; if it holds none, store *default*, called if callable.

        With `OPTIONS["single_flight"]` or *tags*, one caller of the host computes it and the others
        wait; an error of *default* is raised to all of them.

        *default* is called in place, and what it returns is awaited where it can be.
        """
        return await self._aget_or_set(key, default, timeout, version, tags)

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

    # Tags

    def invalidate(self, *tags: str) -> None:
        """Make every entry with one of *tags* a miss, in all processes and aliases of the pool.

        Costs one delete for each tag, however many the entries are.

        Raises:
            PmemCacheError: They may still be hits.
        """
        self._invalidate(tags, (), None)

    async def ainvalidate(self, *tags: str) -> None:
        """Make every entry with one of *tags* a miss, as `invalidate`."""
        self._invalidate(tags, (), None)

    def generations(self, *tags: str) -> Generations:
        """Return what to give to `set` as its *tags* for a value that is computed from now on.

        Should one of them be invalidated before the `set`, the value is never a hit.
        """
        return self._generations(tags)

    def invalidate_on_commit(
        self,
        *tags: str,
        keys: Iterable[Any] = (),
        version: int | None = None,
        using: str | None = None,
    ) -> None:
        """Invalidate *tags*, and delete *keys*, once the transaction is committed.

        At once where there is none, never where it is rolled back: who reads meanwhile may store
        what was true before it, and that has to go afterwards.

        Args:
            using: The database whose transaction it is; None: the default one.

        Raises:
            TypeError: *keys* is one str.
        """
        if isinstance(keys, str):
            message = f"keys is an iterable of keys, not the str {keys!r}: write [{keys!r}]"
            raise TypeError(message)
        from django.db import transaction  # noqa: PLC0415 - a site without a database has caches

        made = list(keys)
        transaction.on_commit(lambda: self._invalidate(tags, made, version), using=using)

    # Computing once

    def cached(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        timeout: float | Callable[[Any], float | None] | None = DEFAULT_TIMEOUT,
        **options: Any,
    ) -> Any:
        """Remember the results of a function in this cache: `pmemcache.cached`, with its options.

        Args:
            timeout: Seconds that a result counts, or a function of the result that says so.
            options: Those of `pmemcache.cached`, but for `cache` and `ttl_seconds`.

        Raises:
            TypeError: One of these two is among them, or what `pmemcache.cached` refuses.
        """
        for name, instead in (("cache", "this alias"), ("ttl_seconds", "timeout=")):
            if name in options:
                message = f"{name}= is not for the cache of an alias: it is {instead}"
                raise TypeError(message)
        seconds = timeout if callable(timeout) else self._ttl_seconds(timeout)
        place = AliasCache(self)
        decorate: Any = cached(cache=lambda: place, ttl_seconds=seconds, **options)  # type: ignore[arg-type, return-value]
        return decorate if function is None else decorate(function)

    def lock(  # noqa: PLR0913 - django-redis's arguments
        self,
        key: Any,
        version: int | None = None,
        timeout: float | None = None,
        sleep: float = 0.1,  # noqa: ARG002 - whoever waits is woken
        *,
        blocking: bool = True,
        blocking_timeout: float | None = None,
        thread_local: bool = True,
    ) -> Lock:
        """Return a lock that one thread of one process of the host has at a time.

        It is released by the end of its owner too. Use it as `with cache.lock("name"):`, or with
        its `acquire` and `release`; in coroutines `async with`, `aacquire` and `arelease`.

        Args:
            timeout: Seconds after which it is free again, though it was not released.
            sleep: Taken for django-redis's sake: nobody has to look again and again.
            blocking: Whether `acquire` waits.
            blocking_timeout: Seconds that it waits at most; None: for ever.
            thread_local: Whether only the thread that acquired it can release it.

        Raises:
            PmemCacheError: The pool cannot serve, so nobody can have a lock.
        """
        return self._lock(
            key,
            version,
            timeout=timeout,
            blocking=blocking,
            blocking_timeout=blocking_timeout,
            thread_local=thread_local,
        )

    # The whole

    def clear(self) -> None:
        """Remove everything: of this alias's namespace, or without one from the whole pool."""
        self._clear()

    async def aclear(self) -> None:
        """Remove everything: of this alias's namespace, or without one from the whole pool."""
        self._clear()

    def close(self, **kwargs: Any) -> None:
        """Do nothing: the pool stays open for the next request."""

    async def aclose(self, **kwargs: Any) -> None:
        """Do nothing: the pool stays open for the next request."""
