from __future__ import annotations

import multiprocessing
import os
import random
import subprocess
import sys
import threading
import traceback
from typing import TYPE_CHECKING

import pytest

import pmemcache

pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def in_child(work: Callable[[], object]) -> int:
    """Run *work* in a forked child; return its exit status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:  # noqa: BLE001 - a child that goes on would run the tests again
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_two_pools_of_one_path_are_one_mapping(
    make_pool: Callable[..., pmemcache.Pool], pool_path: Path
) -> None:
    first = make_pool(pool_path, "1MiB")
    second = make_pool(str(pool_path), 1024 * 1024)
    assert first._attachment is second._attachment
    first.put(b"k", b"v")
    assert second.get(b"k") == b"v"
    first.close()
    with pytest.raises(pmemcache.PoolClosedError):
        first.get(b"k")
    assert second.get(b"k") == b"v"
    assert second.stats().attached == 1


def test_one_path_spelt_differently_is_one_mapping(
    make_pool: Callable[..., pmemcache.Pool],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    monkeypatch.chdir(real)
    pools = [
        make_pool(path, "1MiB")
        for path in (
            real / "pmemcache.pool",
            real,
            tmp_path / "link",
            tmp_path / "link" / "pmemcache.pool",
            f"{real}/../real/pmemcache.pool",
            "pmemcache.pool",
            ".",
        )
    ]
    assert len({id(pool._attachment) for pool in pools}) == 1


def test_other_options_for_an_open_path_are_refused(
    make_pool: Callable[..., pmemcache.Pool], pool_path: Path
) -> None:
    make_pool(pool_path, "1MiB")
    with pytest.raises(pmemcache.ConfigurationError, match=r"size_bytes=2097152 .* 1048576"):
        make_pool(pool_path, "2MiB")
    with pytest.raises(pmemcache.ConfigurationError, match="eviction='lru'"):
        make_pool(pool_path, "1MiB", eviction="lru")


def test_private_pools_are_apart(make_pool: Callable[..., pmemcache.Pool]) -> None:
    first, second = make_pool(size="1MiB"), make_pool(size="1MiB")
    first.put(b"k", b"v")
    assert second.get(b"k") is None
    assert first.path is None


def test_forked_child_shares_the_pool(pool: pmemcache.Pool) -> None:
    pool.put(b"k", b"from the parent")

    def work() -> None:
        assert pool.get(b"k") == b"from the parent"
        pool.put(b"k", b"from the child")

    assert in_child(work) == 0
    assert pool.get(b"k") == b"from the child"


def test_forked_child_shares_a_private_pool(make_pool: Callable[..., pmemcache.Pool]) -> None:
    pool = make_pool(size="1MiB")
    assert in_child(lambda: pool.put(b"k", b"v")) == 0
    assert pool.get(b"k") == b"v"


def test_child_that_closes_leaves_the_pool_to_its_parent(pool: pmemcache.Pool) -> None:
    pool.put(b"k", b"v")
    assert in_child(pool.close) == 0
    assert pool.get(b"k") == b"v"
    assert pool.put(b"k", b"w")
    assert pool.path is not None
    assert in_child(lambda: pmemcache.Pool(pool.path, "8MiB").close()) == 0
    assert pool.get(b"k") == b"w"


def test_counters_of_many_children_lose_nothing(pool: pmemcache.Pool) -> None:
    def work() -> None:
        for _ in range(500):
            pool.incr(b"n", initial=0)

    children = [threading.Thread(target=in_child, args=(work,)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert pool.get(b"n") == b"2000"


def count_up(pool: pmemcache.Pool) -> None:
    for _ in range(500):
        pool.incr(b"n", initial=0)


def test_multiprocessing_by_fork(pool: pmemcache.Pool) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=count_up, args=(pool,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    count_up(pool)
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert pool.get(b"n") == b"2000"


OPEN_AND_COUNT = """
import sys, pmemcache
with pmemcache.Pool(sys.argv[1], "8MiB") as pool:
    assert pool.stats().attached == 2
    for _ in range(500):
        pool.incr(b"n", initial=0)
"""


def test_process_that_opens_the_path_itself(pool: pmemcache.Pool) -> None:
    assert pool.path is not None
    subprocess.run([sys.executable, "-c", OPEN_AND_COUNT, pool.path], check=True)
    assert pool.get(b"n") == b"500"
    assert pool.stats().attached == 1


def test_fork_while_other_threads_work(pool: pmemcache.Pool) -> None:
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            pool.put(b"busy", b"v" * 70_000)
            pool.get(b"busy")

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(20):
            key = f"child{number}"

            def child(key: str = key) -> None:
                assert pool.put(key, b"v")
                pool.close()

            assert in_child(child) == 0
            assert pool.get(key) == b"v"
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert pool.check() == []


def test_threads_see_no_torn_value(small_pool: pmemcache.Pool) -> None:
    """Writers and readers of few keys in a pool that must evict: every value is one byte's."""
    wrong: list[bytes] = []

    def write(seed: int) -> None:
        choose = random.Random(seed)
        for _ in range(3000):
            byte = choose.randrange(256)
            small_pool.put(f"k{choose.randrange(30)}", bytes([byte]) * choose.randrange(1, 15_000))
            if not choose.randrange(20):
                small_pool.delete(f"k{choose.randrange(30)}")

    def read(seed: int) -> None:
        choose = random.Random(seed)
        for _ in range(6000):
            value = small_pool.get(f"k{choose.randrange(30)}")
            if value is not None and value.count(value[0]) != len(value):
                wrong.append(value)

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(3)]
    threads += [threading.Thread(target=read, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert small_pool.check() == []


@pytest.mark.usefixtures("door")
def test_threads_that_open_and_close_one_path(pool_path: Path) -> None:
    def work() -> None:
        for number in range(50):
            with pmemcache.Pool(pool_path, "1MiB") as pool:
                pool.put(f"k{number}", b"v")
                assert pool.get(f"k{number}") in {None, b"v"}

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not pool_path.exists()
