"""Backends made as Django makes them, on a pool that ends with its test.

The site around them is pytest-django's, of these settings. It has no cache of pmemcache: tests give
it one with the fixture `settings`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings as site_settings
from django.core.cache import CacheHandler

from pmemcache.integrations.django import PmemCache
from pmemcache.integrations.django.sharing import forget_pools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BACKEND = "pmemcache.integrations.django.PmemCache"


LIBRARY = "pmemcache.integrations.django.templatetags.pmemcache"


def pytest_configure() -> None:
    """Set up the site; pytest-django does the rest."""
    site_settings.configure(
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
        ROOT_URLCONF="django.urls",
        SECRET_KEY="for these tests only",  # noqa: S106 - signs nothing
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "OPTIONS": {"libraries": {"pmemcache": LIBRARY}},
            }
        ],
        USE_TZ=True,
    )


@pytest.fixture
def location(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "site.pool"
    forget_pools(setting="CACHES")


@pytest.fixture
def make_cache(location: Path) -> Callable[..., PmemCache]:
    """Return a function that makes one more backend for the test's pool, with these OPTIONS."""

    def make(*, params: dict[str, Any] | None = None, **options: Any) -> PmemCache:
        return PmemCache(location, {"OPTIONS": options, **(params or {})})

    return make


@pytest.fixture
def cache(make_cache: Callable[..., PmemCache]) -> PmemCache:
    return make_cache()


@pytest.fixture
def make_handler(location: Path) -> Callable[..., CacheHandler]:
    """Return a function that makes Django's `caches` for these aliases."""

    def make(**aliases: dict[str, Any]) -> CacheHandler:
        common = {"BACKEND": BACKEND, "LOCATION": str(location)}
        return CacheHandler({alias: common | params for alias, params in aliases.items()})

    return make
