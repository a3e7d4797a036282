"""A site on a fresh state: its own copy of the database, its own directory, gone afterwards."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from compare import servers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The site's settings that vary, as environment variables tell them.

    Args:
        cache: Key of the cache backend.
        location: Of the cache.
        cache_bytes: Its budget, copies in the workers' own memory included.
        workers: Processes that share the budget.
        entry_bytes: Mean size of an entry, for caches that count entries.
        lifetime: Of pmemcache's pool.
        more: Further variables.
    """

    cache: str
    location: str = ""
    cache_bytes: int = 16 << 20
    workers: int = 4
    entry_bytes: int = 4096
    lifetime: str = "volatile"
    more: Mapping[str, str] = field(default_factory=dict)

    def variables(self, database: Path) -> dict[str, str]:
        """Return the environment variables of a site on *database*."""
        return {
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "SAMPLE_CACHE": self.cache,
            "SAMPLE_CACHE_LOCATION": self.location,
            "SAMPLE_CACHE_BYTES": str(self.cache_bytes),
            "SAMPLE_CACHE_ENTRY_BYTES": str(self.entry_bytes),
            "SAMPLE_CACHE_LIFETIME": self.lifetime,
            "SAMPLE_WORKERS": str(self.workers),
            "SAMPLE_ALLOW_EDITS": "1",
            "SAMPLE_SECRET_KEY": "only for sites that are measured",
            "SAMPLE_DB": str(database),
            **self.more,
        }


@contextlib.contextmanager
def served(
    database: Path,
    setting: Setting,
    *,
    kind: servers.WorkerKind = servers.SYNC,
    max_requests: int = 0,
) -> Iterator[servers.Server]:
    """Serve the site on a fresh copy of *database* and yield the server.

    Raises:
        ServerError: It did not start, or its first page is an error.
    """
    with servers.scratch_directory() as directory:
        copy = directory / "places.sqlite3"
        copy_database(database, copy)
        with servers.site(
            directory,
            workers=setting.workers,
            environment=setting.variables(copy),
            kind=kind,
            max_requests=max_requests,
        ) as server:
            yield server


def copy_database(source: Path, target: Path) -> None:
    """Copy a SQLite database that others may have open."""
    with (
        contextlib.closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as original,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        original.backup(copy)
