"""The fifty largest cities: one list, and fifty entries that one call gets."""

from __future__ import annotations

from places.caching import CITIES, cached_function
from places.cityfacts import CityFacts, facts_of
from places.models import City

TIMEOUT_SECONDS = 3600
SHOWN = 50


def largest_cities() -> list[CityFacts]:
    """Return the facts of the fifty largest cities, the largest first."""
    return list(facts_of(largest_ids()).values())


@cached_function(timeout=TIMEOUT_SECONDS, tags=(CITIES,))
def largest_ids() -> tuple[int, ...]:
    """Return the ids of the fifty largest cities, the largest first."""
    return tuple(City.objects.order_by("-population", "pk").values_list("pk", flat=True)[:SHOWN])
