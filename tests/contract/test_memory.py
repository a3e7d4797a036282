"""Memory that a pool takes from its file system, and gives back: by the blocks of its file."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pmemcache

    MakePool = Callable[..., pmemcache.Pool]

MIB = 2**20
VALUE = b"v" * 10_000
COUNT = 1000
AGE_SECONDS = 10


@pytest.fixture
def pool_path(tmp_path: Path) -> Iterator[Path]:
    """Where it can be, in a file system that takes memory back for certain."""
    shared = Path("/dev/shm")  # noqa: S108 - a folder of our own in it
    folder = shared if os.access(shared, os.W_OK) else tmp_path
    with tempfile.TemporaryDirectory(dir=folder) as own:
        yield Path(own, "site.pool")


@pytest.fixture
def small_tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    folder = tmp_path / "small"
    folder.mkdir(mode=0o700)
    command = ["mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "none", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if mounted.returncode != 0:
        pytest.skip(f"a tmpfs cannot be mounted: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def memory_of(path: Path) -> int:
    return path.stat().st_blocks * 512


def fill(pool: pmemcache.Pool) -> None:
    for number in range(COUNT):
        assert pool.put(f"k{number}", VALUE)


def write_often(pool: pmemcache.Pool) -> None:
    for _ in range(100):
        pool.delete("none")


def test_pool_without_a_size_grows_until_its_file_system_is_full_and_then_evicts(
    make_pool: MakePool, small_tmpfs: Path
) -> None:
    pool = make_pool(small_tmpfs, None)
    stored = 0
    while not pool.stats().evict:
        assert pool.put(f"k{stored}", VALUE)
        stored += 1
        assert stored * len(VALUE) < 30 * MIB, "it grows beyond its file system"

    stats = pool.stats()
    assert stats.growths_refused > 0
    assert 20 * MIB < stats.allocated_bytes <= stats.capacity_bytes
    assert stats.payload_bytes > 19 * MIB
    assert stats.entries >= stored - stats.evict - stats.expired
    for number in range(stored, stored + 3000):
        assert pool.put(f"k{number}", VALUE)
        assert pool.get(f"k{number}") == VALUE
    assert pool.stats().allocated_bytes <= 24 * MIB
    assert pool.stats().rejected == 0
    assert pool.check() == []


def test_conservative_pool_gives_back_what_is_deleted_at_once(
    make_pool: MakePool, pool_path: Path
) -> None:
    pool = make_pool(pool_path, "16MiB", memory="conservative")
    fill(pool)
    full = memory_of(pool_path)

    pool.delete_many(f"k{number}" for number in range(COUNT))

    assert memory_of(pool_path) < MIB < full
    stats = pool.stats()
    assert stats.given_back_bytes > full - 2 * MIB
    assert stats.allocated_bytes < MIB
    fill(pool)
    assert all(pool.get(f"k{number}") == VALUE for number in range(COUNT))
    assert pool.check() == []


def test_default_pool_gives_back_what_has_been_free_for_ten_seconds(
    make_pool: MakePool, pool_path: Path
) -> None:
    pool = make_pool(pool_path, "16MiB")
    fill(pool)
    full = memory_of(pool_path)
    pool.clear()
    write_often(pool)
    assert memory_of(pool_path) == full

    pool._attachment.advance_clock(AGE_SECONDS + 0.5)
    write_often(pool)

    assert memory_of(pool_path) < MIB
    fill(pool)
    assert all(pool.get(f"k{number}") == VALUE for number in range(COUNT))


def test_preallocated_pool_gives_nothing_back(make_pool: MakePool, pool_path: Path) -> None:
    pool = make_pool(pool_path, "16MiB", memory="conservative", preallocate=True)
    full = memory_of(pool_path)
    fill(pool)
    pool.clear()
    write_often(pool)
    assert memory_of(pool_path) == full
    assert pool.stats().given_back_bytes == 0
