"""What `caches["default"].cached(...)` remembers: results of functions, in an alias of `CACHES`.

A decorated function outlives the backend that decorated it. When a test overrides `CACHES`, it goes
on with whatever its alias is then, and without a cache where that is of another kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.cache import caches

from pmemcache.integrations.django.loading import Once, aload, load
from pmemcache.integrations.django.sharing import FAILURES, rebuilds

if TYPE_CHECKING:
    from collections.abc import Callable

    from pmemcache.integrations.django.loading import Loading
    from pmemcache.tiered import TieredCache

NOTHING = {"hot": 0, "warm": 0}


class AliasCache:
    """The part of a `TieredCache` that cached functions use, over an alias.

    What the pool cannot serve is computed; a delete or clear that may not have happened raises.
    """

    def __init__(self, backend: Loading) -> None:
        self._backend: Loading | None = backend
        self._alias = _alias_of(backend)
        self._rebuilds = rebuilds()

    def _current(self) -> Loading | None:
        """Return the backend of the alias as it is now; None: it is not ours."""
        if self._alias is not None and self._rebuilds != rebuilds():
            self._rebuilds = rebuilds()
            backend: Any = caches[self._alias] if self._alias in settings.CACHES else None
            self._backend = backend if hasattr(backend, "_pool_key") else None
        return self._backend

    def find(self, name: str, default: Any = None) -> Any:
        """Return the result of a call, or *default*."""
        backend = self._current()
        return default if backend is None else backend._get(name, default, None)  # noqa: SLF001

    def get_or_load(self, name: str, loader: Callable[[Any], Any], **plan: Any) -> Any:
        """Return the result of a call, by *loader* if need be, once for all who ask."""
        return self._load("get_or_load", name, loader, plan)

    def load_missing(self, name: str, loader: Callable[[Any], Any], **plan: Any) -> Any:
        """As `get_or_load`, of a call that `find` has not found just now."""
        return self._load("load_missing", name, loader, plan)

    def refresh(self, name: str, loader: Callable[[Any], Any], **plan: Any) -> Any:
        """Call *loader* now, and remember what it returns."""
        return self._load("refresh", name, loader, plan)

    async def aget_or_load(self, name: str, loader: Callable[[Any], Any], **plan: Any) -> Any:
        """As `get_or_load`, without blocking the event loop."""
        return await self._aload("aget_or_load", name, loader, plan)

    async def aload_missing(self, name: str, loader: Callable[[Any], Any], **plan: Any) -> Any:
        """As `load_missing`, without blocking the event loop."""
        return await self._aload("aload_missing", name, loader, plan)

    async def arefresh(self, name: str, loader: Callable[[Any], Any], **plan: Any) -> Any:
        """As `refresh`, without blocking the event loop."""
        return await self._aload("arefresh", name, loader, plan)

    def _load(
        self, method: str, name: str, loader: Callable[[Any], Any], plan: dict[str, Any]
    ) -> Any:
        backend = self._current()
        once = Once(lambda: loader(name))
        if backend is None:
            return once()

        def call(cache: TieredCache) -> Any:
            return getattr(cache, method)(backend._pool_key(name, None), once, **plan)  # noqa: SLF001

        return load(backend._shared, method, call, once)  # noqa: SLF001

    async def _aload(
        self, method: str, name: str, loader: Callable[[Any], Any], plan: dict[str, Any]
    ) -> Any:
        backend = self._current()
        once = Once(lambda: loader(name))
        if backend is None:
            return await once.awaited()

        async def call(cache: TieredCache) -> Any:
            key = backend._pool_key(name, None)  # noqa: SLF001
            return await getattr(cache, method)(key, once.awaited, **plan)

        return await aload(backend._shared, method, call, once)  # noqa: SLF001

    def delete(self, name: str) -> bool:
        """Forget the result of a call; return whether there was one."""
        backend = self._current()
        return backend is not None and backend._delete(name, None)  # noqa: SLF001

    def clear(self, namespace: str) -> None:
        """Forget the results of a function."""
        backend = self._current()
        if backend is not None:
            backend._shared.cache().clear(namespace)  # noqa: SLF001

    def count(self, prefix: str) -> dict[str, int]:
        """Return the number of results in each tier."""
        backend = self._current()
        if backend is None:
            return dict(NOTHING)
        made = backend._pool_key(prefix, None)  # noqa: SLF001
        text = made if isinstance(made, str) else made.decode("utf-8", "surrogatepass")
        try:
            return backend._shared.cache().count(text)  # noqa: SLF001
        except FAILURES:
            return dict(NOTHING)


def _alias_of(backend: Loading) -> str | None:
    """Return the alias whose settings *backend* was made from; None: it was made by hand."""
    location, params = backend._settings  # noqa: SLF001
    alias: str
    for alias, entry in settings.CACHES.items():
        rest = {name: value for name, value in entry.items() if name not in {"BACKEND", "LOCATION"}}
        if entry.get("LOCATION", "") == location and rest == params:
            return alias
    return None
