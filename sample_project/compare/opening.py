"""Open a cache as the site's own settings describe it, in a process that is no site."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django.core.cache.backends.base import BaseCache


def open_cache(
    key: str, location: str, *, budget_bytes: int, workers: int = 1, entry_bytes: int = 4096
) -> BaseCache:
    """Return a new backend object of *key*; Django is set up for it when nobody has.

    Args:
        location, budget_bytes, workers, entry_bytes: As for the site's settings.
    """
    import django  # noqa: PLC0415 - Django is set up in measuring processes only
    from config.caches import CacheChoice, caches_setting  # noqa: PLC0415
    from django.conf import settings  # noqa: PLC0415
    from django.core.cache import CacheHandler  # noqa: PLC0415

    if not settings.configured:
        settings.configure()
        django.setup()
    choice = CacheChoice(
        backend=key,
        location=location,
        budget_bytes=budget_bytes,
        entry_bytes=entry_bytes,
        workers=workers,
    )
    return CacheHandler(caches_setting(choice))["default"]
