"""The caches that know tags, for what stores under tags: pages and fragments."""

from __future__ import annotations

from typing import Any

from django.core.cache import caches
from django.core.cache.backends.dummy import DummyCache
from django.core.exceptions import ImproperlyConfigured

from pmemcache.integrations.django.backend import PmemCache

__all__ = ["tagged_cache"]


class _Nothing:
    """What Django's dummy cache is, with tags: stores nothing."""

    def get(self, _key: Any, default: Any = None) -> Any:
        return default

    def set(self, *_arguments: Any, **_options: Any) -> None:
        pass

    def get_or_set(self, _key: Any, default: Any, *_arguments: Any, **_options: Any) -> Any:
        return default() if callable(default) else default

    def generations(self, *tags: str) -> tuple[str, ...]:
        return tags


def tagged_cache(alias: str) -> Any:
    """Return the cache *alias*, which takes `tags`. The dummy cache of Django may stand in for it.

    Raises:
        ImproperlyConfigured: It is another kind, whose entries nobody could invalidate.
    """
    cache = caches[alias]
    if isinstance(cache, PmemCache):
        return cache
    if isinstance(cache, DummyCache):
        return _Nothing()
    message = (
        f"the cache {alias!r} is a {type(cache).__name__}, which knows no tags: use a PmemCache, "
        "or Django's DummyCache where nothing is to be cached"
    )
    raise ImproperlyConfigured(message)
