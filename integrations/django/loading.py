"""Values that are computed on a miss, what they belong to, and locks, without the public names.

With `OPTIONS["single_flight"]`, or with tags, a miss of `get_or_set` is loaded under a lease: one
thread of one process computes, the others wait for it. What was computed before one of its tags was
dropped is never a hit.
"""

from __future__ import annotations

import functools
import inspect
import os
from typing import TYPE_CHECKING, Any, Final

from pmemcache.envelope import GENERATION_BYTES, Generations
from pmemcache.errors import LoaderError, PmemCacheError
from pmemcache.integrations.django.counting import Counting
from pmemcache.integrations.django.locks import Lock
from pmemcache.integrations.django.sharing import FAILURES
from pmemcache.warm import tag_digest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from pmemcache.integrations.django.operations import Tags
    from pmemcache.integrations.django.sharing import SharedPool

_MISSING: Final = object()


class Once:
    """A call that is made at most once, whatever becomes of the cache around it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._value: Any = _MISSING
        self.error: BaseException | None = None
        """What the function raised."""

    def __call__(self, _key: Any = None) -> Any:
        """Call the function, or answer as it did before."""
        if self.error is not None:
            raise self.error
        if self._value is _MISSING:
            try:
                self._value = self._function()
            except BaseException as error:
                self.error = error
                raise
        return self._value

    async def awaited(self, _key: Any = None) -> Any:
        """As `__call__`; what the function returns is awaited where it can be."""
        value = self()
        if inspect.isawaitable(value):
            try:
                value = self._value = await value
            except BaseException as error:
                self.error = error
                raise
        return value


def load(shared: SharedPool, operation: str, call: Callable[[Any], Any], once: Once) -> Any:
    """Return what `call(cache)` does, which loads by *once*; without a pool, what *once* does.

    Raises:
        Exception: What *once* raised, here or in the thread or process that called it.
    """
    try:
        cache = shared.cache()
    except FAILURES as error:
        shared.failed(operation, error)
        return once()
    try:
        return call(cache)
    except PmemCacheError as error:
        _pass_over(shared, operation, error, once)
    return once()


async def aload(
    shared: SharedPool, operation: str, call: Callable[[Any], Awaitable[Any]], once: Once
) -> Any:
    """As `load`, without blocking the event loop."""
    try:
        cache = shared.cache()
    except FAILURES as error:
        shared.failed(operation, error)
        return await once.awaited()
    try:
        return await call(cache)
    except PmemCacheError as error:
        _pass_over(shared, operation, error, once)
    return await once.awaited()


def _pass_over(shared: SharedPool, operation: str, error: PmemCacheError, once: Once) -> None:
    """Let *once* be called after *error*, which is one of the pool: an open one raises no OSError.

    A `LoaderError` is all that could be sent of another's error. Here it is raised as what it is,
    by which callers know it, so this call has to meet it itself.

    Raises:
        PmemCacheError: It is what *once* raised.
    """
    if error is once.error:
        raise error
    if not isinstance(error, LoaderError):
        shared.failed(operation, error)


class Loading(Counting):
    """`get_or_set`, tags, locks and cached functions, without the public names."""

    def _get_or_set(
        self, key: Any, default: Any, timeout: Any, version: int | None, tags: Tags = ()
    ) -> Any:
        value = self._get(key, _MISSING, version)
        if value is not _MISSING:
            return value
        once = Once(default if callable(default) else lambda: default)
        if self._loads_once or tags:
            call = self._loading_call(
                "load_missing", key, once, timeout=timeout, version=version, tags=tags
            )
            return load(self._shared, "get_or_set", call, once)
        value = once()
        self._add(key, value, timeout, version)
        return self._get(key, value, version)

    async def _aget_or_set(
        self, key: Any, default: Any, timeout: Any, version: int | None, tags: Tags = ()
    ) -> Any:
        """As `_get_or_set`; *default* is called in place, and what it returns is awaited."""
        value = self._get(key, _MISSING, version)
        if value is not _MISSING:
            return value
        once = Once(default if callable(default) else lambda: default)
        if self._loads_once or tags:
            call = self._loading_call(
                "aload_missing", key, once.awaited, timeout=timeout, version=version, tags=tags
            )
            return await aload(self._shared, "get_or_set", call, once)
        value = await once.awaited()
        self._add(key, value, timeout, version)
        return self._get(key, value, version)

    def _loading_call(  # noqa: PLR0913 - what `get_or_set` takes
        self,
        method: str,
        key: Any,
        loader: Callable[..., Any],
        *,
        timeout: Any,
        version: int | None,
        tags: Tags,
    ) -> Callable[[Any], Any]:
        """Return what loads *key* in a cache by its *method*, with Django's arguments."""
        return lambda cache: getattr(cache, method)(
            self._pool_key(key, version), loader, self._ttl_seconds(timeout), tags=tags
        )

    # Tags

    def _generations(self, tags: Iterable[str]) -> Generations:
        try:
            return self._shared.cache().generations(tags)
        except FAILURES as error:
            self._shared.failed("reading tags", error)
        unknown = os.urandom(GENERATION_BYTES)  # what is stored under it is never a hit
        return Generations((tag_digest(tag), unknown) for tag in tags)

    def _invalidate(self, tags: Iterable[str], keys: Iterable[Any], version: int | None) -> None:
        """Drop *tags* and remove *keys*, all of them before the first error is raised."""
        steps: list[Callable[[], object]] = [functools.partial(self._drop_tag, tag) for tag in tags]
        listed = list(keys)
        if listed:
            steps.append(functools.partial(self._delete_many, listed, version))
        first: Exception | None = None
        for step in steps:
            try:
                step()
            except FAILURES as error:
                first = first or error
        if first is not None:
            raise first

    def _drop_tag(self, tag: str) -> None:
        self._shared.cache().drop_tag(tag)

    # Locks

    def _lock(self, key: Any, version: int | None, **options: Any) -> Lock:
        made = self._pool_key(key, version)
        name = made if isinstance(made, bytes) else made.encode()
        return Lock(self._shared.pool, name, **options)
