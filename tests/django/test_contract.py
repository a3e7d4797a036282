"""What Django, and the tools that watch it, rely on beyond the results of calls."""

from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
import threading
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from django.core import signals
from django.core.cache import CacheKeyWarning, caches
from django.core.cache.backends.base import BaseCache, InvalidCacheKey

from pmemcache.integrations.django import PmemCache
from pmemcache.integrations.django.sharing import forget_pools

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_django.fixtures import SettingsWrapper

# What is called with what; `decr_version` needs the entry in version 2.
CALLS: dict[str, tuple[Any, ...]] = {
    "set": ("key", 1),
    "get": ("key",),
    "add": ("key", 1),
    "get_or_set": ("new", 1),
    "get_many": (["key"],),
    "set_many": ({"key": 1},),
    "has_key": ("key",),
    "incr": ("key",),
    "decr": ("key",),
    "incr_version": ("key",),
    "decr_version": ("key", 1, 2),
    "touch": ("key",),
    "expire": ("key", 10),
    "expire_at": ("key", 4e9),
    "ttl": ("key",),
    "pttl": ("key",),
    "persist": ("key",),
    "keys": (),
    "pop": ("key",),
    "delete": ("key",),
    "delete_many": (["key"],),
    "delete_pattern": ("*",),
    "invalidate": ("tag",),
    "clear": (),
}
# Of keys and arguments, not operations.
INHERITED = {"get_backend_timeout", "make_key", "validate_key", "make_and_validate_key"}
SYNC_ONLY: dict[str, tuple[Any, ...]] = {
    "lock": ("key",),
    "generations": ("tag",),
    "iter_keys": (),
    "cached": (lambda: 1,),
}


@pytest.mark.django_db  # its other receivers look at the connection
def test_request_finished_closes_every_backend_and_keeps_what_they_hold(
    location: Path, settings: SettingsWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[BaseCache] = []
    close = PmemCache.close

    def note(self: PmemCache, **kwargs: Any) -> None:
        closed.append(self)
        close(self, **kwargs)

    monkeypatch.setattr(PmemCache, "close", note)
    entry = {"BACKEND": "pmemcache.integrations.django.PmemCache", "LOCATION": str(location)}
    settings.CACHES = {"default": entry, "second": entry, "unused": entry}
    caches["default"].set("key", 1)
    backends = [caches["default"], caches["second"]]
    pool = backends[0]._shared.pool()
    for _ in range(2):  # of two requests
        signals.request_finished.send(object)

    assert closed == backends * 2
    assert backends[0].get("key") == backends[1].get("key") == 1
    assert backends[0]._shared.pool() is pool
    assert not pool.closed


def test_overriding_caches_rebuilds_backends_with_the_new_settings(
    location: Path, settings: SettingsWrapper
) -> None:
    entry = {"BACKEND": "pmemcache.integrations.django.PmemCache", "LOCATION": str(location)}
    settings.CACHES = {"default": entry}
    caches["default"].set("key", 1)
    old = caches["default"]
    pool = old._shared.pool()
    settings.CACHES = {"default": entry | {"TIMEOUT": 7, "OPTIONS": {"size": "3MiB"}}}

    assert pool.closed
    assert caches["default"] is not old
    assert caches["default"].get("key") is None  # a volatile pool ends with its last user
    caches["default"].set("key", 1)
    assert caches["default"].ttl("key") == pytest.approx(7, abs=5)
    assert caches["default"]._shared.pool().options.size_bytes == 3 * 2**20
    settings.DEBUG = True  # another setting closes nothing
    assert caches["default"].get("key") == 1


@pytest.mark.parametrize("name", [*CALLS, *SYNC_ONLY])
def test_every_method_is_a_function_of_the_class_with_its_async_form(name: str) -> None:
    # Django 6.1 looks at `self.get_many.__func__` and the like.
    assert inspect.isfunction(vars(PmemCache)[name])
    if name in CALLS:
        form = vars(PmemCache)[f"a{name}"]
        assert inspect.iscoroutinefunction(form)
        sync = inspect.signature(vars(PmemCache)[name])
        assert inspect.signature(form).parameters == sync.parameters


def test_every_operation_of_djangos_is_replaced() -> None:
    """An inherited one would run several operations where ours is one, or run in a thread."""
    operations = {name for name in vars(BaseCache) if not name.startswith("_")} - INHERITED

    assert operations <= set(vars(PmemCache))
    assert operations - {"close", "aclose"} <= {*CALLS, *(f"a{name}" for name in CALLS)}


@pytest.mark.parametrize("namespace", [{}, {"namespace": "n", "single_flight": True}], ids=str)
def test_no_method_calls_another_public_one(
    make_cache: Callable[..., PmemCache], namespace: dict[str, Any]
) -> None:
    """Debug-toolbar and Sentry replace methods of the instance, and would count twice."""
    cache = make_cache(**namespace)
    counts: dict[str, int] = {}

    def watched(name: str, method: Any) -> Any:
        @functools.wraps(method)
        def call(*arguments: Any, **options: Any) -> Any:
            counts[name] = counts.get(name, 0) + 1
            return method(*arguments, **options)

        return call

    for name in [*CALLS, *SYNC_ONLY]:
        setattr(cache, name, watched(name, getattr(cache, name)))
    for name in CALLS:
        setattr(cache, f"a{name}", watched(f"a{name}", getattr(cache, f"a{name}")))

    async def call_async(name: str, arguments: tuple[Any, ...]) -> None:
        await getattr(cache, f"a{name}")(*arguments)

    for name, arguments in (CALLS | SYNC_ONLY).items():
        cache._set("key", 1, 60, None)
        cache._set("key", 1, 60, 2)
        getattr(cache, name)(*arguments)
        assert counts == {name: 1}
        counts.clear()
    for name, arguments in CALLS.items():
        cache._set("key", 1, 60, None)
        cache._set("key", 1, 60, 2)
        asyncio.run(call_async(name, arguments))
        assert counts == {f"a{name}": 1}
        counts.clear()


def test_pickling_happens_outside_any_lock(make_cache: Callable[..., PmemCache]) -> None:
    """While a value is being pickled, another thread reads and writes under every key."""
    options: dict[str, Any] = {"shards": 1, "lock_timeout_seconds": 60.0}
    cache = make_cache(**options)
    found: list[Any] = []

    class Slow:
        def __reduce__(self) -> Any:
            thread = threading.Thread(target=other)
            thread.start()
            thread.join(20)
            found.append(not thread.is_alive())
            return int, (7,)

    def other() -> None:
        for key in ("key", "other"):
            make_cache(**options).set(key, 1)
            make_cache(**options).get(key)

    cache.set("key", Slow())
    cache.set("key", Slow(), tags=("tag",))
    cache.add("absent", Slow())
    cache.set_many({"key": Slow(), "other": 1})
    cache.get_or_set("loaded", Slow)
    assert found == [True] * 5
    assert cache.get("loaded") == 7


def test_failed_set_removes_the_old_value_with_every_option(
    make_cache: Callable[..., PmemCache],
) -> None:
    """Ticket 16358: or the caller goes on reading what it meant to replace."""
    for options in ({}, {"namespace": "n"}, {"eviction": "none", "size": "1MiB"}):
        cache = make_cache(**({"size": "1MiB"} | options))
        for form in ({}, {"xx": True}, {"tags": ("t",)}):
            cache.set("key", "old")
            assert cache.set("key", bytes(2**22), **form) is False
            assert cache.get("key", "gone") == "gone"
        forget_pools(setting="CACHES")


@pytest.mark.parametrize("timeout", [0, -1])
def test_touch_that_is_over_drops_the_key_and_says_it_was_there(
    cache: PmemCache, timeout: int
) -> None:
    cache.set("key", 1)
    for _ in range(3):
        cache.get("key")

    assert cache.touch("key", timeout) is True
    assert cache.get("key") is None
    assert cache.touch("key", timeout) is False


def test_counting_keeps_the_deadline(cache: PmemCache) -> None:
    cache.set("key", 1, 1000)
    before = cache.pttl("key")
    cache.incr("key", 5)
    cache.decr("key", 2)
    cache.incr_version("key")
    left = cache.pttl("key", version=2)

    assert before is not None
    assert left is not None
    assert before - 5000 < left <= before
    assert cache.get("key", version=2) == 4


WARNED = ["sp ace", "tab\t", "\x7f", "x" * 251]


@pytest.mark.parametrize("key", WARNED, ids=ascii)
def test_warnings_about_keys_can_be_turned_off(
    make_cache: Callable[..., PmemCache], key: str
) -> None:
    with pytest.warns(CacheKeyWarning):
        make_cache().set(key, 1)
    quiet = make_cache(WARN_KEYS=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quiet.set(key, 2)
        for _ in range(4):
            assert quiet.get(key) == 2
        assert quiet.get_many([key, "other"]) == {key: 2}
        quiet.set_many({key: 3})
        assert quiet.incr(key) == 4
        assert quiet.delete(key) is True


def test_key_that_no_pool_can_hold_is_refused_though_nothing_is_warned_of(
    make_cache: Callable[..., PmemCache],
) -> None:
    quiet = make_cache(WARN_KEYS=False)
    for key in ("x" * 70_000, "é" * 40_000):
        with pytest.raises(InvalidCacheKey):
            quiet.set(key, 1)
    for key in ("x" * 60_000, "é" * 20_000, "\ud800"):
        quiet.set(key, key)
        assert quiet.get(key) == key


def test_rules_of_a_subclass_hold_though_nothing_is_warned_of(location: Path) -> None:
    class Strict(PmemCache):
        def validate_key(self, key: Any) -> None:
            raise InvalidCacheKey(key)

    with pytest.raises(InvalidCacheKey):
        Strict(location, {"OPTIONS": {"WARN_KEYS": False}}).get("plain")


@pytest.mark.parametrize("serializer", ["plain", "pickle", "json", "msgpack"])
def test_values_are_read_whatever_serializer_wrote_them(
    make_cache: Callable[..., PmemCache], serializer: str
) -> None:
    value = {"a": [1, 2.5, None, "text"], "b": {"c": True}}
    cache = make_cache(serializer=serializer)
    cache.set("key", value)
    stored = cache._shared.pool().get_tagged(cache.make_key("key"))

    assert stored is not None
    assert stored[1] == {"plain": 6, "pickle": 3, "json": 4, "msgpack": 5}[serializer]
    for _ in range(4):
        assert cache.get("key") == value
    cache._shared.pool().put(cache.make_key("old"), pickle.dumps(value), tag=3)
    assert cache.get("old") == value
