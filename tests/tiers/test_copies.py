"""Copies are made of what was asked for, are good under any version of their value, and bounded."""

from __future__ import annotations

import gc
import tracemalloc
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

import pmemcache
from pmemcache.hot import HotCache
from pmemcache.sizes import size_of

if TYPE_CHECKING:
    from collections.abc import Callable

Make = Any


def change_beside(cache: pmemcache.TieredCache, key: str) -> None:
    """Change another key, one that shares the version of *key*."""
    index = cache.pool.get_versioned(key)[2]
    for number in range(1_000_000):
        other = f"beside:{number}"
        if cache.pool.get_versioned(other)[2] == index:
            cache.pool.put(other, b"x")
            return


def test_copy_outlives_a_change_of_a_key_that_shares_its_version(
    cache: pmemcache.TieredCache, heat: Callable[..., None]
) -> None:
    cache.set("key", ("value",))
    heat(cache, "key")
    value, hits = cache.get("key"), cache.stats().hot_hits
    change_beside(cache, "key")
    assert cache.tier_of("key") == "warm"
    assert cache.get("key") is value
    assert cache.tier_of("key") == "hot"
    stats = cache.stats()
    assert (stats.hot_hits, stats.revalidations) == (hits + 1, 1)


def test_copy_takes_over_a_new_time_to_live(
    cache: pmemcache.TieredCache, clock: Any, heat: Callable[..., None]
) -> None:
    cache.set("key", "value", 10)
    heat(cache, "key")
    cache.pool.touch("key", 100)
    assert cache.get("key") == "value"
    clock.advance(cache, 50)
    assert cache.get("key") == "value"
    assert cache.stats().revalidations == 1
    cache.pool.touch("key", 5)
    assert cache.get("key") == "value"
    clock.advance(cache, 6)
    assert cache.get("key") is None


@pytest.mark.parametrize("way", ["tag", "stale"])
def test_copy_is_no_good_again_once_its_entry_does_not_count(
    cache: pmemcache.TieredCache, clock: Any, heat: Callable[..., None], way: str
) -> None:
    cache.set("key", "value", 10, tags=("t",), grace_seconds=100)
    heat(cache, "key")
    change_beside(cache, "key")
    if way == "tag":
        cache.drop_tag("t")
    else:
        clock.advance(cache, 11)
    assert cache.pool.exists("key")
    assert cache.get("key") is None
    assert cache.tier_of("key") is None


def test_what_was_asked_for_and_then_set_is_hot_at_once(cache: pmemcache.TieredCache) -> None:
    assert cache.get("key") is None
    cache.set("key", "value")
    assert cache.tier_of("key") == "hot"
    cache.set("blind", "value")
    assert cache.tier_of("blind") == "warm"


def test_loaded_value_is_hot_at_once_and_watches_its_tags(cache: pmemcache.TieredCache) -> None:
    cache.get_or_load("key", lambda _key: "value", 100, tags=("t",), namespace="n")
    assert cache.tier_of("key") == "hot"
    cache.drop_tag("t")
    assert cache.tier_of("key") is None
    cache.get_or_load("key", lambda _key: "value", 100, tags=("t",), namespace="n")
    cache.clear("n")
    assert cache.get("key") is None


def test_newer_value_takes_the_place_of_an_older_and_never_the_other_way(
    cache: pmemcache.TieredCache, heat: Callable[..., None]
) -> None:
    cache.set("key", "old")
    heat(cache, "key")
    entry = cache._hot_entries["key"]
    version, generation = entry.version, entry.generation
    cache.set("key", "new")
    assert cache._hot_entries["key"] is entry
    assert entry.value == "new"
    cache._copies.cache.rewrite(entry, "old", 500, version, generation, None)  # a slow thread
    assert entry.value == "new"
    assert cache.get("key") == "new"


def test_value_that_was_set_comes_back_as_if_read_from_the_pool(make_cache: Make) -> None:
    """Not as the caller's own object, where the two differ."""
    for options in ({"serializer": "json"}, {"serializer": "msgpack"}):
        cache = make_cache(None, **options)
        assert cache.get("key") is None
        cache.set("key", (1, 2))
        assert cache.get("key") == [1, 2]


@pytest.mark.parametrize("share", [False, True])
def test_caller_that_changes_what_it_has_set_changes_nothing(make_cache: Make, share: bool) -> None:  # noqa: FBT001
    cache = make_cache(share=share)
    assert cache.get("key") is None
    value = [1]
    cache.set("key", value)
    value.append(2)
    assert cache.tier_of("key") == "hot"
    assert cache.get("key") == [1]


@pytest.mark.parametrize(
    "options",
    [
        {"signer": pmemcache.Signer(b"s" * 16)},
        {"compression": pmemcache.Compression(threshold_bytes=10)},
    ],
)
@pytest.mark.parametrize("value", ["x" * 500, ["x" * 500]])
def test_signed_and_compressed_values_are_copied_too(
    make_cache: Make, options: dict[str, Any], value: Any
) -> None:
    cache = make_cache(**options)
    for number in range(3):
        assert cache.get("key") == (value if number else None)
        cache.set("key", value, 100)
        assert cache.tier_of("key") == "hot"


def test_scan_through_the_pool_leaves_the_used_alone(make_cache: Make) -> None:
    cache = make_cache(policy="hot=64KiB,warm=16MiB,promotion=1")
    used = [f"used:{number}" for number in range(40)]
    scanned = [f"scanned:{number}" for number in range(2000)]
    cache.set_many(dict.fromkeys([*used, *scanned], b"x" * 300))
    for _round in range(5):
        cache.get_many(used)
    cache.get_many(scanned)
    hot = sum(cache.tier_of(key) == "hot" for key in used)
    assert hot == len(used)


def test_keys_that_had_a_copy_get_one_again_with_their_next_hit(make_cache: Make) -> None:
    cache = make_cache(policy="hot=64KiB,warm=16MiB,promotion=3")
    keys = [f"key:{number}" for number in range(10)]
    cache.set_many(dict.fromkeys(keys, "value"))
    for _hit in range(3):
        cache.get_many(keys)
    for number in range(500):
        cache.get(f"other:{number}")
        cache.set(f"other:{number}", "value")
    assert {cache.tier_of(key) for key in keys} == {"warm"}
    cache.get_many(keys)
    assert sum(cache.tier_of(key) == "hot" for key in keys) > 7  # some may be forgotten


@pytest.mark.parametrize("size", [20, 500, 4000])
def test_hot_tier_takes_as_much_memory_as_it_says(make_cache: Make, size: int) -> None:
    cache = make_cache(policy="hot=1MiB,warm=64MiB")
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(4 * 1024 * 1024 // (size + 500)):
        key = f"key:{number}"
        cache.get(key)
        cache.set(key, str(number).ljust(size))
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert cache.stats().hot_evictions > 0
    assert 0.8 * 1024 * 1024 < taken < 1.02 * 1024 * 1024


@pytest.mark.parametrize(
    "make_value",
    [
        lambda number: "x" * 4000 + "\N{GRINNING FACE}" + str(number),
        lambda number: tuple(range(1000 * number, 1000 * number + 500)),
        lambda number: tuple((each, str(each)) for each in range(100 * number, 100 * number + 99)),
        lambda number: tuple(Decimal(100 * number + each) for each in range(99)),
        lambda number: frozenset(range(1000 * number, 1000 * number + 500)),
        lambda number: (number, "x" * 4000),
        lambda number: {"ids": list(range(1000 * number, 1000 * number + 300))},
    ],
    ids=["wide str", "ints", "tuples", "decimals", "frozenset", "compressible", "shared"],
)
def test_what_a_value_holds_is_counted(make_cache: Make, make_value: Callable[[int], Any]) -> None:
    compression = pmemcache.Compression(threshold_bytes=100)
    policy = "hot=512KiB,warm=16MiB,promotion=1"
    cache = make_cache(policy=policy, share=True, compression=compression)
    for number in range(200):
        cache.set(f"key:{number}", make_value(number))
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(200):
        cache.get(f"key:{number}")
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert cache.stats().hot_evictions > 0
    assert 0.8 * 512 * 1024 < taken < 1.06 * 512 * 1024


def test_size_of_what_holds_itself_is_found() -> None:
    value: list[Any] = [b"x" * 1000]
    value.append(value)
    assert 1000 < size_of(value) < 1300
    value.append(value[0])
    assert size_of(value) < 1300


def test_small_queue_adapts_to_what_comes_back() -> None:
    cache = HotCache(100, getsizeof=len)
    begun = cache._small_target
    for key in range(20):
        cache[key] = b"x" * 10
    for _round in range(3):  # keys that were evicted from the small queue come back
        for key in range(20):
            if key in cache._small_ghosts:
                cache[key] = b"x" * 10
    grown = cache._small_target
    assert grown > begun
    for _round in range(5):  # and now from the main queue
        for key in range(20):
            if key in cache._main_ghosts:
                cache[key] = b"x" * 10
    assert cache._small_target < grown
