"""A pool that cannot serve is a cache that misses, and never a request that fails."""

from __future__ import annotations

import inspect
import logging
import os
import pickle
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import pmemcache

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Make = Any


class Broken:
    """Stands for a method of a pool that fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, *_args: Any, **_options: Any) -> Any:
        raise self.error


@pytest.fixture(
    params=[pmemcache.DamagedPoolError, pmemcache.LockTimeoutError, pmemcache.SystemCallError]
)
def broken(
    cache: pmemcache.TieredCache,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> pmemcache.TieredCache:
    _break(cache, request.param("planted"), monkeypatch)
    return cache


def _break(cache: pmemcache.TieredCache, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [
        "get",
        "get_versioned",
        "put",
        "put_versioned",
        "put_if_version",
        "delete",
        "delete_many",
        "touch",
        "incr",
        "info",
        "clear",
        "bump",
        "lease_take",
        "lease_release",
        "lease_wait",
        "stats",
    ]:
        monkeypatch.setattr(cache.pool, name, Broken(error))
    monkeypatch.setattr(cache, "_get_versioned", Broken(error))


def test_reads_are_misses_and_writes_are_dropped(broken: pmemcache.TieredCache) -> None:
    assert broken.get("key", "default") == "default"
    assert broken.get_many(["a", "b"]) == {}
    assert not broken.set("key", 1)
    assert not broken.set("key", 1, tags=("t",))
    assert broken.set_many({"a": 1}) == ["a"]
    assert not broken.add("key", 1)
    assert not broken.touch("key", 1)
    assert broken.incr("key", initial=1) is None
    assert broken.get_or_load("key", lambda _key: "loaded") == "loaded"
    assert "key" not in broken
    assert broken.ttl("key") is None
    stats = broken.stats()
    assert stats.read_failures > 0
    assert stats.dropped_writes > 0
    assert stats.pool is None


@pytest.mark.parametrize(
    "delete",
    [
        lambda cache: cache.delete("key"),
        lambda cache: cache.delete_many(["key"]),
        lambda cache: cache.clear(),
        lambda cache: cache.clear("namespace"),
        lambda cache: cache.drop_tag("tag"),
    ],
)
def test_delete_that_cannot_be_made_true_raises(
    broken: pmemcache.TieredCache, delete: Callable[..., object]
) -> None:
    with pytest.raises(pmemcache.PmemCacheError, match="planted"):
        delete(broken)


def test_strict_raises(make_cache: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = make_cache(strict=True)
    _break(cache, pmemcache.LockTimeoutError("planted"), monkeypatch)
    for call in (
        lambda: cache.get("key"),
        lambda: cache.set("key", 1),
        lambda: cache.touch("key", 1),
        lambda: cache.incr("key"),
    ):
        with pytest.raises(pmemcache.LockTimeoutError):
            call()


def test_log_has_one_line_for_each_kind_of_failure(
    broken: pmemcache.TieredCache, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "pmemcache"):
        for _read in range(100):
            broken.get("key")
    assert len(caplog.records) == 1
    assert "planted" in caplog.text


def test_closed_cache_has_nothing(make_cache: Make) -> None:
    cache = make_cache()
    function = pmemcache.cached(cache=cache)(abs)
    assert function(-1) == 1
    most = cache.maxsize
    cache.close()
    assert function.cache_info() == (0, 1, None, 0)
    assert cache.count("") == {"hot": 0, "warm": 0}
    assert (len(cache), list(cache), dict(cache)) == (0, [], {})
    assert (cache.currsize, cache.maxsize) == (0, most)
    assert cache.stats().read_failures > 0
    strict = make_cache(strict=True)
    strict.close()
    for read in (len, list, lambda closed: closed.count(""), lambda closed: closed.currsize):
        with pytest.raises(pmemcache.PoolClosedError):
            read(strict)


def test_closed_cache_misses(make_cache: Make, heat: Callable[..., None]) -> None:
    cache = make_cache()
    cache.set("key", 1)
    heat(cache, "key")
    entry = cache._hot_entries["key"]
    cache.close()
    cache._hot_entries["key"] = entry
    assert cache.get("key") is None
    assert not cache.set("key", 1)
    assert cache.get_or_load("key", lambda _key: 2) == 2
    with pytest.raises(pmemcache.PoolClosedError):
        cache.delete("key")
    cache.close()


def test_pool_whose_file_was_cut_misses(make_cache: Make, tmp_path: Path, caplog: Any) -> None:
    cache = make_cache(tmp_path / "site.pool", policy="hot=1MiB,warm=1MiB")
    cache.set_many(dict.fromkeys(range(100), b"x" * 5000))
    os.truncate(tmp_path / "site.pool", 0)
    with caplog.at_level(logging.WARNING, "pmemcache"):
        assert [cache.get(number) for number in range(100)] == [None] * 100
        assert not cache.set(1, "new")
        assert cache.get_or_load(1, lambda _key: "loaded") == "loaded"
        with pytest.raises(pmemcache.PmemCacheError):
            cache.delete(1)
    assert cache.stats().dropped_writes > 0
    assert 0 < len(caplog.records) < 10


def test_pool_whose_file_was_removed_is_one_for_all_or_none(
    make_cache: Make, tmp_path: Path
) -> None:
    """Who has it goes on; nobody gets another pool of that name beside it."""
    path = tmp_path / "removed.pool"
    cache = make_cache(path)
    cache.set("key", 1)
    path.unlink()
    assert cache.get("key") == 1
    program = f"import pmemcache; pmemcache.TieredCache({str(path)!r}, policy='warm=16MiB')"
    other = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=False, text=True
    )
    assert other.returncode == 1
    assert "DamagedPoolError: removed.pool was removed while processes use the pool" in other.stderr
    assert not path.exists()
    cache.set("key", 2)
    assert cache.get("key") == 2


def test_value_that_can_never_fit_removes_the_old_one(make_cache: Make) -> None:
    cache = make_cache(policy="hot=1MiB,warm=1MiB")
    cache.set("key", "old")
    assert not cache.set("key", b"x" * 2_000_000)
    assert cache.get("key") is None


def test_wrong_arguments_raise(cache: pmemcache.TieredCache) -> None:
    for call in (
        lambda: cache.set("key", 1, "soon"),  # type: ignore[arg-type]
        lambda: cache.set("key", lambda: None),
        lambda: cache.set("k" * 70_000, 1),
        lambda: cache.get([]),
    ):
        with pytest.raises((TypeError, ValueError, AttributeError, pickle.PicklingError)):
            call()


async def _coroutine_function(key: str) -> str:
    return key


@pytest.mark.parametrize("policy", [None, "hot=1MiB,placement=hot-only"])
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda cache: cache.set("k", 1, float("nan")), ValueError, "ttl_seconds must be a finite"),
        (lambda cache: cache.add("k", 1, "x"), TypeError, "ttl_seconds must be a finite"),
        (lambda cache: cache.get_or_load("k", str, "x"), TypeError, "ttl_seconds must be a finite"),
        (lambda cache: cache.get_or_load("k", str, float("nan")), ValueError, "must be a finite"),
        (lambda cache: cache.set("k", 1, grace_seconds=-1), ValueError, "grace_seconds must be 0"),
        (lambda cache: cache.set("k", 1, grace_seconds="x"), TypeError, "a number of seconds"),
        (lambda cache: cache.get_or_load("k", str, 1, -1), ValueError, "grace_seconds must be 0"),
        (lambda cache: cache.get_or_load("k", None), TypeError, "a function of the key, not None"),
        (lambda cache: cache.refresh("k", 5), TypeError, "a function of the key, not int"),
        (lambda cache: cache.get_or_load("k", _coroutine_function), TypeError, "aget_or_load"),
    ],
)
def test_wrong_argument_is_named(
    make_cache: Make, call: Any, error: type[Exception], message: str, policy: str | None
) -> None:
    cache = make_cache(policy=policy)
    with pytest.raises(error, match=message):
        call(cache)
    assert "k" not in cache


def test_child_made_while_another_thread_holds_a_lock_goes_on(
    cache: pmemcache.TieredCache,
) -> None:
    function = pmemcache.cached(cache=cache, maxsize=5)(abs)
    function(-1)
    calls = inspect.getclosurevars(function).nonlocals["calls"]
    with calls._lock:
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            function(-1)
            cache._faults.read("reading", OSError("planted"))
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
