"""Two pages that exist for the demonstrations alone."""

from __future__ import annotations

import importlib
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, cast

from django.core.cache import cache
from django.db.models import Sum
from django.http import HttpResponse, JsonResponse
from places.models import City

import pmemcache

if TYPE_CHECKING:
    from django.http import HttpRequest

TIMEOUT_SECONDS = 3600
_computed: ContextVar[tuple[float, float] | None] = ContextVar("computed", default=None)


def offer(_request: HttpRequest, kind: str) -> HttpResponse:
    """Show an object of the release that is deployed, from the cache when it is there."""
    release = importlib.import_module("offers")  # on the path is one release or the other
    found = cache.get(f"offer:{kind}")
    if found is None:
        found = release.make(kind)
        cache.set(f"offer:{kind}", found, TIMEOUT_SECONDS)
    return HttpResponse(release.show(found))


def populations(request: HttpRequest, way: str) -> JsonResponse:
    """Show how many people live in the cities of each country, cached in one *way* of two.

    `X-Computed` says from when to when its query ran, on the machine's monotonic clock, when this
    request is the one that had to compute. `?attempt=` names another entry, for another stampede.
    """
    attempt = request.GET.get("attempt", "")
    _computed.set(None)
    if way == "decorated":
        response = JsonResponse(populations_once(attempt))
    else:
        response = JsonResponse(populations_plainly(f"populations:{attempt}"))
    if computed := _computed.get():
        response["X-Computed"] = " ".join(map(str, computed))
    return response


def count_people() -> dict[str, int]:
    """Ask the database, in one query that reads every city."""
    started = time.monotonic()
    counted = City.objects.values_list("country").annotate(Sum("population"))
    people = dict(counted.order_by("country"))
    _computed.set((started, time.monotonic()))
    return people


def populations_plainly(key: str) -> dict[str, int]:
    """Return the same as most sites do: look it up, compute it on a miss, store it."""
    people = cache.get(key)
    if people is None:
        people = count_people()
        cache.set(key, people, TIMEOUT_SECONDS)
    return cast("dict[str, int]", people)


@pmemcache.cached(ttl_seconds=TIMEOUT_SECONDS)
def populations_once(_attempt: str) -> dict[str, int]:
    """Return the same; one caller of all processes asks the database, the others wait for it."""
    return count_people()
