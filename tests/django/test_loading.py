"""`get_or_set` that loads once per host, and functions with an alias of `CACHES` before them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import multiprocessing
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches

from pmemcache.errors import LockTimeoutError
from pmemcache.integrations.django import PmemCache

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_django.fixtures import SettingsWrapper


@pytest.fixture
def once(make_cache: Callable[..., PmemCache]) -> PmemCache:
    """Return a cache with single flight."""
    return make_cache(single_flight=True)


def _ask_together(count: int, ask: Callable[[], Any]) -> list[Any]:
    start = threading.Barrier(count)
    answers: list[Any] = []

    def run() -> None:
        start.wait(30)
        try:
            answers.append(ask())
        except ValueError as error:
            answers.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_concurrent_misses_load_once(make_cache: Callable[..., PmemCache]) -> None:
    calls: list[int] = []

    def load() -> str:
        calls.append(1)
        time.sleep(0.1)
        return "value"

    answers = _ask_together(
        8, lambda: make_cache(single_flight=True).get_or_set("key", load, timeout=60)
    )
    assert answers == ["value"] * 8
    assert len(calls) == 1


def test_concurrent_misses_load_each_without_it(make_cache: Callable[..., PmemCache]) -> None:
    calls: list[int] = []
    together = threading.Barrier(4, timeout=20)

    def load() -> str:
        calls.append(1)
        together.wait()
        return "value"

    _ask_together(4, lambda: make_cache().get_or_set("key", load))
    assert len(calls) == 4


def _ask_in_process(location: Path, calls: Any, start: Any, answers: Any) -> None:
    def load() -> str:
        with calls.get_lock():
            calls.value += 1
        time.sleep(0.2)
        return "value"

    cache = PmemCache(location, {"OPTIONS": {"single_flight": True}})
    start.wait(30)
    answers.put(cache.get_or_set("key", load))


def test_processes_load_once(location: Path, once: PmemCache) -> None:
    assert once.get("key") is None
    context = multiprocessing.get_context("fork")
    calls, start, answers = context.Value("i", 0), context.Barrier(4), context.Queue()
    processes = [
        context.Process(target=_ask_in_process, args=(location, calls, start, answers))
        for _ in range(4)
    ]
    for process in processes:
        process.start()
    assert [answers.get(timeout=30) for _ in processes] == ["value"] * 4
    for process in processes:
        process.join(30)
    assert calls.value == 1


def test_error_of_the_default_reaches_all_and_is_not_remembered(once: PmemCache) -> None:
    def fail() -> Any:
        time.sleep(0.05)
        message = "no such city"
        raise ValueError(message)

    answers = _ask_together(3, lambda: once.get_or_set("key", fail))
    assert [str(answer) for answer in answers] == ["no such city"] * 3
    assert once.get_or_set("key", 5) == 5


class OddError(ValueError):
    """Cannot be sent to another process."""

    def __reduce__(self) -> Any:
        message = "not this one"
        raise TypeError(message)


@pytest.mark.parametrize("serializer", ["plain", "json"])
@pytest.mark.parametrize("error", [KeyError("no"), ConnectionError("down"), OddError("odd")])
def test_who_waits_gets_the_error_of_the_one_who_computes(
    make_cache: Callable[..., PmemCache],
    caplog: pytest.LogCaptureFixture,
    serializer: str,
    error: Exception,
) -> None:
    cache = make_cache(single_flight=True, serializer=serializer)
    began, calls = threading.Event(), []

    def fail() -> Any:
        calls.append(1)
        began.set()
        deadline = time.monotonic() + 30
        while (
            len(calls) == 1
            and not cache._shared.cache().stats().load_waits
            and time.monotonic() < deadline
        ):
            time.sleep(0.005)
        raise error

    def ask() -> Any:
        try:
            return cache.get_or_set("key", fail)
        except (KeyError, ConnectionError, OddError) as raised:
            return raised

    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(ask)
        assert began.wait(30)
        second = pool.submit(ask)
        assert first.result(30) is error
        told = second.result(30)
    assert repr(told) == repr(error)
    is_sent = serializer == "plain" and not isinstance(error, OddError)
    assert len(calls) == (1 if is_sent else 2)  # what cannot be sent is met by each
    assert "failed" not in caplog.text


def test_error_of_the_default_is_not_taken_for_one_of_the_pool(
    once: PmemCache, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    def fail() -> Any:
        calls.append(1)
        message = "the service behind is down"
        raise OSError(message)

    with pytest.raises(OSError, match="behind is down"):
        once.get_or_set("key", fail)
    with pytest.raises(OSError, match="behind is down"):
        asyncio.run(once.aget_or_set("key", fail))
    assert len(calls) == 2
    assert "failed" not in caplog.text


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_default_is_called_once_though_the_pool_cannot_serve(
    once: PmemCache, monkeypatch: pytest.MonkeyPatch, when: str, *, is_async: bool
) -> None:
    calls: list[int] = []
    message = "locked"

    def load_missing(_key: Any, loader: Any, *_: Any, **__: Any) -> Any:
        if when == "after":
            loader(None)
        raise LockTimeoutError(message)

    async def aload_missing(_key: Any, loader: Any, *_: Any, **__: Any) -> Any:
        if when == "after":
            await loader(None)
        raise LockTimeoutError(message)

    def load() -> int:
        calls.append(1)
        return 5

    cache = once._shared.cache()
    monkeypatch.setattr(cache, "load_missing", load_missing)
    monkeypatch.setattr(cache, "aload_missing", aload_missing)
    if is_async:
        assert asyncio.run(once.aget_or_set("key", load)) == 5
    else:
        assert once.get_or_set("key", load) == 5
    assert len(calls) == 1


def test_delete_during_a_load_is_not_undone(once: PmemCache) -> None:
    def load() -> str:
        once.delete("key")
        return "old"

    assert once.get_or_set("key", load) == "old"
    assert once.get("key") is None


def test_timeout_of_what_is_loaded(make_cache: Callable[..., PmemCache]) -> None:
    once = make_cache(params={"TIMEOUT": 40}, single_flight=True)
    once.get_or_set("default", 1)
    once.get_or_set("own", 1, 20)
    once.get_or_set("forever", 1, None)
    once.get_or_set("none", 1, 0)

    assert once.ttl("default") == pytest.approx(40, abs=5)
    assert once.ttl("own") == pytest.approx(20, abs=5)
    assert (once.ttl("forever"), once.ttl("none")) == (None, 0)


@pytest.mark.parametrize("options", [{}, {"single_flight": True}], ids=str)
def test_coroutine_function_is_awaited(
    make_cache: Callable[..., PmemCache], options: dict[str, Any]
) -> None:
    cache = make_cache(**options)
    threads: list[threading.Thread] = []

    async def load() -> str:
        await asyncio.sleep(0)
        return "awaited"

    def load_in_place() -> str:
        threads.append(threading.current_thread())
        return "in place"

    async def use() -> None:
        assert await cache.aget_or_set("a", load) == "awaited"
        assert await cache.aget_or_set("a", load_in_place) == "awaited"
        assert await cache.aget_or_set("b", load_in_place) == "in place"
        assert await cache.aget_or_set("c", 3) == 3

    asyncio.run(use())
    assert cache.get_many("abc") == {"a": "awaited", "b": "in place", "c": 3}
    assert threads == [threading.main_thread()]


# Functions


@pytest.fixture
def entry(location: Path, settings: SettingsWrapper) -> dict[str, Any]:
    """Return the entry of `CACHES` whose alias is `default`."""
    entry = {
        "BACKEND": "pmemcache.integrations.django.PmemCache",
        "LOCATION": str(location),
        "TIMEOUT": 40,
    }
    other = entry | {"KEY_PREFIX": "own", "OPTIONS": {"namespace": "own"}}
    settings.CACHES = {"default": entry, "own": other}
    return entry


@pytest.mark.usefixtures("entry")
def test_cached_function_is_remembered_in_the_alias() -> None:
    calls: list[int] = []

    @caches["default"].cached(tags=lambda city: (f"city:{city}",))
    def price(city: int, currency: str = "EUR") -> tuple[int, str]:
        calls.append(city)
        return city, currency

    for _ in range(4):
        assert price(7) == price(city=7) == price(7, "EUR") == (7, "EUR")
    assert calls == [7]
    assert price.__wrapped__(8) == (8, "EUR")
    (key,) = caches["default"].keys("*price*")
    assert caches["default"].ttl(key) == pytest.approx(40, abs=5)
    assert price.cache_info().currsize == 1

    caches["default"].invalidate("city:7")
    price(7)
    assert price.invalidate(7) is True
    price(7)
    price.cache_clear()
    price(7)
    assert price.refresh(7) == (7, "EUR")
    caches["default"].clear()
    price(7)
    assert calls == [7, 8, *[7] * 5]


@pytest.mark.usefixtures("entry")
def test_cached_function_keeps_to_its_alias() -> None:
    calls: list[str] = []

    def count() -> int:
        calls.append("call")
        return len(calls)

    one = caches["default"].cached(count, name="count")
    other = caches["own"].cached(count, name="count", timeout=20)
    assert (one(), other(), one(), other()) == (1, 2, 1, 2)
    caches["own"].clear()
    assert (one(), other()) == (1, 3)
    (key,) = caches["own"].keys()
    assert caches["own"].ttl(key) == pytest.approx(20, abs=5)


@pytest.mark.usefixtures("entry")
def test_cached_coroutine_function_is_awaited_once() -> None:
    calls: list[str] = []

    @caches["default"].cached
    async def weather(city: str) -> str:
        calls.append(city)
        await asyncio.sleep(0.01)
        return f"sun in {city}"

    async def use() -> list[str]:
        return await asyncio.gather(*(weather("Rome") for _ in range(5)))

    assert inspect.iscoroutinefunction(weather)
    assert asyncio.run(use()) == ["sun in Rome"] * 5
    assert asyncio.run(weather.refresh("Rome")) == "sun in Rome"
    assert calls == ["Rome", "Rome"]


def test_cached_function_goes_on_with_what_its_alias_is_now(
    entry: dict[str, Any], settings: SettingsWrapper, tmp_path: Path
) -> None:
    calls: list[int] = []

    @caches["default"].cached
    def count() -> int:
        calls.append(1)
        return len(calls)

    assert (count(), count()) == (1, 1)
    settings.CACHES = {"default": entry | {"LOCATION": str(tmp_path / "other.pool")}}
    assert (count(), count()) == (2, 2)
    assert caches["default"].keys() != []
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
    assert (count(), count()) == (3, 4)
    assert count.invalidate() is False
    count.cache_clear()
    assert count.cache_info().currsize == 0
    assert count.refresh() == 5
    settings.CACHES = {"default": entry}
    assert (count(), count()) == (6, 6)  # the pool went with its last user


@pytest.mark.usefixtures("entry")
def test_cached_function_is_computed_while_the_pool_cannot_serve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @caches["default"].cached
    def answer() -> int:
        return 42

    @caches["default"].cached
    async def aanswer() -> int:
        return 43

    def fail(*_: Any) -> Any:
        message = "locked"
        raise LockTimeoutError(message)

    shared = caches["default"]._shared
    monkeypatch.setattr(shared, "cache", fail)
    monkeypatch.setattr(shared, "find", fail)
    assert answer() == 42
    assert answer.refresh() == 42
    assert asyncio.run(aanswer()) == 43
    with pytest.raises(LockTimeoutError):
        answer.cache_clear()


@pytest.mark.parametrize("wrong", [{"cache": None}, {"ttl_seconds": 5}])
def test_options_that_the_alias_has_are_refused(cache: PmemCache, wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=f"{next(iter(wrong))}= is not for"):
        cache.cached(**wrong)
