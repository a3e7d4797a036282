"""What django-redis has beyond Django, with its meanings."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from pmemcache.integrations.django import PmemCache

if TYPE_CHECKING:
    from collections.abc import Callable

BEYOND_DJANGO = [
    *("ttl", "pttl", "persist", "expire", "expire_at"),
    *("pop", "keys", "iter_keys", "delete_pattern"),
]


@pytest.mark.parametrize("name", BEYOND_DJANGO)
def test_each_has_a_sync_and_an_async_form(name: str) -> None:
    for form in (name, f"a{name}"):
        assert vars(PmemCache)[form].__code__


def test_ttl_is_the_time_left(cache: PmemCache) -> None:
    cache.set("ends", 1, 10)
    cache.set("stays", 1, None)

    before = cache.pttl("ends") or 0
    assert 5_000 < before <= 10_000
    left = cache.ttl("ends") or 0
    after = cache.pttl("ends") or 0
    assert math.ceil(after / 1000) <= left <= math.ceil(before / 1000)
    assert cache.ttl("stays") is cache.pttl("stays") is None
    assert cache.ttl("missing") == cache.pttl("missing") == 0


def test_persist_takes_the_timeout_away_once(cache: PmemCache) -> None:
    cache.set("key", 1, 10)

    assert cache.persist("key") is True
    assert cache.ttl("key") is None
    assert cache.persist("key") is False
    assert cache.persist("missing") is False


def test_expire_gives_a_timeout(cache: PmemCache) -> None:
    cache.set("key", 1, None)

    assert cache.expire("key", 20) is True
    assert cache.ttl("key") == pytest.approx(20, abs=5)
    assert cache.expire("key", 0) is True
    assert cache.get("key") is None
    assert cache.expire("missing", 20) is False


@pytest.mark.parametrize("zone", [None, dt.timezone.utc])
def test_expire_at_takes_a_moment_or_unix_time(cache: PmemCache, zone: dt.tzinfo | None) -> None:
    cache.set("key", 1)

    assert cache.expire_at("key", dt.datetime.now(zone) + dt.timedelta(seconds=50)) is True
    assert cache.ttl("key") == pytest.approx(50, abs=5)
    assert cache.expire_at("key", int(time.time()) + 90) is True
    assert cache.ttl("key") == pytest.approx(90, abs=5)
    assert cache.expire_at("key", time.time() - 1) is True
    assert cache.get("key") is None
    assert cache.expire_at("key", time.time() + 1) is False


def test_set_nx_stores_only_what_is_missing(cache: PmemCache) -> None:
    assert cache.set("key", 1, nx=True) is True
    assert cache.set("key", 2, nx=True) is False
    assert cache.get("key") == 1


def test_set_xx_stores_only_what_is_there(cache: PmemCache) -> None:
    assert cache.set("key", 1, xx=True) is False
    assert cache.get("key") is None
    cache.set("key", 1)
    assert cache.set("key", 2, 30, xx=True) is True
    assert (cache.get("key"), cache.ttl("key")) == (2, 30)
    assert cache.set("key", 3, 0, xx=True) is True
    assert cache.get("key") is None


def test_nx_and_xx_together_are_refused(cache: PmemCache) -> None:
    with pytest.raises(ValueError, match="contradict"):
        cache.set("key", 1, nx=True, xx=True)


@pytest.mark.parametrize(
    ("delta", "default", "total"), [(0.5, 1, 1.5), (1, 2**63, 2**63 + 1), (1, 2**63 - 1, 2**63)]
)
def test_default_and_delta_are_any_numbers(
    cache: PmemCache, delta: float, default: int, total: float
) -> None:
    assert cache.incr("key", delta, default=default) == total
    assert cache.get("key") == total
    assert 0 < (cache.ttl("key") or 0) <= 300


def test_incr_does_not_extend_a_list(cache: PmemCache) -> None:
    cache.set("key", ["a"])
    with pytest.raises(TypeError):
        cache.incr("key", "bc")  # type: ignore[arg-type]
    assert cache.get("key") == ["a"]


def test_incr_counts_a_missing_key_as_its_default(make_cache: Callable[..., PmemCache]) -> None:
    cache = make_cache(params={"TIMEOUT": 40})

    assert cache.incr("key", default=0) == 1
    assert cache.incr("key", 5, default=100) == 6
    assert cache.get("key") == 6
    assert cache.ttl("key") == pytest.approx(40, abs=5)
    with pytest.raises(ValueError, match="not found"):
        cache.incr("missing")


def test_pop_returns_and_removes(cache: PmemCache) -> None:
    cache.set("key", {"a": 1})

    assert cache.pop("key") == {"a": 1}
    assert cache.get("key") is None
    assert cache.pop("key") is None
    assert cache.pop("key", "default") == "default"


def test_each_value_is_popped_by_one_caller(make_cache: Callable[..., PmemCache]) -> None:
    make_cache().set_many({f"key{number}": number for number in range(200)})
    popped: list[Any] = []

    def pop_all() -> None:
        cache = make_cache()
        values = [cache.pop(f"key{number}") for number in range(200)]
        popped.extend(value for value in values if value is not None)

    threads = [threading.Thread(target=pop_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(popped) == list(range(200))


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*", {"a", "ab", "a.b", "a*b", "b1", "b2", "b^", "x y", "über"}),
        ("a*", {"a", "ab", "a.b", "a*b"}),
        ("a?b", {"a.b", "a*b"}),
        (r"a\*b", {"a*b"}),
        ("b[12]", {"b1", "b2"}),
        ("b[^1]", {"b2", "b^"}),
        ("b[1-9]", {"b1", "b2"}),
        (r"b[\^]", {"b^"}),
        ("b[9-1]", {"b1", "b2"}),
        (r"b[1\-9]", {"b1"}),
        (r"b[^!-\]]", {"b^"}),
        ("ü*", {"über"}),
        ("a.b", {"a.b"}),
        ("none*", set()),
    ],
)
@pytest.mark.filterwarnings("ignore::django.core.cache.backends.base.CacheKeyWarning")
def test_keys_match_globs(cache: PmemCache, pattern: str, found: set[str]) -> None:
    cache.set_many(dict.fromkeys(["a", "ab", "a.b", "a*b", "b1", "b2", "b^", "x y", "über"], 1))
    cache.set("a", 1, version=2)

    assert set(cache.keys(pattern)) == set(cache.iter_keys(pattern)) == found
    assert cache.keys("*", version=2) == ["a"]


def test_keys_leave_out_what_has_expired(cache: PmemCache) -> None:
    cache.set("gone", 1, 0.05)
    cache.set("here", 1)
    time.sleep(0.1)

    assert cache.keys() == ["here"]


def test_delete_pattern_keeps_to_its_own_keys(make_cache: Callable[..., PmemCache]) -> None:
    cache, other = make_cache(), make_cache(params={"KEY_PREFIX": "other"})
    for each in (cache, other):
        each.set_many({"user:1": 1, "user:2": 2, "page": 3})

    assert cache.delete_pattern("user:*") == 2
    assert cache.keys() == ["page"]
    assert len(other.keys()) == 3
    assert other.delete_pattern("*") == 3


def test_keys_made_by_a_function_of_the_site_cannot_be_listed(
    make_cache: Callable[..., PmemCache],
) -> None:
    cache = make_cache(params={"KEY_FUNCTION": lambda key, *_: f"site-{key}"})

    with pytest.raises(NotImplementedError, match="KEY_FUNCTION"):
        cache.keys("*")
    with pytest.raises(NotImplementedError, match="KEY_FUNCTION"):
        cache.delete_pattern("*")


def test_async_forms_do_the_same(cache: PmemCache) -> None:
    async def use() -> None:
        assert await cache.aset("key", 1, 10, nx=True) is True
        assert await cache.aset("key", 2, 10, xx=True) is True
        assert await cache.attl("key") == pytest.approx(10, abs=5)
        assert await cache.apttl("key") == pytest.approx(10_000, abs=5_000)
        assert await cache.aexpire("key", 30) is True
        assert await cache.aexpire_at("key", time.time() + 100) is True
        assert await cache.apersist("key") is True
        assert await cache.aincr("count", default=4) == 5
        assert set(await cache.akeys()) == {"key", "count"}
        assert {key async for key in cache.aiter_keys("k*")} == {"key"}
        assert await cache.apop("count") == 5
        assert await cache.adelete_pattern("*") == 1

    asyncio.run(use())
