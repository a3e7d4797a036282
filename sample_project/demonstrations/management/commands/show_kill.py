"""`manage.py show_kill`: workers are killed in the middle of writes; nothing is wrong or stuck."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from config.caches import CacheChoice, caches_setting
from django.core.cache import CacheHandler

import pmemcache
from demonstrations.demonstration import Demonstration

if TYPE_CHECKING:
    import contextlib
    from argparse import ArgumentParser

    from django.core.cache.backends.base import BaseCache

WRITERS = 4
KEYS = 200
SIZE_BYTES = 1 << 20
STUCK_SECONDS = 10.0
"""A write may wait a second for a lock; a busy machine may take some more."""


class Reading(NamedTuple):
    """What the process that is not killed saw."""

    values: int = 0
    wrong: int = 0
    longest_seconds: float = 0.0


class Command(Demonstration):
    """A process may die at any instruction."""

    help = "Kill workers in the middle of writes: no value is wrong, no other worker gets stuck."
    title = "SIGKILL in the middle of writes"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the one option."""
        parser.add_argument("--seconds", type=float, default=6.0, help="how long to kill")

    def handle(self, *args: Any, seconds: float, **options: Any) -> None:
        """Show it, for so long."""
        self._seconds = seconds
        super().handle(*args, **options)

    def show(self, stack: contextlib.ExitStack) -> None:
        """Let workers write as fast as they can, kill one after the other, read meanwhile."""
        path = self.pool(stack)
        choice = CacheChoice(backend="pmemcache", location=path, budget_bytes=SIZE_BYTES)
        cache = CacheHandler(caches_setting(choice))["default"]
        self.say(
            f"{WRITERS} workers write to one cache as fast as they can: {KEYS} keys, up to 40 KB a "
            f"value, {SIZE_BYTES >> 20} MiB in all, so that old entries go. Every value says which "
            "key it belongs to and can be told from one that is half written."
        )
        writers = Writers(cache)
        stack.callback(writers.kill_all)
        killed, reading = self._kill_and_read(writers, cache)
        writers.kill_all()
        with pmemcache.Pool(path, SIZE_BYTES) as pool:
            stats, damage = pool.stats(), pool.check()
        self.say(
            f"In {self._seconds:g} s {killed} workers were killed by SIGKILL and replaced; "
            f"{stats.put:,} values were written and {reading.values:,} read back; "
            f"{stats.recoveries} times a dead worker had held a lock, and the next one that needed "
            "it repaired what was half done; the longest call took "
            f"{reading.longest_seconds * 1000:.1f} ms."
        )
        self.claim(
            "workers were killed, and values read meanwhile", holds=0 < killed < reading.values
        )
        self.claim("no value was wrong", holds=reading.wrong == 0)
        self.claim("no call got stuck", holds=reading.longest_seconds < STUCK_SECONDS)
        self.claim("every invariant of the pool holds", holds=damage == [])

    def _kill_and_read(self, writers: Writers, cache: BaseCache) -> tuple[int, Reading]:
        source = random.Random(1)
        killed, values, wrong, longest = 0, 0, 0, 0.0
        end = time.monotonic() + self._seconds
        while time.monotonic() < end:
            for _read in range(source.randrange(50, 150)):
                key = source.randrange(KEYS)
                started = time.monotonic()
                value = cache.get(f"page:{key}")
                cache.set(f"reader:{key % 10}", page_of(-1, source))
                longest = max(longest, time.monotonic() - started)
                values += value is not None
                wrong += value is not None and not is_right(key, value)
            writers.kill_one(source)
            killed += 1
        return killed, Reading(values, wrong, longest)


class Writers:
    """Forked workers that write for ever."""

    def __init__(self, cache: BaseCache) -> None:
        self._cache = cache
        self._seed = 0
        self._pids: list[int] = []
        for _writer in range(WRITERS):
            self._fork()

    def kill_one(self, source: random.Random) -> None:
        """Kill any of them, in whatever it is doing, and let another take its place."""
        self._kill(source.choice(self._pids))
        self._fork()

    def kill_all(self) -> None:
        """Kill all that are left."""
        while self._pids:
            self._kill(self._pids[-1])

    def _kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self._pids.remove(pid)

    def _fork(self) -> None:
        self._seed += 1
        pid = os.fork()
        if pid == 0:
            try:
                write_for_ever(self._cache, random.Random(self._seed))
            finally:
                os._exit(1)
        self._pids.append(pid)


def write_for_ever(cache: BaseCache, source: random.Random) -> None:
    """Set keys to pages, and delete one now and then."""
    while True:
        key = source.randrange(KEYS)
        cache.set(f"page:{key}", page_of(key, source))
        if source.random() < 0.1:  # noqa: PLR2004 - a tenth are deletes
            cache.delete(f"page:{source.randrange(KEYS)}")


def page_of(key: int, source: random.Random) -> bytes:
    """Return a page that can be recognised: its key, a number, and that number over and over."""
    number = source.randrange(1 << 32).to_bytes(4, "big")
    return b"%d;" % key + number * source.randrange(1, 10_000)


def is_right(key: int, page: bytes) -> bool:
    """Whether a page is one that was stored under *key*, whole."""
    owner, _, body = page.partition(b";")
    return owner == b"%d" % key and body == body[:4] * (len(body) // 4) and body != b""
