"""Settings that come from the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from config.caches import CacheChoice, caches_setting
from config.secret_key import secret_key
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command

if TYPE_CHECKING:
    from pathlib import Path


def cache_setting(**environ: str) -> dict[str, object]:
    return caches_setting(CacheChoice.from_environment(environ))["default"]


def test_pmemcache_with_64_mib_for_pool_and_hot_tiers_is_the_default() -> None:
    setting = cache_setting()
    assert setting["BACKEND"] == "pmemcache.integrations.django.PmemCache"
    assert setting["LOCATION"] == ""
    assert setting["OPTIONS"] == {
        "size": 48 * 1024 * 1024,
        "hot_size": 4 * 1024 * 1024,
        "lifetime": "volatile",
        "single_flight": True,
    }


def test_locmem_gets_the_entries_that_fit_into_a_worker_s_share() -> None:
    setting = cache_setting(
        SAMPLE_CACHE="locmem",
        SAMPLE_CACHE_BYTES="1000000",
        SAMPLE_CACHE_ENTRY_BYTES="500",
        SAMPLE_WORKERS="2",
    )
    assert setting["OPTIONS"] == {"MAX_ENTRIES": 1000}


def test_redis_needs_its_address() -> None:
    location = "unix:///tmp/redis.sock"
    setting = cache_setting(SAMPLE_CACHE="redis", SAMPLE_CACHE_LOCATION=location)
    assert setting["LOCATION"] == location
    with pytest.raises(ImproperlyConfigured, match="SAMPLE_CACHE_LOCATION"):
        cache_setting(SAMPLE_CACHE="redis")


def test_unknown_cache_is_named_with_the_known_ones() -> None:
    with pytest.raises(ImproperlyConfigured, match="'memory'; use one of none, locmem"):
        cache_setting(SAMPLE_CACHE="memory")


def test_secret_key_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "secret_key"
    key = secret_key(path)
    assert len(key) >= 50
    assert secret_key(path) == key
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.django_db
def test_checks_are_clean_and_migrations_complete() -> None:
    call_command("check", fail_level="WARNING")
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
