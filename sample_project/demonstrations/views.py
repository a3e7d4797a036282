"""Two pages that exist for the demonstrations alone."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from django.core.cache import cache
from django.db.models import Sum
from django.http import HttpResponse, JsonResponse
from places.caching import cached_value
from places.models import City

import pmemcache

if TYPE_CHECKING:
    from django.http import HttpRequest

TIMEOUT_SECONDS = 3600


def offer(_request: HttpRequest, kind: str) -> HttpResponse:
    """Show an object of the release that is deployed, from the cache when it is there."""
    release = importlib.import_module("offers")  # on the path is one release or the other
    found = cache.get(f"offer:{kind}")
    if found is None:
        found = release.make(kind)
        cache.set(f"offer:{kind}", found, TIMEOUT_SECONDS)
    return HttpResponse(release.show(found))


def populations(_request: HttpRequest, way: str) -> JsonResponse:
    """Show how many people live in the cities of each country, cached in one *way* of two."""
    if way == "decorated":
        return JsonResponse(populations_once())
    return JsonResponse(cached_value("populations", count_people, TIMEOUT_SECONDS))


def count_people() -> dict[str, int]:
    """Ask the database, in one query that reads every city."""
    counted = City.objects.values_list("country").annotate(Sum("population"))
    return dict(counted.order_by("country"))


@pmemcache.cached(ttl_seconds=TIMEOUT_SECONDS)
def populations_once() -> dict[str, int]:
    """Return the same; one caller of all processes asks the database, the others wait for it."""
    return count_people()
