"""A limit on how often somebody may ask, counted for all workers by the cache's atomic `incr`."""

from __future__ import annotations

import time

from django.core.cache import cache


async def seconds_to_wait(who: str, *, calls: int, per_seconds: int) -> int:
    """Count a call of *who*; return 0 when it may go on, else the seconds until the next may.

    Each window of time has a counter of its own, so no counter expires between its making and its
    counting; `add` makes it once, however many workers try. A cache that cannot count stops nobody.

    Args:
        who: An address or a user; at most 100 printable characters without spaces.
        calls: How many are allowed in a window.
        per_seconds: How long a window is.
    """
    now = int(time.time())
    key = f"calls:{who}:{now // per_seconds}"
    await cache.aadd(key, 0, per_seconds)
    try:
        counted = await cache.aincr(key)
    except ValueError:
        return 0
    return 0 if counted <= calls else per_seconds - now % per_seconds
