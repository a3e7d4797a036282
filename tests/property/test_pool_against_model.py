"""A pool does what a dict with deadlines does, through each door, as long as nothing is evicted."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, ClassVar
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import pmemcache
from pmemcache.binding import DOORS

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

KEYS = st.sampled_from([b"", b"a", b"b", b"ab", b"abc", b"\0", b"k" * 300]) | st.binary(max_size=3)
VALUES = (
    st.binary(max_size=40)
    | st.integers(INT64_MIN, INT64_MAX).map(lambda number: b"%d" % number)
    | st.builds(bytes.__mul__, st.binary(min_size=1, max_size=1), st.integers(1, 70_000))
)
# The pool's clock runs on while the machine works: hours, so that it never decides.
HOUR = 3600
TTLS = st.none() | st.integers(-1, 20).map(HOUR.__mul__) | st.just(1.5 * HOUR)
TAGS = st.integers(0, 255)


@dataclass
class Entry:
    value: bytes
    deadline: float | None
    tag: int
    generation: int | None = None
    """As info() gave it for this value, when it was asked."""


class PoolMachine(RuleBasedStateMachine):
    """Runs the same operations on a pool and on a dict."""

    door: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.model: dict[bytes, Entry] = {}

    @initialize()
    def open(self) -> None:
        with mock.patch.dict(os.environ, {"PMEMCACHE_DOOR": self.door}):
            self.pool = pmemcache.Pool(size="256MiB", shards=4)

    def teardown(self) -> None:
        if hasattr(self, "pool"):
            assert self.pool.check() == []
            self.pool.close()

    def live(self, key: bytes) -> Entry | None:
        entry = self.model.get(key)
        if entry is not None and entry.deadline is not None and entry.deadline <= self.now:
            del self.model[key]
            return None
        return entry

    def store(self, key: bytes, value: bytes, ttl: float | None, tag: int) -> None:
        if ttl is not None and ttl <= 0:
            self.model.pop(key, None)
        else:
            self.model[key] = Entry(value, None if ttl is None else self.now + ttl, tag)

    @rule(half_hours=st.integers(0, 30))
    def wait(self, half_hours: int) -> None:
        seconds = HOUR / 2 * half_hours
        self.pool._attachment.advance_clock(seconds)
        self.now += seconds

    @rule(key=KEYS, value=VALUES, ttl=TTLS, tag=TAGS)
    def put(self, key: bytes, value: bytes, ttl: float | None, tag: int) -> None:
        assert self.pool.put(key, value, ttl_seconds=ttl, tag=tag)
        self.store(key, value, ttl, tag)

    @rule(key=KEYS, value=VALUES, only_if=st.sampled_from(["absent", "present"]), ttl=TTLS)
    def put_if(self, key: bytes, value: bytes, only_if: Any, ttl: float | None) -> None:
        holds = (self.live(key) is not None) == (only_if == "present")
        assert self.pool.put(key, value, only_if=only_if, ttl_seconds=ttl) is holds
        if holds:
            self.store(key, value, ttl, 0)

    @rule(key=KEYS)
    def remember_generation(self, key: bytes) -> None:
        entry, info = self.live(key), self.pool.info(key)
        assert (entry is None) == (info is None)
        if entry is not None and info is not None:
            assert entry.generation in {None, info.generation}
            entry.generation = info.generation

    # As many writes as no entry of this test has seen; 32 bits of it count.
    @rule(key=KEYS, value=VALUES, generation=st.integers(2**20, 2**32 - 1))
    def put_if_generation(self, key: bytes, value: bytes, generation: int) -> None:
        entry = self.live(key)
        known = None if entry is None else entry.generation
        stored = self.pool.put(key, value, only_if=known or generation)
        assert stored is (known is not None)
        if stored:
            self.store(key, value, None, 0)

    @rule(key=KEYS)
    def get(self, key: bytes) -> None:
        entry = self.live(key)
        assert self.pool.get(key) == (None if entry is None else entry.value)
        assert self.pool.get_tagged(key) == (None if entry is None else (entry.value, entry.tag))
        assert self.pool.exists(key) is (entry is not None)

    @rule(key=KEYS, offset=st.integers(0, 100), capacity=st.integers(0, 100))
    def get_into(self, key: bytes, offset: int, capacity: int) -> None:
        entry = self.live(key)
        buffer = bytearray(capacity)
        copied = self.pool.get_into(key, buffer, offset)
        if entry is None:
            assert copied is None
        else:
            expected = entry.value[offset : offset + capacity]
            assert copied == len(expected)
            assert buffer[:copied] == expected

    @rule(keys=st.lists(KEYS, max_size=8))
    def get_many(self, keys: list[bytes]) -> None:
        live = {key: self.live(key) for key in keys}
        expected = {key: entry.value for key, entry in live.items() if entry is not None}
        assert self.pool.get_many(keys) == expected

    @rule(entries=st.dictionaries(KEYS, st.tuples(VALUES, TAGS), max_size=5), ttl=TTLS)
    def put_many(self, entries: dict[bytes, tuple[bytes, int]], ttl: float | None) -> None:
        assert self.pool.put_many(entries, ttl_seconds=ttl) == []
        for key, (value, tag) in entries.items():
            self.store(key, value, ttl, tag)

    @rule(keys=st.sets(KEYS, max_size=5))
    def delete_many(self, keys: set[bytes]) -> None:
        there = [key for key in keys if self.live(key) is not None]
        assert self.pool.delete_many(keys) == len(there)
        for key in there:
            del self.model[key]

    @rule(key=KEYS)
    def delete(self, key: bytes) -> None:
        there = self.live(key) is not None
        assert self.pool.delete(key) is there
        self.model.pop(key, None)

    @rule(key=KEYS, ttl=TTLS)
    def touch(self, key: bytes, ttl: float | None) -> None:
        entry = self.live(key)
        assert self.pool.touch(key, ttl) is (entry is not None)
        if entry is not None:
            entry.deadline = None if ttl is None else self.now + ttl

    @rule(
        key=KEYS,
        delta=st.integers(-100, 100) | st.integers(INT64_MIN, INT64_MAX),
        initial=st.none() | st.integers(-5, 5),
        ttl=TTLS.filter(lambda ttl: ttl is None or ttl > 0),
    )
    def incr(self, key: bytes, delta: int, initial: int | None, ttl: float | None) -> None:
        entry = self.live(key)
        start = initial if entry is None else as_integer(entry.value)
        try:
            result = self.pool.incr(key, delta, initial=initial, ttl_seconds=ttl, tag=2)
        except pmemcache.NotAnIntegerError:
            assert entry is not None
            assert start is None
        except pmemcache.IntegerOverflowError:
            assert start is not None
            assert not INT64_MIN <= start + delta <= INT64_MAX
        else:
            assert result == (None if start is None else start + delta)
            if result is not None and entry is None:
                self.store(key, b"%d" % result, ttl, 2)
            elif result is not None and entry is not None:
                entry.value, entry.generation = b"%d" % result, None

    @rule(prefix=st.binary(max_size=2))
    def keys(self, prefix: bytes) -> None:
        expected = {key for key in list(self.model) if self.live(key) and key.startswith(prefix)}
        found = list(self.pool.keys(prefix))
        assert len(found) == len(set(found))
        assert set(found) == expected

    @rule()
    def clear(self) -> None:
        self.pool.clear()
        self.model.clear()

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def evict(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.model)))
        there = self.live(key) is not None
        assert (self.pool.evict(key) == key) or not there
        self.model.pop(key, None)

    @invariant()
    def nothing_was_evicted_or_damaged(self) -> None:
        if hasattr(self, "pool"):
            stats = self.pool.stats()
            assert stats.damaged == 0
            assert stats.recoveries == 0
            assert stats.rejected == 0


def as_integer(value: bytes) -> int | None:
    """Return what the engine may count from *value*: canonical decimal of 64 bits, else None."""
    try:
        number = int(value)
    except ValueError:
        return None
    canonical = b"%d" % number == value and INT64_MIN <= number <= INT64_MAX
    return number if canonical else None


@pytest.mark.parametrize("door", sorted(DOORS))
def test_pool_agrees_with_a_dict_with_deadlines(door: str) -> None:
    machine = type(f"{door.title()}DoorMachine", (PoolMachine,), {"door": door})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=30, stateful_step_count=40, deadline=None)
    )
