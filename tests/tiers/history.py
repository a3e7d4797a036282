"""Record what processes with hot tiers do to one pool, and check it for linearizability.

    python history.py FOLDER [--seconds 1.5] [--kill | --expire | --recreate] [--plant NAME]

Some processes of two threads each set, also for a short time to live, delete, drop a tag, clear,
evict and mostly read a few keys. One more thread of each reads from the pool alone, so that what is
there is seen at once. With --kill other processes write until they are killed, again and again.
With --expire there are so few writes that most values end with their time to live.
With --recreate all threads let go of the pool and open it again, on and on; every other time they
do so together, so that the pool goes and another one takes its place. Prints one line of JSON.
--plant makes a bug of the hot tier live, by its name below; bugs of the engine are planted by
`PMC_FAULT_MUTANT` where pmemcache was built with faults.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linearizability import MISSING, Call, violations

import pmemcache
from pmemcache import copies
from pmemcache.hot import HotEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from multiprocessing.synchronize import Barrier

PROCESSES, THREADS = 4, 2
KEYS = ["a", "b", "c"]
KINDS = {
    "get": 86,
    "set": 6,
    "set short": 2,
    "set tagged": 2,
    "delete": 2,
    "drop": 0.7,
    "clear": 0.3,
    "evict": 1,
}
SHORT_SECONDS = 0.06
LIFE_SECONDS = 0.01
LIVES_TOGETHER = 2
"""Threads meet after so many lives, with nobody attached to the pool."""
POLICY = {"hot": "1MiB", "warm": "8MiB", "promotion": 1}
MOSTLY_READING = {kind: weight * (20 if kind == "get" else 1) for kind, weight in KINDS.items()}
EXPIRING = {"get": 3000, "set short": 1, "delete": 0.1}
READING = {"get": 1}
WRITING = {kind: weight for kind, weight in KINDS.items() if kind != "get"}


class _Anything:
    """Equal to every version."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


def _forget_versions(cache: pmemcache.TieredCache) -> None:
    """Hits do not look at versions."""
    cache._versions = defaultdict(_Anything)  # type: ignore[assignment]


def _trust_generation(cache: pmemcache.TieredCache) -> None:
    """A copy whose version changed is taken for good as long as the key has a value."""
    plain = cache._get_versioned

    def get_versioned(key: Any, known: int) -> Any:
        found = plain(key, 0)
        return (None, *found[1:5], known) if known and found[0] is not None else found

    cache._get_versioned = get_versioned  # type: ignore[method-assign]


def _forget_tags(cache: pmemcache.TieredCache) -> None:
    """Copies do not watch their tags."""
    cache._warm.watch_tags = lambda _pairs: ()  # type: ignore[method-assign]


def _version_after_value(cache: pmemcache.TieredCache) -> None:
    """The version is read after the value."""
    plain = cache._get_versioned

    def get_versioned(key: Any, known: int) -> Any:
        payload, tag, index, _version, *rest = plain(key, known)
        time.sleep(0.0002)
        return (payload, tag, index, cache.pool.versions[index], *rest)

    cache._get_versioned = get_versioned  # type: ignore[method-assign]


def _forget_deadlines(_cache: pmemcache.TieredCache) -> None:
    """Copies have no end of their own."""
    copies._deadline = lambda _ms, _begun: None


_kept: dict[int, list[Any]] = {}


def _keep_copies(cache: pmemcache.TieredCache) -> None:
    """Copies outlive the pool that they are of: the next cache of the thread begins with them."""
    thread, close = threading.get_ident(), cache.close
    for entry in _kept.get(thread, ()):
        cache._copies.cache.admit(entry)

    def keep_and_close() -> None:
        _kept[thread] = [
            HotEntry(*(getattr(entry, name) for name in COPIED))
            for entry in cache.hot_entries.values()
        ]
        close()

    cache.close = keep_and_close  # type: ignore[method-assign]


COPIED = (
    "key",
    "value",
    "size_bytes",
    "tag",
    "version_index",
    "version",
    "generation",
    "dependencies",
    "deadline",
    "envelope",
)

PLANTS: dict[str, Callable[[pmemcache.TieredCache], None]] = {
    "forget-versions": _forget_versions,
    "trust-generation": _trust_generation,
    "forget-tags": _forget_tags,
    "version-after-value": _version_after_value,
    "forget-deadlines": _forget_deadlines,
    "keep-copies": _keep_copies,
}


class Worker:
    """Makes calls on one cache from one thread, and writes each down before and after."""

    def __init__(
        self,
        cache: pmemcache.TieredCache | None,
        name: str,
        log: int,
        kinds: dict[str, float] = KINDS,
    ) -> None:
        self.cache = cache
        self._kinds = list(kinds)
        self._weights = list(kinds.values())
        self._name = name
        self._log = log
        self._choose = random.Random(name)
        self._number = 0

    def run(self, seconds: float) -> None:
        """Make calls for so long."""
        stop = time.monotonic() + seconds
        lines: list[str] = []
        while time.monotonic() < stop:
            self._call(lines)
            if len(lines) > 400:
                self._write(lines)
        self._write(lines)

    def run_until_killed(self, begun: int) -> None:
        """Make calls for ever, and say when one is done; each is written down before it is done."""
        self._call(None)
        os.write(begun, b"x")
        while True:
            self._call(None)

    def _call(self, lines: list[str] | None) -> None:
        kind = self._choose.choices(self._kinds, self._weights)[0]
        key = self._choose.choice(KEYS)
        self._number += 1
        value = f"{self._name}-{self._number}"
        begin = time.monotonic()
        if lines is None:
            self._write([json.dumps([kind, key, value, begin, None])])
        value, is_done = self._do(kind, key, value)
        line = json.dumps([kind, key, value, begin, time.monotonic() if is_done else math.inf])
        if lines is None:
            self._write([line])
        else:
            lines.append(line)

    def _do(self, kind: str, key: str, value: str) -> tuple[str, bool]:
        cache = self.cache
        if kind == "get":
            return cache.get(key, MISSING), True
        if kind == "set":
            return value, cache.set(key, value)
        if kind == "set short":
            return value, cache.set(key, value, SHORT_SECONDS)
        if kind == "set tagged":
            return value, cache.set(key, value, tags=("t",))
        try:
            if kind == "delete":
                cache.delete(key)
            elif kind == "drop":
                cache.drop_tag("t")
            elif kind == "clear":
                cache.clear()
            else:
                cache.pool.evict(key)
        except pmemcache.LockTimeoutError:
            return value, False
        return value, True

    def _write(self, lines: list[str]) -> None:
        os.write(self._log, "".join("\n" + line for line in lines).encode())
        lines.clear()


def open_cache(folder: Path, plant: str | None) -> pmemcache.TieredCache:
    """Attach to the pool of this history."""
    cache = pmemcache.TieredCache(folder / "site.pool", policy=POLICY)
    if plant is not None:
        PLANTS[plant](cache)
    return cache


def open_plain(folder: Path) -> pmemcache.TieredCache:
    """Attach to the same pool, without a hot tier."""
    policy = POLICY | {"placement": "warm-only"}
    policy.pop("hot")
    return pmemcache.TieredCache(folder / "site.pool", policy=policy)


def fork(function: Callable[..., None], *arguments: Any) -> int:
    """Run *function* in a child, which then exits."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            function(*arguments)
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    return child


def work(  # noqa: PLR0913, PLR0917 - a process
    folder: Path,
    plant: str | None,
    name: str,
    log: int,
    seconds: float,
    kinds: dict[str, float],
) -> None:
    """Be one process that lives to the end."""
    cache = open_cache(folder, plant)
    workers = [Worker(cache, f"{name}.{thread}", log, kinds) for thread in range(THREADS)]
    workers.append(Worker(open_plain(folder), f"{name}.plain", log, READING))
    with ThreadPoolExecutor(len(workers)) as threads:
        list(threads.map(lambda worker: worker.run(seconds), workers))
    (folder / f"hot.{name}").write_text(str(cache.stats().hot_hits), encoding="utf-8")
    cache.close()


def work_in_lives(  # noqa: PLR0913, PLR0917 - a process
    folder: Path, plant: str | None, name: str, log: int, seconds: float, meeting: Barrier
) -> None:
    """Be one process whose threads let go of the pool and open it again."""

    def live(number: int) -> int:
        is_plain = number == THREADS
        worker = Worker(None, f"{name}.{number}", log, READING if is_plain else MOSTLY_READING)
        hits = 0
        for life in range(1, round(seconds / LIFE_SECONDS) + 1):
            cache = open_plain(folder) if is_plain else open_cache(folder, plant)
            (folder / f"pool.{cache.pool.geometry().pool_id}").touch()
            worker.cache = cache
            worker.run(LIFE_SECONDS)
            hits += cache.stats().hot_hits
            cache.close()
            if life % LIVES_TOGETHER == 0:
                meeting.wait(60)
        return hits

    with ThreadPoolExecutor(THREADS + 1) as threads:
        hits = sum(threads.map(live, range(THREADS + 1)))
    (folder / f"hot.{name}").write_text(str(hits), encoding="utf-8")


def work_until_killed(folder: Path, plant: str | None, name: str, log: int, begun: int) -> None:
    """Be one process that is killed."""
    Worker(open_cache(folder, plant), name, log, WRITING).run_until_killed(begun)


def kill_workers(folder: Path, plant: str | None, log: int, seconds: float) -> int:
    """Start and kill one process after another; return how many."""
    stop, kills = time.monotonic() + seconds, 0
    while time.monotonic() < stop:
        kills += 1
        has_begun, begun = os.pipe()
        child = fork(work_until_killed, folder, plant, f"killed{kills}", log, begun)
        os.close(begun)
        os.read(has_begun, 1)  # else a busy machine has it killed before it has done anything
        os.close(has_begun)
        time.sleep(0.002 + kills % 5 * 0.003)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return kills


def wait_for(children: Iterable[int]) -> list[int]:
    """Return the exit codes of all, which have begun before the first is waited for."""
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in list(children)]


def read_history(path: Path) -> list[Call]:
    """Read the calls; one that was begun and never ended has an infinite end.

    A kill may have cut a line short. Every other begins a new one, so nothing else is lost.
    """
    ended: dict[tuple[str, float, str], float] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.endswith("]"):
            continue
        kind, key, value, begin, end = json.loads(line)
        if end is None and kind != "get":
            ended.setdefault((kind, begin, f"{key} {value}"), math.inf)
        elif end is not None:
            ended[kind, begin, f"{key} {value}"] = end
    history = []
    for (kind, begin, rest), end in ended.items():
        key, _, value = rest.partition(" ")
        history += _calls_of(kind, key, value, begin, end)
    return history


def _calls_of(kind: str, key: str, value: str, begin: float, end: float) -> list[Call]:
    if kind == "get":
        return [Call("get", key, value, begin, end)]
    if kind.startswith("set"):
        ttl_seconds = SHORT_SECONDS if kind == "set short" else math.inf
        return [Call("set", key, value, begin, end, kind == "set tagged", ttl_seconds)]
    keys = [key] if kind in {"delete", "evict"} else KEYS
    return [Call("drop" if kind == "drop" else "delete", each, "", begin, end) for each in keys]


def main() -> None:
    """Record, check, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=1.5)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--kill", action="store_true")
    how.add_argument("--expire", action="store_true")
    how.add_argument("--recreate", action="store_true")
    parser.add_argument("--plant", choices=PLANTS)
    options = parser.parse_args()
    path = options.folder / "history"
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    arguments = options.folder, options.plant
    numbers = map(str, range(PROCESSES))
    kills = recoveries = 0
    broken: list[str] = []
    if options.recreate:
        meeting = multiprocessing.get_context("fork").Barrier(PROCESSES * (THREADS + 1))
        codes = wait_for(
            fork(work_in_lives, *arguments, number, log, options.seconds, meeting)
            for number in numbers
        )
    else:
        kinds = EXPIRING if options.expire else MOSTLY_READING if options.kill else KINDS
        with open_cache(options.folder, None) as cache:
            children = [
                fork(work, *arguments, number, log, options.seconds, kinds) for number in numbers
            ]
            if options.kill:
                kills = kill_workers(*arguments, log, options.seconds)
            codes = wait_for(children)
            broken = cache.pool.check()
            recoveries = cache.pool.stats().recoveries
    history = read_history(path)
    hot = sum(int(each.read_text("utf-8")) for each in options.folder.glob("hot.*"))
    found = violations(history, may_lose=options.kill or options.recreate)
    report = {
        "calls": len(history),
        "hot_hits": hot,
        "pools": len(list(options.folder.glob("pool.*"))),
        "kills": kills,
        "recoveries": recoveries,
        "broken": broken,
        "codes": codes,
        "violations": len(found),
        "first": found[:5],
    }
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
