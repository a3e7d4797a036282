"""The async forms do the same, in place."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pmemcache.integrations.django import PmemCache


def test_async_operations_do_what_the_sync_ones_do(cache: PmemCache) -> None:
    async def scenario() -> None:
        await cache.aset("a", 1)
        assert await cache.aget("a") == 1
        assert await cache.aadd("a", 2) is False
        assert await cache.aadd("b", 2) is True
        assert await cache.aget_or_set("c", lambda: 3) == 3
        assert await cache.aset_many({"d": 4, "e": 5}) == []
        assert await cache.aget_many(["a", "b", "d", "x"]) == {"a": 1, "b": 2, "d": 4}
        assert await cache.aincr("a", 5) == 6
        assert await cache.adecr("a") == 5
        assert await cache.aincr_version("a") == 2
        assert await cache.adecr_version("a", version=2) == 1
        assert await cache.atouch("a", 100) is True
        assert await cache.ahas_key("a") is True
        assert await cache.adelete("a") is True
        assert await cache.ahas_key("a") is False
        await cache.adelete_many(["b", "c"])
        assert await cache.aget_many(["b", "c", "d"]) == {"d": 4}
        await cache.aclear()
        assert await cache.aget("d", "missing") == "missing"
        with pytest.raises(ValueError, match="not found"):
            await cache.aincr("a")
        await cache.aclose()

    asyncio.run(scenario())


def test_async_operations_use_no_other_thread(cache: PmemCache) -> None:
    async def scenario() -> None:
        await cache.aset("a", 1)
        await cache.aget_many(["a"])
        await cache.aclose()

    before = threading.active_count()
    asyncio.run(scenario())

    assert threading.active_count() == before


def test_a_task_is_not_interrupted_by_an_operation(cache: PmemCache) -> None:
    order: list[str] = []

    async def work(name: str) -> None:
        await cache.aset(name, 1)
        order.append(name)
        await cache.aget(name)
        order.append(name)

    async def both() -> None:
        await asyncio.gather(work("one"), work("two"))

    asyncio.run(both())

    assert order == ["one", "one", "two", "two"]
