"""Whether each cache serves: a round trip through it, for load balancers and supervisors."""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.http import JsonResponse
from django.views.decorators.cache import never_cache

from pmemcache.integrations.django.aliases import pmem_settings, pool_of
from pmemcache.integrations.django.sharing import FAILURES

if TYPE_CHECKING:
    from django.http import HttpRequest

__all__ = ["Health", "health_of", "health_view"]

_TIMEOUT_SECONDS: Final = 10
_SERVICE_UNAVAILABLE: Final = 503


@dataclass(frozen=True)
class Health:
    """The state of one cache."""

    ok: bool
    problem: str
    """What is wrong, for the log and for people; empty when nothing is."""
    milliseconds: float
    """What the round trip took."""


def health_of(alias: str) -> Health:
    """Return whether the cache *alias* keeps a value, gives it back and forgets it.

    Waits for a lock no longer than `lock_timeout_seconds` for each of three operations. The key is
    this call's own, and expires should the process end in between.
    """
    started = time.perf_counter()
    problem = _problem(alias)
    return Health(not problem, problem, round((time.perf_counter() - started) * 1000, 3))


@never_cache
def health_view(_request: HttpRequest) -> JsonResponse:
    """Answer 200 when every pmemcache of `CACHES` serves, else 503 with what is wrong.

    It tells nobody where the pools are, and takes a fraction of a millisecond.
    """
    states = {alias: health_of(alias) for alias in pmem_settings()}
    healthy = all(state.ok for state in states.values())
    content = {
        alias: {"ok": state.ok, "milliseconds": state.milliseconds}
        for alias, state in states.items()
    }
    return JsonResponse(
        {"ok": healthy, "caches": content}, status=200 if healthy else _SERVICE_UNAVAILABLE
    )


def _problem(alias: str) -> str:
    key = f"pmemcache-health-{os.getpid()}-{secrets.token_hex(8)}"
    value = secrets.token_bytes(16)
    try:
        pool_of(alias).pool()  # a pool that cannot be opened says why; the cache only misses
        cache = caches[alias]
        cache.set(key, value, _TIMEOUT_SECONDS)
        found = cache.get(key)
        cache.delete(key)
        left = cache.get(key)
    except (ImproperlyConfigured, *FAILURES) as error:
        return str(error)
    if found != value:
        return "a value that was just stored is not there; the log pmemcache.django says why"
    return "a value that was deleted is still there" if left is not None else ""
