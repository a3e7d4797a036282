"""The forms of a cache's methods that an event loop can await.

What is short is done in place: handing it to another thread would cost a hundred times what it
takes. A call that would have to wait, for a lock that another process holds or for memory, is
repeated in a thread, and waits for loads are short sleeps; so the loop goes on.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pmemcache.envelope import Generations
from pmemcache.keys import pool_key
from pmemcache.loaders import bound, without_blocking
from pmemcache.warm import checked_tags

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pmemcache.loaders import Loading, LoadOptions, LoadPlan, Shelved, TimeToLive
    from pmemcache.pool import Pool
    from pmemcache.stats import TieredStats
    from pmemcache.types import Key

__all__ = ["AwaitedCache"]

AnyLoader = Callable[[Any], Any | Awaitable[Any]]

T = TypeVar("T")

_MISSING: Final = object()


class AwaitedCache:
    """What `TieredCache` inherits its a-forms from: each does what its plain form says."""

    # What TieredCache has.
    find: Callable[..., Any]
    set: Callable[..., bool]
    add: Callable[..., bool]
    delete: Callable[..., bool]
    touch: Callable[..., bool]
    incr: Callable[..., int | None]
    generations: Callable[..., Generations]
    get_many: Callable[..., dict[Any, Any]]
    drop_tag: Callable[..., None]
    clear: Callable[..., None]
    ttl: Callable[..., float | None]
    tier_of: Callable[..., str | None]
    count: Callable[..., dict[str, int]]
    stats: Callable[..., TieredStats]
    close: Callable[..., None]
    pool: Pool
    _loading: Loading
    _loader_of: Callable[..., AnyLoader | None]
    _plan: Callable[..., LoadPlan]
    _looked_up: Callable[[Key], Shelved | None]
    _misses: int

    async def aget(self, key: Any, default: Any = None) -> Any:
        """As `get`; a plain loader runs in a thread."""
        loader = self._loader_of(key)
        if loader is not None:
            return await self.aget_or_load(key, loader)
        value = await self._short(self.find, key, _MISSING)
        if value is not _MISSING:
            return value
        self._misses += 1
        return default

    async def aset(
        self,
        key: Any,
        value: Any,
        ttl_seconds: float | None = None,
        *,
        tags: Iterable[str] | Generations = (),
        **options: Any,
    ) -> bool:
        """As `set`."""
        again = _readable_again(tags)
        return await self._short(self.set, key, value, ttl_seconds, tags=again, **options)

    async def aadd(
        self,
        key: Any,
        value: Any,
        ttl_seconds: float | None = None,
        *,
        tags: Iterable[str] | Generations = (),
        **options: Any,
    ) -> bool:
        """As `add`."""
        again = _readable_again(tags)
        return await self._short(self.add, key, value, ttl_seconds, tags=again, **options)

    async def adelete(self, key: Any) -> bool:
        """As `delete`."""
        return await self._short(self.delete, key)

    async def atouch(self, key: Any, ttl_seconds: float | None = None) -> bool:
        """As `touch`."""
        return await self._short(self.touch, key, ttl_seconds)

    async def aincr(self, key: Any, delta: int = 1, **options: Any) -> int | None:
        """As `incr`."""
        return await self._short(self.incr, key, delta, **options)

    async def adecr(self, key: Any, delta: int = 1, **options: Any) -> int | None:
        """As `decr`."""
        return await self.aincr(key, -delta, **options)

    async def agenerations(self, tags: Iterable[str] | Generations) -> Generations:
        """As `generations`."""
        return await self._short(self.generations, _readable_again(tags))

    async def aget_many(self, keys: Iterable[Any]) -> dict[Any, Any]:
        """As `get_many`."""
        return await self._short(self.get_many, list(keys))

    async def aset_many(
        self,
        mapping: Mapping[Any, Any],
        ttl_seconds: float | None = None,
        *,
        tags: Iterable[str] | Generations = (),
        **options: Any,
    ) -> list[Any]:
        """As `set_many`."""
        now = await self.agenerations(tags)
        return [
            key
            for key, value in mapping.items()
            if not await self.aset(key, value, ttl_seconds, tags=now, **options)
        ]

    async def adelete_many(self, keys: Iterable[Any]) -> int:
        """As `delete_many`, but an error ends it."""
        return sum([await self.adelete(key) for key in keys])

    async def adrop_tag(self, tag: str) -> None:
        """As `drop_tag`."""
        await self._short(self.drop_tag, tag)

    async def aclear(self, namespace: str | None = None) -> None:
        """As `clear`."""
        await self._short(self.clear, namespace)

    async def attl(self, key: Any) -> float | None:
        """As `ttl`."""
        return await self._short(self.ttl, key)

    async def atier_of(self, key: Any) -> str | None:
        """As `tier_of`."""
        return await self._short(self.tier_of, key)

    async def acount(self, prefix: str) -> dict[str, int]:
        """As `count`."""
        return await self._short(self.count, prefix)

    async def astats(self) -> TieredStats:
        """As `stats`."""
        return await self._short(self.stats)

    async def aclose(self) -> None:
        """As `close`."""
        await self._short(self.close)

    async def aget_or_load(
        self,
        key: Any,
        loader: AnyLoader,
        ttl_seconds: TimeToLive = None,
        grace_seconds: float = 0.0,
        **options: Unpack[LoadOptions],
    ) -> Any:
        """As `get_or_load`; a coroutine function is awaited, a plain *loader* runs in a thread."""
        plan = self._plan(ttl_seconds, grace_seconds, **options)
        if plan.policy.looks_ahead:
            return await self._aload(key, loader, plan, self._looked_up)
        value = await self._short(self.find, key, _MISSING)
        if value is not _MISSING:
            return value
        self._misses += 1
        return await self._aload(key, loader, plan)

    async def aload_missing(
        self,
        key: Any,
        loader: AnyLoader,
        ttl_seconds: TimeToLive = None,
        grace_seconds: float = 0.0,
        **options: Unpack[LoadOptions],
    ) -> Any:
        """As `load_missing`; a coroutine function is awaited, a plain *loader* runs in a thread."""
        plan = self._plan(ttl_seconds, grace_seconds, **options)
        self._misses += 1
        return await self._aload(key, loader, plan)

    async def _aload(
        self,
        key: Any,
        loader: AnyLoader,
        plan: LoadPlan,
        look: Callable[[Key], Shelved | None] | None = None,
    ) -> Any:
        loads = bound(loader, key, is_awaited=True)
        return await self._loading.aget(pool_key(key), loads, plan, look)

    async def arefresh(
        self,
        key: Any,
        loader: AnyLoader,
        ttl_seconds: TimeToLive = None,
        grace_seconds: float = 0.0,
        **options: Unpack[LoadOptions],
    ) -> Any:
        """As `refresh`; a coroutine function is awaited, a plain *loader* runs in a thread."""
        plan = self._plan(ttl_seconds, grace_seconds, **options)
        loads = bound(loader, key, is_awaited=True)
        return await self._loading.arefresh(pool_key(key), loads, plan)

    async def _short(self, call: Callable[..., T], *args: Any, **options: Any) -> T:
        return await without_blocking(self.pool, functools.partial(call, *args, **options))


def _readable_again(tags: Iterable[str] | Generations) -> tuple[str, ...] | Generations:
    """Return *tags* for a call that is made once more should it have to wait."""
    return tags if isinstance(tags, Generations) else checked_tags(tags)
