"""How many bytes an entry of the site takes in LocMemCache, which counts entries, not bytes.

Run as its own process, with the site's settings on LocMemCache: asks for the first pages of the
request sequence and weighs what the cache then holds, keys and bookkeeping included.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypedDict, cast

from compare import tasks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from compare.workload import Request


class Footprint(TypedDict):
    """The mean weight of an entry, and how many were weighed."""

    entries: int
    entry_bytes: int
    payload_bytes: int


def weigh(paths: Sequence[str]) -> Footprint:
    """Ask the site for *paths* and return what its cache holds per entry."""
    import django  # noqa: PLC0415 - Django is set up in this process only
    from django.core.cache import cache  # noqa: PLC0415
    from django.test import Client  # noqa: PLC0415

    django.setup()
    client = Client(headers={"host": "localhost"})
    for number, path in enumerate(paths, start=1):
        client.get(path)
        tasks.report_progress(number)
    stored: Mapping[str, bytes] = cache._cache  # type: ignore[attr-defined]  # noqa: SLF001
    deadlines: Mapping[str, float] = cache._expire_info  # type: ignore[attr-defined]  # noqa: SLF001
    payload = sum(len(value) for value in stored.values())
    total = sys.getsizeof(stored) + sys.getsizeof(deadlines)
    for key, value in stored.items():
        total += sum(map(sys.getsizeof, (key, value, deadlines[key])))
    entries = len(stored)
    return Footprint(
        entries=entries, entry_bytes=total // entries, payload_bytes=payload // entries
    )


def weigh_in_own_process(planned: Iterable[Request], database: Path) -> Footprint:
    """Return the footprint of what the pages of *planned* leave in a cache; writes are not sent.

    Raises:
        TaskError: The site could not be asked.
    """
    paths = [request.path for request in planned if request.method == "GET"]
    environment = {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "SAMPLE_CACHE": "locmem",
        "SAMPLE_DB": str(database),
        "SAMPLE_CACHE_ENTRY_BYTES": "1",
    }
    result = tasks.run_task("compare.footprint", {"paths": paths}, environment=environment)
    return cast("Footprint", result)


if __name__ == "__main__":
    tasks.report_result(weigh(tasks.read_argument()["paths"]))
