"""Aliases of one pool that are cleared alone."""

from __future__ import annotations

import multiprocessing
import threading
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import CacheKeyWarning
from django.core.exceptions import ImproperlyConfigured

from pmemcache.integrations.django import PmemCache
from pmemcache.integrations.django.namespaces import Namespace
from pmemcache.integrations.django.sharing import forget_pools

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from pathlib import Path


def _fill(cache: PmemCache) -> None:
    cache.set_many({f"key{number}": number for number in range(50)})
    for _ in range(4):
        cache.get("key7")


def test_namespaces_of_one_pool_hold_keys_of_their_own(
    make_cache: Callable[..., PmemCache],
) -> None:
    caches = [make_cache(), make_cache(namespace="a"), make_cache(namespace="b")]
    for number, cache in enumerate(caches):
        cache.set("key", number)

    assert [cache.get("key") for cache in caches] == [0, 1, 2]
    assert len({id(cache._shared.pool()) for cache in caches}) == 1
    assert [cache.keys() for cache in caches] == [["key"]] * 3


def test_clear_of_a_namespace_leaves_the_others(make_cache: Callable[..., PmemCache]) -> None:
    plain, sessions, pages = make_cache(), make_cache(namespace="s"), make_cache(namespace="p")
    for cache in (plain, sessions, pages):
        _fill(cache)
    pages.clear()

    assert len(plain.keys()) == len(sessions.keys()) == 50
    assert pages.keys() == []
    assert pages.get("key7") is None
    assert pages.get_many(["key1", "key2"]) == {}
    assert not pages.has_key("key3")
    assert pages.add("key4", "new") is True
    assert sessions.get("key7") == plain.get("key7") == 7


def test_clear_of_a_namespace_looks_at_no_entry(make_cache: Callable[..., PmemCache]) -> None:
    cache = make_cache(namespace="a")
    _fill(cache)
    before = cache._shared.pool().stats().entries
    cache.clear()

    assert cache._shared.pool().stats().entries == before - 1


def test_clear_without_a_namespace_empties_the_pool(make_cache: Callable[..., PmemCache]) -> None:
    plain, pages = make_cache(), make_cache(namespace="p")
    _fill(pages)
    plain.clear()

    assert pages.get("key7") is None
    pages.set("key7", "new")
    assert pages.get("key7") == "new"


def test_every_operation_works_in_a_namespace(make_cache: Callable[..., PmemCache]) -> None:
    cache = make_cache(namespace="a")
    assert cache.incr("n", default=4) == 5
    assert cache.decr("n") == 4
    assert cache.incr_version("n") == 2
    assert cache.pop("n", version=2) == 4
    assert cache.set_many({"a": 1, 2: "two"}) == []
    assert cache.get_many(["a", 2]) == {"a": 1, 2: "two"}
    assert cache.get_or_set("c", lambda: 3) == 3
    assert cache.touch("c", 20) is True
    assert cache.ttl("c") == pytest.approx(20, abs=5)
    assert cache.delete_pattern("a*") == 1
    cache.delete_many([2])
    assert cache.keys() == ["c"]
    assert cache.delete("c") is True
    cache.set("t", 1, tags=("tag",))
    cache.invalidate("tag")
    assert cache.get("t") is None


def test_keys_warn_as_without_a_namespace(make_cache: Callable[..., PmemCache]) -> None:
    cache = make_cache(namespace="a")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.set("x" * 247, 1)
    with pytest.warns(CacheKeyWarning):
        cache.set("x" * 248, 1)
    with pytest.warns(CacheKeyWarning):
        assert cache.get("a b") is None


def _serve(there: Connection, location: Path) -> None:
    forget_pools(setting="CACHES")
    cache = PmemCache(location, {"OPTIONS": {"namespace": "a"}})
    for operation, arguments in iter(there.recv, None):
        there.send(getattr(cache, operation)(*arguments))


def test_clear_is_seen_by_the_next_read_of_every_process(
    make_cache: Callable[..., PmemCache], location: Path
) -> None:
    cache = make_cache(namespace="a")
    cache.set("key", 0)
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, location), daemon=True)
    process.start()

    def do(*call: Any) -> Any:
        here.send((call[0], call[1:]))
        assert here.poll(30)
        return here.recv()

    for number in range(100):
        cache.set("key", number)
        assert do("get", "key") == cache.get("key") == number
        if number % 2:
            do("clear")
        else:
            cache.clear()
        assert cache.get("key") is None
        assert do("get", "key") is None
    here.send(None)
    process.join(30)


def test_write_begun_before_a_clear_is_not_seen_after_it(
    make_cache: Callable[..., PmemCache],
) -> None:
    cache = make_cache(namespace="a")
    cache.set("other", 1)
    name = cache._pool_key("late", None)
    cache.clear()
    cache._shared.pool().put(name, b"late")

    assert cache.get("late") is None
    assert cache.get("other") is None


def test_threads_find_one_generation(make_cache: Callable[..., PmemCache]) -> None:
    start = threading.Barrier(6)

    def use(number: int) -> None:
        cache = make_cache(namespace="a")
        start.wait(30)
        cache.set(f"key{number}", number)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(make_cache(namespace="a").keys()) == 6


def test_pool_is_told_now_and_then_that_a_generation_is_used(
    cache: PmemCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looks at its version are not seen by the pool, which would give it up."""
    pool = cache._shared.pool()
    bumped: list[Any] = []
    monkeypatch.setattr(pool, "bump", bumped.append)
    namespace = Namespace("a", lambda: pool)
    prefixes = {namespace.prefix() for _ in range(1000)}

    assert len(prefixes) == 1
    assert len(bumped) > 10
    assert {pool.get(key) is not None for key in bumped} == {True}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"namespace": ""}, "give it a name"),
        ({"namespace": 7}, "give it a name"),
        ({"namespace": "a", "MAX_ENTRIES": 10}, "MAX_ENTRIES"),
        ({"single_flight": 1}, "True or False"),
        ({"WARN_KEYS": "no"}, "True or False"),
        ({"serializer": "yaml"}, "does not exist"),
        ({"serializer": 7}, "give its name"),
    ],
    ids=str,
)
def test_wrong_option_of_an_alias_is_named(
    make_cache: Callable[..., PmemCache], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ImproperlyConfigured, match=message):
        make_cache(**options)


def test_max_entries_in_small_letters_is_refused_with_a_namespace(
    make_cache: Callable[..., PmemCache],
) -> None:
    with pytest.raises(ImproperlyConfigured, match="MAX_ENTRIES"):
        make_cache(params={"max_entries": 10, "OPTIONS": {"namespace": "a"}})
