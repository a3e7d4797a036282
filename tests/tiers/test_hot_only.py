"""Placement hot-only: each process has its own values, and a change anywhere outdates them all."""

from __future__ import annotations

import ast
import asyncio
import os
import signal
import sys
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
HOT_ONLY = "hot=1MiB,placement=hot-only"


@pytest.fixture
def cache(make_cache: Make) -> pmemcache.TieredCache:
    made: pmemcache.TieredCache = make_cache(policy=HOT_ONLY)
    return made


@pytest.fixture
def other(cache: pmemcache.TieredCache, make_cache: Make) -> pmemcache.TieredCache:
    """What another process has: its own values, and the same versions."""
    made: pmemcache.TieredCache = make_cache(cache.pool, policy=HOT_ONLY)
    return made


def together(count: int, call: Callable[[], Any]) -> list[Any]:
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(lambda _number: call(), range(count)))


class Slow:
    """A loader that waits until it is let go; returns what it is told, or raises it."""

    def __init__(self, *values: Any) -> None:
        self.values = list(values)
        self.calls = 0
        self.has_begun = threading.Event()
        self.may_end = threading.Event()

    def __call__(self, _key: Any) -> Any:
        value = self.values[min(self.calls, len(self.values) - 1)]
        self.calls += 1
        self.has_begun.set()
        assert self.may_end.wait(20)
        if isinstance(value, BaseException):
            raise value
        return value


def waited(cache: pmemcache.TieredCache, count: int) -> None:
    """Wait until so many calls wait for a load."""
    stop = time.monotonic() + 20
    while cache.stats().load_waits < count:
        assert time.monotonic() < stop
        time.sleep(0.001)


def let_go_after(cache: pmemcache.TieredCache, count: int, load: Slow) -> None:
    """Let a load end when so many calls wait for it."""
    threading.Thread(target=lambda: (waited(cache, count), load.may_end.set())).start()


def test_keeps_nothing_in_the_pool(cache: pmemcache.TieredCache, clock: Any) -> None:
    assert cache.set("key", [1], 10)
    assert cache.tier_of("key") == "hot"
    assert cache.get("key") == [1]
    cache.set("large", b"x" * 10_000)
    assert cache.pool.stats().payload_bytes < 1000
    assert cache.delete("large")
    assert not cache.add("key", 2)
    assert cache.touch("key", 1000)
    assert not cache.touch("nothing", 100)
    clock.advance(cache, 500)
    assert cache.ttl("key") == pytest.approx(500, abs=50)
    assert cache.get_or_load("key", lambda _key: 2) == [1]
    cache.set(b"bytes", 3)
    assert dict(cache.items()) == {"key": [1], b"bytes": 3}
    assert cache.delete(b"bytes")
    assert cache.delete("key")
    assert not cache.delete("key")
    assert cache.get_or_load("key", lambda _key: 2) == 2
    assert cache.get("key") == 2
    assert len(cache) == 1
    assert cache.delete_many(["key", "nothing"]) == 1
    assert len(cache) == 0


def test_change_anywhere_outdates_all(
    cache: pmemcache.TieredCache, other: pmemcache.TieredCache
) -> None:
    ways: list[Callable[[], object]] = [
        lambda: other.set("key", "new"),
        lambda: other.delete("key"),
        lambda: other.delete_many(["key"]),
        other.clear,
        lambda: other.drop_tag("t"),
        lambda: other.refresh("key", lambda _key: "new"),
        lambda: other.incr("key", 1, initial=0),
    ]
    for change in ways:
        cache.set("key", "old", tags=("t",))
        assert cache.get("key") == "old"
        change()
        assert cache.get("key") is None
        other.delete("key")


def test_loading_outdates_nothing(
    cache: pmemcache.TieredCache, other: pmemcache.TieredCache
) -> None:
    for each in (cache, other):
        assert each.get_or_load("key", lambda _key: "value") == "value"
    for each in (cache, other):
        assert each.get("key") == "value"


def test_threads_share_one_load(cache: pmemcache.TieredCache) -> None:
    load = Slow([1])
    let_go_after(cache, 7, load)
    assert together(8, lambda: cache.get_or_load("key", load)) == [[1]] * 8
    assert load.calls == 1
    stats = cache.stats()
    assert (stats.loads, stats.load_waits, stats.misses) == (1, 7, 8)


def test_tasks_share_one_load(cache: pmemcache.TieredCache) -> None:
    calls = []

    async def load(key: str) -> str:
        calls.append(key)
        await asyncio.to_thread(waited, cache, 7)
        return "value"

    async def main() -> list[str]:
        return await asyncio.gather(*(cache.aget_or_load("key", load) for _task in range(8)))

    assert asyncio.run(main()) == ["value"] * 8
    assert calls == ["key"]


def test_error_reaches_every_waiter(cache: pmemcache.TieredCache) -> None:
    load = Slow(KeyError("planted"))
    let_go_after(cache, 3, load)

    def ask() -> str:
        with pytest.raises(KeyError, match="planted"):
            cache.get_or_load("key", load)
        return "raised"

    assert together(4, ask) == ["raised"] * 4
    assert load.calls == 1


def test_waiter_goes_on_when_the_leader_is_interrupted(cache: pmemcache.TieredCache) -> None:
    load = Slow(KeyboardInterrupt(), "second")

    def ask() -> Any:
        try:
            return cache.get_or_load("key", load)
        except KeyboardInterrupt:
            return "interrupted"

    with ThreadPoolExecutor(2) as threads:
        answers = [threads.submit(ask) for _thread in range(2)]
        waited(cache, 1)
        load.may_end.set()
        assert sorted(answer.result() for answer in answers) == ["interrupted", "second"]


@pytest.mark.parametrize("size", [10, 2 << 20])
def test_waiters_do_not_queue_for_what_is_not_kept(cache: pmemcache.TieredCache, size: int) -> None:
    """By its plan, or because it is larger than the tier."""
    load = Slow(b"x" * size)
    let_go_after(cache, 3, load)
    ttl = 0 if size == 10 else None
    assert together(4, lambda: cache.get_or_load("key", load, ttl)) == [b"x" * size] * 4
    assert load.calls == 4
    assert cache.stats().load_takeovers == 0


def test_change_during_the_load_is_not_undone(
    cache: pmemcache.TieredCache, other: pmemcache.TieredCache
) -> None:
    for change in (lambda: other.delete("key"), lambda: other.drop_tag("t"), other.clear):
        load = Slow("old", "new")
        with ThreadPoolExecutor(2) as threads:
            first = threads.submit(cache.get_or_load, "key", load, tags=("t",))
            assert load.has_begun.wait(10)
            change()
            later = threads.submit(cache.get_or_load, "key", load, tags=("t",))
            load.may_end.set()
            assert first.result() == "old"
            assert later.result() == "new"  # it asked when the change had been made
        assert cache.get("key") == "new"
        cache.delete("key")


def test_refresh_undoes_no_change(
    cache: pmemcache.TieredCache, other: pmemcache.TieredCache
) -> None:
    def load(_key: str) -> str:
        other.delete("key")
        return "old"

    assert cache.refresh("key", load) == "old"
    assert cache.get("key") is None
    cache.set("key", 1)
    assert cache.refresh("key", lambda _key: 2, unless=lambda value: value == 2) == 2
    assert cache.get("key") is None


def test_child_made_by_fork_waits_for_its_parent_as_any_process_does(
    cache: pmemcache.TieredCache,
) -> None:
    load = Slow("parent's")
    thread = threading.Thread(target=cache.get_or_load, args=("key", load))
    thread.start()
    assert load.has_begun.wait(10)
    waits_read, waits_write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        threading.Thread(target=lambda: (waited(cache, 1), os.write(waits_write, b"x"))).start()
        os._exit(cache.get_or_load("key", lambda _key: "child's") != "parent's")
    os.close(waits_write)
    os.read(waits_read, 1)
    load.may_end.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture
def _busy_threads() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_busy_threads")
def test_add_and_incr_are_atomic_among_threads(cache: pmemcache.TieredCache) -> None:
    added = []

    def count() -> None:
        for number in range(200):
            cache.incr("n", 2, initial=0)
            added.append(cache.add(number, 1))

    together(4, count)
    assert cache.get("n") == 1600
    assert sum(added) == 200


def test_incr(cache: pmemcache.TieredCache) -> None:
    assert cache.incr("missing") is None
    cache.set("text", "no number")
    with pytest.raises(pmemcache.NotAnIntegerError):
        cache.incr("text")
    cache.set("n", 2**63 - 1, 10, tags=("t",))
    with pytest.raises(pmemcache.IntegerOverflowError):
        cache.incr("n")
    assert cache.decr("n") == 2**63 - 2
    assert cache.ttl("n") <= 10
    cache.drop_tag("t")
    assert cache.get("n") is None


def test_values_outlive_changes_of_keys_that_share_their_version(
    cache: pmemcache.TieredCache, other: pmemcache.TieredCache, clock: Any
) -> None:
    for number in range(400):
        cache.set(number, number, 10, tags=("t",))
        assert other.get_or_load(number, lambda key: -key) == -number
    for number in range(20_000, 40_000):
        cache.pool.put(str(number), b"x")
    assert cache.get_many(range(400)) == {number: number for number in range(400)}
    assert not any(cache.add(number, 0) for number in range(400))
    assert cache.tier_of(7) == "hot"
    assert other.get_many(range(400)) == {number: -number for number in range(400)}
    cache.pool.put("more", b"x")
    clock.advance(cache, 11)  # the marker has no end; the value has
    assert cache.get_many(range(400)) == {}
    assert other.get(7) == -7
    cache.set(7, 7)
    assert other.get(7) is None


def test_what_marks_a_value_is_a_miss_for_others(
    cache: pmemcache.TieredCache, make_cache: Make
) -> None:
    usual = make_cache(cache.pool)
    cache.set("key", "mine")
    assert usual.get("key") is None
    assert usual.tier_of("key") is None
    assert not usual.delete("key")
    assert cache.get("key") is None
    cache.set("key", "mine")
    assert usual.get_or_load("key", lambda _key: "theirs", grace_seconds=100) == "theirs"
    assert usual.get("key") == "theirs"


def test_values_come_back_as_their_serializer_has_them(make_cache: Make) -> None:
    cache = make_cache(policy=HOT_ONLY, serializer="json")
    cache.set("key", (1, 2))
    assert cache.get("key") == [1, 2]
    shared = make_cache(policy=HOT_ONLY, share=True)
    value = [1]
    shared.set("key", value)
    value.append(2)
    assert shared.get("key") == [1]


def test_set_that_cannot_outdate_the_others_is_dropped(
    cache: pmemcache.TieredCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: Any, **_options: Any) -> bool:
        raise pmemcache.LockTimeoutError

    cache.set("key", "old")
    for name in ("put_versioned", "delete"):
        monkeypatch.setattr(cache.pool, name, fail)
    assert not cache.set("key", "new")
    assert cache.get("key") is None
    assert cache.stats().dropped_writes == 2
    with pytest.raises(pmemcache.LockTimeoutError):
        cache.delete("key")


def ask_in_children(path: Path, ways: list[Callable[[pmemcache.TieredCache], Any]]) -> list[int]:
    """Call each way with a cache of its own in a process of its own; return how they ended."""
    children = []
    with pmemcache.TieredCache(path, policy=HOT_ONLY):
        for way in ways:
            children.append(os.fork())
            if children[-1] == 0:
                code = 1
                try:
                    with pmemcache.TieredCache(path, policy=HOT_ONLY) as mine:
                        code = 0 if way(mine) else 1
                finally:
                    os._exit(code)
        return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


@pytest.mark.parametrize("value", ["value", ["value"], None, ValueError("no such city")])
def test_processes_that_ask_at_once_share_one_load(tmp_path: Path, until: Any, value: Any) -> None:
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    waiting = os.open(tmp_path / "waiting", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    loads_here = threading.Event()

    def load(_key: str) -> Any:
        os.write(log, b"x")
        loads_here.set()
        # All of them wait: who comes later finds a value that was left, but of an error nothing.
        until(lambda: os.fstat(waiting).st_size == 4)
        if isinstance(value, Exception):
            raise value
        return value

    def tell_when_all_wait(cache: pmemcache.TieredCache) -> None:
        until(lambda: cache.stats().load_waits >= 3 - loads_here.is_set())
        os.write(waiting, b"x")

    def ask(cache: pmemcache.TieredCache) -> bool:
        threading.Thread(target=tell_when_all_wait, args=(cache,)).start()

        def answer() -> Any:
            try:
                return cache.get_or_load("k", load, 60, tags=("t",))
            except ValueError as error:
                return repr(error)

        expected = repr(value) if isinstance(value, Exception) else value
        return together(3, answer) == [expected] * 3 and (
            isinstance(value, Exception) or cache.tier_of("k") == "hot"
        )

    assert ask_in_children(tmp_path / "p", [ask] * 4) == [0] * 4
    assert (tmp_path / "log").read_bytes() == b"x"


@pytest.mark.parametrize("change", ["delete", "set", "drop_tag", "clear"])
def test_load_that_a_change_made_void_is_shared_with_nobody(tmp_path: Path, change: str) -> None:
    ready_read, ready_write = os.pipe()
    go_read, go_write = os.pipe()

    def lead(cache: pmemcache.TieredCache) -> bool:
        def load(_key: str) -> str:
            os.write(ready_write, b"x")
            os.read(go_read, 1)
            return "old"

        return bool(cache.get_or_load("k", load, tags=("t",)) == "old")

    def follow(cache: pmemcache.TieredCache) -> bool:
        os.read(ready_read, 1)
        {
            "delete": lambda: cache.delete("k"),
            "set": lambda: (cache.set("k", "x"), cache._copies.cache.clear()),
            "drop_tag": lambda: cache.drop_tag("t"),
            "clear": cache.clear,
        }[change]()
        threading.Timer(0.3, os.write, (go_write, b"x")).start()
        return bool(cache.get_or_load("k", lambda _key: "new", tags=("t",)) == "new")

    assert ask_in_children(tmp_path / "p", [lead, follow]) == [0, 0]


def test_value_is_in_the_pool_only_for_who_waits_and_not_for_long(
    cache: pmemcache.TieredCache,
) -> None:
    cache.get_or_load("k", lambda _key: "secret" * 100)
    assert cache.stats().pool.payload_bytes < 300
    assert cache._here is not None
    assert cache._here.leave("k")
    left = [key for key in cache.pool.keys(b"") if key.startswith(b"\xff\x00pmc:v:")]
    assert len(left) == 1
    info = cache.pool.info(left[0])
    assert info is not None
    assert 0 < info.ttl_seconds <= 2


@pytest.mark.parametrize("ttl", [60, 1.9, None])
def test_time_to_live_of_a_shared_value_counts_from_its_load(
    cache: pmemcache.TieredCache, other: pmemcache.TieredCache, clock: Any, ttl: float | None
) -> None:
    cache.get_or_load("k", lambda _key: "value", ttl)
    assert cache._here is not None
    assert cache._here.leave("k")
    clock.advance(cache, 0.5)
    assert other.get_or_load("k", lambda _key: "mine", ttl) == "value"
    mine, theirs = cache.ttl("k"), other.ttl("k")
    assert mine is not None
    assert theirs is not None
    assert theirs == mine or mine - 1.2 < theirs <= mine + 0.05


@pytest.mark.parametrize("change", ["set", "delete and load", "nothing"])
def test_left_value_is_not_found_after_a_change(
    cache: pmemcache.TieredCache, other: pmemcache.TieredCache, make_cache: Make, change: str
) -> None:
    third = make_cache(cache.pool, policy=HOT_ONLY)
    cache.get_or_load("k", lambda _key: "old")
    assert cache._here is not None
    assert cache._here.leave("k")
    if change == "set":
        third.set("k", "newer")
    elif change == "delete and load":
        third.delete("k")
        third.get_or_load("k", lambda _key: "newer")
    expected = "old" if change == "nothing" else "mine"
    assert other.get_or_load("k", lambda _key: "mine") == expected


class Meddler:
    """A serializer during whose next `loads` something else happens."""

    tag = 16

    def __init__(self) -> None:
        self.meddle: Callable[[], object] | None = None

    def dumps(self, value: Any) -> bytes:
        return repr(value).encode()

    def loads(self, payload: bytes) -> Any:
        meddle, self.meddle = self.meddle, None
        if meddle is not None:
            meddle()
        return ast.literal_eval(payload.decode())


@pytest.mark.parametrize("change", ["delete", "set", "clear"])
def test_touch_puts_nothing_back(
    cache: pmemcache.TieredCache, make_cache: Make, change: str
) -> None:
    serializer = Meddler()
    mine = make_cache(cache.pool, policy=HOT_ONLY, serializer=serializer)
    mine.set("key", [1])
    serializer.meddle = {
        "delete": lambda: cache.delete("key"),
        "set": lambda: cache.set("key", 2),
        "clear": cache.clear,
    }[change]
    assert not mine.touch("key", 50)
    assert mine.get("key") is None
    assert cache.get("key") == (2 if change == "set" else None)


def test_incr_puts_nothing_back(
    cache: pmemcache.TieredCache, other: pmemcache.TieredCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def added(key: str, value: int, delta: int) -> int:
        monkeypatch.undo()
        other.delete(key)
        return value + delta

    cache.set("n", 5)
    monkeypatch.setattr("pmemcache.hot_only.added", added)
    assert cache.incr("n") is None
    assert cache.get("n") is None


def test_set_during_a_load_of_this_process_stays(cache: pmemcache.TieredCache) -> None:
    def load(key: str) -> str:
        cache.set(key, "newer")
        return "loaded"

    for _round in range(2):
        assert cache.get_or_load("key", load, tags=("t",)) == "loaded"
        assert cache.get("key") == "newer"
        cache.delete("key")


def test_what_was_set_after_the_load_is_left_not_what_was_loaded(
    cache: pmemcache.TieredCache, other: pmemcache.TieredCache
) -> None:
    cache.get_or_load("key", lambda _key: "loaded")
    cache.set("key", "newer")
    assert cache._here is not None
    assert cache._here.leave("key")
    assert other.get_or_load("key", lambda _key: "mine") == "newer"


def test_refresh_ahead_loads_for_this_process_alone(
    make_cache: Make, clock: Any, other: pmemcache.TieredCache, cache: pmemcache.TieredCache
) -> None:
    load = pmemcache.LoadPolicy(refresh_ahead_seconds=3)
    mine = make_cache(cache.pool, policy=HOT_ONLY, load=load)
    mine.get_or_load("key", lambda _key: "old", 10)
    other.get_or_load("key", lambda _key: "theirs", 100)
    clock.advance(cache, 8)
    assert mine.get_or_load("key", lambda _key: "new", 10) == "old"
    stop = time.monotonic() + 10
    while mine.get("key") != "new":
        assert time.monotonic() < stop
        time.sleep(0.001)
    assert other.get("key") == "theirs"
    assert cache.get("key") is None  # it is not in the pool


def test_signed_cache_keeps_what_another_process_has(make_cache: Make) -> None:
    signer = pmemcache.Signer(b"a secret of sixteen bytes or more")
    mine = make_cache(policy=HOT_ONLY, signer=signer)
    theirs = make_cache(mine.pool, policy=HOT_ONLY, signer=signer)
    mine.set("key", 1)
    assert theirs.get("key") is None
    assert theirs.get_or_load("key", lambda _key: 2) == 2
    assert mine.get("key") == 1
    assert theirs.stats().undecodable == 0
    mine.set("key", 3)
    assert theirs.get("key") is None


def test_wait_without_an_end_waits(make_cache: Make) -> None:
    cache = make_cache(policy=HOT_ONLY, load=pmemcache.LoadPolicy(wait_seconds=float("inf")))
    load = Slow("value")
    with ThreadPoolExecutor(2) as threads:
        answers = [threads.submit(cache.get_or_load, "key", load) for _thread in range(2)]
        waited(cache, 1)
        load.may_end.set()
        assert [answer.result() for answer in answers] == ["value"] * 2
