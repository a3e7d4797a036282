"""Locks among processes."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from pmemcache.errors import LockTimeoutError, PmemCacheError
from pmemcache.integrations.django import PmemCache
from pmemcache.integrations.django.locks import LockError, LockNotOwnedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_one_has_it_at_a_time(cache: PmemCache) -> None:
    first, second = cache.lock("name"), cache.lock("name")

    assert first.acquire() is True
    assert second.acquire(blocking=False) is False
    assert second.acquire(blocking_timeout=0.05) is False
    assert (first.owned(), second.owned()) == (True, False)
    assert first.locked() is second.locked() is True
    assert cache.lock("other").acquire(blocking=False) is True
    assert cache.lock("name", version=2).acquire(blocking=False) is True
    first.release()
    assert first.locked() is False
    assert second.acquire(blocking=False) is True


def test_block_holds_it_and_gives_it_back(cache: PmemCache) -> None:
    with cache.lock("name") as lock:
        assert lock.owned()
        with (
            pytest.raises(LockError, match=r"0\.01 seconds"),
            cache.lock("name", blocking_timeout=0.01),
        ):
            pytest.fail("two have the lock")
    assert cache.lock("name").acquire(blocking=False) is True


def test_block_that_fails_gives_it_back(cache: PmemCache) -> None:
    with pytest.raises(KeyError), cache.lock("name"):
        raise KeyError
    assert not cache.lock("name").locked()


@pytest.mark.parametrize("thread_local", [True, False])
def test_child_cannot_release_what_its_parent_holds(
    cache: PmemCache, *, thread_local: bool
) -> None:
    lock = cache.lock("name", thread_local=thread_local)
    lock.acquire()
    child = os.fork()
    if child == 0:
        status = 3
        try:
            status = int(lock.owned())
            lock.release()
        except LockError:
            status += 10
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 10
    assert lock.owned()
    lock.release()
    assert cache.lock("name").acquire(blocking=False) is True


def test_it_is_free_after_its_timeout(cache: PmemCache) -> None:
    lock = cache.lock("name", timeout=0.05)
    lock.acquire()

    assert cache.lock("name").acquire(blocking_timeout=5) is True
    assert not lock.owned()
    with pytest.raises(LockNotOwnedError, match="timeout"):
        lock.release()


def test_without_a_timeout_it_stays(cache: PmemCache) -> None:
    cache.lock("name").acquire()
    assert cache.lock("name").acquire(blocking_timeout=0.3) is False


def test_only_who_has_acquired_it_can_release_it(cache: PmemCache) -> None:
    with pytest.raises(LockError, match="not acquired"):
        cache.lock("name").release()

    lock, shared = cache.lock("a"), cache.lock("b", thread_local=False)
    lock.acquire()
    shared.acquire()
    outcomes: list[Any] = []

    def release() -> None:
        for each in (lock, shared):
            try:
                outcomes.append(each.release())
            except LockError:
                outcomes.append("refused")

    thread = threading.Thread(target=release)
    thread.start()
    thread.join()
    assert outcomes == ["refused", None]
    assert lock.owned()


def test_it_is_no_entry(cache: PmemCache) -> None:
    with cache.lock("name"):
        assert cache.get("name") is None
        cache.set("name", 1)
        cache.clear()
        assert cache.lock("name").acquire(blocking=False) is False
        assert cache.keys() == []


def test_namespaces_have_locks_of_their_own(make_cache: Callable[..., PmemCache]) -> None:
    with make_cache(namespace="a").lock("name"):
        assert make_cache(namespace="b").lock("name").acquire(blocking=False) is True
        assert make_cache(namespace="a").lock("name").acquire(blocking=False) is False


def test_waiters_take_turns_in_threads(make_cache: Callable[..., PmemCache]) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        for _ in range(20):
            with make_cache().lock("name"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.0005)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(most) == 80
    assert max(most) == 1


def _count(location: Path, counter: Path, times: int) -> None:
    cache = PmemCache(location, {})
    for _ in range(times):
        with cache.lock("count"):
            counter.write_text(str(int(counter.read_text("ascii")) + 1), "ascii")


def test_no_count_of_two_processes_is_lost(location: Path, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0", "ascii")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_count, args=(location, counter, 150)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(200)

    assert counter.read_text("ascii") == "450"


def _hold(location: Path, ready: Any) -> None:
    PmemCache(location, {}).lock("name").acquire()
    ready.set()
    time.sleep(60)


def test_it_is_released_by_its_owners_death(cache: PmemCache, location: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=_hold, args=(location, ready), daemon=True)
    process.start()
    assert ready.wait(30)
    assert cache.lock("name").acquire(blocking=False) is False

    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    assert cache.lock("name").acquire(blocking_timeout=10) is True
    process.join(30)


def test_a_pool_that_cannot_serve_gives_no_lock(
    cache: PmemCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> Any:
        message = "locked"
        raise LockTimeoutError(message)

    monkeypatch.setattr(cache._shared, "pool", fail)
    with pytest.raises(PmemCacheError), cache.lock("name"):
        pytest.fail("a lock was had from nowhere")


@pytest.mark.parametrize("timeout", [0, -1])
def test_lock_of_no_time_is_refused(cache: PmemCache, timeout: float) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        cache.lock("name", timeout=timeout)


def test_tasks_wait_without_blocking_each_other(cache: PmemCache) -> None:
    order: list[str] = []

    async def work(name: str) -> None:
        async with cache.lock("name"):
            order.append(name)
            await asyncio.sleep(0.01)
            order.append(name)

    async def both() -> None:
        await asyncio.gather(work("a"), work("b"))
        assert await cache.lock("name").aacquire(blocking=False) is True
        assert await cache.lock("name").aacquire(blocking_timeout=0.01) is False
        with pytest.raises(LockError):
            async with cache.lock("name", blocking=False):
                pytest.fail("two have the lock")

    asyncio.run(both())
    assert order in (["a", "a", "b", "b"], ["b", "b", "a", "a"])
