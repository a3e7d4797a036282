"""Tags and namespaces drop many entries by one delete."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    import pmemcache


def test_dropped_tag_makes_its_entries_misses(cache: pmemcache.TieredCache) -> None:
    cache.set("a", 1, tags=("city:7",))
    cache.set("b", 2, tags=("city:7", "city:8"))
    cache.set("c", 3, tags=("city:8",))
    cache.set("d", 4)
    cache.drop_tag("city:7")
    assert cache.get_many("abcd") == {"c": 3, "d": 4}
    cache.drop_tag("city:8")
    assert cache.get_many("abcd") == {"d": 4}
    assert cache.tier_of("c") is None


def test_dropped_tag_is_seen_by_hot_copies(
    cache: pmemcache.TieredCache, heat: Callable[..., None]
) -> None:
    cache.set("a", 1, tags=("t",))
    heat(cache, "a")
    cache.drop_tag("t")
    assert cache.get("a") is None


def test_entry_written_after_the_drop_counts(cache: pmemcache.TieredCache) -> None:
    cache.set("a", 1, tags=("t",))
    cache.drop_tag("t")
    cache.set("a", 2, tags=("t",))
    assert cache.get("a") == 2


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_every_one_of_many_has_tags_that_can_be_read_once(
    cache: pmemcache.TieredCache, *, is_async: bool
) -> None:
    tags, many = iter(["t"]), {"a": 1, "b": 2}
    if is_async:
        asyncio.run(cache.aset_many(many, tags=tags))
    else:
        cache.set_many(many, tags=tags)
    assert cache.get_many("ab") == many
    cache.drop_tag("t")
    assert cache.get_many("ab") == {}


def test_tag_that_was_never_used_can_be_dropped(cache: pmemcache.TieredCache) -> None:
    cache.drop_tag("never")


def test_lost_generation_never_brings_old_entries_back(cache: pmemcache.TieredCache) -> None:
    cache.set("old", 1, tags=("t",))
    (internal,) = list(cache.pool.keys(b"\xff"))
    assert cache.pool.evict(internal) == internal
    cache.set("new", 2, tags=("t",))
    assert cache.get("old") is None
    assert cache.get("new") == 2


def test_namespace_is_cleared_alone(
    cache: pmemcache.TieredCache, heat: Callable[..., None]
) -> None:
    cache.set("a", 1, namespace="prices")
    cache.set("b", 2, namespace="users")
    cache.set("c", 3, tags=("prices",))
    heat(cache, "a")
    cache.clear("prices")
    assert cache.get_many("abc") == {"b": 2, "c": 3}


def test_add_replaces_what_a_dropped_tag_left(cache: pmemcache.TieredCache) -> None:
    assert cache.add("a", 1, tags=("t",))
    assert not cache.add("a", 2)
    cache.drop_tag("t")
    assert cache.add("a", 3)
    assert cache.get("a") == 3


def test_dropped_entry_was_not_there_to_delete(
    cache: pmemcache.TieredCache, clock: Any, heat: Callable[..., None]
) -> None:
    cache.set("dropped", 1, tags=("t",))
    cache.set("cleared", 1, namespace="n")
    cache.set("stale", 1, 10, grace_seconds=100)
    cache.set("fresh", 1, 100, grace_seconds=100, tags=("kept",))
    cache.set("plain", 1)
    heat(cache, "dropped")
    cache.drop_tag("t")
    cache.clear("n")
    clock.advance(cache, 20)
    assert not cache.touch("dropped")
    assert cache.incr("dropped") is None
    for key in ("dropped", "cleared", "stale"):
        assert not cache.delete(key)
        with pytest.raises(KeyError):
            del cache[key]
        assert not cache.pool.exists(key)
    for key in ("dropped", "fresh", "plain"):
        cache.set(f"{key} too", 1, tags=() if key == "plain" else ("t",))
    cache.drop_tag("t")
    assert cache.delete("fresh")
    assert cache.delete("plain")
    assert cache.delete_many(["dropped too", "fresh too", "plain too", "nothing"]) == 1


def test_stale_entry_is_a_miss_for_everything_but_loads(
    cache: pmemcache.TieredCache, clock: Any
) -> None:
    cache.set("a", 1, 10, grace_seconds=100)
    clock.advance(cache, 11)
    assert cache.get("a") is None
    assert "a" not in cache
    assert not cache.touch("a", 5)
    assert cache.add("a", 2, 10, grace_seconds=100)
    assert cache.touch("a", 50)
    clock.advance(cache, 40)
    assert cache.get("a") == 2
    clock.advance(cache, 11)
    assert cache.get("a") is None


def test_only_keys_that_a_get_finds_are_shown(cache: pmemcache.TieredCache, clock: Any) -> None:
    cache.set("a", 1, tags=("t",), namespace="n")
    cache.set("stale", 1, 10, grace_seconds=100)
    cache.set("dropped", 1, tags=("u",))
    cache.drop_tag("u")
    clock.advance(cache, 11)
    assert list(cache) == [b"a"]
    assert dict(cache) == {b"a": 1}
    assert cache.popitem() == (b"a", 1)
    with pytest.raises(KeyError):
        cache.popitem()


def test_a_str_is_not_taken_for_tags(cache: pmemcache.TieredCache) -> None:
    with pytest.raises(TypeError, match="'city'"):
        cache.set("a", 1, tags="city")


@pytest.mark.parametrize(
    "call",
    [
        lambda cache: cache.set("a", 1, tags=(5,)),
        lambda cache: cache.get_or_load("a", lambda _key: 1, tags=(5,)),
        lambda cache: cache.drop_tag(5),
        lambda cache: cache.set("a", 1, namespace=5),
        lambda cache: cache.clear(5),
    ],
)
def test_names_are_str(
    cache: pmemcache.TieredCache, call: Callable[[pmemcache.TieredCache], object]
) -> None:
    with pytest.raises(TypeError, match="is a str, not 5: write '5'"):
        call(cache)
    assert "a" not in cache


def test_tags_of_an_entry_are_254_at_most(cache: pmemcache.TieredCache) -> None:
    tags = [f"t{number}" for number in range(255)]
    assert cache.set("a", 1, tags=tags[:254], namespace="n")
    assert cache.get("a") == 1
    cache.drop_tag("t253")
    assert cache.get("a") is None
    calls: list[str] = []
    for call in (
        lambda: cache.set("a", 1, tags=tags),
        lambda: cache.get_or_load("a", calls.append, tags=tags),
    ):
        with pytest.raises(ValueError, match="255 tags: an entry can have 254"):
            call()
    assert calls == []


@pytest.mark.parametrize("way", ["drop_tag", "clear"])
def test_dropping_many_costs_one_delete(
    cache: pmemcache.TieredCache, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    for number in range(1000):
        cache.set(number, number, tags=("t",), namespace="t")
    calls: list[str] = []
    for name in ("get_versioned", "put", "put_versioned", "delete", "delete_many", "clear", "keys"):
        plain = getattr(cache.pool, name)

        def counted(*args: Any, name: str = name, plain: Any = plain, **options: Any) -> Any:
            calls.append(name)
            return plain(*args, **options)

        monkeypatch.setattr(cache.pool, name, counted)
    getattr(cache, way)("t")
    assert calls == ["delete"]
    assert cache.get_many(range(1000)) == {}
