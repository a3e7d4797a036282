from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import pmemcache

if TYPE_CHECKING:
    from collections.abc import Callable

INT64_MAX = 2**63 - 1


def test_incr_adds_to_a_decimal_integer(pool: pmemcache.Pool) -> None:
    pool.put(b"n", b"41")
    assert pool.incr(b"n") == 42
    assert pool.get(b"n") == b"42"
    assert pool.incr(b"n", -50) == -8
    assert pool.get(b"n") == b"-8"
    assert pool.incr(b"n", 0) == -8


def test_missing_key_is_not_counted_unless_asked(pool: pmemcache.Pool) -> None:
    assert pool.incr(b"n") is None
    assert pool.exists(b"n") is False
    assert pool.incr(b"n", 5, initial=100) == 105
    assert pool.incr(b"n", 5, initial=100) == 110


def test_incr_keeps_the_deadline_and_the_tag(
    pool: pmemcache.Pool, advance: Callable[[float], None]
) -> None:
    pool.put(b"n", b"1", ttl_seconds=10, tag=2)
    advance(6)
    assert pool.incr(b"n", 1, ttl_seconds=100, tag=9) == 2
    assert pool.get_tagged(b"n") == (b"2", 2)
    advance(6)
    assert pool.get(b"n") is None


def test_created_counter_has_deadline_and_tag(
    pool: pmemcache.Pool, advance: Callable[[float], None]
) -> None:
    assert pool.incr(b"n", 1, initial=0, ttl_seconds=10, tag=2) == 1
    assert pool.get_tagged(b"n") == (b"1", 2)
    advance(11)
    assert pool.incr(b"n") is None


@pytest.mark.parametrize(
    "value", [b"", b"x", b"1.5", b"12a", b" 1", b"1 ", b"--1", b"-", b"9223372036854775808"]
)
def test_other_values_are_not_counted(pool: pmemcache.Pool, value: bytes) -> None:
    pool.put(b"n", value)
    with pytest.raises(pmemcache.NotAnIntegerError, match="put an integer"):
        pool.incr(b"n")
    assert pool.get(b"n") == value


@pytest.mark.parametrize(("start", "delta"), [(INT64_MAX, 1), (-INT64_MAX - 1, -1), (5, INT64_MAX)])
def test_overflow_leaves_the_value(pool: pmemcache.Pool, start: int, delta: int) -> None:
    pool.put(b"n", b"%d" % start)
    with pytest.raises(pmemcache.IntegerOverflowError, match="64-bit"):
        pool.incr(b"n", delta)
    assert pool.get(b"n") == b"%d" % start


def test_whole_range_is_counted(pool: pmemcache.Pool) -> None:
    assert pool.incr(b"n", INT64_MAX, initial=0) == INT64_MAX
    assert pool.incr(b"n", -INT64_MAX) == 0
    assert pool.incr(b"n", -INT64_MAX - 1) == -INT64_MAX - 1
    assert pool.get(b"n") == b"%d" % (-INT64_MAX - 1)


@pytest.mark.parametrize("delta", [True, 1.0, "1", None])
def test_delta_of_another_type_is_refused(pool: pmemcache.Pool, delta: object) -> None:
    with pytest.raises(TypeError, match="delta must be"):
        pool.incr(b"n", delta)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["delta", "initial"])
def test_more_than_64_bits_are_refused(pool: pmemcache.Pool, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        pool.incr(b"n", **{name: INT64_MAX + 1})
