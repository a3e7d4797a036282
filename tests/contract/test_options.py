from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import pmemcache
from pmemcache.binding import DOORS, CffiDoor
from pmemcache.config import PoolOptions, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (1, 1),
        (2**62, 2**62),
        ("1", 1),
        ("64MiB", 64 * 1024**2),
        ("64 MiB", 64 * 1024**2),
        (" 64mib ", 64 * 1024**2),
        ("64MB", 64 * 1000**2),
        ("1.5GiB", 3 * 1024**3 // 2),
        ("0.1KB", 100),
        ("7b", 7),
        ("3TiB", 3 * 1024**4),
        ("3PB", 3 * 1000**5),
    ],
)
def test_size_is_read(text: int | str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "MiB", "64 QiB", "64M", "-1", "1e9", "1,5MiB", "0", 0, -1, "0.1", 2**63, "9EiB"]
)
def test_size_that_is_none_is_refused(text: int | str) -> None:
    with pytest.raises(pmemcache.ConfigurationError, match="size"):
        parse_size(text)


@pytest.mark.parametrize("size", [1.5, True, None, b"64MiB"])
def test_size_of_another_type_is_refused(size: Any) -> None:
    with pytest.raises(TypeError, match="a size is an int of bytes or a str"):
        parse_size(size)


def test_pool_too_small_is_refused(
    make_pool: Callable[..., pmemcache.Pool], pool_path: Path
) -> None:
    with pytest.raises(pmemcache.ConfigurationError):
        make_pool(pool_path, 1000)
    assert not pool_path.exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lifetime", "forever"),
        ("lifetime", None),
        ("eviction", "fifo"),
        ("eviction", ["lru"]),
        ("memory", "greedy"),
        ("preallocate", "yes"),
        ("preallocate", 1),
        ("verify", None),
        ("shards", 3),
        ("shards", -1),
        ("shards", 2.0),
        ("lock_timeout_seconds", 0),
        ("lock_timeout_seconds", float("nan")),
        ("lock_timeout_seconds", "1"),
    ],
)
def test_option_that_does_not_exist_is_refused(
    make_pool: Callable[..., pmemcache.Pool], pool_path: Path, name: str, value: object
) -> None:
    with pytest.raises(pmemcache.ConfigurationError, match=name):
        make_pool(pool_path, "1MiB", **{name: value})
    assert not pool_path.exists()


@pytest.mark.parametrize(
    "options",
    [
        {"lifetime": "restart"},
        {"eviction": "lru"},
        {"eviction": "none"},
        {"memory": "conservative"},
        {"preallocate": True},
        {"shards": 4},
        {"verify": True},
        {"lock_timeout_seconds": 0.5},
    ],
)
def test_every_option_makes_a_pool(
    make_pool: Callable[..., pmemcache.Pool], pool_path: Path, options: dict[str, Any]
) -> None:
    pool = make_pool(pool_path, "4MiB", **options)
    assert pool.put(b"k", b"v")
    assert pool.get(b"k") == b"v"
    for name, value in options.items():
        assert getattr(pool.options, name) == value
    if options.get("preallocate"):
        stats = pool.stats()
        assert stats.allocated_bytes == stats.capacity_bytes > 3.9 * 1024**2


def test_options_are_frozen_and_compared() -> None:
    options = PoolOptions(size_bytes=1, shards=2)
    with pytest.raises(AttributeError):
        options.shards = 4  # type: ignore[misc]
    assert options.differences(options) == []
    assert options.differences(PoolOptions(size_bytes=1)) == ["shards=2 instead of 0"]


def test_door_is_the_one_that_was_asked_for(door: str, pool: pmemcache.Pool) -> None:
    assert isinstance(pool._door, CffiDoor) == (door == "cffi")


def test_short_door_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PMEMCACHE_DOOR", raising=False)
    with pmemcache.Pool(size="1MiB") as pool:
        assert isinstance(pool._door, CffiDoor) == (next(iter(DOORS)) == "cffi")


def test_door_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PMEMCACHE_DOOR", "trap")
    with pytest.raises(pmemcache.ConfigurationError, match="PMEMCACHE_DOOR='trap'"):
        pmemcache.Pool(size="1MiB")
