"""The CACHES setting of each backend that the site can be compared on.

Every backend gets the same budget of bytes. How each one is told about it differs:

* `pmemcache` takes the budget as the size of its pool, shared by all workers. `pmemcache_hot` gives
  a quarter of it to the workers, for copies in their own memory, and the rest to the pool.
* `redis`, `django_redis`, `far_redis` and `memcached` take it as a limit of the server, which is
  set where the server is started.
* `diskcache` takes it as a limit of its files.
* `locmem` counts entries, not bytes, and each worker has its own; so the budget is divided by
  the number of workers and by the mean size of an entry. `filebased` counts entries, too.
* `none` stores nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
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

    backend: str = "pmemcache_hot"
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
        ImproperlyConfigured: The backend is unknown, or a server was chosen without its address.
    """
    builders = {
        "none": _none,
        "locmem": _locmem,
        "filebased": _filebased,
        "diskcache": _diskcache,
        "memcached": _memcached,
        "redis": _redis,
        "django_redis": _django_redis,
        "far_redis": _redis,
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


def _filebased(choice: CacheChoice) -> dict[str, Any]:
    return {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": _location(choice, "a directory"),
        "OPTIONS": {"MAX_ENTRIES": max(choice.budget_bytes // choice.entry_bytes, 1)},
    }


def _diskcache(choice: CacheChoice) -> dict[str, Any]:
    return {
        "BACKEND": "diskcache.DjangoCache",
        "LOCATION": _location(choice, "a directory"),
        "OPTIONS": {"size_limit": choice.budget_bytes},
    }


def _memcached(choice: CacheChoice) -> dict[str, Any]:
    # The client in C where it could be installed; the one in Python takes twice as long.
    client = "PyLibMCCache" if find_spec("pylibmc") else "PyMemcacheCache"
    return {
        "BACKEND": f"django.core.cache.backends.memcached.{client}",
        "LOCATION": _location(choice, "the server's address, such as unix:/tmp/memcached.sock"),
    }


def _redis(choice: CacheChoice) -> dict[str, Any]:
    return {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": _location(choice, "the server's URL, such as unix:///tmp/redis.sock"),
    }


def _django_redis(choice: CacheChoice) -> dict[str, Any]:
    return {**_redis(choice), "BACKEND": "django_redis.cache.RedisCache"}


def _location(choice: CacheChoice, what: str) -> str:
    if not choice.location:
        message = f"SAMPLE_CACHE_LOCATION must be {what}."
        raise ImproperlyConfigured(message)
    return choice.location


def _pmemcache(choice: CacheChoice) -> dict[str, Any]:
    # No hot tier: its memory would come on top of the budget that all caches have.
    return _pmemcache_of(choice, size=choice.budget_bytes, hot_size=0)


def _pmemcache_hot(choice: CacheChoice) -> dict[str, Any]:
    hot_bytes = choice.budget_bytes // (HOT_PART * choice.workers)
    size = choice.budget_bytes - hot_bytes * choice.workers
    return _pmemcache_of(choice, size=size, hot_size=hot_bytes)


def _pmemcache_of(choice: CacheChoice, *, size: int, hot_size: int) -> dict[str, Any]:
    return {
        "BACKEND": "pmemcache.integrations.django.PmemCache",
        "LOCATION": choice.location,
        "OPTIONS": {
            "size": size,
            "hot_size": hot_size,
            "lifetime": choice.lifetime,
            # get_or_set computes once, and never stores what was deleted while it was computed.
            "single_flight": True,
        },
    }
