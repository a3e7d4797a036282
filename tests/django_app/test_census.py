"""Keys are counted by what they begin with."""

from __future__ import annotations

import pytest
from django.core.cache import cache
from django.core.cache.utils import make_template_fragment_key

import pmemcache
from pmemcache.integrations.django.census import group_of, take_census
from pmemcache.keys import INTERNAL_PREFIX


@pytest.mark.parametrize(
    ("key", "group"),
    [
        (":1:city:7:nearby", ":1:city"),
        ("site:2:country/DE", "site:2:country"),
        (":1:page7", ":1:page"),
        (":1:7", ":1:(other)"),
        (":1:", ":1:(other)"),
        (":1:" + make_template_fragment_key("menu", [1]), ":1:template.cache.menu"),
        (
            ":1:django.contrib.sessions.cache" + "q7" * 16,
            ":1:django.contrib.sessions.cache",
        ),
        (
            ":1:django.contrib.sessions.cached_db" + "a" * 32,
            ":1:django.contrib.sessions.cached_db",
        ),
        (
            ":1:views.decorators.cache.cache_page..GET.0a1b.2c3d.en-us.UTC",
            ":1:views.decorators.cache.cache_page",
        ),
        ("shop.prices.price#0a1b2c", "shop.prices.price"),
        (":1:shop.prices.price@2#0a1b2c", ":1:shop.prices.price"),
        ("0123456789abcdef:site:1:city:7", "site:1:city"),
        ("plain", "plain"),
    ],
)
def test_namespace_is_what_the_keys_of_a_kind_share(key: str, group: str) -> None:
    assert group_of(key.encode()) == group


def test_pmemcache_s_own_keys_and_broken_text_have_names() -> None:
    assert group_of(INTERNAL_PREFIX + b"t:\x00\xff") == "(pmemcache's own)"
    assert group_of(b"\xc3\x28") == "\ufffd("


def test_session_key_of_django_is_told_from_its_name(settings: object) -> None:
    from django.contrib.sessions.backends.cache import SessionStore  # noqa: PLC0415

    del settings
    session = SessionStore()
    session["a"] = 1
    session.save()
    pool = cache._shared.pool()
    assert [each.name for each in take_census(pool).namespaces] == [
        ":1:django.contrib.sessions.cache"
    ]


def test_entries_and_bytes_are_counted_largest_first() -> None:
    with pmemcache.Pool(None, "4MiB") as pool:
        for number in range(10):
            pool.put(f"small:{number}", b"x")
        pool.put("large:1", b"x" * 10_000)
        census = take_census(pool)
        assert [(each.name, each.entries) for each in census.namespaces] == [
            ("large", 1),
            ("small", 10),
        ]
        assert sum(each.bytes for each in census.namespaces) == pool.stats().pool_size_used
        assert (census.looked_at, census.is_sample) == (11, False)


def test_large_pool_is_estimated_from_a_sample() -> None:
    with pmemcache.Pool(None, "16MiB") as pool:
        for number in range(9000):
            pool.put(f"many:{number}", b"x")
        for number in range(1000):
            pool.put(f"few:{number}", b"x")
        census = take_census(pool, limit=2000)
        counted = {each.name: each.entries for each in census.namespaces}
        assert (census.looked_at, census.is_sample) == (2000, True)
        assert abs(counted["many"] - 9000) < 300
        assert abs(counted["few"] - 1000) < 300
