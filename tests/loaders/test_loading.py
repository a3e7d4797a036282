"""A missing value is loaded once per host, and never put back after it was deleted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

import pmemcache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Make = Any


def together(count: int, call: Callable[[], Any]) -> list[Any]:
    """Return what *count* threads get from *call*, errors included."""

    def attempt(_number: int) -> Any:
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - it is the result
            return error

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(attempt, range(count)))


def loader(
    value: Any, calls: list[Any], before: Callable[[], object] = lambda: None
) -> Callable[[Any], Any]:
    """A loader that notes the key, does something *before* it ends, and returns or raises."""

    def load(key: Any) -> Any:
        calls.append(key)
        before()
        if isinstance(value, Exception):
            raise value
        return value

    return load


@pytest.fixture
def until_wait(cache: pmemcache.TieredCache, until: Any) -> Callable[[int], Callable[[], None]]:
    """Wait until so many calls wait for a load."""
    return lambda count: lambda: until(lambda: cache.stats().load_waits >= count)


def test_threads_share_one_load(cache: pmemcache.TieredCache, until_wait: Any) -> None:
    calls: list[Any] = []
    load = loader([1], calls, until_wait(7))
    assert together(8, lambda: cache.get_or_load("k", load)) == [[1]] * 8
    assert calls == ["k"]
    stats = cache.stats()
    assert (stats.loads, stats.load_waits) == (1, 7)


def test_processes_share_one_load(tmp_path: Path) -> None:
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def load(_key: str) -> str:
        os.write(log, b"x")
        time.sleep(0.2)
        return "value"

    def ask() -> None:
        with pmemcache.TieredCache(tmp_path / "p", policy="warm=8MiB") as mine:
            answers = together(4, lambda: mine.get_or_load("k", load))
        os._exit(answers != ["value"] * 4)

    with pmemcache.TieredCache(tmp_path / "p", policy="warm=8MiB"):
        children = []
        for _process in range(4):
            children.append(os.fork())
            if children[-1] == 0:
                ask()
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [0] * 4
    assert (tmp_path / "log").read_bytes() == b"x"


class Leader:
    """A child that loads "k" in the cache of its parent, and has begun when this is made.

    It ends with *end* when it is let go.
    """

    def __init__(self, cache: pmemcache.TieredCache, end: Callable[[], Any]) -> None:
        begun_read, begun_write = os.pipe()
        go_read, self._go_write = os.pipe()

        def load(_key: str) -> Any:
            os.write(begun_write, b"x")
            os.read(go_read, 1)
            return end()

        self.pid = os.fork()
        if self.pid == 0:
            try:
                cache.get_or_load("k", load)
            finally:
                os._exit(0)
        os.read(begun_read, 1)

    def let_go(self) -> None:
        os.write(self._go_write, b"x")

    def let_go_after(self, wait: Callable[[], object]) -> None:
        threading.Thread(target=lambda: (wait(), self.let_go())).start()


@contextlib.contextmanager
def leading(
    cache: pmemcache.TieredCache, end: Callable[[], Any] = lambda: "theirs"
) -> Iterator[Leader]:
    leader = Leader(cache, end)
    try:
        yield leader
    finally:
        os.kill(leader.pid, signal.SIGKILL)
        os.waitpid(leader.pid, 0)


def test_killed_leader_is_taken_over(make_cache: Make, until: Any) -> None:
    # Whoever waits for the end of this lease waits longer than the test.
    cache = make_cache(load=pmemcache.LoadPolicy(lease_seconds=3600))
    with ThreadPoolExecutor(1) as threads:
        with leading(cache):
            waiter = threads.submit(cache.get_or_load, "k", lambda _key: "mine")
            until(lambda: cache.stats().load_waits)
            assert not waiter.done()
        assert waiter.result() == "mine"
    assert cache.stats().load_takeovers == 1


def test_leader_that_is_stopped_is_waited_for_as_long_as_its_lease(make_cache: Make) -> None:
    cache = make_cache(load=pmemcache.LoadPolicy(lease_seconds=0.3), clock=time.monotonic)
    begun = time.monotonic()
    with leading(cache) as leader:
        os.kill(leader.pid, signal.SIGSTOP)
        assert cache.get_or_load("k", lambda _key: "mine") == "mine"
        assert time.monotonic() - begun > 0.29


def test_error_reaches_waiters_of_other_processes(
    cache: pmemcache.TieredCache, until_wait: Any
) -> None:
    def fail() -> None:
        message = "no such city"
        raise KeyError(message)

    calls: list[Any] = []
    with leading(cache, fail) as leader:
        leader.let_go_after(until_wait(1))
        with pytest.raises(KeyError, match="no such city"):
            cache.get_or_load("k", loader("mine", calls))
    assert calls == []
    assert cache.get_or_load("k", loader("mine", calls)) == "mine"


def test_loop_stays_free_while_another_process_loads(
    cache: pmemcache.TieredCache, while_the_loop_goes_on: Any
) -> None:
    async def mine(_key: str) -> str:
        return "mine"

    with leading(cache) as leader:
        waiting = cache.aget_or_load("k", mine)
        assert asyncio.run(while_the_loop_goes_on(waiting, leader.let_go)) == ("theirs", True)


def test_waiter_gives_up_and_loads_itself(make_cache: Make) -> None:
    cache = make_cache(load=pmemcache.LoadPolicy(wait_seconds=0.05), clock=time.monotonic)
    calls: list[Any] = []
    both_load = threading.Barrier(2, timeout=20)
    answers = together(2, lambda: cache.get_or_load("k", loader(1, calls, both_load.wait)))
    assert answers == [1, 1]
    assert len(calls) == 2


def test_reentry_by_the_same_thread_computes(cache: pmemcache.TieredCache) -> None:
    def outer(_key: str) -> Any:
        return ("outer", cache.get_or_load("k", lambda _key: "inner"))

    assert cache.get_or_load("k", outer) == ("outer", "inner")
    assert cache.get("k") == ("outer", "inner")


def test_loaders_may_load_other_keys(cache: pmemcache.TieredCache) -> None:
    def load(number: int) -> int:
        return 1 if number < 2 else sum(cache.get_or_load(number - n, load) for n in (1, 2))

    assert cache.get_or_load(40, load) == 165580141


class OddError(Exception):
    """Cannot be pickled, as many cannot."""

    def __reduce__(self) -> Any:
        raise pickle.PicklingError


@pytest.mark.parametrize(
    ("error", "expected"),
    [(KeyError("no"), KeyError), (OddError("odd"), pmemcache.LoaderError)],
)
def test_error_reaches_every_waiter(
    cache: pmemcache.TieredCache, until_wait: Any, error: Exception, expected: type
) -> None:
    calls: list[Any] = []
    load = loader(error, calls, until_wait(3))
    answers = together(4, lambda: cache.get_or_load("k", load))
    assert calls == ["k"]
    assert sum(answer is error for answer in answers) == 1
    others = [answer for answer in answers if answer is not error]
    assert [type(other) for other in others] == [expected] * 3
    assert all("no" in str(other) or "odd" in str(other) for other in others)
    assert "k" not in cache
    assert cache.get_or_load("k", lambda _key: "better") == "better"


def test_error_has_no_context_of_ours(cache: pmemcache.TieredCache) -> None:
    with pytest.raises(IndexError) as raised:
        cache.get_or_load("k", lambda _key: "abc"[15])
    assert raised.value.__context__ is None


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, StopIteration])
def test_every_way_out_frees_the_lease(
    cache: pmemcache.TieredCache, error: type[BaseException]
) -> None:
    def interrupted(_key: str) -> Any:
        raise error

    with pytest.raises(error):
        cache.get_or_load("k", interrupted)
    assert cache.pool.lease_take("k", 1).granted


def test_none_is_loaded_once(cache: pmemcache.TieredCache) -> None:
    calls: list[Any] = []
    for _call in range(3):
        assert cache.get_or_load("k", loader(None, calls)) is None
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda cache: cache.set("k", "newer"), "newer"),
        (lambda cache: cache.delete("k"), None),
        (lambda cache: cache.clear(), None),
        (lambda cache: cache.drop_tag("t"), None),
        (lambda cache: cache.clear("n"), None),
    ],
)
def test_change_during_the_load_is_not_undone(
    cache: pmemcache.TieredCache, change: Callable[..., object], expected: Any
) -> None:
    def load(_key: str) -> str:
        change(cache)
        return "old"

    assert cache.get_or_load("k", load, tags=("t",), namespace="n") == "old"
    assert cache.get("k") == expected


def test_sweeping_up_the_expired_entry_voids_no_load(
    cache: pmemcache.TieredCache, clock: Any
) -> None:
    cache.set("k", "old", 10)
    clock.advance(cache, 11)

    def load(_key: str) -> str:
        for number in range(3000):
            cache.set("other", number)
        return "new"

    assert cache.get_or_load("k", load, 10) == "new"
    assert cache.get("k") == "new"


def test_changes_of_other_keys_void_no_load(cache: pmemcache.TieredCache) -> None:
    """Not of those that share its version either."""
    index = cache.pool.get_versioned("k")[2]
    keys = (f"other:{number}" for number in range(1_000_000))
    beside = next(key for key in keys if cache.pool.get_versioned(key)[2] == index)

    def load(_key: str) -> str:
        cache.set(beside, "changed")
        return "loaded"

    assert cache.get_or_load("k", load, 10) == "loaded"
    assert cache.pool.get("k") == b"loaded"
    assert cache.stats().loads_voided == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda pool: pool.put("k", b"newer"),
        lambda pool: pool.delete("k"),
        lambda pool: pool.incr("k", initial=1),
        lambda pool: pool.clear(),
        lambda pool: pool.put("k", b"newer", only_if="absent"),
        lambda pool: pool.delete_many(["k"]),
    ],
)
def test_every_change_of_the_key_voids_its_load(
    cache: pmemcache.TieredCache, change: Callable[..., object]
) -> None:
    def load(_key: str) -> str:
        change(cache.pool)
        return "old"

    cache.get_or_load("k", load, 10)
    assert cache.pool.get("k") != b"old"
    assert cache.stats().loads_voided == 1


def test_touched_stale_value_voids_its_load(cache: pmemcache.TieredCache, clock: Any) -> None:
    cache.set("k", "stale", 10, grace_seconds=100)
    clock.advance(cache, 11)

    def load(_key: str) -> str:
        cache.pool.touch("k", 1000)
        return "old"

    cache.get_or_load("k", load, 10)
    assert cache.stats().loads_voided == 1


def test_value_is_not_kept_when_so_asked(cache: pmemcache.TieredCache) -> None:
    assert cache.get_or_load("k", lambda _key: 0, unless=lambda value: not value) == 0
    assert cache.get_or_load("k", lambda _key: 1, lambda value: value - 1) == 1
    not_none = {"unless": lambda value: value is None}
    assert cache.get_or_load("k", lambda _key: None, lambda value: value - 1, **not_none) is None
    assert "k" not in cache
    assert cache.get_or_load("k", lambda _key: 5000, lambda value: value - 1000) == 5000
    assert cache.ttl("k") == pytest.approx(4000, abs=100)


def test_waiters_do_not_queue_for_what_is_not_kept(
    cache: pmemcache.TieredCache, until_wait: Any
) -> None:
    calls: list[Any] = []
    others_load = threading.Barrier(4, timeout=20)

    def load(_key: str) -> int:
        calls.append("k")
        until_wait(4)() if len(calls) == 1 else others_load.wait()
        return 1

    answers = together(5, lambda: cache.get_or_load("k", load, unless=lambda _value: True))
    assert answers == [1] * 5


def test_stale_value_is_served_while_one_loads(
    cache: pmemcache.TieredCache, clock: Any, until: Any
) -> None:
    assert cache.get_or_load("k", lambda _key: "old", 10, 600) == "old"
    clock.advance(cache, 11)
    calls: list[Any] = []
    load = loader("new", calls, lambda: until(lambda: cache.stats().stale == 3))
    answers = together(4, lambda: cache.get_or_load("k", load, 1000, 600))
    assert sorted(answers) == ["new", "old", "old", "old"]
    assert len(calls) == 1
    assert cache.get_or_load("k", loader("newer", calls), 1000, 600) == "new"
    assert cache.stats().stale == 3
    clock.advance(cache, 2000)
    assert cache.get_or_load("k", lambda _key: "last", 10, 60) == "last"


def test_stale_value_is_served_when_the_loader_fails(
    cache: pmemcache.TieredCache, clock: Any
) -> None:
    cache.set("k", "old", 10, grace_seconds=60)
    clock.advance(cache, 11)
    assert cache.get_or_load("k", loader(OSError(), []), 10, 60) == "old"
    clock.advance(cache, 100)
    with pytest.raises(OSError):  # noqa: PT011 - the loader's own
        cache.get_or_load("k", loader(OSError(), []), 10, 60)


def test_negative_caching_remembers_an_error(make_cache: Make, clock: Any) -> None:
    cache = make_cache(load=pmemcache.LoadPolicy(negative_ttl_seconds=10))
    calls: list[Any] = []
    for _call in range(3):
        with pytest.raises(KeyError):
            cache.get_or_load("k", loader(KeyError("no"), calls))
    assert len(calls) == 1
    assert cache.get("k", "default") == "default"
    clock.advance(cache, 11)
    assert cache.get_or_load("k", lambda _key: 1) == 1


@pytest.mark.parametrize(
    "options", [{}, {"strict": True}, {"policy": "hot=1MiB,placement=hot-only"}]
)
@pytest.mark.parametrize("why", ["cannot be serialized", "too large", "no time to live"])
def test_what_cannot_be_stored_is_not_waited_for_in_turn(
    make_cache: Make, until: Any, options: dict[str, Any], why: str
) -> None:
    """Each of those who wait would else take the lease, load, and let the others wait on."""
    cache = make_cache(**{"policy": "hot=1MiB,warm=1MiB", **options})
    others, calls = threading.Barrier(3), []

    def load(_key: str) -> Any:
        calls.append(1)
        if len(calls) > 1:
            others.wait(20)  # it breaks where they load in turn
        else:
            until(lambda: cache.stats().load_waits >= 3)
        if why == "too large":
            return b"x" * (2 << 20)
        return (each for each in "abc") if why == "cannot be serialized" else 1

    def ttl_of(_value: Any) -> float:
        message = "no time"
        if why == "no time to live":
            raise ValueError(message)
        return 60

    answers = together(4, lambda: len(cache.get_or_load("k", load, ttl_of)))
    assert len(set(map(str, answers))) == 1
    assert len(calls) == (4 if why == "too large" else 1)


def test_remembered_error_is_no_value(make_cache: Make) -> None:
    """What `get` does not find is there for nothing else, and gives way to a value."""
    cache = make_cache(load=pmemcache.LoadPolicy(negative_ttl_seconds=10))

    def fail(key: str = "k") -> None:
        with pytest.raises(KeyError):
            cache.get_or_load(key, loader(KeyError("no"), []))

    fail()
    assert "k" not in cache
    assert (cache.tier_of("k"), cache.ttl("k"), cache.count("k")["warm"]) == (None, None, 0)
    assert list(cache) == []
    assert cache.touch("k", 5) is False
    assert cache.delete("k") is False
    fail()
    assert cache.add("k", 1)
    assert cache.get("k") == 1
    for key, store in (
        ("a", lambda: cache.incr("a", initial=6)),
        ("b", lambda: cache.setdefault("b", 7)),
    ):
        fail(key)
        assert store() == cache.get(key) == 7


def test_early_recompute(make_cache: Make, clock: Any) -> None:
    chances = iter([0.5, 0.5, 0.9, 0.5])
    cache = make_cache(load=pmemcache.LoadPolicy(early_beta=1), chance=lambda: next(chances, 0.5))

    def load(value: str) -> Callable[[Any], str]:
        def takes_a_second(_key: Any) -> str:
            clock.advance(cache, 1)
            return value

        return takes_a_second

    assert cache.get_or_load("k", load("first"), 10) == "first"
    assert cache.get_or_load("k", load("second"), 10) == "first"
    clock.advance(cache, 9.5)
    assert cache.get_or_load("k", load("third"), 10) == "third"


def test_refresh_ahead_loads_in_the_background(make_cache: Make, clock: Any, until: Any) -> None:
    cache = make_cache(load=pmemcache.LoadPolicy(refresh_ahead_seconds=3))
    cache.get_or_load("k", lambda _key: "old", 10)
    clock.advance(cache, 8)
    loaded = threading.Event()

    def load(_key: str) -> str:
        loaded.set()
        return "new"

    assert cache.get_or_load("k", load, 10) == "old"
    assert loaded.wait(20)
    until(lambda: cache.get("k") == "new")


def test_child_made_by_fork_refreshes_what_its_parent_is_refreshing(
    make_cache: Make, clock: Any
) -> None:
    cache = make_cache(load=pmemcache.LoadPolicy(refresh_ahead_seconds=3, lease_seconds=1))
    cache.get_or_load("k", lambda _key: "old", 10)
    clock.advance(cache, 8)
    has_begun, may_end = threading.Event(), threading.Event()

    def slow(_key: str) -> str:
        has_begun.set()
        may_end.wait(10)
        return "parent's"

    assert cache.get_or_load("k", slow, 10) == "old"
    assert has_begun.wait(10)
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        clock.advance(cache, 1.5)  # the parent's lease ends
        while cache.get("k") != "child's":
            cache.get_or_load("k", lambda _key: "child's", 10)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    may_end.set()


def test_what_a_plain_loader_returns_is_awaited(cache: pmemcache.TieredCache) -> None:
    async def load(number: int) -> int:
        return number

    assert asyncio.run(cache.aget_or_load("k", lambda _key: load(7))) == 7
    assert cache.get("k") == 7


def test_jitter_shortens_the_time_to_live(make_cache: Make) -> None:
    cache = make_cache(load=pmemcache.LoadPolicy(ttl_jitter=0.5), chance=lambda: 0.5)
    cache.get_or_load("k", lambda _key: 1, 100)
    assert cache.ttl("k") == pytest.approx(75, abs=20)


@pytest.mark.parametrize(
    "wrong",
    [
        {"lease_seconds": 0},
        {"lease_seconds": float("inf")},
        {"lease_seconds": "30"},
        {"lease_seconds": True},
        {"ttl_jitter": None},
        {"wait_seconds": -1},
        {"ttl_jitter": 1.0},
        {"early_beta": -1},
        {"refresh_ahead_seconds": -1},
        {"negative_ttl_seconds": float("nan")},
    ],
)
def test_impossible_policy_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(pmemcache.ConfigurationError, match=next(iter(wrong))):
        pmemcache.LoadPolicy(**wrong)


def test_nothing_but_the_lease_is_on_unless_asked_for(make_cache: Make, clock: Any) -> None:
    cache = make_cache(chance=lambda: 0.99)  # early is likely then, and jitter large
    threads = threading.active_count()
    calls: list[Any] = []

    def load(key: str) -> str:
        clock.advance(cache, 200)
        calls.append(key)
        return "value"

    assert cache.get_or_load("k", load, 1000) == "value"
    assert cache.ttl("k") == pytest.approx(1000, abs=50)
    clock.advance(cache, 900)
    assert cache.get_or_load("k", load, 1000) == "value"
    assert threading.active_count() == threads
    for _call in range(2):
        with pytest.raises(KeyError):
            cache.get_or_load("bad", loader(KeyError(), calls))
    assert calls == ["k", "bad", "bad"]


def test_loaders_by_prefix(make_cache: Make) -> None:
    cache = make_cache(loader={"city:": str.upper, "city:big:": str.title})
    assert cache.get("city:rome") == "CITY:ROME"
    assert cache["city:big:rome"] == "City:Big:Rome"
    assert cache.get("other") is None
    assert cache.pool.get("city:rome") == b"CITY:ROME"


def test_loader_of_all_keys(make_cache: Make) -> None:
    cache = make_cache(loader=lambda key: key * 2)
    assert cache[4] == 8
    assert cache.get("a") == "aa"


def test_loaders_are_awaited_too(make_cache: Make) -> None:
    async def load(key: str) -> str:
        return key.upper()

    cache = make_cache(loader={"city:": load, "plain:": str.upper})
    assert asyncio.run(cache.aget("city:rome")) == "CITY:ROME"
    assert asyncio.run(cache.aget("plain:rome")) == "PLAIN:ROME"
    assert asyncio.run(cache.aget("other", "default")) == "default"


def test_engine_callback_fills_a_miss(cache: pmemcache.TieredCache) -> None:
    cache.pool.on_miss(lambda pool, key: key == b"k" and pool.put(key, b"filled", tag=1))
    assert cache.get("k") == "filled"


def test_refresh_replaces_the_value(cache: pmemcache.TieredCache) -> None:
    cache.set("k", "old")
    assert cache.refresh("k", lambda _key: "new") == "new"
    assert cache.get("k") == "new"

    def meanwhile(_key: str) -> str:
        cache.set("k", "meanwhile")
        return "loaded"

    assert cache.refresh("k", meanwhile) == "loaded"
    assert cache.get("k") is None


def test_tasks_share_one_load_and_the_loop_stays_free(
    cache: pmemcache.TieredCache, while_the_loop_goes_on: Any
) -> None:
    calls: list[Any] = []

    async def main() -> Any:
        may_end = asyncio.Event()

        async def load(key: str) -> str:
            calls.append(key)
            await may_end.wait()
            return "value"

        all_five = asyncio.gather(*(cache.aget_or_load("k", load) for _task in range(5)))
        return await while_the_loop_goes_on(all_five, may_end.set)

    assert asyncio.run(main()) == (["value"] * 5, True)
    assert calls == ["k"]


def test_plain_loader_runs_in_a_thread(cache: pmemcache.TieredCache) -> None:
    async def main() -> Any:
        return await cache.aget_or_load("k", lambda _key: threading.current_thread().name)

    assert asyncio.run(main()) != threading.main_thread().name


def test_cancelled_leader_frees_the_lease(cache: pmemcache.TieredCache) -> None:
    async def main() -> None:
        has_begun = asyncio.Event()

        async def load(_key: str) -> None:
            has_begun.set()
            await asyncio.sleep(60)

        task = asyncio.create_task(cache.aget_or_load("k", load))
        await has_begun.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert cache.pool.lease_take("k", 1).granted


def test_task_that_asks_for_what_it_loads_computes(cache: pmemcache.TieredCache) -> None:
    async def inner(_key: str) -> str:
        return "inner"

    async def outer(_key: str) -> str:
        return "outer " + await cache.aget_or_load("k", inner)

    assert asyncio.run(cache.aget_or_load("k", outer)) == "outer inner"
    assert asyncio.run(cache.arefresh("k", inner)) == "inner"
    assert cache.get("k") == "inner"
