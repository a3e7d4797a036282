"""Warnings about keys, exactly Django's."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import CacheKeyWarning, InvalidCacheKey
from django.core.cache.backends.base import BaseCache

from pmemcache.integrations.django import PmemCache

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEYS = [
    "plain",
    "",
    "sp ace",
    "tab\t",
    "\x00",
    "\x1f",
    "\x7f",
    "\x80",
    "\u2028",
    "清",
    "~!",
    "a" * 247,
    "a" * 248,
    "é" * 247,
    "a b" * 100,
]


@pytest.mark.parametrize("key", KEYS, ids=ascii)
def test_key_warns_exactly_when_django_does(cache: PmemCache, key: str) -> None:
    with warnings.catch_warnings(record=True) as expected:
        warnings.simplefilter("always")
        BaseCache({}).make_and_validate_key(key)
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        cache.get(key)

    assert [str(warning.message) for warning in given] == [
        str(warning.message) for warning in expected
    ]
    assert {warning.category for warning in given} <= {CacheKeyWarning}


def test_key_longer_than_a_pool_takes_is_refused_as_django_does(cache: PmemCache) -> None:
    with pytest.warns(CacheKeyWarning), pytest.raises(InvalidCacheKey, match="65535 bytes"):
        cache.set("é" * 40_000, 1)


def test_own_rules_of_a_subclass_are_followed(location: Path) -> None:
    class Strict(PmemCache):
        def validate_key(self, key: Any) -> None:
            raise InvalidCacheKey(key)

    with pytest.raises(InvalidCacheKey):
        Strict(location, {}).get("plain")


def test_own_keys_of_a_subclass_are_followed(location: Path, cache: PmemCache) -> None:
    class Shouting(PmemCache):
        def make_key(self, key: Any, version: int | None = None) -> str:
            return super().make_key(key, version).upper()

    Shouting(location, {}).set("key", 1)

    assert cache.get("key") is None
    assert cache.get("KEY") == 1


def test_key_function_may_change_after_the_cache_was_made(
    make_cache: Callable[..., PmemCache],
) -> None:
    cache = make_cache()
    cache.key_func = lambda key, _prefix, _version: f"mine-{key}"
    cache.set("key", 1)

    assert list(cache._shared.pool().keys()) == [b"mine-key"]


def test_prefix_and_version_may_change_after_the_cache_was_made(cache: PmemCache) -> None:
    cache.set("key", "first")
    for _ in range(4):
        assert cache.get("key") == "first"
    cache.key_prefix = "site"
    assert cache.get("key") is None
    cache.set("key", "second")
    cache.version = 3
    assert cache.get("key") is None
    cache.set("key", "third")

    assert cache.get_many(["key"]) == {"key": "third"}
    assert cache.get("key", version=1) == "second"
    assert set(cache._shared.pool().keys()) == {b":1:key", b"site:1:key", b"site:3:key"}


@pytest.mark.parametrize("key", [7, 1.5, None, True, ("a", 1), b"bytes"], ids=repr)
@pytest.mark.filterwarnings("ignore::django.core.cache.backends.base.CacheKeyWarning")
def test_key_of_any_type_is_its_text(cache: PmemCache, key: Any) -> None:
    cache.set(key, "value")
    for _ in range(4):
        assert cache.get(key) == cache.get(str(key)) == "value"
