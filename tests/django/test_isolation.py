"""Tests of a site that uses pmemcache: each may have caches of its own, in whatever process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import unittest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import cache, caches

import pmemcache
from pmemcache.decorator import default_cache, replaced_default_cache
from pmemcache.integrations.django.testing import isolated_caches

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

BACKEND = "pmemcache.integrations.django.PmemCache"


@pytest.fixture(autouse=True)
def _site(location: Path, settings: SettingsWrapper) -> None:
    entry = {"BACKEND": BACKEND, "LOCATION": str(location)}
    locmem = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    settings.CACHES = {"default": entry, "same": entry | {"VERSION": 2}, "other": locmem}


def test_block_has_empty_caches_that_end_with_it() -> None:
    cache.set("key", "outside")
    with isolated_caches():
        assert cache.get("key") is None
        cache.set("key", "inside")
        assert caches["same"].get("key", version=1) == "inside"  # aliases still share
        place = Path(cache._shared.request.path)
        assert place.exists()
        assert caches["other"].__class__.__name__ == "LocMemCache"
    assert not place.parent.exists()
    # The pool outside was closed meanwhile, and a volatile one went with its last user.
    assert cache.get("key") is None


def test_every_test_of_a_decorated_class_begins_empty() -> None:
    seen: list[Any] = []

    @isolated_caches()
    class Tests(unittest.TestCase):
        def test_one(self) -> None:
            seen.append(cache.get("key"))
            cache.set("key", 1)

        test_two = test_one

    result = unittest.defaultTestLoader.loadTestsFromTestCase(Tests).run(unittest.TestResult())
    assert result is not None
    assert result.wasSuccessful(), result.errors
    assert seen == [None, None]


def test_functions_that_name_no_cache_follow_the_default_cache() -> None:
    calls: list[int] = []

    @pmemcache.cached
    def count() -> int:
        calls.append(1)
        return len(calls)

    small = "hot=1MiB,warm=4MiB"
    with pmemcache.TieredCache(None, policy=small) as one, replaced_default_cache(one):
        assert (count(), count()) == (1, 1)
        with pmemcache.TieredCache(None, policy=small) as two, replaced_default_cache(two):
            assert default_cache() is two
            assert (count(), count()) == (2, 2)
        assert count() == 1


SITE = """
    import os, pytest
    from django.conf import settings

    def pytest_configure():
        settings.configure(
            CACHES={"default": {"BACKEND": "pmemcache.integrations.django.PmemCache",
                                "LOCATION": os.environ["SHARED_POOL"],
                                "OPTIONS": {"lifetime": "restart"}}},
            SECRET_KEY="x",
        )
"""
TESTS = """
    import time
    import pmemcache, pytest
    from django.core.cache import cache

    @pmemcache.cached
    def count():
        calls.append(1)
        return len(calls)

    calls = []

    @pytest.mark.parametrize("number", range(6))
    def test_alone(number, pmemcache_isolated):
        assert cache.get("key") is None
        calls.clear()
        assert (count(), count()) == (1, 1)
        cache.set("key", number)
        time.sleep(0.02)
        assert cache.get("key") == number
"""


@pytest.mark.parametrize("options", [[], ["-n", "2"]], ids=["one process", "xdist"])
def test_fixture_gives_each_test_caches_of_its_own(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "conftest.py").write_text(textwrap.dedent(SITE), encoding="utf-8")
    (tmp_path / "test_site.py").write_text(textwrap.dedent(TESTS), encoding="utf-8")
    shared = tmp_path / "shared.pool"
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, "test_site.py"],
        cwd=tmp_path,
        env=os.environ | {"SHARED_POOL": str(shared), "PMEMCACHE_PATH": str(shared)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "6 passed" in finished.stdout, finished.stdout + finished.stderr
    assert not shared.exists()


def test_fixture_needs_no_django(tmp_path: Path) -> None:
    test = """
        import sys
        import pmemcache

        @pmemcache.cached
        def answer():
            return 42

        def test_alone(pmemcache_isolated):
            assert answer() == answer() == 42
            assert answer.cache_info().hits == 1
            assert "pmemcache.integrations.django" not in sys.modules
    """
    (tmp_path / "test_plain.py").write_text(textwrap.dedent(test), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:django", "-p", "no:cacheprovider"]
    finished = subprocess.run(
        [*command, "test_plain.py"],
        cwd=tmp_path,
        env=os.environ | {"PMEMCACHE_PATH": str(tmp_path / "default.pool")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "1 passed" in finished.stdout, finished.stdout + finished.stderr
    assert not (tmp_path / "default.pool").exists()
