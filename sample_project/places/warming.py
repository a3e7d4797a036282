"""What `manage.py pmemcache warm` puts into the cache before visitors come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from places.countrystatistics import country_statistics
from places.largest import largest_cities
from places.maps import world_path
from places.models import Country
from places.neighbourhood import neighbourhood
from places.overview import world_overview
from places.positions import all_positions

if TYPE_CHECKING:
    from collections.abc import Iterator


def warm() -> Iterator[str]:
    """Compute what all visitors see, then the largest cities and countries; yield what is done."""
    world_overview()
    world_path()
    all_positions()
    yield "the world"
    for city in largest_cities():
        neighbourhood(city.id)
        yield city.name
    for country in Country.objects.order_by("-population")[:20]:
        country_statistics(country)
        yield country.name
