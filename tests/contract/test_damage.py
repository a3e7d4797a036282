"""Bytes that somebody else changed are input: they become a miss, never a wrong value."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import pmemcache

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VALUE = b"a value to be found in the file " * 20


# Cuts the file of a pool that this process has mapped, and goes on.
CUT_WHILE_MAPPED = """
import faulthandler, os, sys
import pmemcache

path, size, watched = sys.argv[1:]
if watched == "before":
    faulthandler.enable()
pool = pmemcache.Pool(path, size="1MiB")
if watched == "after":
    faulthandler.enable()
pool.put_many({f"k{number}": b"v" * 5000 for number in range(100)})
assert pool.get("k1") is not None
os.truncate(path, int(size))
assert pool.get("k1") in (None, b"v" * 5000)
for number in range(100):
    assert pool.get(f"k{number}") in (None, b"v" * 5000)
try:
    pool.put_many({f"k{number}": b"w" * 5000 for number in range(100)})
except pmemcache.DamagedPoolError:
    print("damaged")
assert pool.get("k1") is None
pool.close()
pool = pmemcache.Pool(path, size="1MiB")
assert pool.put("k", b"anew")
assert pool.get("k") == b"anew"
pool.close()
"""
# Python's faulthandler raises the signal again, which without a pool is the end.
FOREIGN_FILE = """
import faulthandler, mmap, sys, tempfile
import pmemcache

faulthandler.enable()
pool = pmemcache.Pool(sys.argv[1], size="1MiB")
with tempfile.TemporaryFile() as file:
    file.truncate(4096)
    view = mmap.mmap(file.fileno(), 4096)
    file.truncate(0)
    view[0]
"""


def run_python(source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", source, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


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


@pytest.mark.parametrize("watched", ["never", "before", "after"])
@pytest.mark.parametrize(
    "size", [0, 204_800]
)  # whole pages: what is left of one is filled with zeros
def test_file_cut_short_while_it_is_mapped_is_a_damaged_pool(
    pool_path: Path, size: int, watched: str
) -> None:
    result = run_python(CUT_WHILE_MAPPED, str(pool_path), str(size), watched)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "damaged\n"
    # A handler that was there before ours is not asked about our faults.
    assert ("Bus error" in result.stderr) == (watched == "after")


def test_bus_error_outside_of_pools_reaches_the_handler_before(pool_path: Path) -> None:
    result = run_python(FOREIGN_FILE, str(pool_path))
    assert result.returncode == -signal.SIGBUS
    assert "Fatal Python error: Bus error" in result.stderr
