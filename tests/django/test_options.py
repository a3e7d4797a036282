"""Settings that cannot work say what to write instead."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from pmemcache import Pool
from pmemcache.integrations.django import PmemCache
from pmemcache.integrations.django.sharing import forget_pools

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sise": "1GiB"}, "'sise'.*did you mean 'size'"),
        ({"SIZE": "1GiB"}, "'SIZE'.*did you mean 'size'"),
        ({"max_entries": 10}, "'max_entries'.*did you mean 'MAX_ENTRIES'"),
        ({"timeout": 10}, "unknown option 'timeout'"),
        ({"TIMEOUT": 10}, "unknown option 'TIMEOUT'.*write 'TIMEOUT' beside OPTIONS"),
        ({"key_prefix": "a"}, "unknown option 'key_prefix'.*write 'KEY_PREFIX' beside OPTIONS"),
        ({"eviction": "none", "MAX_ENTRIES": 10}, "contradictory.*leave out one"),
        ({"size": None, "preallocate": True}, "contradictory.*give a size"),
        ({"COMPRESSOR": "zlib"}, "'COMPRESSOR'.*known are"),
        ({"size": "lots"}, "cannot read size 'lots'"),
        ({"size": 1.5}, "a size is an int"),
        ({"eviction": "fifo"}, "eviction='fifo' does not exist.*'lru'"),
        ({"lifetime": "forever"}, "lifetime='forever'.*'restart'"),
        ({"memory": "greedy"}, "memory='greedy'.*'conservative'"),
        ({"preallocate": "yes"}, "preallocate is True or False"),
        ({"shards": 3}, "shards=3.*power of two"),
        ({"hot_size": "some"}, "cannot read size 'some'"),
        ({"MAX_ENTRIES": -1}, "MAX_ENTRIES=-1 .*from 1 up"),
        ({"MAX_ENTRIES": "many"}, "MAX_ENTRIES='many' .*from 1 up"),
        ({"MAX_ENTRIES": 10, "CULL_FREQUENCY": -1}, "CULL_FREQUENCY=-1 .*from 0 up"),
        ({"size": ["1GiB"]}, "an option is a str, a number"),
    ],
    ids=str,
)
def test_wrong_option_is_named_with_what_to_write(
    make_cache: Callable[..., PmemCache], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ImproperlyConfigured, match=message):
        make_cache(**options)


def test_directory_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"missing.*does not exist: create it"):
        PmemCache(tmp_path / "missing" / "site.pool", {})


def test_location_that_is_no_path_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="LOCATION is a path"):
        PmemCache(["127.0.0.1:11211"], {})  # type: ignore[arg-type]


def test_file_of_something_else_is_refused_on_first_use(location: Path) -> None:
    location.write_text("not a pool", encoding="utf-8")
    cache = PmemCache(location, {})

    with pytest.raises(ImproperlyConfigured):
        cache.get("key")
    assert location.read_text(encoding="utf-8") == "not a pool"


def test_all_options_are_taken(make_cache: Callable[..., PmemCache], location: Path) -> None:
    cache = make_cache(
        size="4MiB",
        lifetime="restart",
        eviction="lru",
        memory="conservative",
        preallocate=True,
        shards=2,
        MAX_ENTRIES=1000,
        CULL_FREQUENCY=4,
    )
    cache.set("key", 1)

    assert cache.get("key") == 1
    assert cache._shared.pool().stats().capacity_bytes <= 4 * 1024 * 1024

    forget_pools(setting="CACHES")
    Pool(location, "1MiB").close()  # a volatile pool takes the place of the kept one, and goes
    assert not location.exists()


def test_empty_location_is_the_users_default_pool(
    location: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PMEMCACHE_PATH", str(location))
    PmemCache("", {}).set("key", 1)

    assert location.exists()


def test_projects_with_empty_location_have_pools_of_their_own(tmp_path: Path) -> None:
    def path_of(secret_key: str) -> str:
        code = f"""
from django.conf import settings
settings.configure(
    SECRET_KEY={secret_key!r},
    CACHES={{"default": {{"BACKEND": "pmemcache.integrations.django.PmemCache"}}}},
)
from django.core.cache import caches
print(caches["default"]._shared.request.path)
"""
        environment = {name: v for name, v in os.environ.items() if name != "PMEMCACHE_PATH"}
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,  # the source tree must not hide the installed package
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert path_of("one") == path_of("one")
    assert path_of("one") != path_of("two")


@pytest.mark.parametrize(("max_entries", "left"), [(30, 29), (10**6, 49)])
def test_pool_is_culled_above_max_entries(
    make_cache: Callable[..., PmemCache], max_entries: int, left: int
) -> None:
    cache = make_cache(MAX_ENTRIES=max_entries)
    for number in range(49):
        cache.set(f"key{number}", number)

    assert len(cache.get_many([f"key{number}" for number in range(49)])) == left


def test_set_many_and_add_cull_too(make_cache: Callable[..., PmemCache]) -> None:
    cache = make_cache(MAX_ENTRIES=30, CULL_FREQUENCY=0)
    cache.set_many({f"key{number}": number for number in range(30)})
    assert cache.add("key0", 1) is False
    assert cache._shared.pool().stats().entries == 30

    assert cache.add("new", 1) is True
    assert cache._shared.pool().stats().entries == 1
    cache.set_many({f"key{number}": number for number in range(40)})
    assert cache._shared.pool().stats().entries == 11


def test_without_max_entries_only_bytes_count(cache: PmemCache) -> None:
    cache.set_many({f"key{number}": number for number in range(1000)})

    assert len(cache.get_many([f"key{number}" for number in range(1000)])) == 1000
