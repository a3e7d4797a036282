"""What a tiered cache does with one process and a clock that moves by hand."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

import cachetools
import pytest

import pmemcache

if TYPE_CHECKING:
    from collections.abc import Callable

Make = Any


def test_value_becomes_hot_with_its_second_warm_hit(cache: pmemcache.TieredCache) -> None:
    assert cache.tier_of("key") is None
    cache.set("key", "value")
    assert cache.tier_of("key") == "warm"
    assert cache.get("key") == "value"
    assert cache.tier_of("key") == "warm"
    assert cache.get("key") == "value"
    assert cache.tier_of("key") == "hot"
    assert cache.get("key") == "value"
    stats = cache.stats()
    assert (stats.hot_hits, stats.warm_hits, stats.misses, stats.promotions) == (1, 2, 0, 1)


def test_immutable_hot_value_is_handed_out_without_a_copy(
    cache: pmemcache.TieredCache, heat: Callable[..., None]
) -> None:
    cache.set("key", ("a", 1.5, None))
    heat(cache, "key")
    assert cache.get("key") is cache.get("key")


def test_callers_cannot_change_the_value_of_another(
    cache: pmemcache.TieredCache, heat: Callable[..., None]
) -> None:
    cache.set("key", {"list": [1]})
    heat(cache, "key")
    cache.get("key")["list"].append(2)
    assert cache.get("key") == {"list": [1]}


def test_share_hands_out_one_object(make_cache: Make, heat: Callable[..., None]) -> None:
    cache = make_cache(share=True)
    cache.set("key", [1])
    heat(cache, "key")
    assert cache.get("key") is cache.get("key")


@pytest.mark.parametrize(
    "change",
    [
        lambda cache: cache.set("key", "new"),
        lambda cache: cache.delete("key"),
        lambda cache: cache.clear(),
        lambda cache: cache.touch("key", 1000),
        lambda cache: cache.pool.put("key", b"new", tag=1),
        lambda cache: cache.pool.delete("key"),
        lambda cache: cache.pool.clear(),
        lambda cache: cache.pool.evict("key"),
        lambda cache: cache.set_many({"key": "new"}),
        lambda cache: cache.delete_many(["key"]),
    ],
)
def test_any_change_makes_a_hot_copy_invalid(
    cache: pmemcache.TieredCache, heat: Callable[..., None], change: Callable[..., object]
) -> None:
    cache.set("key", "old")
    heat(cache, "key")
    entry = cache._hot_entries["key"]
    assert cache._copies.is_good(entry)
    change(cache)
    assert not cache._copies.is_good(entry) or entry.value == "new"
    expected = cache.pool.get("key")
    assert cache.get("key") == (None if expected is None else expected.decode())


def test_hot_copy_expires_with_its_entry(
    cache: pmemcache.TieredCache, clock: Any, heat: Callable[..., None]
) -> None:
    cache.set("key", "value", 10)
    heat(cache, "key")
    clock.advance(cache, 5)
    assert cache.get("key") == "value"
    clock.advance(cache, 5)
    assert cache.get("key") is None


@pytest.mark.parametrize("way", ["read", "set", "load", "revalidated"])
def test_copy_expires_in_time_though_its_maker_was_held_up(
    cache: pmemcache.TieredCache, clock: Any, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Another process had the processor, after the pool was read or written."""

    def hold_up(owner: Any, name: str) -> None:
        plain = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            result = plain(*arguments, **options)
            clock.advance(cache, 8)
            return result

        monkeypatch.setattr(owner, name, call)

    cache.get("key")  # wanted before, so that a copy is made at once
    if way in {"read", "revalidated"}:
        cache.set("key", "value", 10)
        if way == "read":
            cache._copies.cache.drop("key")
        else:
            cache._copies.entries["key"].version += 2
        hold_up(cache, "_get_versioned")
        assert cache.get("key") == "value"
    else:
        hold_up(cache._warm, "store")
        if way == "set":
            cache.set("key", "value", 10)
        else:
            cache.get_or_load("key", lambda _key: "value", 10)
    monkeypatch.undo()
    assert cache.tier_of("key") == "hot"
    clock.advance(cache, 3)
    assert cache.get("key") is None


def test_copy_is_not_made_while_a_writer_is_at_work(cache: pmemcache.TieredCache) -> None:
    reading = pmemcache.tiered.Reading(b"old", 1, (0, 7), (), None, None, 1)
    cache._copies.keep("key", "old", reading)
    cache._copies.asked("key")
    cache._copies.keep_written("key", "old", (b"old", 1, (0, 7, 1)), None, None, 0.0)
    assert cache.stats().hot_entries == 0


def test_hot_hits_keep_the_pool_entry_warm(
    cache: pmemcache.TieredCache, heat: Callable[..., None]
) -> None:
    cache.set("key", "value")
    heat(cache, "key")
    before = cache.pool.stats().get
    bumped = []
    cache.pool.bump = bumped.append  # type: ignore[method-assign, assignment]
    for _hit in range(100):
        cache.get("key")
    assert cache.pool.stats().get == before
    assert 4 <= len(bumped) <= 30


def test_key_that_is_hot_is_not_evicted_from_the_pool_as_cold(make_cache: Make) -> None:
    cache = make_cache(policy="hot=64KiB,warm=1MiB,eviction=lru")
    value = b"x" * 1000
    cache.set_many({"hot!": value, "cold": value})
    for number in range(3000):
        assert cache.get("hot!") == value
        cache.set(f"{number:04}", value)
    assert cache.tier_of("hot!") == "hot"
    assert cache.pool.exists("hot!")
    assert not cache.pool.exists("cold")


@pytest.mark.parametrize("promotion", [1, 2, 5])
def test_promotion_count_is_the_warm_hit_that_makes_a_copy(
    make_cache: Make, promotion: int
) -> None:
    cache = make_cache(policy=f"hot=1MiB,warm=16MiB,promotion={promotion}")
    cache.set("key", "value")
    tiers = []
    for _hit in range(6):
        cache.get("key")
        tiers.append(cache.tier_of("key"))
    assert tiers.index("hot") + 1 == promotion


@pytest.mark.parametrize("memory", ["default", "conservative"])
def test_memory_policy_is_the_one_of_the_pool(make_cache: Make, memory: str) -> None:
    assert make_cache(policy=f"warm=1MiB,memory={memory}").pool.options.memory == memory


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"policy": "eviction=lru"}, "eviction='lru' is not"),
        ({"policy": "memory=conservative"}, "memory='conservative' is not"),
        ({"lifetime": "restart"}, "lifetime='restart' is not"),
    ],
)
def test_options_that_a_given_pool_has_otherwise_are_refused(
    make_cache: Make, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], reason: str
) -> None:
    monkeypatch.setenv("PMEMCACHE_POLICY", "hot=1MiB,warm=32MiB,eviction=lru")
    with pmemcache.Pool(None, "16MiB") as pool:
        with pytest.raises(pmemcache.ConfigurationError, match=reason):
            make_cache(pool, **{"policy": None, **options})
        assert make_cache(pool, policy=None).policy.hot_bytes == "1MiB"
        assert make_cache(pool, policy="warm=32MiB,eviction=s3fifo").set("key", 1)


@pytest.mark.parametrize(
    "options", [{"loader": 5}, {"loader": {5: str}}, {"load": "x"}, {"load": {"lease_seconds": 3}}]
)
def test_loaders_and_policies_of_a_wrong_type_are_refused(
    make_cache: Make, options: dict[str, Any]
) -> None:
    with pytest.raises(TypeError, match=r"give a str|a function of the key|LoadPolicy, not"):
        make_cache(**options)


@pytest.mark.parametrize("eviction", ["s3fifo", "lru", "none"])
def test_full_pool_evicts_or_drops_and_never_fails(make_cache: Make, eviction: str) -> None:
    cache = make_cache(policy=f"hot=64KiB,warm=1MiB,eviction={eviction}")
    stored = [cache.set(number, b"x" * 4000) for number in range(1000)]
    assert all(stored) == (eviction != "none")
    assert cache.stats().dropped_writes == stored.count(False)
    assert cache.get_or_load("loaded", lambda _key: b"y" * 4000) == b"y" * 4000
    # What was dropped is not there, and what is there is what was stored.
    assert [cache.get(number) for number in range(1000) if not stored[number]] == [
        None for is_stored in stored if not is_stored
    ]
    assert {cache.get(number) for number in range(1000)} <= {None, b"x" * 4000}
    cache.delete_many(range(1000))
    assert cache.set("key", b"x" * 4000)


def test_none_is_a_value(cache: pmemcache.TieredCache) -> None:
    cache.set("key", None)
    assert cache.get("key", "default") is None
    assert "key" in cache
    assert cache["key"] is None


def test_numbers_are_one_key_and_str_is_utf8(cache: pmemcache.TieredCache) -> None:
    cache[1] = "one"
    assert cache[1.0] == "one"
    assert cache[True] == "one"
    assert len(cache) == 1
    assert [cache[key] for key in cache] == ["one"]
    cache[1, "b"] = "pair"
    assert cache[1, "b"] == "pair"
    cache["é"] = "e"
    assert cache["é".encode()] == "e"
    with pytest.raises(pmemcache.KeyEncodingError):
        cache[object()]


def test_str_and_bytes_forms_of_a_key_see_each_others_changes(
    cache: pmemcache.TieredCache, heat: Callable[..., None]
) -> None:
    cache.set("key", "old")
    heat(cache, "key")
    heat(cache, b"key")
    cache.set(b"key", "new")
    assert (cache.get("key"), cache.get(b"key")) == ("new", "new")


def test_is_a_mapping(cache: pmemcache.TieredCache) -> None:
    cache.update(a=1, b=2)
    assert dict(cache) == {b"a": 1, b"b": 2}
    assert len(cache) == 2
    assert cache.pop("a") == 1
    assert cache.setdefault("b", 3) == 2
    assert cache.setdefault("c", 3) == 3
    del cache["c"]
    with pytest.raises(KeyError):
        del cache["c"]
    with pytest.raises(KeyError):
        cache["c"]
    cache.clear()
    assert len(cache) == 0
    assert cache


@pytest.mark.parametrize("placement", ["heat", "hot-only"])
def test_what_goes_during_an_iteration_is_left_out(make_cache: Make, placement: str) -> None:
    cache = make_cache(policy=f"hot=1MiB,placement={placement}")
    cache.update(a=1, b=2, c=3)
    for view in (cache.items(), cache.values()):
        iterator = iter(view)
        next(iterator)
        for key in "abc":
            cache.delete(key)
        assert list(iterator) == []
        cache.update(a=1, b=2, c=3)
    assert sorted(cache.values()) == [1, 2, 3]


def test_one_of_several_pops(cache: pmemcache.TieredCache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.set("a", 1)
    find = cache.find
    # Another process is faster between the look and the delete.
    monkeypatch.setattr(cache, "find", lambda *args: (find(*args), cache.pool.delete("a"))[0])
    assert cache.pop("a", "gone") == "gone"
    cache.set("a", 1)
    with pytest.raises(KeyError):
        cache.pop("a")
    cache.set("a", 1)
    with pytest.raises(KeyError):
        cache.popitem()
    monkeypatch.undo()
    cache.set("a", 1)
    assert cache.popitem() == (b"a", 1)


def test_works_with_cachetools_cached(cache: pmemcache.TieredCache) -> None:
    calls = []

    @cachetools.cached(cache, lock=threading.Lock(), info=True)
    def double(number: int) -> int:
        calls.append(number)
        return 2 * number

    assert [double(1), double(2), double(1)] == [2, 4, 2]
    assert calls == [1, 2]
    assert double.cache_info().hits == 1


def test_add_touch_ttl(cache: pmemcache.TieredCache, clock: Any) -> None:
    assert cache.add("key", 1, 1000)
    assert not cache.add("key", 2)
    assert cache.ttl("key") == pytest.approx(1000, abs=50)
    assert cache.touch("key", 2000)
    clock.advance(cache, 1500)
    assert cache.get("key") == 1
    assert cache.touch("key")
    assert cache.ttl("key") == math.inf
    assert cache.touch("key", 0)
    assert cache.ttl("key") is None
    assert not cache.touch("key", 5)


def test_touch_of_a_missing_key_refuses_what_is_no_time(cache: pmemcache.TieredCache) -> None:
    for wrong, error in ((math.nan, ValueError), ("60", TypeError)):
        with pytest.raises(error, match="ttl_seconds"):
            cache.touch("missing", wrong)  # type: ignore[arg-type]


def test_time_to_live_of_zero_deletes(cache: pmemcache.TieredCache) -> None:
    cache.set("key", 1)
    assert cache.set("key", 2, 0)
    assert cache.get("key") is None


def test_incr(cache: pmemcache.TieredCache, heat: Callable[..., None]) -> None:
    assert cache.incr("n") is None
    assert cache.incr("n", 5, initial=10) == 15
    heat(cache, "n")
    assert cache.incr("n") == 16
    assert cache.decr("n", 6) == 10
    assert cache.get("n") == 10
    cache.set("n", "text")
    with pytest.raises(pmemcache.NotAnIntegerError):
        cache.incr("n")


@pytest.mark.parametrize("options", [{"tags": ("t",)}, {"grace_seconds": 5}])
def test_incr_of_an_int_in_an_envelope(
    cache: pmemcache.TieredCache, clock: Any, options: dict[str, Any]
) -> None:
    cache.set("n", 5, 100, **options)
    assert cache.incr("n") == 6
    assert cache.get("n") == 6
    assert cache.ttl("n") == pytest.approx(100, abs=20)
    clock.advance(cache, 102)
    assert cache.incr("n") is None
    assert cache.incr("n", initial=1) == 2


def test_many(cache: pmemcache.TieredCache) -> None:
    assert cache.set_many({"a": 1, "b": [2]}, 10) == []
    for _read in range(3):
        assert cache.get_many(["a", "b", "c"]) == {"a": 1, "b": [2]}
    assert cache.tier_of("a") == "hot"
    assert cache.delete_many(["a", "c"]) == 1
    assert cache.get_many(["a", "b"]) == {"b": [2]}


def test_large_values_stay_warm_under_placement_by_size(make_cache: Make) -> None:
    cache = make_cache(policy="hot=1MiB,warm=16MiB,placement=size:1KiB")
    cache.set_many({"small": b"x" * 100, "large": b"x" * 2000})
    for _read in range(5):
        cache.get_many(["small", "large"])
    assert (cache.tier_of("small"), cache.tier_of("large")) == ("hot", "warm")


def test_warm_only_keeps_nothing_hot(make_cache: Make) -> None:
    cache = make_cache(policy="warm=16MiB,placement=warm-only")
    cache.set("key", "value")
    assert [cache.get("key") for _read in range(5)] == ["value"] * 5
    assert cache.tier_of("key") == "warm"


def test_ratio_sizes_the_hot_tier(make_cache: Make) -> None:
    cache = make_cache(policy="warm=16MiB,placement=ratio:1:8")
    assert cache.stats().hot_capacity_bytes == cache.pool.options.size_bytes // 8


def test_full_hot_tier_evicts_and_the_pool_still_serves(make_cache: Make) -> None:
    cache = make_cache(policy="hot=64KiB,warm=16MiB,promotion=1")
    for number in range(1000):
        cache.set(number, b"x" * 1000)
    for _round in range(2):
        for number in range(1000):
            assert cache.get(number) == b"x" * 1000
    stats = cache.stats()
    assert stats.hot_bytes <= 64 * 1024
    assert stats.hot_evictions > 0


def test_two_caches_of_one_pool_see_each_other(make_cache: Make, heat: Callable[..., None]) -> None:
    one = make_cache()
    other = make_cache(one.pool)
    one.set("key", "old")
    heat(other, "key")
    one.set("key", "new")
    assert other.get("key") == "new"
    other.close()
    assert one.get("key") == "new"


def test_incr_takes_what_cannot_be_decoded_for_missing(cache: pmemcache.TieredCache) -> None:
    for initial, expected in ((None, None), (1, 2)):
        cache.pool.put("n", b"no JSON", tag=4)
        assert cache.incr("n", initial=initial) == expected
    assert cache.get("n") == 2
    assert cache.stats().undecodable == 2
