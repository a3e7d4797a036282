"""Caches of one test alone."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from django.conf import settings
from django.test.utils import TestContextDecorator, override_settings
from django.utils.module_loading import import_string

from pmemcache.integrations.django.backend import PmemCache

__all__ = ["isolated_caches"]

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder in it has a name that nobody can guess


class isolated_caches(TestContextDecorator):  # noqa: N801 - used like Django's override_settings
    """Give every `PmemCache` of `CACHES` an empty pool of its own, removed at the end.

    A decorator of test classes (each test has its own) and of functions, or a context manager.
    Aliases that share a pool share the new one too. Processes that run tests side by side never
    meet.
    """

    def __init__(self) -> None:
        super().__init__()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._override: override_settings | None = None

    def enable(self) -> None:
        """Set the pools up; each is made by its first use."""
        place = _SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None
        self._folder = tempfile.TemporaryDirectory(prefix="pmemcache-test-", dir=place)
        self._override = override_settings(CACHES=_isolated(Path(self._folder.name)))
        self._override.enable()

    def disable(self) -> None:
        """Put the settings back, and remove the pools."""
        if self._override is not None:
            self._override.disable()
        if self._folder is not None:
            self._folder.cleanup()
        self._override = self._folder = None


def _isolated(folder: Path) -> dict[str, dict[str, Any]]:
    places: dict[str, str] = {}
    caches = {}
    for alias, entry in settings.CACHES.items():
        caches[alias] = dict(entry)
        if not issubclass(import_string(entry["BACKEND"]), PmemCache):
            continue
        given = str(entry.get("LOCATION", ""))
        caches[alias]["LOCATION"] = places.setdefault(given, str(folder / f"{len(places)}.pool"))
        options = entry.get("OPTIONS", {})
        caches[alias]["OPTIONS"] = options | {"preallocate": False}
    return caches
