"""Settings of the sample site. Everything that varies comes from the environment.

SAMPLE_DB                 database file; default build/sample/places.sqlite3 in the repository
SAMPLE_CACHE              pmemcache_hot (default) | pmemcache | none | locmem | redis |
                          django_redis | memcached | diskcache | filebased
SAMPLE_CACHE_LOCATION     Redis: unix:///path.sock; Memcached: unix:/path.sock; files: a directory;
                          pmemcache: pool file, empty for the default
SAMPLE_CACHE_BYTES        budget of the cache in bytes; default 64 MiB
SAMPLE_CACHE_ENTRY_BYTES  mean size of an entry, which turns the budget into LocMem's MAX_ENTRIES
SAMPLE_CACHE_LIFETIME     volatile | restart: whether pmemcache's pool outlives its last worker
SAMPLE_WORKERS            number of worker processes that share the budget; default 4
SAMPLE_ALLOW_EDITS        1 enables POST /api/city/<id>/revision/
SAMPLE_ASGI               1 ends database connections with their requests; config.asgi sets it
SAMPLE_DEBUG              1 for Django's debug pages
SAMPLE_SECRET_KEY         default: made once and kept beside the database
"""

from __future__ import annotations

import os
from pathlib import Path

from config.caches import CacheChoice, caches_setting
from config.secret_key import secret_key

SITE_DIR = Path(__file__).resolve().parent.parent
DATABASE_FILE = Path(
    os.environ.get("SAMPLE_DB") or SITE_DIR.parent / "build" / "sample" / "places.sqlite3"
).resolve()
DATABASE_FILE.parent.mkdir(parents=True, exist_ok=True)

DEBUG = os.environ.get("SAMPLE_DEBUG") == "1"
SECRET_KEY = os.environ.get("SAMPLE_SECRET_KEY") or secret_key(
    DATABASE_FILE.with_name("secret_key")
)
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
ALLOW_EDITS = os.environ.get("SAMPLE_ALLOW_EDITS") == "1"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    # Checks of the settings, `manage.py pmemcache`, the pools in the admin, figures of all workers.
    "pmemcache.integrations.django",
    "demonstrations",
    "ops",
    "places",
]

MIDDLEWARE = [
    "config.instrumentation.InstrumentationMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
ASGI_APPLICATION = "config.asgi.application"

TEMPLATES = [
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
]

# The write-ahead log lets every worker read while one of them writes; immediate transactions
# make writers queue for `timeout` seconds instead of failing half-way.
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATABASE_FILE,
        # asyncio has a thread for each request, whose connection has to end with it.
        "CONN_MAX_AGE": 0 if os.environ.get("SAMPLE_ASGI") == "1" else None,
        "OPTIONS": {
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
        },
    }
}

CACHE_CHOICE = CacheChoice.from_environment(os.environ)
CACHES = caches_setting(CACHE_CHOICE)

# Favourites live in the visitor's session, and the session in the cache. Without a cache they
# travel in a signed cookie.
SESSION_ENGINE = (
    "django.contrib.sessions.backends.signed_cookies"
    if CACHE_CHOICE.backend == "none"
    else "django.contrib.sessions.backends.cache"
)
SESSION_COOKIE_SAMESITE = "Lax"
LOGIN_URL = "admin:login"

# What `manage.py pmemcache warm` calls.
PMEMCACHE_WARM = ["places.warming.warm"]

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "/static/"

# Errors go to the server's log, with DEBUG off, too.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "loggers": {"django": {"handlers": ["stderr"], "level": "ERROR"}},
}
