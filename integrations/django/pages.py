"""`cache_page` for pages that belong to something.

    @cache_page(300, tags=lambda request, city_id: (f"city:{city_id}",))
    def city(request, city_id): ...

`caches["default"].invalidate("city:7")` then makes every page with this tag a miss.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from django.middleware.cache import CacheMiddleware
from django.utils.decorators import decorator_from_middleware_with_args

from pmemcache.integrations.django.tagging import tagged_cache
from pmemcache.warm import checked_tags

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from django.http import HttpRequest

    TagsOfPage = Iterable[str] | Callable[..., Iterable[str]]

__all__ = ["cache_page"]


def cache_page(
    timeout: float | None,
    *,
    tags: TagsOfPage = (),
    cache: str | None = None,
    key_prefix: str | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """As Django's `cache_page`, of pages that are a miss once one of *tags* is invalidated.

    A page that was made before its tag was invalidated is never served after it.

    Args:
        timeout: Seconds that a page is kept; None: for ever.
        tags: Those of every page, or a function of the view's arguments that returns them.
        cache: The alias of a `PmemCache`; None: Django's setting.
        key_prefix: As for Django's.

    Raises:
        TypeError: *tags* is one str; at the request, where a function returns it.
        ImproperlyConfigured: At the first request: the alias is of another kind.
    """
    decorate: Any = decorator_from_middleware_with_args(TaggedCacheMiddleware)
    decorated: Callable[[Callable[..., Any]], Callable[..., Any]] = decorate(
        page_timeout=timeout, cache_alias=cache, key_prefix=key_prefix, tags=tags
    )
    return decorated


class TaggedCacheMiddleware(CacheMiddleware):
    """Django's cache of pages, which stores them under tags."""

    def __init__(self, get_response: Any, *, tags: TagsOfPage, **options: Any) -> None:
        super().__init__(get_response, **options)
        self._tags = tags if callable(tags) else checked_tags(tags)
        self._writes: _TaggedWrites | None = None

    @property
    def cache(self) -> Any:
        """The cache, with the tags of a page while one is stored."""
        return self._writes or tagged_cache(self.cache_alias)

    def process_view(
        self, request: HttpRequest, _view: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Note the generations of the tags before the page is made: it belongs to this moment."""
        tags = self._tags(request, *args, **kwargs) if callable(self._tags) else self._tags
        cache = tagged_cache(self.cache_alias)
        request._pmemcache_tags = cache.generations(*checked_tags(tags))  # type: ignore[attr-defined]  # noqa: SLF001

    def process_response(self, request: HttpRequest, response: Any) -> Any:
        """Store the page, and what it varies on, under its tags."""
        tags = getattr(request, "_pmemcache_tags", None)
        if tags is None:  # it came from the cache
            return response
        own = copy.copy(self)  # there is one of it for all threads
        own._writes = _TaggedWrites(tagged_cache(self.cache_alias), tags)  # noqa: SLF001
        return super(TaggedCacheMiddleware, own).process_response(request, response)


class _TaggedWrites:
    """What Django's cache of pages uses of a cache, with tags."""

    def __init__(self, cache: Any, tags: Any) -> None:
        self._cache = cache
        self._tags = tags

    def get(self, key: str, default: Any = None) -> Any:
        return self._cache.get(key, default)

    def set(self, key: str, value: Any, timeout: float | None) -> None:
        self._cache.set(key, value, timeout, tags=self._tags)
