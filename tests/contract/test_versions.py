"""Versions tell of every change, and leases of who may load, through both doors."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from pmemcache._engine import ffi
from pmemcache.errors import WouldWaitError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pmemcache


def version(pool: pmemcache.Pool, key: str) -> int:
    return pool.versions[pool.get_versioned(key)[2]]


def test_versioned_read(pool: pmemcache.Pool) -> None:
    value, tag, index, before, ttl_ms, generation = pool.get_versioned("k")
    assert (value, tag, ttl_ms, generation) == (None, 0, None, 0)
    assert pool.versions[index] == before
    pool.put("k", b"value", tag=7, ttl_seconds=1000)
    value, tag, same_index, after, ttl_ms, generation = pool.get_versioned("k")
    assert (value, tag, same_index) == (b"value", 7, index)
    assert after == pool.versions[index] != before
    assert ttl_ms is not None
    assert 900_000 < ttl_ms <= 1_000_000
    pool.put("k", b"")
    assert pool.get_versioned("k")[0:5:4] == (b"", None)


def test_value_of_a_known_generation_is_not_copied(pool: pmemcache.Pool) -> None:
    pool.put("k", b"value", tag=7, ttl_seconds=10)
    generation = pool.get_versioned("k")[5]
    assert pool.get_versioned("k", generation + 1)[0] == b"value"
    value, tag, index, version, ttl_ms, same = pool.get_versioned("k", generation)
    assert (value, tag, same, version) == (None, 7, generation, pool.versions[index])
    assert ttl_ms is not None
    pool.put("k", b"value")
    assert pool.get_versioned("k", generation)[0] == b"value"
    pool.delete("k")
    assert pool.get_versioned("k", generation)[5] == 0
    with pytest.raises(ValueError, match="known"):
        pool.get_versioned("k", -1)


def test_versioned_write_says_what_a_copy_is_good_under(pool: pmemcache.Pool) -> None:
    written = pool.put_versioned("k", b"value", tag=7, ttl_seconds=10)
    assert written is not None
    value, tag, index, version, _ttl_ms, generation = pool.get_versioned("k")
    assert written == (index, version, generation)
    assert (value, tag, version % 2) == (b"value", 7, 0)
    again = pool.put_versioned("k", b"other", if_version=version)
    assert again is not None
    assert again[2] > generation
    assert pool.put_versioned("k", b"late", if_version=version) is None
    assert pool.get("k") == b"other"
    gone = pool.put_versioned("k", b"dead", ttl_seconds=0)
    assert gone is not None
    assert gone[1] % 2 == 1
    assert not pool.exists("k")


def test_call_that_would_wait_says_so(
    make_pool: Callable[..., pmemcache.Pool], stopped_inside_lock: Callable[..., Any]
) -> None:
    pool = make_pool(None, "8MiB", shards=1)
    pool.put("k", b"1")
    with stopped_inside_lock(pool), pool.without_waiting:
        assert pool.get("k") == b"1"
        for call in (
            lambda: pool.put("k", b"2"),
            lambda: pool.put_versioned("k", b"2"),
            lambda: pool.delete("k"),
            lambda: pool.touch("k", 5),
            lambda: pool.incr("k"),
            lambda: pool.lease_take("k", 1),
            pool.clear,
            pool.check,
        ):
            with pytest.raises(WouldWaitError):
                call()
    assert pool.put("k", b"3")


@pytest.mark.parametrize(
    "change",
    [
        lambda pool: pool.put("k", b"2"),
        lambda pool: pool.put_many({"k": b"2"}),
        lambda pool: pool.delete("k"),
        lambda pool: pool.delete_many(["k"]),
        lambda pool: pool.touch("k", 5),
        lambda pool: pool.incr("k"),
        lambda pool: pool.evict("k"),
        lambda pool: pool.clear(),
    ],
)
def test_every_change_of_a_key_changes_its_version(
    pool: pmemcache.Pool, change: Callable[[pmemcache.Pool], object]
) -> None:
    pool.put("k", b"1")
    before = version(pool, "k")
    change(pool)
    assert version(pool, "k") != before
    assert version(pool, "k") % 2 == 0


def test_delete_of_a_missing_key_changes_its_version(pool: pmemcache.Pool) -> None:
    before = version(pool, "k")
    assert not pool.delete("k")
    assert version(pool, "k") != before


def test_reading_changes_no_version(pool: pmemcache.Pool) -> None:
    pool.put("k", b"1")
    before = version(pool, "k")
    pool.get("k"), pool.info("k"), pool.exists("k"), pool.bump("k"), pool.get_many(["k"])
    assert version(pool, "k") == before


def test_bump_tells_whether_the_key_is_there(pool: pmemcache.Pool) -> None:
    assert not pool.bump("k")
    pool.put("k", b"1")
    assert pool.bump("k")


def test_put_if_version(pool: pmemcache.Pool) -> None:
    before = version(pool, "k")
    assert pool.put_if_version("k", b"1", before, tag=3, ttl_seconds=60)
    assert pool.get_tagged("k") == (b"1", 3)
    assert not pool.put_if_version("k", b"2", before)
    assert pool.put_if_version("k", b"", version(pool, "k"), ttl_seconds=0)
    assert not pool.exists("k")


def test_versions_are_gone_once_closed(pool: pmemcache.Pool) -> None:
    versions = pool.versions
    with pytest.raises(TypeError):
        versions[0] = 1
    pool.close()
    with pytest.raises(ValueError, match="released"):
        versions[0]


@pytest.mark.parametrize(
    "view",
    [
        lambda versions: versions[:10],
        memoryview,
        lambda versions: ffi.from_buffer("uint64_t[]", versions),
    ],
)
def test_views_of_the_versions_keep_the_pool_until_they_are_gone(
    pool: pmemcache.Pool, pool_path: Path, view: Callable[[memoryview], Any]
) -> None:
    pool.put("k", b"1")
    index = pool.get_versioned("k")[2] % 10
    before, kept = pool.versions[index], view(pool.versions)
    pool.close()
    assert kept[index] == before
    assert pool_path.exists()
    del kept
    assert not pool_path.exists()


def test_one_lease_at_a_time(pool: pmemcache.Pool) -> None:
    lease = pool.lease_take("k", 60)
    assert lease.granted
    assert lease.version == version(pool, "k")
    other = pool.lease_take("k", 60)
    assert (other.granted, other.token) == (False, lease.token)
    assert pool.lease_take("other", 60).granted
    assert not pool.lease_wait("k", lease.token, 0.01)
    assert pool.lease_release("k", lease.token)
    assert not pool.lease_release("k", lease.token)
    assert pool.lease_wait("k", lease.token, 60)
    assert pool.lease_take("k", 60).granted


def test_lease_ends_with_its_time(pool: pmemcache.Pool) -> None:
    lease = pool.lease_take("k", 0.02)
    assert pool.lease_wait("k", lease.token, 10)
    assert pool.lease_take("k", 60).granted


def test_lease_ends_with_its_process(
    make_pool: Callable[..., pmemcache.Pool], pool_path: Path
) -> None:
    pool = make_pool(pool_path, "8MiB")
    ready_read, ready_write = os.pipe()
    child = os.fork()
    if child == 0:
        lease = pool.lease_take("k", 60)
        os.write(ready_write, b"%d" % lease.token)
        time.sleep(60)
        os._exit(1)
    token = int(os.read(ready_read, 20))
    assert not pool.lease_wait("k", token, 0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert pool.lease_wait("k", token, 10)
    assert pool.lease_take("k", 60).granted
