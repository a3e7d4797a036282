"""Values, timeouts and counters: what Django's own suite leaves open."""

from __future__ import annotations

import contextlib
import decimal
import math
import pickle
import threading
from typing import TYPE_CHECKING, Any

import pytest
from django.utils.safestring import SafeString, mark_safe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pmemcache.integrations.django import PmemCache

VALUES = [
    None,
    False,
    0,
    2**200,
    -1.5,
    "",
    "7",
    b"7",
    b"",
    ("a", 1),
    {"a": {1, 2}},
    decimal.Decimal("1.10"),
]


class Unpicklable:
    def __reduce__(self) -> Any:
        message = "never"
        raise pickle.PicklingError(message)


def seconds_left(cache: PmemCache, key: str) -> float | None:
    info = cache._shared.pool().info(cache.make_key(key))
    assert info is not None
    return info.ttl_seconds


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_value_comes_back_equal_and_of_the_same_type(cache: PmemCache, value: Any) -> None:
    cache.set("key", value)

    assert cache.get("key", "missing") == value
    assert type(cache.get("key", "missing")) is type(value)
    assert cache.get_many(["key"]) == {"key": value}


def test_safe_string_stays_safe(cache: PmemCache) -> None:
    cache.set("html", mark_safe("<b>"))

    assert isinstance(cache.get("html"), SafeString)


def test_caller_gets_an_object_of_its_own(cache: PmemCache) -> None:
    value = [1]
    cache.set("list", value)
    value.append(2)
    cache.get("list").append(3)

    assert cache.get("list") == [1]


def test_failed_pickling_leaves_the_old_value(cache: PmemCache) -> None:
    cache.set("key", "old")

    with pytest.raises(pickle.PicklingError):
        cache.set("key", Unpicklable())
    with pytest.raises(pickle.PicklingError):
        cache.set_many({"other": 1, "key": Unpicklable()})

    assert cache.get("key") == "old"
    assert cache.get("other") is None


def test_value_that_cannot_fit_removes_the_old_one(make_cache: Callable[..., PmemCache]) -> None:
    cache = make_cache(size="1MiB")
    cache.set("key", "old")
    cache.set("other", "old")

    cache.set("key", bytes(2**22))
    failed = cache.set_many({"other": bytes(2**22), "small": 1})

    assert cache.get("key") is None
    assert cache.get("other") is None
    assert cache.get("small") == 1
    assert failed == ["other"]


def test_default_timeout_is_the_settings(make_cache: Callable[..., PmemCache]) -> None:
    cache = make_cache(params={"TIMEOUT": 100})
    cache.set("key", 1)
    cache.set("for-ever", 1, None)

    left = seconds_left(cache, "key")
    assert left is not None
    assert 90 < left <= 100
    assert seconds_left(cache, "for-ever") is None


def test_timeout_none_in_settings_is_for_ever(make_cache: Callable[..., PmemCache]) -> None:
    cache = make_cache(params={"TIMEOUT": None})
    cache.set("key", 1)

    assert seconds_left(cache, "key") is None


@pytest.mark.parametrize("timeout", [0, -1, -0.5])
def test_timeout_that_is_over_removes_the_entry(cache: PmemCache, timeout: float) -> None:
    cache.set_many({"a": 1, "b": 1, "c": 1})

    cache.set("a", 2, timeout)
    cache.set_many({"b": 2}, timeout)

    assert cache.touch("c", timeout) is True
    assert cache.get_many(["a", "b", "c"]) == {}
    assert cache.touch("c", timeout) is False


def test_add_with_timeout_zero_only_says_whether_it_could(cache: PmemCache) -> None:
    cache.set("there", 1)

    assert cache.add("there", 2, 0) is False
    assert cache.add("not-there", 2, 0) is True
    assert cache.get("there") == 1
    assert cache.get("not-there") is None


@pytest.mark.parametrize("timeout", [1e12, math.inf])
def test_very_long_timeout_is_kept(cache: PmemCache, timeout: float) -> None:
    cache.set("key", 1, timeout)

    assert cache.touch("key", timeout) is True
    assert cache.get("key") == 1


def test_timeout_of_a_wrong_type_is_an_error(cache: PmemCache) -> None:
    with pytest.raises(TypeError):
        cache.set("key", 1, "soon")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("start", "delta", "total"),
    [
        (1, 2, 3),
        (0, -5, -5),
        (2**63 - 1, 1, 2**63),
        (2**63, -1, 2**63 - 1),
        (1, 2**64, 2**64 + 1),
        (1.5, 1, 2.5),
        (1, 0.5, 1.5),
        (True, 1, 2),
        (decimal.Decimal("0.1"), 1, decimal.Decimal("1.1")),
    ],
)
def test_incr_adds_as_python_does_and_keeps_the_deadline(
    cache: PmemCache, start: Any, delta: Any, total: Any
) -> None:
    cache.set("n", start, 1000)

    assert cache.incr("n", delta) == total
    assert cache.get("n") == total
    assert type(cache.get("n")) is type(total)
    left = seconds_left(cache, "n")
    assert left is not None
    assert 990 < left <= 1000


@pytest.mark.parametrize("value", ["7", b"7", None, [1], "seven"], ids=repr)
def test_incr_of_what_is_no_number_is_a_type_error(cache: PmemCache, value: Any) -> None:
    cache.set("n", value)

    with pytest.raises(TypeError):
        cache.incr("n")
    assert cache.get("n", "missing") == value


@pytest.mark.parametrize("delta", [1, 0.5, 2**64])
def test_incr_of_a_missing_key_is_a_value_error(cache: PmemCache, delta: Any) -> None:
    with pytest.raises(ValueError, match="Key 'n' not found"):
        cache.incr("n", delta)


@pytest.mark.parametrize("delta", [1, 0.5])
def test_no_incr_of_two_threads_is_lost(make_cache: Callable[..., PmemCache], delta: float) -> None:
    make_cache().set("n", 0)

    def count() -> None:
        cache = make_cache()
        for _ in range(500):
            cache.incr("n", delta)  # type: ignore[arg-type]

    threads = [threading.Thread(target=count) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert make_cache().get("n") == 1000 * delta


def test_incr_version_moves_value_and_deadline(cache: PmemCache) -> None:
    cache.set("key", [1], 1000)

    assert cache.incr_version("key") == 2
    assert cache.get("key") is None
    assert cache.get("key", version=2) == [1]
    assert cache.decr_version("key", version=2) == 1
    left = seconds_left(cache, "key")
    assert left is not None
    assert 990 < left <= 1000


def test_exactly_one_incr_version_moves_an_entry(make_cache: Callable[..., PmemCache]) -> None:
    moved: list[int] = []
    cache = make_cache()
    cache.set_many({f"key{i}": i for i in range(200)})

    def move() -> None:
        own = make_cache()
        for i in range(200):
            try:
                own.incr_version(f"key{i}")
            except ValueError:
                continue
            moved.append(i)

    threads = [threading.Thread(target=move) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(moved) == list(range(200))
    assert cache.get_many([f"key{i}" for i in range(200)], version=2) == {
        f"key{i}": i for i in range(200)
    }


def test_get_or_set_stores_none(cache: PmemCache) -> None:
    assert cache.get_or_set("key", lambda: None) is None
    assert cache.get("key", "missing") is None


def test_get_or_set_calls_the_default_only_on_a_miss(cache: PmemCache) -> None:
    answers = iter(["first", "second"])
    for _ in range(2):
        assert cache.get_or_set("key", lambda: next(answers)) == "first"


def test_get_many_keeps_the_callers_keys_and_order(cache: PmemCache) -> None:
    cache.set_many({2: "two", "a": "A", "ключ": "value"})

    found = cache.get_many(["ключ", 2, "missing", "a"])

    assert list(found.items()) == [("ключ", "value"), (2, "two"), ("a", "A")]


def test_long_and_odd_keys_work(cache: PmemCache) -> None:
    for key in ["x" * 60_000, "\ud800", "清"]:
        with pytest.warns(RuntimeWarning) if len(key) > 250 else contextlib.nullcontext():
            cache.set(key, key)
            assert cache.get(key) == key


def test_entry_that_cannot_be_read_is_a_miss_and_makes_room(cache: PmemCache) -> None:
    for name in ["a", "b", "c"]:
        cache._shared.pool().put(cache.make_key(name), b"\x80\x05garbage", tag=3)

    assert cache.get("a", "missing") == "missing"
    assert cache.get_many(["b"]) == {}
    assert cache.get_or_set("c", "good") == "good"
    assert cache.get("c") == "good"


def test_entry_of_a_later_version_cannot_be_counted(cache: PmemCache) -> None:
    cache._shared.pool().put(cache.make_key("n"), b"unknown", tag=99)

    with pytest.raises(ValueError, match="not found"):
        cache.incr("n")


def test_other_pool_sees_nothing(cache: PmemCache, tmp_path: Path) -> None:
    other = type(cache)(tmp_path / "other.pool", {})
    cache.set("key", 1)

    assert other.get("key") is None
