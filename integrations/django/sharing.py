"""One pool per `LOCATION` and process, whatever number of backend objects stand before it.

Django makes a backend object for every thread and every asyncio task, and closes it after every
request. So the objects own nothing: they meet here, at a `SharedPool`, which opens its pool on the
first use and keeps it, and this process's hot copies of it, until the process ends. A child made by
fork goes on with the pool it inherits, and with no copies.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from pmemcache.errors import ConfigurationError, PmemCacheError, PoolClosedError
from pmemcache.faults import FailureLog
from pmemcache.integrations.django.namespaces import Namespace
from pmemcache.integrations.django.options import PoolRequest
from pmemcache.serializers import serializer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pmemcache.pool import Pool
    from pmemcache.tiered import TieredCache

logger: Final = logging.getLogger("pmemcache.django")

# What a pool raises when it cannot serve: the backend answers with a miss.
FAILURES: Final = (PmemCacheError, OSError)

_RETRY_OPEN_SECONDS: Final = 5.0
_FAILURE_LINE: Final = (
    "cache %s failed and was answered as a miss: %s (%d like it since the last such line)"
)
_NOTHING_HOT: Final[Mapping[Any, object]] = {}


class SharedPool:
    """The pool of one `LOCATION` in this process, opened when it is first needed."""

    def __init__(self, request: PoolRequest, clock: Callable[[], float] = time.monotonic) -> None:
        """Remember what to open; nothing is opened yet. *clock* counts seconds."""
        self.request = request
        self.serializer = serializer_of(request.serializer)
        self.log = FailureLog(logger, _FAILURE_LINE, clock)
        self.hot: Mapping[Any, object] = _NOTHING_HOT
        """This process's copies by key: one of a key in here is likely, not sure, to be good."""
        self.find: Callable[[Any, Any], Any] = self._open_and_find
        """Return the value of a key, or the default. Raises as `cache`, and as `Pool.get`."""
        self._clock = clock
        self._cache: TieredCache | None = None
        self._failure: Exception | None = None
        self._retry_at = 0.0
        self._namespaces: dict[str, Namespace] = {}

    def namespace(self, name: str) -> Namespace:
        """Return a namespace of this pool, the same for every caller."""
        known = self._namespaces.get(name)
        return known or self._namespaces.setdefault(name, Namespace(name, self.pool))

    def cache(self) -> TieredCache:
        """Return the open cache: the pool, and this process's copies of what it holds.

        An attempt to open it that failed is not repeated for five seconds, so that a broken pool
        costs the requests meanwhile nothing.

        Raises:
            ImproperlyConfigured: The settings ask for a pool that cannot be.
            PmemCacheError, OSError: The pool cannot be opened now.
        """
        cache = self._cache
        return self._open() if cache is None else cache

    @property
    def is_open(self) -> bool:
        """Whether this process has the pool open."""
        return self._cache is not None

    def pool(self) -> Pool:
        """Return the pool of the open cache; raise as `cache` does."""
        cache = self._cache
        return self._open().pool if cache is None else cache.pool

    def failed(self, operation: str, error: BaseException) -> None:
        """Log that *operation* failed; a pool that somebody closed is opened anew next time."""
        if isinstance(error, PoolClosedError):
            with _opening:
                if self._cache is not None and self._cache.pool.closed:
                    self._forget_locked()
        self.log.report(operation, error)

    def close(self) -> None:
        """Let go of the pool; the next use opens it again."""
        with _opening:
            cache = self._forget_locked()
        if cache is not None:
            cache.close()
            cache.pool.close()

    def _forget_locked(self) -> TieredCache | None:
        cache, self._cache = self._cache, None
        self.hot, self.find = _NOTHING_HOT, self._open_and_find
        return cache

    def _open_and_find(self, key: Any, default: Any) -> Any:
        return self.cache().find(key, default)

    def _open(self) -> TieredCache:
        with _opening:
            if self._cache is None:
                self._cache = self._open_locked()
                self.hot, self.find = self._cache.hot_entries, self._cache.find
            return self._cache

    def _open_locked(self) -> TieredCache:
        if self._failure is not None and self._clock() < self._retry_at:
            raise self._failure
        try:
            cache = self.request.open()
        except ConfigurationError as error:
            raise ImproperlyConfigured(str(error)) from error
        except FAILURES as error:
            self._failure = error
            self._retry_at = self._clock() + _RETRY_OPEN_SECONDS
            raise
        self._failure = None
        logger.debug("opened the pool %s", self.request.path)
        return cache


_opening = threading.Lock()
_shared_pools: dict[str, SharedPool] = {}


def _renew_lock() -> None:
    """Give a forked child a lock of its own: a thread of the parent may have held the old one."""
    global _opening  # noqa: PLW0603 - one lock for the process
    _opening = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def shared_pool(location: Any, options: Mapping[str, Any]) -> SharedPool:
    """Return the pool of *location*, the same for every caller in this process.

    Makes no system call but the first time.

    Args:
        location: `LOCATION` as the settings have it.
        options: `OPTIONS`.

    Raises:
        ImproperlyConfigured: An option is unknown or out of its range, or the same location was
            asked for with other options.
    """
    try:
        return _shared_pool(location, tuple(options.items()))
    except TypeError:  # a list has no hash
        message = (
            f"CACHES entry with LOCATION {location!r} and OPTIONS {options!r}: LOCATION is a path, "
            "and an option is a str, a number, True or False"
        )
        raise ImproperlyConfigured(message) from None


@functools.cache
def _shared_pool(location: Any, options: tuple[tuple[str, Any], ...]) -> SharedPool:
    request = PoolRequest.from_settings(location, dict(options))
    shared = _shared_pools.setdefault(request.path, SharedPool(request))
    if shared.request != request:
        message = (
            f"two entries of CACHES share the pool {request.path} but ask for different OPTIONS: "
            f"{request.differences(shared.request)}. Give both the same, or another LOCATION."
        )
        raise ImproperlyConfigured(message)
    return shared


def open_pools() -> list[SharedPool]:
    """Return the pools that this process has open."""
    return [shared for shared in _shared_pools.values() if shared.is_open]


def rebuilds() -> int:
    """Return how often `CACHES` was overridden in this process: who keeps a backend looks again."""
    return _rebuilds


_rebuilds = 0


def forget_pools(*, setting: str, **_: Any) -> None:
    """Close all pools when a test overrides `CACHES`, as Django itself drops its backends then."""
    global _rebuilds  # noqa: PLW0603 - one count for the process
    if setting == "CACHES":
        _rebuilds += 1
        _shared_pool.cache_clear()
        while _shared_pools:
            _shared_pools.popitem()[1].close()


setting_changed.connect(forget_pools)
