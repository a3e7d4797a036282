from __future__ import annotations

import gc
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

import pmemcache

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What went to sys.unraisablehook: the exceptions."""
    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: seen.append(report.exc_value))
    return seen


def test_get_returns_what_on_miss_put(pool: pmemcache.Pool) -> None:
    missed: list[tuple[pmemcache.Pool, bytes]] = []

    def load(missing: pmemcache.Pool, key: bytes) -> None:
        missed.append((missing, key))
        missing.put(key, b"loaded " + key)

    pool.on_miss(load)
    assert pool.get("k") == b"loaded k"
    assert pool.get("k") == b"loaded k"
    assert missed == [(pool, b"k")]


def test_large_value_loaded_by_on_miss(
    make_pool: Callable[..., pmemcache.Pool], pool_path: Path
) -> None:
    pool = make_pool(pool_path, "64MiB")
    pool.on_miss(lambda missing, key: missing.put(key, key * 100_000))
    assert pool.get(b"k") == b"k" * 100_000
    assert pool.get_into(b"j", bytearray(5)) == 5


def test_every_kind_of_get_calls_on_miss(pool: pmemcache.Pool) -> None:
    pool.on_miss(lambda missing, key: missing.put(key, b"v", tag=3))
    assert pool.get_tagged(b"a") == (b"v", 3)
    assert pool.get_into(b"b", bytearray(1)) == 1
    assert pool.get_many([b"c", b"d"]) == {b"c": b"v", b"d": b"v"}
    assert pool.exists(b"e") is False


def test_miss_inside_on_miss_calls_nothing(pool: pmemcache.Pool) -> None:
    missed: list[bytes] = []

    def look_elsewhere(missing: pmemcache.Pool, key: bytes) -> None:
        missed.append(key)
        missing.get(b"inner")

    pool.on_miss(look_elsewhere)
    assert pool.get(b"outer") is None
    assert pool.get(b"outer2") is None
    assert missed == [b"outer", b"outer2"]


def test_what_cannot_be_called_is_no_callback(pool: pmemcache.Pool) -> None:
    for register in (pool.on_evict, pool.on_miss):
        with pytest.raises(TypeError, match="a function or None, not int"):
            register(5)  # type: ignore[arg-type]


def test_callback_can_be_removed(pool: pmemcache.Pool) -> None:
    missed: list[bytes] = []
    pool.on_miss(lambda _pool, key: missed.append(key))
    pool.get(b"a")
    pool.on_miss(None)
    pool.get(b"b")
    assert missed == [b"a"]


def test_on_evict_tells_key_and_cause(
    small_pool: pmemcache.Pool,
) -> None:
    gone: list[tuple[bytes, str]] = []
    small_pool.on_evict(lambda _pool, key, cause: gone.append((key, cause)))
    for number in range(500):
        small_pool.put(f"k{number}", b"v" * 1000)
    assert gone
    assert {cause for _key, cause in gone} == {"evicted"}
    assert len(gone) == small_pool.stats().evict
    left = set(small_pool.keys())
    assert left.isdisjoint(key for key, _cause in gone)
    assert left | {key for key, _cause in gone} == {b"k%d" % number for number in range(500)}


def test_evict_on_request_tells_so(pool: pmemcache.Pool) -> None:
    gone: list[tuple[pmemcache.Pool, bytes, str]] = []
    pool.on_evict(lambda *arguments: gone.append(arguments))
    pool.put(b"k", b"v")
    pool.evict()
    assert gone == [(pool, b"k", "requested")]


def test_delete_and_replace_are_no_eviction(pool: pmemcache.Pool) -> None:
    gone: list[bytes] = []
    pool.on_evict(lambda _pool, key, _cause: gone.append(key))
    pool.put(b"k", b"v")
    pool.put(b"k", b"w")
    pool.delete(b"k")
    pool.put(b"k", b"w")
    pool.clear()
    assert gone == []


def test_on_evict_may_use_the_pool(small_pool: pmemcache.Pool) -> None:
    counted: list[int | None] = []

    def count(pool: pmemcache.Pool, _key: bytes, _cause: str) -> None:
        counted.append(pool.incr("evictions", initial=0))

    small_pool.on_evict(count)
    for number in range(300):
        small_pool.put(f"k{number}", b"v" * 1000)
    assert counted
    assert small_pool.check() == []


def test_callback_that_raises_is_reported_and_the_call_goes_on(
    pool: pmemcache.Pool, unraisable: list[Any]
) -> None:
    def fail(_pool: pmemcache.Pool, _key: bytes) -> None:
        message = "from the callback"
        raise LookupError(message)

    pool.on_miss(fail)
    assert pool.get(b"k", b"default") == b"default"
    assert [str(error) for error in unraisable] == ["from the callback"]
    pool.on_miss(None)
    assert pool.put(b"k", b"v")
    assert pool.get(b"k") == b"v"


def test_pool_may_be_closed_inside_a_callback(pool: pmemcache.Pool) -> None:
    def close(missing: pmemcache.Pool, _key: bytes) -> None:
        missing.close()
        with pytest.raises(pmemcache.PoolClosedError):
            missing.get(b"k")

    pool.on_miss(close)
    assert pool.get(b"k") is None
    with pytest.raises(pmemcache.PoolClosedError):
        pool.get(b"k")
    assert pool.path is not None
    assert not os.path.exists(pool.path)  # noqa: PTH110 - the path is a str


def test_fork_inside_a_callback(pool: pmemcache.Pool) -> None:
    def fork(missing: pmemcache.Pool, key: bytes) -> None:
        child = os.fork()
        if child == 0:
            missing.put(key, b"from the child")
            missing.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0

    pool.on_miss(fork)
    assert pool.get(b"k") == b"from the child"


@pytest.mark.usefixtures("door")
def test_callback_does_not_keep_its_pool() -> None:
    pool = pmemcache.Pool()
    attachment = pool._attachment
    pool.on_miss(lambda _pool, _key: None)
    del pool
    gc.collect()
    with pytest.raises(pmemcache.PoolClosedError):
        attachment.stats()


def test_callbacks_run_in_the_thread_that_missed(pool: pmemcache.Pool) -> None:
    threads: list[int] = []
    pool.on_miss(lambda _pool, _key: threads.append(threading.get_ident()))
    thread = threading.Thread(target=pool.get, args=(b"k",))
    thread.start()
    thread.join()
    pool.get(b"k")
    assert threads[0] != threads[1] == threading.get_ident()


def test_callbacks_may_come_and_go_while_threads_work(small_pool: pmemcache.Pool) -> None:
    stop = threading.Event()

    def work(seed: int) -> None:
        number = seed
        while not stop.is_set():
            number += 7
            small_pool.get(f"k{number % 997}")
            small_pool.put(f"k{number % 997}", b"v" * 1000)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    called: list[bytes] = []
    for _ in range(100):
        small_pool.on_miss(lambda _pool, key: called.append(key))
        small_pool.on_evict(lambda _pool, key, _cause: called.append(key))
        small_pool.get(b"missing")
        small_pool.on_miss(None)
        small_pool.on_evict(None)
    stop.set()
    for thread in threads:
        thread.join()
    assert called.count(b"missing") == 100
    assert small_pool.check() == []
