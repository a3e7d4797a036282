from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    import pmemcache


def test_entry_expires_at_its_deadline(
    pool: pmemcache.Pool, advance: Callable[[float], None]
) -> None:
    pool.put(b"k", b"v", ttl_seconds=6000)
    advance(5900)
    assert pool.get(b"k") == b"v"
    advance(100)
    assert pool.get(b"k") is None
    assert pool.exists(b"k") is False
    assert pool.info(b"k") is None
    assert pool.get_many([b"k"]) == {}
    assert list(pool.keys()) == []
    assert pool.delete(b"k") is False
    assert pool.touch(b"k", 60) is False


def test_expired_entry_counts_as_miss(
    pool: pmemcache.Pool, advance: Callable[[float], None]
) -> None:
    pool.put(b"k", b"v", ttl_seconds=1)
    advance(2)
    before = pool.stats()
    pool.get(b"k")
    after = pool.stats()
    assert (after.hit - before.hit, after.miss - before.miss) == (0, 1)


def test_expired_entry_is_absent_for_conditions(
    pool: pmemcache.Pool, advance: Callable[[float], None]
) -> None:
    pool.put(b"k", b"v", ttl_seconds=1)
    advance(2)
    assert pool.put(b"k", b"w", only_if="present") is False
    assert pool.put(b"k", b"w", only_if="absent") is True
    assert pool.get(b"k") == b"w"


def test_times_below_a_second_count(pool: pmemcache.Pool, advance: Callable[[float], None]) -> None:
    def is_there_after(seconds: float) -> bool:
        pool.put(b"k", b"v", ttl_seconds=0.25)
        advance(seconds)
        return pool.get(b"k") == b"v"

    # Each try has half of a tenth of a second, which a busy machine may take for it.
    assert any(is_there_after(0.2) for _try in range(50))
    assert not is_there_after(0.25)


def test_shortest_time_is_no_deletion(pool: pmemcache.Pool) -> None:
    pool.put(b"k", b"v", ttl_seconds=0.0001)
    info = pool.info(b"k")
    # One millisecond may have passed already; a deletion would have been at once.
    assert info is None or info.ttl_seconds == pytest.approx(0.001, abs=0.001)


def test_without_time_to_live_nothing_expires(
    pool: pmemcache.Pool, advance: Callable[[float], None]
) -> None:
    pool.put(b"k", b"v")
    advance(10 * 365 * 86_400)
    assert pool.get(b"k") == b"v"


@pytest.mark.parametrize("ttl_seconds", [0, -1, 0.0, -0.5, -(10**30), -1e300])
def test_no_time_to_live_left_deletes(pool: pmemcache.Pool, ttl_seconds: float) -> None:
    pool.put(b"k", b"v")
    assert pool.put(b"k", b"w", ttl_seconds=ttl_seconds) is True
    assert pool.get(b"k") is None
    pool.put(b"k", b"v")
    assert pool.touch(b"k", ttl_seconds) is True
    assert pool.get(b"k") is None


@pytest.mark.parametrize("ttl_seconds", [10**30, 1e300, 9.5e12])
def test_absurdly_long_time_never_ends(pool: pmemcache.Pool, ttl_seconds: float) -> None:
    pool.put(b"k", b"v", ttl_seconds=ttl_seconds)
    info = pool.info(b"k")
    assert info is not None
    assert info.ttl_seconds is None


def test_century_is_kept(pool: pmemcache.Pool) -> None:
    pool.put(b"k", b"v", ttl_seconds=100 * 365 * 86_400)
    assert pool.get(b"k") == b"v"


def test_touch_moves_the_deadline(pool: pmemcache.Pool, advance: Callable[[float], None]) -> None:
    pool.put(b"k", b"v", ttl_seconds=10)
    assert pool.touch(b"k", 100) is True
    advance(50)
    assert pool.get(b"k") == b"v"
    assert pool.touch(b"k", None) is True
    advance(10**6)
    assert pool.get(b"k") == b"v"
    assert pool.touch(b"k", 1) is True
    advance(2)
    assert pool.get(b"k") is None


def test_touch_keeps_the_generation(pool: pmemcache.Pool) -> None:
    pool.put(b"k", b"v", ttl_seconds=10)
    before = pool.info(b"k")
    pool.touch(b"k", 100)
    after = pool.info(b"k")
    assert before is not None
    assert after is not None
    assert before.generation == after.generation


def test_put_without_time_removes_the_deadline(
    pool: pmemcache.Pool, advance: Callable[[float], None]
) -> None:
    pool.put(b"k", b"v", ttl_seconds=10)
    pool.put(b"k", b"v")
    advance(20)
    assert pool.get(b"k") == b"v"


@pytest.mark.parametrize("ttl_seconds", [float("nan"), float("inf"), float("-inf")])
def test_time_that_is_no_number_is_refused(pool: pmemcache.Pool, ttl_seconds: float) -> None:
    with pytest.raises(ValueError, match="ttl_seconds must be a finite number"):
        pool.put(b"k", b"v", ttl_seconds=ttl_seconds)
    with pytest.raises(ValueError, match="ttl_seconds must be a finite number"):
        pool.put_many({b"k": b"v"}, ttl_seconds=ttl_seconds)
    with pytest.raises(ValueError, match="ttl_seconds must be a finite number"):
        pool.touch(b"k", ttl_seconds)


@pytest.mark.parametrize("ttl_seconds", [True, "60", b"60", Decimal(60)])
def test_time_of_another_type_is_refused(pool: pmemcache.Pool, ttl_seconds: object) -> None:
    with pytest.raises(TypeError, match=f"ttl_seconds must be .* not {type(ttl_seconds).__name__}"):
        pool.put(b"k", b"v", ttl_seconds=ttl_seconds)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="ttl_seconds"):
        pool.touch(b"k", ttl_seconds)  # type: ignore[arg-type]
    assert pool.exists(b"k") is False
