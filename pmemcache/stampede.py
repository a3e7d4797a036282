"""`LoadPolicy`: what keeps many from loading at once, beyond the lease.

*   Time-to-live jitter spreads entries that were written together over their deadlines.
*   Early recompute is XFetch: Vattani, Chierichetti, Lowenstein, "Optimal probabilistic cache
    stampede prevention", VLDB 2015. The nearer the deadline and the longer the load, the likelier a
    reader loads anew.
*   Refresh-ahead is what Caffeine calls `refreshAfterWrite`: a background thread loads anew while
    readers are served.
*   Negative caching remembers a failure (RFC 2308 does so for names that do not exist).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Final

from pmemcache.errors import ConfigurationError

__all__ = ["LoadPolicy", "checked_load_policy"]

_JITTER_MAX: Final = 1.0


@dataclass(frozen=True)
class LoadPolicy:
    """How values are loaded. Everything but the lease is off unless asked for.

    Raises:
        ConfigurationError: A value is out of its range.
    """

    lease_seconds: float = 30.0
    """How long one process may load before another may; set it well above the slowest load."""
    wait_seconds: float | None = None
    """How long a waiter waits before it loads by itself; None: as long as the lease."""
    ttl_jitter: float = 0.0
    """Shorten each time to live at random by up to this share, 0.0 to 1.0."""
    early_beta: float = 0.0
    """XFetch's beta: 0 is off, 1 is what its authors recommend, more is earlier."""
    refresh_ahead_seconds: float = 0.0
    """Load anew in a background thread once less than this is left of a value read; 0 is off."""
    negative_ttl_seconds: float = 0.0
    """How long a loader's error is remembered and raised again without loading; 0 is off."""

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        for option in fields(self):
            value: Any = getattr(self, option.name)
            is_left_out = value is None and option.name == "wait_seconds"
            if not is_left_out and (isinstance(value, bool) or not isinstance(value, int | float)):
                message = f"{option.name}={value!r}: give a number"
                raise ConfigurationError(message)
        if not 0 < self.lease_seconds < math.inf:
            message = (
                f"lease_seconds={self.lease_seconds!r}: give more than 0 seconds, not for ever"
            )
            raise ConfigurationError(message)
        if not 0 <= self.ttl_jitter < _JITTER_MAX:
            message = f"ttl_jitter={self.ttl_jitter!r}: give 0.0 or more and less than 1.0"
            raise ConfigurationError(message)
        for name in ("wait_seconds", "early_beta", "refresh_ahead_seconds", "negative_ttl_seconds"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                message = f"{name}={value!r}: give 0 or more"
                raise ConfigurationError(message)

    @property
    def longest_wait_seconds(self) -> float:
        """How long a waiter waits."""
        return self.lease_seconds if self.wait_seconds is None else self.wait_seconds

    @property
    def looks_ahead(self) -> bool:
        """Whether a value that is fresh may be loaded anew."""
        return bool(self.early_beta or self.refresh_ahead_seconds)

    def jittered(self, ttl_seconds: float | None, chance: float) -> float | None:
        """Return the time to live to store, for a *chance* drawn from 0.0 to 1.0."""
        if ttl_seconds is None or ttl_seconds <= 0 or not self.ttl_jitter:
            return ttl_seconds
        return ttl_seconds * (1 - self.ttl_jitter * chance)

    def is_early(self, left_seconds: float, load_seconds: float, chance: float) -> bool:
        """Whether a reader loads anew though *left_seconds* are left (XFetch)."""
        if not self.early_beta:
            return False
        return load_seconds * self.early_beta * -math.log(max(chance, 1e-300)) >= left_seconds


def checked_load_policy(given: Any) -> LoadPolicy | None:
    """Return *given*.

    Raises:
        TypeError: It is something else.
    """
    if given is None or isinstance(given, LoadPolicy):
        return given
    message = f"load is a pmemcache.LoadPolicy, not {type(given).__name__}"
    raise TypeError(message)
