"""Every method that can wait has a form that an event loop can await, and goes on meanwhile."""

from __future__ import annotations

import asyncio
import inspect
import math
from typing import TYPE_CHECKING, Any

import pytest

import pmemcache
from pmemcache.errors import WouldWaitError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

Make = Any

# What takes no lock and reads no entry, and other ways to call what has a form.
NEVER_WAITS = {"add_loader", "decr", "find", "fromkeys"}
OF_A_MAPPING = {"items", "keys", "pop", "popitem", "setdefault", "update", "values"}


def test_every_method_has_its_form() -> None:
    public = {
        name
        for name, method in inspect.getmembers(pmemcache.TieredCache, inspect.isfunction)
        if not name.startswith("_") and not inspect.iscoroutinefunction(method)
    }
    without = public - NEVER_WAITS - OF_A_MAPPING
    forms = {name for name in without if hasattr(pmemcache.TieredCache, f"a{name}")}
    assert without == forms


@pytest.mark.parametrize("form", ["aset", "aadd"])
def test_call_that_is_repeated_has_its_tags_again(
    cache: pmemcache.TieredCache, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Tags can be an iterator, which the call that would have waited has read."""
    generations, calls = cache._warm.generations, []

    def once_in_vain(digests: Any) -> Any:
        told = generations(digests)
        calls.append(told)
        if len(calls) == 1:
            message = "planted"
            raise WouldWaitError(message)
        return told

    monkeypatch.setattr(cache._warm, "generations", once_in_vain)
    assert asyncio.run(getattr(cache, form)("a", 1, tags=iter(["t"])))
    assert calls[0]
    cache.drop_tag("t")
    assert cache.get("a") is None


def test_forms_do_what_the_methods_do(cache: pmemcache.TieredCache) -> None:
    async def main() -> None:
        assert await cache.aset("a", 1, 100, tags=("t",))
        assert await cache.aadd("b", [2], namespace="n")
        assert not await cache.aadd("b", 3)
        assert await cache.aget("a") == 1
        assert await cache.aget("missing", "default") == "default"
        assert await cache.aincr("a") == 2
        assert await cache.adecr("a", 5) == -3
        assert await cache.aincr("n", initial=5) == 6
        assert await cache.atouch("a")
        assert await cache.attl("a") == math.inf
        assert await cache.atier_of("b") == "warm"
        assert await cache.agenerations(("t",)) == cache.generations(("t",))
        assert await cache.aget_many(iter(["a", "b", "c"])) == {"a": -3, "b": [2]}
        assert await cache.aset_many({"c": 1, "d": 2}, 50) == []
        assert await cache.acount("c") == {"hot": 1, "warm": 1}
        assert await cache.adelete_many(["c", "d", "e"]) == 2
        await cache.adrop_tag("t")
        assert await cache.aget("a") is None
        await cache.aclear("n")
        assert await cache.aget("b") is None
        assert await cache.adelete("n")
        assert (await cache.astats()).misses > 0
        await cache.aclear()
        await cache.aclose()

    asyncio.run(main())


@pytest.fixture
def locked(make_cache: Make, stopped_inside_lock: Any) -> Iterator[pmemcache.TieredCache]:
    """A cache whose pool is locked, by a process that stands still, until the time is up."""
    pool = pmemcache.Pool(None, "8MiB", shards=1, lock_timeout_seconds=0.2)
    cache = make_cache(pool)
    cache.set("key", 1)
    with stopped_inside_lock(pool):
        yield cache
    pool.close()


async def _loads(_key: str) -> str:
    return "loaded"


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda cache: cache.aset("key", 2), False),
        (lambda cache: cache.aset("key", 2, tags=("t",)), False),
        (lambda cache: cache.aadd("new", 2), False),
        (lambda cache: cache.adelete("key"), pmemcache.LockTimeoutError),
        (lambda cache: cache.adelete_many(["key"]), pmemcache.LockTimeoutError),
        (lambda cache: cache.atouch("key", 5), False),
        (lambda cache: cache.aincr("key"), None),
        (lambda cache: cache.aset_many({"key": 2}), ["key"]),
        (lambda cache: cache.adrop_tag("t"), pmemcache.LockTimeoutError),
        (lambda cache: cache.aclear(), pmemcache.LockTimeoutError),
        (lambda cache: cache.aget_or_load("new", _loads), "loaded"),
        (lambda cache: cache.arefresh("key", _loads), pmemcache.LockTimeoutError),
    ],
)
def test_loop_goes_on_while_a_lock_is_waited_for(
    locked: pmemcache.TieredCache,
    call: Callable[[pmemcache.TieredCache], Awaitable[Any]],
    expected: Any,
    while_the_loop_goes_on: Any,
) -> None:
    async def answer() -> Any:
        try:
            return await call(locked)
        except pmemcache.LockTimeoutError as error:
            return type(error)

    answered, went_on = asyncio.run(while_the_loop_goes_on(answer()))
    assert answered == expected
    assert went_on
    assert locked.get("key") == 1


def test_read_needs_no_lock(locked: pmemcache.TieredCache) -> None:
    assert asyncio.run(locked.aget("key")) == 1
    assert asyncio.run(locked.aget_many(["key"])) == {"key": 1}


def test_refresh_ahead_of_a_coroutine_function_is_a_task(
    make_cache: Make, clock: Any, until: Any
) -> None:
    cache = make_cache(load=pmemcache.LoadPolicy(refresh_ahead_seconds=3))
    loaded: list[str] = []

    async def load(_key: str) -> str:
        loaded.append("x")
        return "new"

    async def main() -> Any:
        await cache.aget_or_load("key", load, 10)
        clock.advance(cache, 8)
        assert len(loaded) == 1
        cache_first = await cache.aget_or_load("key", load, 10)
        await asyncio.to_thread(until, lambda: (cache.ttl("key") or 0) > 5)
        return cache_first

    assert asyncio.run(main()) == "new"
    assert len(loaded) == 2
    assert cache.ttl("key") > 5


def test_hot_only_loads_stay_in_this_process(make_cache: Make) -> None:
    cache = make_cache(policy="hot=1MiB,placement=hot-only")
    assert asyncio.run(cache.aget_or_load("key", _loads)) == "loaded"
    assert asyncio.run(cache.arefresh("key", _loads)) == "loaded"
    assert cache.get_or_load("other", str.upper) == "OTHER"
    assert cache.tier_of("key") == cache.tier_of("other") == "hot"
    assert cache.pool.stats().payload_bytes < 200  # no values, as test_hot_only shows
