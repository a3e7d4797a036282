"""The hot tier is a cachetools cache that survives scans."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import fractions
import os
import sys
import threading
import uuid
from typing import Any, NamedTuple

import cachetools
import pytest

from pmemcache.hot import HotCache
from pmemcache.immutability import is_immutable
from pmemcache.sizes import size_of


def of_bytes(capacity: int) -> HotCache:
    return HotCache(capacity, getsizeof=len)


def test_works_with_cachetools_cached() -> None:
    calls = []

    @cachetools.cached(HotCache(100_000), lock=threading.Lock(), info=True)
    def double(number: int) -> int:
        calls.append(number)
        return 2 * number

    assert [double(1), double(2), double(1)] == [2, 4, 2]
    assert calls == [1, 2]
    assert double.cache_info().hits == 1


def test_is_bounded_in_bytes() -> None:
    cache = of_bytes(100)
    for number in range(50):
        cache[number] = b"x" * 10
        assert cache.currsize == sum(len(value) for value in cache.values()) <= 100
    assert len(cache) == 10


def test_value_larger_than_the_cache_is_refused_as_by_cachetools() -> None:
    with pytest.raises(ValueError, match="too large"):
        of_bytes(10)[1] = b"x" * 11


def test_replacing_a_value_counts_its_bytes_once() -> None:
    cache = of_bytes(100)
    for size in (10, 90, 30):
        cache["key"] = b"x" * size
        assert cache.currsize == size
    del cache["key"]
    assert (cache.currsize, len(cache)) == (0, 0)


def test_used_entries_survive_a_scan() -> None:
    cache = of_bytes(1000)
    for key in range(50):
        cache[key] = b"x" * 10
    for _round in range(3):
        for key in range(50):
            assert cache[key]
    for key in range(1000, 3000):
        cache[key] = b"x" * 10
    assert all(key in cache for key in range(50))


def test_ghost_comes_back_into_the_main_queue() -> None:
    cache = of_bytes(100)
    for key in range(20):
        cache[key] = b"x" * 10
    assert 0 not in cache
    cache[0] = b"x" * 10
    for key in range(100, 105):
        cache[key] = b"x" * 10
    assert 0 in cache


def of_one_each(capacity: int) -> HotCache:
    return HotCache(capacity, getsizeof=lambda _value: 1)


def use(cache: HotCache, key: int, times: int) -> None:
    cache[key] = key
    for _time in range(times):
        assert cache[key] == key


def test_what_was_used_least_leaves_first() -> None:
    cache = of_one_each(100)
    for key in range(6):
        use(cache, key, 100 >> key)
    assert [cache.popitem()[0] for _key in range(6)] == [5, 4, 3, 2, 1, 0]


def test_what_was_used_most_and_is_not_any_more_leaves() -> None:
    cache = of_one_each(20)
    use(cache, 0, 250)
    for key in range(1, 1000):
        use(cache, key, 5)
        if len(cache) == 20:
            cache.popitem()
    assert 0 not in cache


def test_use_is_remembered_after_an_entry_left() -> None:
    cache = of_one_each(50)
    for _use in range(7):
        cache.note_use("key")
    cache["key"] = 1
    for key in range(200):
        cache[key] = key
    assert "key" not in cache
    assert cache.note_use("key") == 9


def test_behaves_as_a_dict_without_pressure() -> None:
    cache, model = HotCache(10**9), {}
    for number in range(2000):
        key = number * 7919 % 97
        action = number % 5
        if action == 0:
            assert cache.pop(key, None) == model.pop(key, None)
        elif action == 1:
            assert cache.setdefault(key, number) == model.setdefault(key, number)
        elif action == 2:
            cache[key] = model[key] = number
        else:
            assert cache.get(key) == model.get(key)
        assert len(cache) == len(model)
    assert dict(cache) == model
    with pytest.raises(KeyError):
        cache["missing"]
    with pytest.raises(KeyError):
        del cache["missing"]
    while model:
        key, value = cache.popitem()
        assert model.pop(key) == value
    with pytest.raises(KeyError):
        cache.popitem()


def test_threads_keep_the_accounts_right() -> None:
    cache = of_bytes(500)

    def work(seed: int) -> None:
        for number in range(3000):
            key = number * seed % 101
            if number % 7 == 0:
                cache.pop(key, None)
            elif cache.get(key) is None:
                cache[key] = b"x" * (1 + key % 30)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (3, 5, 7, 11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.currsize == sum(len(value) for value in cache.values()) <= 500
    queued = [entry for entry in (*cache._small, *cache._main) if entry.queue]
    assert sorted(entry.key for entry in queued) == sorted(cache)
    assert cache._small_used == sum(e.size_bytes for e in cache._small if e.queue == 1)


def test_child_made_by_fork_begins_empty() -> None:
    cache = of_bytes(100)
    cache["key"] = b"x"
    child = os.fork()
    if child == 0:
        os._exit(len(cache) * 2 + ("key" in cache))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(cache) == 1


def test_value_deeper_than_calls_can_be_is_recognised() -> None:
    value: Any = ()
    for _level in range(5000):
        value = (value, 1)
    assert is_immutable(value)
    assert not is_immutable((value, []))
    assert size_of(value) > 5000 * sys.getsizeof((1, 2))


class Colour(enum.Enum):
    RED = "red"


class Mutable(enum.Enum):
    LIST = ["list"]  # noqa: RUF012 - what is tested


class Point(NamedTuple):
    x: int
    y: Any


class SafeText(str):
    __slots__ = ()

    def __html__(self) -> SafeText:
        return self


class Named(str):  # noqa: SLOT000 - has attributes
    pass


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        1,
        1.5,
        1j,
        "text",
        b"bytes",
        decimal.Decimal(1),
        fractions.Fraction(1, 3),
        uuid.UUID(int=1),
        dt.date(2024, 1, 1),
        dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc),
        dt.timedelta(1),
        Colour.RED,
        (1, ("two", None)),
        frozenset({1, "two"}),
        Point(1, 2),
        SafeText("<b>"),
        range(3),
    ],
    ids=repr,
)
def test_immutable_value_is_recognised(value: Any) -> None:
    assert is_immutable(value)


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        set(),
        bytearray(),
        ([],),
        Point(1, []),
        Mutable.LIST,
        Named("text"),
        collections.deque(),
        object(),
    ],
    ids=repr,
)
def test_mutable_value_is_recognised(value: Any) -> None:
    assert not is_immutable(value)
