"""The entries of `CACHES` that are pmemcache's, and the pools behind them.

What was found is kept until `CACHES` is overridden, for each request asks.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.cache import InvalidCacheBackendError
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from pmemcache.integrations.django.backend import PmemCache
from pmemcache.integrations.django.sharing import shared_pool

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pmemcache.integrations.django.sharing import SharedPool

__all__ = ["pmem_settings", "pool_of", "pools"]


@functools.cache
def pmem_settings() -> Mapping[str, Mapping[str, Any]]:
    """Return the entries of `CACHES` whose backend is `PmemCache` or made from it, by alias."""
    return {alias: entry for alias, entry in settings.CACHES.items() if _is_pmem(entry)}


@functools.cache
def pool_of(alias: str) -> SharedPool:
    """Return the pool of the cache *alias*, not opened by this.

    Raises:
        InvalidCacheBackendError: There is no such alias, or it is another kind of cache.
        ImproperlyConfigured: Its settings cannot work.
    """
    entry = pmem_settings().get(alias)
    if entry is None:
        known = ", ".join(map(repr, pmem_settings())) or "none"
        message = f"CACHES has no pmemcache under the alias {alias!r}; there is {known}"
        raise InvalidCacheBackendError(message)
    return shared_pool(entry.get("LOCATION", ""), entry.get("OPTIONS", {}))


@functools.cache
def pools() -> Mapping[SharedPool, list[str]]:
    """Return every pool with its aliases, in the order of `CACHES`.

    Raises:
        ImproperlyConfigured: Settings of one cannot work.
    """
    found: dict[SharedPool, list[str]] = {}
    for alias in pmem_settings():
        found.setdefault(pool_of(alias), []).append(alias)
    return found


def _is_pmem(entry: Mapping[str, Any]) -> bool:
    try:
        kind = import_string(entry.get("BACKEND", ""))
    except ImportError:  # Django says so when the alias is used
        return False
    return isinstance(kind, type) and issubclass(kind, PmemCache)


def _look_again(*, setting: str, **_: Any) -> None:
    if setting == "CACHES":
        for known in (pmem_settings, pool_of, pools):
            known.cache_clear()


setting_changed.connect(_look_again)
