"""Entries that belong to something: what is dropped is no hit, whatever operation asks."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from pmemcache import TieredCache
from pmemcache.errors import LockTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pmemcache.integrations.django import PmemCache

VALUES = ["text", b"bytes", 7, 2.5, {"a": [1]}]


@pytest.fixture(params=VALUES, ids=repr)
def value(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_tagged_value_is_a_value(cache: PmemCache, value: Any) -> None:
    assert cache.set("key", value, 30, tags=("city:7", "cities")) is True

    for _ in range(4):  # from the pool, and from the hot tier
        assert cache.get("key") == value
        assert type(cache.get("key")) is type(value)
    assert cache.get_many(["key"]) == {"key": value}
    assert cache.has_key("key")
    assert cache.ttl("key") == pytest.approx(30, abs=5)
    assert cache.touch("key", 60) is True
    assert cache.ttl("key") == pytest.approx(60, abs=5)
    assert cache.add("key", 1) is False
    assert cache.keys() == ["key"]
    assert cache.incr_version("key") == 2
    assert cache.pop("key", version=2) == value


@pytest.mark.parametrize("reads", [0, 4], ids=["warm", "hot"])
def test_dropped_tag_makes_a_miss_of_every_operation(
    cache: PmemCache, value: Any, reads: int
) -> None:
    cache.set("key", value, tags=("city:7", "cities"))
    for _ in range(reads):
        cache.get("key")
    cache.invalidate("city:7")

    assert cache.get("key", "missing") == "missing"
    assert cache.get_many(["key"]) == {}
    assert cache.has_key("key") is False
    assert "key" not in cache
    assert cache.ttl("key") == 0
    assert cache.touch("key", 60) is False
    assert cache.touch("key", 0) is False
    assert cache.keys() == []
    assert cache.pop("key", "missing") == "missing"
    assert cache.set("key", 1, xx=True) is False
    for count in (cache.incr, cache.decr, cache.incr_version):
        with pytest.raises(ValueError, match="not found"):
            count("key")
    assert cache.set("key", "new", xx=True) is False
    assert cache.add("key", "new", tags=("cities",)) is True
    assert cache.get("key") == "new"
    cache.invalidate("cities")
    assert cache.delete("key") is False
    assert cache.add("key", "newer") is True
    assert cache.delete("key") is True
    cache.set("key", 7, tags=("cities",))
    cache.invalidate("cities")
    assert cache.incr("key", default=4) == 5


def test_dropping_reaches_all_aliases_and_the_cache_below(
    make_cache: Callable[..., PmemCache],
) -> None:
    one, other = make_cache(), make_cache(params={"KEY_PREFIX": "other"})
    with TieredCache(one._shared.pool()) as tiered:
        tiered.set("key", 1, tags=("city:7",))
        other.set("key", 1, tags=("city:7",))
        other.set("stays", 1, tags=("city:8",))
        one.invalidate("city:7")
        assert tiered.get("key") is None
    assert other.get("key") is None
    assert other.get("stays") == 1


def test_tagged_counter_counts_and_keeps_its_tags_and_deadline(cache: PmemCache) -> None:
    for name, start, delta, total in [
        ("int", 1, 2, 3),
        ("float", 1.5, 1, 2.5),
        ("big", 2**70, 1, 2**70 + 1),
    ]:
        cache.set(name, start, 30, tags=("numbers",))
        assert cache.incr(name, delta) == total
        assert cache.get(name) == total
        assert cache.ttl(name) == pytest.approx(30, abs=5)
    cache.invalidate("numbers")
    assert cache.get_many(["int", "float", "big"]) == {}


def test_tags_of_add_and_set_many(cache: PmemCache) -> None:
    assert cache.add("a", 1, tags=("t",)) is True
    assert cache.add("a", 2, tags=("t",)) is False
    assert cache.set_many({"b": 1, "c": 2}, tags=("t",)) == []
    assert cache.set("d", 1, nx=True, tags=("t",)) is True
    assert cache.get_many("abcd") == {"a": 1, "b": 1, "c": 2, "d": 1}
    cache.invalidate("t")
    assert cache.get_many("abcd") == {}


def test_moved_entry_keeps_its_tags(cache: PmemCache) -> None:
    cache.set("key", 1, tags=("t",))
    cache.incr_version("key")
    cache.invalidate("t")

    assert cache.get("key", version=2) is None


def test_tagged_value_that_cannot_fit_removes_the_old_one(
    make_cache: Callable[..., PmemCache],
) -> None:
    cache = make_cache(size="1MiB")
    cache.set("key", "old")

    assert cache.set("key", bytes(2**22), tags=("t",)) is False
    assert cache.get("key") is None


def test_one_str_is_no_list_of_tags(cache: PmemCache) -> None:
    with pytest.raises(TypeError, match="write"):
        cache.set("key", 1, tags="city")


def test_tags_of_an_entry_that_is_replaced_cannot_be_given(cache: PmemCache) -> None:
    with pytest.raises(ValueError, match="xx"):
        cache.set("key", 1, xx=True, tags=("t",))


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_value_loaded_before_its_tag_was_dropped_is_no_hit(
    cache: PmemCache, *, is_async: bool
) -> None:
    def load() -> str:
        cache.invalidate("city:7")  # as another worker does meanwhile
        return "old"

    if is_async:
        assert asyncio.run(cache.aget_or_set("key", load, tags=("city:7",))) == "old"
    else:
        assert cache.get_or_set("key", load, tags=("city:7",)) == "old"
    assert cache.get("key") is None
    assert cache.get_or_set("key", lambda: "new", tags=("city:7",)) == "new"
    assert cache.get("key") == "new"


def test_all_tags_are_dropped_before_an_error_is_raised(
    cache: PmemCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.set("key", 1, tags=("b",))
    dropped: list[str] = []

    def drop(tag: str) -> None:
        dropped.append(tag)
        if tag == "a":
            message = "locked"
            raise LockTimeoutError(message)

    monkeypatch.setattr(cache, "_drop_tag", drop)
    with pytest.raises(LockTimeoutError):
        cache.invalidate("a", "b")
    assert dropped == ["a", "b"]


def test_async_forms_take_tags(cache: PmemCache) -> None:
    async def use() -> None:
        await cache.aset("a", 1, tags=("t",))
        await cache.aadd("b", 1, tags=("t",))
        await cache.aset_many({"c": 1}, tags=("t",))
        assert len(await cache.aget_many("abc")) == 3
        await cache.ainvalidate("t")
        assert await cache.aget_many("abc") == {}

    asyncio.run(use())


def test_what_was_dropped_is_seen_by_no_later_read(make_cache: Callable[..., PmemCache]) -> None:
    truth = [0]
    done = threading.Event()

    def read() -> None:
        cache = make_cache()
        while not done.is_set():
            cache.get_or_set("key", lambda: truth[0], tags=("t",))

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    cache = make_cache()
    found = []
    for number in range(1, 200):
        truth[0] = number
        cache.invalidate("t")
        found.append(cache.get_or_set("key", lambda: truth[0], tags=("t",)))
    done.set()
    for thread in threads:
        thread.join()

    assert found == list(range(1, 200))
