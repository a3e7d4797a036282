"""What a process keeps of its own is never older than what any process has written."""

from __future__ import annotations

import multiprocessing
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache.backends.base import CacheKeyWarning

from pmemcache import TieredCache
from pmemcache.integrations.django import PmemCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

MUTABLE: list[Any] = [{"a": 1}, [1, [2]], {1, 2}, bytearray(b"x"), ([],)]
IMMUTABLE: list[Any] = ["text", b"bytes", 7, 2.5, True, None, (1, ("a", b"b")), frozenset({1})]


LONGER_AND_LONGER = (0.2, 2.0, 20.0)
"""Timeouts in seconds: the next is for a machine too busy to make a copy within the last."""


class Worker:
    """Another process with a backend, and so with a hot tier, of its own."""

    def __init__(self, location: Path, options: dict[str, Any]) -> None:
        context = multiprocessing.get_context("fork")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, location, options), daemon=True)
        self._process.start()

    def __call__(self, operation: str, *arguments: Any) -> Any:
        """Do one operation of the backend there, and return what it returned."""
        self._here.send((operation, arguments))
        assert self._here.poll(30), "the worker does not answer"
        return self._here.recv()

    def stop(self) -> None:
        """End the process."""
        self._here.send(None)
        self._process.join(30)


def _serve(there: Connection, location: Path, options: dict[str, Any]) -> None:
    cache = PmemCache(location, {"OPTIONS": options})
    for operation, arguments in iter(there.recv, None):
        there.send(getattr(cache, operation)(*arguments))


@pytest.fixture
def worker(location: Path) -> Iterator[Worker]:
    worker = Worker(location, {})
    yield worker
    worker.stop()


def _do(side: PmemCache | Worker, operation: str, *arguments: Any) -> Any:
    if isinstance(side, Worker):
        return side(operation, *arguments)
    return getattr(side, operation)(*arguments)


def _heat(side: PmemCache | Worker, key: str) -> Any:
    """Read *key* until it is hot; return its value."""
    return [_do(side, "get", key) for _ in range(4)][-1]


def _hot_keys(cache: PmemCache) -> set[Any]:
    return set(cache._shared.hot)


def test_what_is_read_again_is_kept_hot(cache: PmemCache) -> None:
    cache.set("key", "value")
    assert _hot_keys(cache) == set()

    assert _heat(cache, "key") == "value"
    assert _hot_keys(cache) == {":1:key"}
    assert cache._shared.cache().stats().hot_hits > 0


def test_without_a_hot_size_nothing_is_kept(make_cache: Callable[..., PmemCache]) -> None:
    cache = make_cache(hot_size=0)
    cache.set("key", "value")

    assert _heat(cache, "key") == "value"
    assert _hot_keys(cache) == set()


def test_hot_size_is_the_most_that_is_kept(make_cache: Callable[..., PmemCache]) -> None:
    cache = make_cache(hot_size="64KiB")
    for number in range(100):
        cache.set(f"key{number}", "x" * 2000)
        _heat(cache, f"key{number}")

    stats = cache._shared.cache().stats()
    assert 0 < stats.hot_bytes <= 64 * 1024


def test_aliases_and_threads_share_one_hot_tier(make_cache: Callable[..., PmemCache]) -> None:
    make_cache().set("key", "value")
    found: list[Any] = []
    for _ in range(4):
        thread = threading.Thread(target=lambda: found.append(make_cache().get("key")))
        thread.start()
        thread.join()

    assert found == ["value"] * 4
    assert make_cache(params={"VERSION": 1})._shared.hot.keys() == {":1:key"}


@pytest.mark.parametrize("value", MUTABLE, ids=repr)
def test_mutable_values_are_never_shared(cache: PmemCache, value: Any) -> None:
    cache.set("key", value)
    _heat(cache, "key")

    assert cache.get("key") == value
    assert cache.get("key") is not cache.get("key")


@pytest.mark.parametrize("value", IMMUTABLE, ids=repr)
def test_immutable_values_are_shared(cache: PmemCache, value: Any) -> None:
    cache.set("key", value)
    _heat(cache, "key")

    assert cache.get("key", "missing") == value
    assert cache.get("key") is cache.get("key")


@pytest.mark.parametrize("value", ["new", {"new": [1]}], ids=repr)
def test_set_of_another_process_is_seen_by_the_next_get(
    cache: PmemCache, worker: Worker, value: Any
) -> None:
    cache.set("key", "old")
    assert _heat(cache, "key") == _heat(worker, "key") == "old"

    worker("set", "key", value)
    assert cache.get("key") == value
    cache.set("key", "newer")
    assert worker("get", "key") == "newer"


def test_every_write_is_seen_while_both_read_and_write(cache: PmemCache, worker: Worker) -> None:
    cache.set("key", -1)
    _heat(cache, "key")
    for number in range(300):
        writer, reader = (worker, cache) if number % 2 else (cache, worker)
        _do(writer, "set", "key", number)
        assert _do(reader, "get", "key") == number


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("delete", ("key",)),
        ("delete_many", (["key", "other"],)),
        ("clear", ()),
        ("touch", ("key", 0)),
        ("set", ("key", "value", 0)),
        ("incr_version", ("key",)),
    ],
)
def test_what_another_process_removed_is_gone(
    cache: PmemCache, worker: Worker, operation: str, arguments: tuple[Any, ...]
) -> None:
    cache.set("key", "value")
    assert _heat(cache, "key") == "value"

    worker(operation, *arguments)
    assert cache.get("key") is None
    assert cache.get_many(["key"]) == {}


def test_counting_of_another_process_is_seen(cache: PmemCache, worker: Worker) -> None:
    cache.set("key", 1)
    assert _heat(cache, "key") == 1

    assert worker("incr", "key") == 2
    assert cache.get("key") == 2
    assert cache.decr("key", 5) == -3
    assert worker("get", "key") == -3


def test_hot_copy_ends_with_its_timeout(cache: PmemCache) -> None:
    for seconds in LONGER_AND_LONGER:
        cache.set("key", "value", seconds)
        if _heat(cache, "key") == "value":
            break
    time.sleep(seconds + 0.05)

    assert cache.get("key") is None


def test_timeout_given_by_another_process_counts(cache: PmemCache, worker: Worker) -> None:
    cache.set("shorter", "value", 1000)
    assert _heat(cache, "shorter") == "value"
    for seconds in LONGER_AND_LONGER:
        cache.set("longer", "value", seconds)
        if _heat(cache, "longer") == "value" and worker("touch", "longer", 1000):
            break
    worker("touch", "shorter", 0.1)
    time.sleep(seconds + 0.05)

    assert cache.get("longer") == "value"
    assert cache.get("shorter") is None


def test_what_max_entries_gave_up_is_no_hit(make_cache: Callable[..., PmemCache]) -> None:
    cache = make_cache(MAX_ENTRIES=10, CULL_FREQUENCY=0)
    for number in range(10):
        cache.set(f"key{number}", number)
        _heat(cache, f"key{number}")
    cache.set("more", 1)

    assert [cache.get(f"key{number}") for number in range(10)] == [None] * 10


def test_value_of_a_tiered_cache_on_the_pool_is_read_with_its_tags(cache: PmemCache) -> None:
    with TieredCache(cache._shared.pool()) as tiered:
        tiered.set(":1:key", "value", tags=("city",))
        assert cache.get_many(["key"]) == {"key": "value"}
        assert _heat(cache, "key") == "value"
        tiered.drop_tag("city")

    assert cache.get("key") is None
    assert cache.get_many(["key"]) == {}


def test_key_that_is_warned_of_is_warned_of_each_time(cache: PmemCache) -> None:
    for _ in range(4):
        with pytest.warns(CacheKeyWarning):
            cache.set("a b", 1)
        with pytest.warns(CacheKeyWarning):
            assert cache.get("a b") == 1
