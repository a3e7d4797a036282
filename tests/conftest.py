"""What all tests share: they run against the installed package, never the source tree."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

    import pmemcache

PATIENCE_SECONDS = 20
TURNS = 200
"""So many an event loop gives in a few milliseconds, and one that stands still does not."""


def pytest_configure() -> None:
    try:
        importlib.import_module("pmemcache._engine")
    except ImportError as error:
        pytest.exit(
            f"pmemcache is not installed, or the source folder hides it ({error}): run "
            "`make install`, then `.venv/bin/pytest`, not `python -m pytest`, which puts the "
            "source folder first",
            returncode=pytest.ExitCode.USAGE_ERROR,
        )


@pytest.fixture(scope="session", autouse=True)
def _outside_the_source_tree(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Leave the repository, so that Pythons which tests start import the installed package too."""
    os.chdir(tmp_path_factory.mktemp("elsewhere"))


# Tiered caches over small private pools, closed after the test.


class Clock:
    """A clock that moves by hand, and moves a pool's with it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, cache: pmemcache.TieredCache, seconds: float) -> None:
        self.now += seconds
        cache.pool._attachment.advance_clock(seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_cache(clock: Clock) -> Iterator[Callable[..., pmemcache.TieredCache]]:
    package = importlib.import_module("pmemcache")
    caches: list[pmemcache.TieredCache] = []

    def make(path: Any = None, **options: Any) -> pmemcache.TieredCache:
        options.setdefault("policy", {"hot": "1MiB", "warm": "16MiB"})
        options.setdefault("clock", clock)
        caches.append(package.TieredCache(path, **options))
        return caches[-1]

    yield make
    for cache in caches:
        cache.close()


@pytest.fixture
def cache(make_cache: Callable[..., pmemcache.TieredCache]) -> pmemcache.TieredCache:
    return make_cache()


@pytest.fixture
def heat() -> Callable[[pmemcache.TieredCache, Any], None]:
    """Read a key until it is hot."""

    def heat(cache: pmemcache.TieredCache, key: Any) -> None:
        for _read in range(cache.policy.promotion_count):
            cache.get(key)
        assert cache.tier_of(key) == "hot"

    return heat


@pytest.fixture
def stopped_inside_lock() -> Callable[[pmemcache.Pool], contextlib.AbstractContextManager[None]]:
    """Stop a child of this process while it holds the lock of a pool with one shard."""
    errors = importlib.import_module("pmemcache.errors")

    def stop_inside(child: int, pool: pmemcache.Pool) -> None:
        for _attempt in range(5000):
            os.kill(child, signal.SIGSTOP)
            os.waitpid(child, os.WUNTRACED)
            try:
                with pool.without_waiting:
                    pool.touch("of no importance", 1)
            except errors.WouldWaitError:
                return
            os.kill(child, signal.SIGCONT)
            time.sleep(0.001)
        pytest.fail("the writer was never stopped inside the lock")

    @contextlib.contextmanager
    def stopped(pool: pmemcache.Pool) -> Iterator[None]:
        child = os.fork()
        if child == 0:
            value = b"x" * 500_000
            while True:  # most of the time inside the lock
                pool.put("large", value)
        try:
            stop_inside(child, pool)
            yield
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    return stopped


async def _while_the_loop_goes_on(
    awaited: Awaitable[Any], then: Callable[[], object] = lambda: None
) -> tuple[Any, bool]:
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            if turns == TURNS:
                then()
            await asyncio.sleep(0)

    others = asyncio.create_task(take_turns())
    try:
        return await awaited, turns >= TURNS
    finally:
        others.cancel()


@pytest.fixture
def while_the_loop_goes_on() -> Callable[..., Coroutine[Any, Any, tuple[Any, bool]]]:
    """Await something; the answer, and whether the loop had time for others before it came.

    When it has had it, *then* is called.
    """
    return _while_the_loop_goes_on


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Wait until a condition holds, for less than a lease, however busy the machine is."""

    def until(holds: Callable[[], object]) -> None:
        stop = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            assert time.monotonic() < stop, "it never came about"
            time.sleep(0.001)

    return until
