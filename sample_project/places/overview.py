"""The world in a few figures, and its largest cities: what the front page opens with."""

from __future__ import annotations

from typing import NamedTuple

from places.caching import CITIES, cached_function
from places.models import Airport, City, Country

TIMEOUT_SECONDS = 3600
HIGHLIGHTS = 8
# Neighbours of a metropolis are often districts of it; a country is highlighted once.
LARGEST_LOOKED_AT = 200


class Highlight(NamedTuple):
    """One large city of one country."""

    id: int
    name: str
    country_name: str
    population: int
    latitude: float
    longitude: float


class Overview(NamedTuple):
    """How much there is, and where to begin."""

    countries: int
    cities: int
    airports: int
    highlights: tuple[Highlight, ...]


@cached_function(timeout=TIMEOUT_SECONDS, tags=(CITIES,))
def world_overview() -> Overview:
    """Return the overview."""
    return Overview(
        countries=Country.objects.count(),
        cities=City.objects.count(),
        airports=Airport.objects.count(),
        highlights=_highlights(),
    )


def _highlights() -> tuple[Highlight, ...]:
    largest = City.objects.select_related("country").order_by("-population")[:LARGEST_LOOKED_AT]
    first_of_country: dict[str, City] = {}
    for city in largest:
        first_of_country.setdefault(city.country.iso, city)
    return tuple(
        Highlight(
            city.id, city.name, city.country.name, city.population, city.latitude, city.longitude
        )
        for city in list(first_of_country.values())[:HIGHLIGHTS]
    )
