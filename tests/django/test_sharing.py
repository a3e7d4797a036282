"""Backend objects are cheap and own nothing; pools are shared."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from pmemcache.integrations.django import PmemCache

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from django.core.cache import CacheHandler

    from pmemcache.integrations.django.sharing import SharedPool


def _shared(caches: CacheHandler, alias: str) -> SharedPool:
    backend = caches[alias]
    assert isinstance(backend, PmemCache)
    return backend._shared


def test_aliases_of_one_location_share_its_pool(make_handler: Callable[..., CacheHandler]) -> None:
    caches = make_handler(
        default={},
        prefix={"KEY_PREFIX": "site"},
        v2={"VERSION": 2},
        custom={"KEY_FUNCTION": lambda key, prefix, version: f"{key}-{prefix}-{version}"},
        cull={"OPTIONS": {"MAX_ENTRIES": 30}},
    )
    for number, alias in enumerate(caches):
        caches[alias].set(f"key-{alias}", number)

    assert len({id(_shared(caches, alias).pool()) for alias in caches}) == 1
    assert caches["default"].get("key-cull") == 4
    assert caches["default"].get("key-v2", version=2) == 2
    assert caches["default"].get("key-prefix") is None
    assert len(list(_shared(caches, "default").pool().keys())) == 5


def test_location_may_be_written_in_several_ways(location: Path) -> None:
    roundabout = location.parent / "x" / ".." / location.name
    (location.parent / "x").mkdir()
    caches = [PmemCache(place, {}) for place in (location, str(location), roundabout)]

    assert len({cache._shared for cache in caches}) == 1


def test_directory_holds_a_pool_of_the_default_name(location: Path) -> None:
    cache = PmemCache(location.parent, {})
    cache.set("key", 1)

    assert (location.parent / "pmemcache.pool").exists()


def test_same_location_with_other_pool_options_is_refused(
    make_cache: Callable[..., PmemCache],
) -> None:
    make_cache(size="2MiB", eviction="lru")

    with pytest.raises(ImproperlyConfigured, match=r"size_bytes=3145728 instead of 2097152"):
        make_cache(size="3MiB", eviction="lru")


def test_same_size_written_otherwise_is_the_same(make_cache: Callable[..., PmemCache]) -> None:
    assert make_cache(size="2MiB")._shared is make_cache(size=2 * 1024 * 1024)._shared


def test_making_a_backend_makes_no_system_call_that_opens_or_looks_up_a_file(
    make_cache: Callable[..., PmemCache],
) -> None:
    options: dict[str, Any] = {"size": "1MiB", "MAX_ENTRIES": 10}
    make_cache(**options).set("key", 1)
    events: list[str] = []
    recording = True

    def record(event: str, _: Any) -> None:
        if recording:
            events.append(event)

    sys.addaudithook(record)
    for _ in range(100):
        make_cache(**options)
    recording = False

    assert [event for event in events if event.startswith(("open", "os.", "mmap"))] == []


def test_making_a_backend_opens_nothing_until_it_is_used(location: Path) -> None:
    cache = PmemCache(location, {})
    assert not location.exists()

    cache.get("key")
    assert location.exists()


def test_closing_keeps_the_pool(
    cache: PmemCache, make_handler: Callable[..., CacheHandler]
) -> None:
    caches = make_handler(default={})
    caches["default"].set("key", 1)
    pool = cache._shared.pool()
    caches.close_all()
    cache.close(signal=None)
    asyncio.run(cache.aclose())

    assert cache._shared.pool() is pool
    assert caches["default"].get("key") == 1


def test_threads_that_start_together_open_one_pool(make_cache: Callable[..., PmemCache]) -> None:
    start = threading.Barrier(8)
    pools: list[Any] = []

    def use(number: int) -> None:
        cache = make_cache()
        start.wait(timeout=30)
        cache.set(f"key{number}", number)
        pools.append(cache._shared.pool())

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({id(pool) for pool in pools}) == 1
    assert make_cache().get_many([f"key{i}" for i in range(8)]) == {f"key{i}": i for i in range(8)}


def test_each_thread_and_task_has_a_backend_and_sees_the_same_values(
    make_handler: Callable[..., CacheHandler],
) -> None:
    caches = make_handler(default={})

    async def write(number: int) -> int:
        await caches["default"].aset(f"key{number}", number)
        return id(_shared(caches, "default"))

    async def write_all() -> list[int]:
        return await asyncio.gather(*(write(number) for number in range(10)))

    assert len(set(asyncio.run(write_all()))) == 1
    assert len(caches["default"].get_many([f"key{number}" for number in range(10)])) == 10


def test_forked_child_works_on_the_same_pool(cache: PmemCache) -> None:
    cache.set("parent", "here")
    child = os.fork()
    if child == 0:
        try:
            done = cache.get("parent") == "here" and cache.add("child", "here")
            os._exit(0 if done else 1)
        finally:
            os._exit(2)  # a child must never return into the tests
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert cache.get("child") == "here"


def test_overriding_caches_in_a_test_closes_the_pools(make_cache: Callable[..., PmemCache]) -> None:
    old = make_cache(size="2MiB")
    old.set("key", 1)
    setting_changed.send(sender=None, setting="CACHES", value={}, enter=True)

    assert make_cache(size="3MiB").get("key") is None
