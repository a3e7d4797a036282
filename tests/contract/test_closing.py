from __future__ import annotations

import copy
import gc
import itertools
import pickle
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

import pmemcache

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def calls(pool: pmemcache.Pool) -> list[Callable[[], object]]:
    return [
        lambda: pool.get(b"k"),
        lambda: pool.get_tagged(b"k"),
        lambda: pool.get_into(b"k", bytearray(1)),
        lambda: pool.put(b"k", b"v"),
        lambda: pool.put(b"k", b"v" * 100_000),
        lambda: pool.delete(b"k"),
        lambda: pool.exists(b"k"),
        lambda: pool.touch(b"k", 1),
        lambda: pool.incr(b"k"),
        lambda: pool.info(b"k"),
        lambda: pool.get_many([b"k"]),
        lambda: pool.get_many_tagged([b"k"]),
        lambda: pool.put_many({b"k": b"v"}),
        lambda: pool.delete_many([b"k"]),
        lambda: list(pool.keys()),
        pool.clear,
        pool.evict,
        pool.stats,
        pool.check,
        pool.geometry,
        lambda: pool.on_evict(None),
        lambda: pool.on_miss(None),
    ]


def test_closed_pool_refuses_every_call(pool: pmemcache.Pool) -> None:
    pool.close()
    assert pool.closed
    for call in calls(pool):
        with pytest.raises(pmemcache.PoolClosedError, match="make a new Pool"):
            call()


def test_close_twice_is_no_error(pool: pmemcache.Pool) -> None:
    pool.close()
    pool.close()


def test_with_block_closes(make_pool: Callable[..., pmemcache.Pool]) -> None:
    with make_pool() as pool:
        pool.put(b"k", b"v")
    with pytest.raises(pmemcache.PoolClosedError):
        pool.get(b"k")


def test_volatile_pool_leaves_no_file(pool: pmemcache.Pool, tmp_path: Path) -> None:
    assert (tmp_path / "site.pool").exists()
    pool.close()
    assert not (tmp_path / "site.pool").exists()
    assert not (tmp_path / "site.pool.index").exists()


def test_path_can_be_opened_again(
    make_pool: Callable[..., pmemcache.Pool], pool_path: Path
) -> None:
    for _ in range(3):
        pool = make_pool(pool_path, "1MiB")
        assert pool.get(b"k") is None
        pool.put(b"k", b"v")
        pool.close()


def test_restart_pool_keeps_its_entries(
    make_pool: Callable[..., pmemcache.Pool], pool_path: Path
) -> None:
    pool = make_pool(pool_path, "1MiB", lifetime="restart")
    pool.put(b"k", b"v" * 500, tag=3)
    pool.put(b"n", b"1", ttl_seconds=1000)
    pool.close()
    pool = make_pool(pool_path, "1MiB", lifetime="restart")
    assert pool.get_tagged(b"k") == (b"v" * 500, 3)
    assert pool.incr(b"n") == 2
    assert pool.check() == []
    assert not pool.geometry().created


@pytest.mark.usefixtures("door")
def test_forgotten_pool_is_closed(pool_path: Path) -> None:
    pool = pmemcache.Pool(pool_path, "1MiB")
    pool.put(b"k", b"v")
    del pool
    gc.collect()
    assert not pool_path.exists()


def work_for_ever(pool: pmemcache.Pool) -> None:
    value = b"v" * 200_000
    for number in itertools.count():
        key = f"k{number % 50}"
        pool.put(key, value)
        assert pool.get(key, value) == value
        pool.info(key)


def test_calls_in_other_threads_end_safely(
    make_pool: Callable[..., pmemcache.Pool], pool_path: Path
) -> None:
    for _ in range(5):
        pool = make_pool(pool_path, "64MiB")
        started = threading.Barrier(5)
        refused: list[bool] = []

        def work(
            pool: pmemcache.Pool = pool,
            started: threading.Barrier = started,
            refused: list[bool] = refused,
        ) -> None:
            started.wait()
            with pytest.raises(pmemcache.PoolClosedError):
                work_for_ever(pool)
            refused.append(True)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        started.wait()
        pool.close()
        for thread in threads:
            thread.join()
        assert refused == [True] * 4
        assert not pool_path.exists()


@pytest.mark.usefixtures("door")
def test_interpreter_exit_removes_a_volatile_pool(pool_path: Path) -> None:
    program = (
        "import sys, pmemcache\n"
        "pool = pmemcache.Pool(sys.argv[1], '1MiB')\n"
        "pool.put('k', 'v'.encode())\n"
        "keep = [pool]; keep.append(keep)\n"
    )
    command = [sys.executable, "-W", "error", "-c", program, str(pool_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert not pool_path.exists()


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
@pytest.mark.filterwarnings("error")
def test_pool_is_not_copied_for_the_copy_would_close_it(
    pool: pmemcache.Pool, duplicate: Callable[[object], object]
) -> None:
    pool.put("key", b"value")
    with pytest.raises(TypeError, match="pass its path"):
        duplicate(pool)
    gc.collect()
    assert pool.get("key") == b"value"


@pytest.mark.filterwarnings("error")
def test_pool_that_was_not_made_leaves_without_a_word() -> None:
    with pytest.raises(TypeError, match="no_option"):
        pmemcache.Pool(None, "1MiB", no_option=1)  # type: ignore[call-arg]
    gc.collect()
