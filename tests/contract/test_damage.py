"""Bytes that somebody else changed are input: they become a miss, never a wrong value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import pmemcache

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VALUE = b"a value to be found in the file " * 20


def spoil(path: Path) -> None:
    """Change one byte of VALUE in the pool's file."""
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(content.index(VALUE) + 100)
        file.write(b"\xff")


def test_value_spoilt_while_nobody_was_attached_is_a_miss(
    make_pool: Callable[..., pmemcache.Pool], pool_path: Path
) -> None:
    pool = make_pool(pool_path, "1MiB", lifetime="restart")
    pool.put_many({"spoilt": VALUE, "other": b"v" * 100})
    pool.close()
    spoil(pool_path)
    pool = make_pool(pool_path, "1MiB", lifetime="restart")
    assert pool.get("spoilt") is None
    assert pool.get("other") == b"v" * 100
    assert pool.stats().damaged == 1
    assert pool.check() == []
    assert pool.put("spoilt", b"anew")
    assert pool.get("spoilt") == b"anew"


def test_pool_that_verifies_notices_at_once(
    make_pool: Callable[..., pmemcache.Pool], pool_path: Path
) -> None:
    pool = make_pool(pool_path, "1MiB", verify=True)
    pool.put_many({"spoilt": VALUE, "other": b"v" * 100})
    assert pool.get("spoilt") == VALUE
    spoil(pool_path)
    assert pool.get("spoilt") is None
    assert pool.get_many(["spoilt", "other"]) == {"other": b"v" * 100}
    assert pool.check() == []


@pytest.mark.parametrize("size", [0, 1, 4096, 100_000])
def test_file_cut_short_while_nobody_was_attached_harms_nothing(
    make_pool: Callable[..., pmemcache.Pool], pool_path: Path, size: int
) -> None:
    pool = make_pool(pool_path, "1MiB", lifetime="restart")
    pool.put("k", VALUE)
    pool.close()
    with pool_path.open("r+b") as file:
        file.truncate(size)
    try:
        pool = make_pool(pool_path, "1MiB", lifetime="restart")
    except pmemcache.ConfigurationError:
        assert pool_path.stat().st_size == size  # no pool any more, so somebody else's file
    else:
        assert pool.get("k") is None
        assert pool.put("k", VALUE)
        assert pool.get("k") == VALUE
