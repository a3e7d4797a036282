"""Every look-up that was asked for is counted once, as a hit or as a miss, whatever it leads to."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

import pmemcache

if TYPE_CHECKING:
    from collections.abc import Callable

Make = Any
AHEAD = pmemcache.LoadPolicy(early_beta=1.0)


class Counted:
    """What a cache counted since this was made."""

    def __init__(self, cache: pmemcache.TieredCache) -> None:
        self._cache = cache
        self._before = self._now()

    def _now(self) -> dict[str, int]:
        stats = self._cache.stats()
        assert stats.pool is not None
        return {
            "hot": stats.hot_hits,
            "warm": stats.warm_hits,
            "misses": stats.misses,
            "stale": stats.stale,
            "pool": stats.pool.get - stats.own_gets,
            "pool misses": stats.pool.miss - (stats.own_gets - stats.own_hits),
        }

    def __call__(self, *names: str) -> tuple[int, ...]:
        now = self._now()
        return tuple(now[name] - self._before[name] for name in names)


def load(_key: Any) -> str:
    return "value"


@pytest.fixture(params=["get", "get_or_load", "find, load", "ahead", "decorated"])
def ask(request: pytest.FixtureRequest, make_cache: Make) -> Any:
    """A way to get a value that is loaded on a miss, and the cache that counts."""
    way = request.param
    cache = make_cache(
        loader=load if way == "get" else None, load=AHEAD if way == "ahead" else None
    )
    calls: dict[str, Callable[[str], Any]] = {
        "get": cache.get,
        "get_or_load": lambda key: cache.get_or_load(key, load),
        "find, load": lambda key: cache.find(key) or cache.load_missing(key, load),
        "ahead": lambda key: cache.get_or_load(key, load, 1000),
        "decorated": pmemcache.cached(cache=cache)(load),
    }
    return calls[way], cache


def test_miss_that_is_loaded_is_one_look_up(ask: Any) -> None:
    call, cache = ask
    counted = Counted(cache)
    assert call("key") == "value"
    assert counted("hot", "warm", "misses") == (0, 0, 1)
    assert counted("pool", "pool misses") == (1, 1)
    assert call("key") == "value"
    hot, warm, misses = counted("hot", "warm", "misses")
    assert (hot + warm, misses) == (1, 1)
    assert counted("pool") == (1 + warm,)


def test_callback_of_the_pool_learns_of_each_miss_once(ask: Any) -> None:
    call, cache = ask
    missed: list[bytes] = []
    cache.pool.on_miss(lambda _pool, key: missed.append(key))
    call("key")
    assert len(missed) == 1
    call("key")
    cache.set("other", 1, tags=("t",), namespace="n")
    cache.add("third", 1)
    cache.delete("nothing")
    assert "nothing" not in cache
    assert cache.ttl("nothing") is None
    assert len(missed) == 1
    cache.find("nothing")
    assert missed[1:] == [b"nothing"]


def test_awaited_miss_that_is_loaded_is_one_look_up(make_cache: Make) -> None:
    cache = make_cache(loader=load)
    ahead = make_cache(load=AHEAD)

    async def main() -> None:
        for counted, call in (
            (Counted(cache), lambda: cache.aget("key")),
            (Counted(ahead), lambda: ahead.aget_or_load("key", load, 1000)),
        ):
            for _call in range(2):
                assert await call() == "value"
            hot, warm, misses = counted("hot", "warm", "misses")
            assert (hot + warm, misses) == (1, 1)
            assert counted("pool", "pool misses") == (1 + warm, 1)

    asyncio.run(main())


def test_waiters_are_misses(cache: pmemcache.TieredCache) -> None:
    counted = Counted(cache)
    may_end = threading.Event()

    def slow(_key: str) -> str:
        assert may_end.wait(10)
        return "value"

    with ThreadPoolExecutor(4) as threads:
        answers = [threads.submit(cache.get_or_load, "key", slow) for _thread in range(4)]
        while cache.stats().load_waits < 3:
            time.sleep(0.001)
        may_end.set()
        assert [answer.result() for answer in answers] == ["value"] * 4
    assert counted("hot", "warm", "misses", "pool") == (0, 0, 4, 4)


def test_stale_answer_is_a_miss(cache: pmemcache.TieredCache, clock: Any) -> None:
    cache.get_or_load("key", load, 10, grace_seconds=100)
    clock.advance(cache, 20)
    counted = Counted(cache)

    def fail(_key: str) -> str:
        raise OSError

    assert cache.get_or_load("key", fail, 10, grace_seconds=100) == "value"
    assert counted("hot", "warm", "misses", "stale", "pool") == (0, 0, 1, 1, 1)


def test_option_of_the_cache_looks_ahead_for_all_that_load(make_cache: Make, clock: Any) -> None:
    values = iter(range(10))

    def slow(_key: str = "") -> int:
        clock.now += 0.1  # early recompute goes by how long the load took
        return next(values)

    policy = pmemcache.LoadPolicy(early_beta=1e9)
    cache = make_cache(loader=slow, load=policy, chance=lambda: 0.5)
    cache.set("set", "fresh", 10)
    decorated = pmemcache.cached(cache=cache, ttl_seconds=10)(slow)
    assert [decorated(), decorated()] == [0, 1]
    assert cache.get("set") == "fresh"
    assert [cache.get("key"), cache.get("key")] == [2, 2]  # without a time to live there is no end


@pytest.mark.parametrize("ask", ["pop", "setdefault"])
def test_look_ups_of_a_mapping_are_counted(cache: pmemcache.TieredCache, ask: str) -> None:
    counted = Counted(cache)
    getattr(cache, ask)("missing", None)
    assert counted("hot", "warm", "misses", "pool misses") == (0, 0, 1, 1)
    cache.set("there", 1)
    assert getattr(cache, ask)("there", None) == 1
    assert counted("hot", "warm", "misses", "pool misses") == (0, 1, 1, 1)
