"""A pool that cannot serve is a miss and a line in the log; a delete that failed is loud."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pmemcache.errors import DamagedPoolError, LockTimeoutError, NoSpaceError, PmemCacheError
from pmemcache.faults import FailureLog
from pmemcache.integrations.django.options import PoolRequest
from pmemcache.integrations.django.sharing import SharedPool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pmemcache.integrations.django import PmemCache


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class BrokenPool:
    """Answers every call with one error."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def fail(*_: Any, **__: Any) -> Any:
            raise self._error

        return fail


@pytest.fixture(params=[LockTimeoutError("locked"), DamagedPoolError("damaged"), OSError("disk")])
def broken(
    request: pytest.FixtureRequest, cache: PmemCache, monkeypatch: pytest.MonkeyPatch
) -> PmemCache:
    pool = BrokenPool(request.param)
    monkeypatch.setattr(cache._shared.cache()._warm, "pool", pool)
    monkeypatch.setattr(cache._shared, "pool", lambda: pool)
    monkeypatch.setattr(cache._shared, "find", pool.find)
    return cache


def test_reads_are_misses_and_writes_are_dropped(
    broken: PmemCache, caplog: pytest.LogCaptureFixture
) -> None:
    assert broken.get("key", "missing") == "missing"
    assert broken.get_many(["key"]) == {}
    assert broken.has_key("key") is False
    assert "key" not in broken
    broken.set("key", 1)
    assert broken.set_many({"a": 1, "b": 2}) == ["a", "b"]
    assert broken.add("key", 1) is False
    assert broken.touch("key") is False
    assert broken.get_or_set("key", lambda: 5) == 5
    for count in (broken.incr, broken.decr, broken.incr_version, broken.decr_version):
        with pytest.raises(ValueError, match="Key 'key' not found"):
            count("key")
    assert "cache get failed and was answered as a miss" in caplog.text


def test_removal_that_may_not_have_happened_raises(broken: PmemCache) -> None:
    removals: list[Callable[[], Any]] = [
        lambda: broken.delete("key"),
        lambda: broken.delete_many(["key"]),
        lambda: broken.touch("key", 0),
        broken.clear,
    ]
    for remove in removals:
        with pytest.raises((PmemCacheError, OSError)):
            remove()


def test_log_has_one_line_a_minute_and_counts_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    log = FailureLog(clock=clock)
    for _ in range(5):
        log.report("get", LockTimeoutError("locked"))
    log.report("set", LockTimeoutError("locked"))
    clock.now += 61
    log.report("get", LockTimeoutError("locked"))

    assert len(caplog.records) == 3
    assert "(4 like it" in caplog.records[2].getMessage()


def test_failed_opening_is_tried_again_after_a_while(
    location: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    shared = SharedPool(PoolRequest.from_settings(location, {"size": "1MiB"}), clock)
    attempts: list[int] = []
    really_open = PoolRequest.open

    def fail_once(request: PoolRequest) -> Any:
        attempts.append(1)
        if len(attempts) == 1:
            message = "no room"
            raise NoSpaceError(message)
        return really_open(request)

    monkeypatch.setattr(PoolRequest, "open", fail_once)
    for _ in range(3):
        with pytest.raises(NoSpaceError):
            shared.pool()
    assert len(attempts) == 1

    clock.now += 6
    assert shared.cache() is shared.cache()
    assert len(attempts) == 2
    shared.close()


def test_pool_that_somebody_closed_is_opened_again(cache: PmemCache) -> None:
    cache.set("key", 1)
    cache._shared.pool().close()

    assert cache.get("key") is None
    cache.set("key", 2)
    assert cache.get("key") == 2
