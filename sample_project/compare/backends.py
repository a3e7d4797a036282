"""The caches that are compared, and what each one needs before a site can use it."""

from __future__ import annotations

import importlib
import shutil
from dataclasses import dataclass


class BackendUnavailableError(RuntimeError):
    """A backend cannot be used here; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One cache: its name for the site, its name for readers, and its colour in plots."""

    key: str
    label: str
    colour: str

    @property
    def caches(self) -> bool:
        """Whether the backend stores anything."""
        return self.key != "none"


NONE = Backend(key="none", label="no cache", colour="#9aa0a6")
LOCMEM = Backend(key="locmem", label="LocMemCache", colour="#e0a32e")
REDIS = Backend(key="redis", label="RedisCache", colour="#c8443a")
PMEMCACHE = Backend(key="pmemcache", label="pmemcache", colour="#1f6fb2")
BACKENDS = (NONE, LOCMEM, REDIS, PMEMCACHE)
BY_KEY = {backend.key: backend for backend in BACKENDS}


def why_skipped(backend: Backend) -> str | None:
    """Return why *backend* is left out of the comparison, `None` when it takes part.

    Only a server that is not installed is a reason; everything else is an error.

    Raises:
        BackendUnavailableError: A Python package that the backend needs cannot be imported.
    """
    needed = {"redis": ("redis", "hiredis"), "pmemcache": ("pmemcache.integrations.django",)}
    for module in needed.get(backend.key, ()):
        try:
            importlib.import_module(module)
        except ImportError as error:
            message = (
                f"{backend.label} cannot be imported ({error}). "
                "Install the project with its extra: pip install '.[sample]'"
            )
            raise BackendUnavailableError(message) from error
    if backend.key == "redis" and shutil.which("redis-server") is None:
        return "redis-server is not installed (Debian, Ubuntu: apt-get install redis-server)"
    return None
