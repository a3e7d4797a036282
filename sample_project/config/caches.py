"""The CACHES setting of each backend that the site can be compared on.

Every backend gets the same budget of bytes. How each one is told about it differs:

* `pmemcache` takes the budget as the size of its pool, shared by all workers. `pmemcache_hot` gives
  a quarter of it to the workers, for copies in their own memory, and the rest to the pool.
* `redis` takes it as `maxmemory` of the server, which is set where the server is started.
* `locmem` counts entries, not bytes, and each worker has its own; so the budget is divided by
  the number of workers and by the mean size of an entry.
* `none` stores nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_TIMEOUT_SECONDS = 3600
HOT_PART = 4
"""The copies of all workers together get one part in so many of the budget."""


@dataclass(frozen=True, kw_only=True)
class CacheChoice:
    """Which cache the site uses and how much memory it may take."""

    backend: str = "pmemcache"
    location: str = ""
    budget_bytes: int = 64 * 1024 * 1024
    entry_bytes: int = 4096
    workers: int = 4
    lifetime: str = "volatile"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> CacheChoice:
        """Return the choice made by the `SAMPLE_*` variables; unset or empty means the default."""
        return cls(
            backend=environ.get("SAMPLE_CACHE") or cls.backend,
            location=environ.get("SAMPLE_CACHE_LOCATION", cls.location),
            budget_bytes=int(environ.get("SAMPLE_CACHE_BYTES") or cls.budget_bytes),
            entry_bytes=int(environ.get("SAMPLE_CACHE_ENTRY_BYTES") or cls.entry_bytes),
            workers=int(environ.get("SAMPLE_WORKERS") or cls.workers),
            lifetime=environ.get("SAMPLE_CACHE_LIFETIME") or cls.lifetime,
        )


def caches_setting(choice: CacheChoice) -> dict[str, dict[str, Any]]:
    """Return the CACHES setting for *choice*.

    Raises:
        ImproperlyConfigured: The backend is unknown, or Redis was chosen without its address.
    """
    builders = {
        "none": _none,
        "locmem": _locmem,
        "redis": _redis,
        "pmemcache": _pmemcache,
        "pmemcache_hot": _pmemcache_hot,
    }
    if choice.backend not in builders:
        message = f"SAMPLE_CACHE is {choice.backend!r}; use one of {', '.join(builders)}."
        raise ImproperlyConfigured(message)
    return {"default": {"TIMEOUT": DEFAULT_TIMEOUT_SECONDS, **builders[choice.backend](choice)}}


def _none(_choice: CacheChoice) -> dict[str, Any]:
    return {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}


def _locmem(choice: CacheChoice) -> dict[str, Any]:
    entries = choice.budget_bytes // choice.workers // choice.entry_bytes
    return {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "LOCATION": choice.location,
        "OPTIONS": {"MAX_ENTRIES": max(entries, 1)},
    }


def _redis(choice: CacheChoice) -> dict[str, Any]:
    if not choice.location:
        message = "SAMPLE_CACHE_LOCATION must be the server's URL, such as unix:///tmp/redis.sock."
        raise ImproperlyConfigured(message)
    return {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": choice.location,
    }


def _pmemcache(choice: CacheChoice) -> dict[str, Any]:
    return {
        "BACKEND": "pmemcache.integrations.django.PmemCache",
        "LOCATION": choice.location,
        # No hot tier: its memory would come on top of the budget that all caches have.
        "OPTIONS": {"size": choice.budget_bytes, "hot_size": 0, "lifetime": choice.lifetime},
    }


def _pmemcache_hot(choice: CacheChoice) -> dict[str, Any]:
    hot_bytes = choice.budget_bytes // (HOT_PART * choice.workers)
    size = choice.budget_bytes - hot_bytes * choice.workers
    return {**_pmemcache(choice), "OPTIONS": {"size": size, "hot_size": hot_bytes}}
