"""A set or delete that returned is what every process's next get sees, hot copies and all.

Processes record histories of what they called, when, and what came back. A history is checked key
by key for being linearizable. With values written only once, that is: no read returns a value that
was certainly overwritten before the read began, or not yet being written when it ended; and the
times for which values certainly held do not overlap (Gibbons and Korach, "Testing shared memories",
SIAM J. Comput. 1997).
"""

from __future__ import annotations

import bisect
import itertools
import json
import math
import os
import random
import signal
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import pmemcache

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEYS = ["a", "b", "c"]
PROCESSES, THREADS = 4, 2
MISSING = "missing"


@dataclass(frozen=True)
class Call:
    kind: str
    key: str
    value: str
    begin: float
    end: float


def violations(history: list[Call], *, may_lose: bool) -> list[str]:
    """Return what in *history* no single register per key could have done."""
    found = []
    for key in KEYS:
        calls = [call for call in history if call.key == key]
        writes = {call.value: call for call in calls if call.kind == "set"}
        deletes = [call for call in calls if call.kind == "delete"]
        clusters = {value: [write] for value, write in writes.items()}
        missing = []
        for call in calls:
            if call.kind == "get":
                (missing if call.value == MISSING else clusters[call.value]).append(call)
        found += value_violations(clusters, deletes)
        if not may_lose:
            found += missing_violations(list(writes.values()), deletes, missing)
    return found


def value_violations(clusters: dict[str, list[Call]], deletes: list[Call]) -> list[str]:
    found, forward, backward = [], [], []
    deleted_after = earliest_end_after(deletes)
    for value, (write, *reads) in clusters.items():
        low = min(call.end for call in (write, *reads))
        high = max(call.begin for call in (write, *reads))
        (forward if low < high else backward).append((min(low, high), max(low, high), value))
        if any(read.end < write.begin for read in reads):
            found.append(f"{value} was read before it was written")
        if deleted_after(write.end) < high:
            found.append(f"{value} was read after it was deleted")
    forward.sort()
    for (_low, high, value), (next_low, _high, other) in itertools.pairwise(forward):
        if next_low < high:
            found.append(f"{value} and {other} were held at once")
    lows = [low for low, _high, _value in forward]
    for low, high, value in backward:
        before = bisect.bisect_left(lows, low) - 1
        if before >= 0 and high < forward[before][1]:
            found.append(f"{value} was written while {forward[before][2]} was held")
    return found


def missing_violations(writes: list[Call], deletes: list[Call], missing: list[Call]) -> list[str]:
    """A read may find nothing if some delete before it was not certainly overwritten."""
    overwritten = earliest_end_after(writes)
    beginning = Call("delete", "", "", -math.inf, -math.inf)
    gone = sorted((call.begin, overwritten(call.end)) for call in [beginning, *deletes])
    begins = [begin for begin, _until in gone]
    until = list(itertools.accumulate((until for _begin, until in gone), max))
    return [
        f"{read.key}: a value was lost"
        for read in missing
        if until[bisect.bisect_left(begins, read.end) - 1] < read.begin
    ]


def earliest_end_after(calls: list[Call]) -> Callable[[float], float]:
    """Return a function: of the calls that begin after a moment, when the first one ends."""
    ordered = sorted(calls, key=lambda call: call.begin)
    begins = [call.begin for call in ordered]
    ends = [*itertools.accumulate((call.end for call in reversed(ordered)), min)][::-1]
    ends.append(math.inf)
    return lambda moment: ends[bisect.bisect_right(begins, moment)]


def work(cache: pmemcache.TieredCache, name: str, seconds: float, calls: list[Call]) -> None:
    """Set, delete and mostly read, and record it."""
    choose = random.Random(name)
    stop = time.monotonic() + seconds
    number = 0
    while time.monotonic() < stop:
        key = choose.choice(KEYS)
        kind = choose.choices(["get", "set", "delete"], [90, 8, 2])[0]
        number += 1
        value = f"{name}-{number}"
        begin = time.monotonic()
        if kind == "get":
            value = cache.get(key, MISSING)
        elif kind == "set":
            cache.set(key, value)
        else:
            cache.delete(key)
        calls.append(Call(kind, key, value, begin, time.monotonic()))


def run_process(
    make: Callable[[], pmemcache.TieredCache], number: int, seconds: float, report: Path
) -> None:
    cache = make()
    calls: list[Call] = []
    threads = [
        threading.Thread(target=work, args=(cache, f"{number}.{thread}", seconds, calls))
        for thread in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = [json.dumps([c.kind, c.key, c.value, c.begin, c.end]) for c in calls]
    hot = cache.stats().hot_hits
    report.write_text("\n".join([str(hot), *lines]), encoding="utf-8")
    cache.close()


def fork(function: Callable[..., None], *arguments: Any) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            function(*arguments)
            code = 0
        finally:
            os._exit(code)
    return child


def record(
    make: Callable[[], pmemcache.TieredCache], folder: Path, seconds: float
) -> tuple[list[Call], int]:
    """Return the history of several processes, and how many of their hits were hot."""
    reports = [folder / str(number) for number in range(PROCESSES)]
    children = [
        fork(run_process, make, number, seconds, report) for number, report in enumerate(reports)
    ]
    for child in children:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    history, hot = [], 0
    for report in reports:
        first, *lines = report.read_text(encoding="utf-8").splitlines()
        hot += int(first)
        history += [Call(*json.loads(line)) for line in lines]
    return history, hot


def opener(path: Path) -> Callable[[], pmemcache.TieredCache]:
    policy = {"hot": "1MiB", "warm": "8MiB", "promotion": 1}
    return lambda: pmemcache.TieredCache(path / "site.pool", policy=policy)


def test_processes_with_hot_tiers_are_linearizable(tmp_path: Path) -> None:
    make = opener(tmp_path)
    with make():
        history, hot = record(make, tmp_path, 1.5)
    assert hot > 1000
    assert violations(history, may_lose=False) == []


class Anything:
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


def test_planted_bug_is_found(tmp_path: Path) -> None:
    """A hot tier that does not look at versions is caught by the same check."""

    def make() -> pmemcache.TieredCache:
        cache = opener(tmp_path)()
        cache._versions = defaultdict(Anything)  # type: ignore[assignment]
        return cache

    with opener(tmp_path)():
        history, _hot = record(make, tmp_path, 0.5)
    assert violations(history, may_lose=False) != []


def write_until_killed(make: Callable[[], pmemcache.TieredCache], name: str, log: int) -> None:
    """Set keys, saying so before and after each, until killed."""
    cache = make()
    for number in range(10**9):
        key, value = KEYS[number % len(KEYS)], f"{name}-{number}"
        os.write(log, json.dumps(["begin", key, value, time.monotonic()]).encode() + b"\n")
        cache.set(key, value)
        os.write(log, json.dumps(["end", key, value, time.monotonic()]).encode() + b"\n")


def test_killed_writers_leave_a_linearizable_history(tmp_path: Path) -> None:
    make = opener(tmp_path)
    log_path = tmp_path / "log"
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    stop = threading.Event()

    def kill_writers() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            child = fork(write_until_killed, make, f"killed{number}", log)
            time.sleep(0.05 + number % 5 * 0.013)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    with make() as cache:
        killer = threading.Thread(target=kill_writers)
        killer.start()
        history, _hot = record(make, tmp_path, 1.5)
        stop.set()
        killer.join()
        assert cache.pool.check() == []
    os.close(log)
    ends: dict[str, float] = {}
    begins: dict[str, tuple[str, float]] = {}
    for line in log_path.read_text(encoding="utf-8").splitlines():
        kind, key, value, moment = json.loads(line)
        if kind == "begin":
            begins[value] = (key, moment)
        else:
            ends[value] = moment
    history += [
        Call("set", key, value, begin, ends.get(value, math.inf))
        for value, (key, begin) in begins.items()
    ]
    assert len(begins) > len(ends) > 0
    assert violations(history, may_lose=True) == []


def test_counters_of_all_processes_add_up(tmp_path: Path) -> None:
    make = opener(tmp_path)

    def count() -> None:
        cache = make()
        seen = 0
        for _step in range(500):
            total = cache.incr("n", 1, initial=0)
            found = cache.get("n")
            assert total is not None
            assert found >= total > seen
            seen = total
        cache.close()

    with make() as cache:
        for child in [fork(count) for _process in range(PROCESSES)]:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert cache.get("n") == 500 * PROCESSES


@pytest.mark.parametrize("way", ["delete", "tag"])
def test_loaded_values_are_never_older_than_an_invalidation(tmp_path: Path, way: str) -> None:
    """Writers change a file and then invalidate; readers load it slowly through the cache."""
    make = opener(tmp_path)
    database, committed = tmp_path / "database", tmp_path / "committed"

    def number_in(path: Path) -> int:
        return int(path.read_bytes() or b"0")

    def store(path: Path, number: int) -> None:
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(b"%d" % number)
        fresh.rename(path)

    def load(_key: str) -> int:
        number = number_in(database)
        time.sleep(0.001)
        return number

    def read() -> None:
        cache = make()
        stop = time.monotonic() + 1
        while time.monotonic() < stop:
            at_least = number_in(committed)
            tags = ("t",) if way == "tag" else ()
            assert cache.get_or_load("key", load, tags=tags) >= at_least
        cache.close()

    store(database, 0)
    store(committed, 0)
    with make() as cache:
        readers = [fork(read) for _process in range(PROCESSES)]
        number, stop = 0, time.monotonic() + 0.9
        while time.monotonic() < stop:
            number += 1
            store(database, number)
            cache.delete("key") if way == "delete" else cache.drop_tag("t")
            store(committed, number)
            time.sleep(0.0007)
        for reader in readers:
            assert os.waitstatus_to_exitcode(os.waitpid(reader, 0)[1]) == 0
