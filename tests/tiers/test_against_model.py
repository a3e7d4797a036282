"""A tiered cache does what a dict with deadlines does, whichever tier answers."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

import pmemcache

KEYS = st.sampled_from(["a", "b", b"a", 1, 1.0, (1, "x"), "c", "d"])
VALUES = (
    st.integers(-(2**70), 2**70)
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.none()
    | st.lists(st.integers(), max_size=2)
)
TTLS = st.none() | st.integers(1, 20).map(lambda n: 100 * n)
TAGS = st.lists(st.sampled_from(["s", "t"]), max_size=2, unique=True)
NAMESPACES = st.none() | st.sampled_from(["n", "m"])
POLICIES = [
    {"hot": "4KiB", "promotion": 1, "warm": "64MiB"},
    {"hot": "1MiB", "warm": "64MiB"},
    {"placement": "warm-only", "warm": "64MiB"},
]


class Entry:
    def __init__(self, value: Any, deadline: float | None, groups: set[str]) -> None:
        self.value = value
        self.deadline = deadline
        self.groups = groups


class CacheMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.model: dict[Any, Entry] = {}

    @initialize(policy=st.sampled_from(POLICIES), compressed=st.booleans(), signed=st.booleans())
    def open(self, policy: dict[str, Any], compressed: bool, signed: bool) -> None:  # noqa: FBT001
        self.cache = pmemcache.TieredCache(
            None,
            policy=policy,
            clock=lambda: self.now,
            compression=pmemcache.Compression(threshold_bytes=3) if compressed else None,
            signer=pmemcache.Signer(b"s" * 16) if signed else None,
        )

    def teardown(self) -> None:
        if hasattr(self, "cache"):
            assert self.cache.stats().undecodable == 0
            assert self.cache.pool.check() == []
            self.cache.close()

    def name(self, key: Any) -> Any:
        return key.decode() if isinstance(key, bytes) else key

    def live(self, key: Any) -> Entry | None:
        entry = self.model.get(self.name(key))
        if entry is not None and entry.deadline is not None and entry.deadline <= self.now:
            del self.model[self.name(key)]
            return None
        return entry

    def store(self, key: Any, value: Any, ttl: float | None, groups: set[str]) -> None:
        deadline = None if ttl is None else self.now + ttl
        self.model[self.name(key)] = Entry(value, deadline, groups)

    @rule(seconds=st.integers(0, 15).map(lambda n: 100 * n + 50))
    def wait(self, seconds: int) -> None:
        self.cache.pool._attachment.advance_clock(seconds)
        self.now += seconds

    @rule(key=KEYS, value=VALUES, ttl=TTLS, tags=TAGS, namespace=NAMESPACES, grace=st.booleans())
    def set(  # noqa: PLR0913, PLR0917 - what hypothesis draws
        self,
        key: Any,
        value: Any,
        ttl: float | None,
        tags: list[str],
        namespace: str | None,
        grace: bool,  # noqa: FBT001
    ) -> None:
        seconds = 1000 if grace else 0
        assert self.cache.set(
            key, value, ttl, tags=tags, namespace=namespace, grace_seconds=seconds
        )
        self.store(key, value, ttl, {*tags, f"namespace {namespace}"})

    @rule(key=KEYS, value=VALUES, ttl=TTLS)
    def add(self, key: Any, value: Any, ttl: float | None) -> None:
        there = self.live(key) is not None
        assert self.cache.add(key, value, ttl) is not there
        if not there:
            self.store(key, value, ttl, set())

    @rule(key=KEYS, reads=st.integers(1, 3))
    def get(self, key: Any, reads: int) -> None:
        entry = self.live(key)
        for _read in range(reads):
            found = self.cache.get(key, "missing")
            assert found == ("missing" if entry is None else entry.value)
            assert entry is None or type(found) is type(entry.value)
            if isinstance(found, list):
                found.append("changed by the caller")
        assert (key in self.cache) is (entry is not None)

    @rule(keys=st.lists(KEYS, max_size=6))
    def get_many(self, keys: list[Any]) -> None:
        live = {key: self.live(key) for key in keys}
        expected = {key: entry.value for key, entry in live.items() if entry is not None}
        assert self.cache.get_many(keys) == expected

    @rule(key=KEYS, value=VALUES, ttl=TTLS)
    def get_or_load(self, key: Any, value: Any, ttl: float | None) -> None:
        entry = self.live(key)
        stale = self.cache._warm.read(pmemcache.keys.pool_key(key))
        found = self.cache.get_or_load(key, lambda _key: value, ttl)
        if entry is not None:
            assert found == entry.value
        else:
            assert found == value
            assert stale is None or stale.fresh_ms is not None
            self.store(key, value, ttl, set())

    @rule(key=KEYS)
    def delete(self, key: Any) -> None:
        there = self.live(key) is not None
        assert self.cache.delete(key) or not there
        self.model.pop(self.name(key), None)

    @rule(key=KEYS, ttl=TTLS)
    def touch(self, key: Any, ttl: float | None) -> None:
        entry = self.live(key)
        assert self.cache.touch(key, ttl) is (entry is not None)
        if entry is not None:
            entry.deadline = None if ttl is None else self.now + ttl

    @rule(key=KEYS, delta=st.integers(-5, 5))
    def incr(self, key: Any, delta: int) -> None:
        entry = self.live(key)
        value = None if entry is None else entry.value
        try:
            total = self.cache.incr(key, delta)
        except (pmemcache.NotAnIntegerError, pmemcache.IntegerOverflowError):
            assert entry is not None
            assert type(value) is not int or not -(2**63) <= value + delta < 2**63
        else:
            assert total == (None if entry is None else value + delta)
            if entry is not None:
                entry.value = total

    @rule(tag=st.sampled_from(["s", "t"]))
    def drop_tag(self, tag: str) -> None:
        self.cache.drop_tag(tag)
        self.drop(tag)

    @rule(namespace=st.sampled_from(["n", "m"]))
    def clear_namespace(self, namespace: str) -> None:
        self.cache.clear(namespace)
        self.drop(f"namespace {namespace}")

    def drop(self, group: str) -> None:
        self.model = {key: entry for key, entry in self.model.items() if group not in entry.groups}

    @rule()
    def clear(self) -> None:
        self.cache.clear()
        self.model.clear()


TestCacheAgainstModel = CacheMachine.TestCase
TestCacheAgainstModel.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
