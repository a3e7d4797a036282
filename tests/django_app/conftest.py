"""A site with pmemcache in INSTALLED_APPS: the admin, the debug toolbar, metrics and health.

Django has one configuration per process, so this folder needs a process where nobody else made one.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django
import pytest
from django.conf import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_django.fixtures import SettingsWrapper

HERE = Path(__file__).resolve().parent
BACKEND = "pmemcache.integrations.django.PmemCache"
SCRATCH = tempfile.TemporaryDirectory(prefix="pmemcache-app-tests-")

if settings.configured:
    pytest.exit(
        "Django is configured for other tests already: run `pytest tests/django_app` by itself",
        returncode=pytest.ExitCode.USAGE_ERROR,
    )
sys.path[:0] = [str(HERE), str(HERE.parent)]
settings.configure(
    ALLOWED_HOSTS=["*"],
    CACHES={
        "default": {
            "BACKEND": BACKEND,
            "LOCATION": str(Path(SCRATCH.name) / "site.pool"),
            "OPTIONS": {"size": "16MiB"},
        }
    },
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.messages",
        "django.contrib.sessions",
        "django.contrib.staticfiles",
        "debug_toolbar",
        "pmemcache.integrations.django",
    ],
    INTERNAL_IPS=["127.0.0.1"],
    MIDDLEWARE=[
        "debug_toolbar.middleware.DebugToolbarMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    DEBUG_TOOLBAR_CONFIG={"IS_RUNNING_TESTS": False, "SHOW_TOOLBAR_CALLBACK": "site_urls.shows"},
    DEBUG_TOOLBAR_PANELS=["pmemcache.integrations.django.panels.PmemCachePanel"],
    ROOT_URLCONF="site_urls",
    SECRET_KEY="for these tests only",  # noqa: S106 - signs nothing
    STATIC_URL="/static/",
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
    USE_TZ=True,
)
django.setup()

from pmemcache.integrations.django.sharing import forget_pools  # noqa: E402 - needs settings


@pytest.fixture(autouse=True)
def _own_pool(settings: SettingsWrapper, tmp_path: Path) -> Iterator[None]:
    """Give each test a pool of its own, at the end of which none is open."""
    settings.CACHES = {
        "default": {
            "BACKEND": BACKEND,
            "LOCATION": str(tmp_path / "site.pool"),
            "OPTIONS": {"size": "16MiB"},
        }
    }
    yield
    forget_pools(setting="CACHES")


@pytest.fixture
def set_caches(settings: SettingsWrapper, tmp_path: Path) -> Callable[..., None]:
    """Return a function that makes CACHES of aliases, each a pmemcache unless it says otherwise."""

    def set_caches(**aliases: dict[str, Any]) -> None:
        common = {"BACKEND": BACKEND, "LOCATION": str(tmp_path / "site.pool")}
        settings.CACHES = {alias: common | entry for alias, entry in aliases.items()}

    return set_caches
