"""What a page says about one city by itself."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from places.caching import cached_value, cached_values, city_key
from places.geodesy import Position
from places.models import City

if TYPE_CHECKING:
    from collections.abc import Iterable

TIMEOUT_SECONDS = 3600
OTHER_NAMES_SHOWN = 20


class CityFacts(NamedTuple):
    """A city as its page and the API show it, at one revision of its row."""

    id: int
    name: str
    other_names: tuple[str, ...]
    region: str
    country_iso: str
    country_name: str
    latitude: float
    longitude: float
    population: int
    time_zone: str
    rank_in_country: int
    revision: int

    @property
    def position(self) -> Position:
        """Return where the city is."""
        return Position(self.latitude, self.longitude)


def city_facts(city_id: int) -> CityFacts:
    """Return the facts of a city, from the cache when they are there.

    An edit of the city forgets them; its rank may be an hour older than an edit of another one.

    Raises:
        City.DoesNotExist: No city has this id; that answer is not stored.
    """
    return cached_value(city_key(city_id), lambda: _read_facts(city_id), TIMEOUT_SECONDS)


def facts_of(city_ids: Iterable[int]) -> dict[int, CityFacts]:
    """Return the facts of many cities by their ids, in this order, by one look-up for all.

    Ids that no city has are left out.
    """
    return cached_values(
        {city_id: city_key(city_id) for city_id in city_ids}, _read_many, TIMEOUT_SECONDS
    )


def _read_many(city_ids: list[int]) -> dict[int, CityFacts]:
    cities = City.objects.select_related("country").in_bulk(city_ids)
    return {city_id: _facts(city) for city_id, city in cities.items()}


def _read_facts(city_id: int) -> CityFacts:
    return _facts(City.objects.select_related("country").get(pk=city_id))


def _facts(city: City) -> CityFacts:
    larger = City.objects.filter(country=city.country_id, population__gt=city.population)
    return CityFacts(
        id=city.id,
        name=city.name,
        other_names=_other_names(city),
        region=city.region,
        country_iso=city.country.iso,
        country_name=city.country.name,
        latitude=city.latitude,
        longitude=city.longitude,
        population=city.population,
        time_zone=city.time_zone,
        rank_in_country=larger.count() + 1,
        revision=city.revision,
    )


def _other_names(city: City) -> tuple[str, ...]:
    names = (name for name in city.other_names.splitlines() if name != city.name)
    return tuple(islice(names, OTHER_NAMES_SHOWN))
