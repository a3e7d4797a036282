from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest

import pmemcache
from pmemcache.binding import stat_table


def test_fields_are_those_of_the_engine() -> None:
    assert [field.name for field in fields(pmemcache.PoolStats)] == [
        name for name, _unit, _sentence in stat_table()
    ]


def test_operations_are_counted(pool: pmemcache.Pool) -> None:
    pool.put(b"a", b"12345")
    pool.put(b"b", b"v")
    pool.get(b"a")
    pool.get(b"missing")
    pool.delete(b"b")
    stats = pool.stats()
    assert (stats.put, stats.get, stats.hit, stats.miss, stats.delete) == (2, 2, 1, 1, 1)
    assert stats.entries == 1
    assert stats.payload_bytes == 6
    assert 7.9 * 1024**2 < stats.capacity_bytes <= 8 * 1024**2
    assert stats.pool_size_used >= 6
    assert stats.dram_size_used > 0
    assert stats.attached == 1
    assert stats.hit_ratio == 0.5


def test_large_get_is_counted_once(pool: pmemcache.Pool) -> None:
    pool.put(b"k", b"v" * 70_000)
    pool.get(b"k")
    stats = pool.stats()
    assert (stats.get, stats.hit) == (1, 1)


def test_statistics_are_frozen_and_a_dict(pool: pmemcache.Pool) -> None:
    stats = pool.stats()
    assert stats.as_dict()["entries"] == 0
    assert list(stats.as_dict()) == [field.name for field in fields(stats)]
    assert stats.hit_ratio == 0.0
    with pytest.raises(FrozenInstanceError):
        stats.put = 1  # type: ignore[misc]
