"""The nearest cities and airports of a city: the site's expensive question.

The database answers with every place in a box around the city, Python measures the distance to
each, and the box grows until it surely holds the nearest ones. In the dense parts of the world
that is thousands of candidates, so the answer is worth caching.
"""

from __future__ import annotations

from hashlib import blake2b
from heapq import nsmallest
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from django.db.models import Model, Q, QuerySet

from places.caching import CITIES, cached_value, neighbourhood_key
from places.geodesy import HALF_CIRCUMFERENCE_KM, Position, bearing_degrees, box_around, distance_km
from places.models import Airport, City

if TYPE_CHECKING:
    from collections.abc import Iterable

M = TypeVar("M", bound=Model)

TIMEOUT_SECONDS = 3600
NEAREST_CITIES = 12
NEAREST_AIRPORTS = 5
FIRST_RADIUS_KM = 100.0


class NearbyCity(NamedTuple):
    """A city seen from another one."""

    id: int
    name: str
    country_iso: str
    country_name: str
    population: int
    distance_km: float
    bearing_degrees: float


class NearbyAirport(NamedTuple):
    """An airport seen from a city."""

    iata: str
    name: str
    country_name: str
    elevation_feet: float
    distance_km: float
    bearing_degrees: float


class Neighbourhood(NamedTuple):
    """What is near a city, at one revision of the city's row."""

    city_id: int
    revision: int
    cities: tuple[NearbyCity, ...]
    airports: tuple[NearbyAirport, ...]
    digest: str
    """Stands for what is near: the name of a fragment that shows it."""


def neighbourhood(city_id: int) -> Neighbourhood:
    """Return what is near a city, from the cache when it is there.

    Raises:
        City.DoesNotExist: No city has this id; that answer is not stored.
    """
    return cached_value(
        neighbourhood_key(city_id), lambda: _explore(city_id), TIMEOUT_SECONDS, tags=(CITIES,)
    )


def _explore(city_id: int) -> Neighbourhood:
    city = City.objects.get(pk=city_id)
    centre = Position(city.latitude, city.longitude)
    others = City.objects.exclude(pk=city_id)
    cities = _nearby_cities(centre, nearest(others, centre, NEAREST_CITIES))
    airports = _nearby_airports(centre, nearest(Airport.objects.all(), centre, NEAREST_AIRPORTS))
    return Neighbourhood(
        city_id=city_id,
        revision=city.revision,
        cities=cities,
        airports=airports,
        digest=blake2b(repr((cities, airports)).encode(), digest_size=8).hexdigest(),
    )


def nearest(places: QuerySet[M], centre: Position, count: int) -> dict[object, float]:
    """Return the *count* places nearest to *centre*: their keys with the distance in km, in order.

    Exact: a box is only believed when its radius reaches as far as the last place found.
    """
    radius_km = FIRST_RADIUS_KM
    while True:
        found = nsmallest(count, _measured(places, centre, radius_km))
        complete = len(found) == count and found[-1][0] <= radius_km
        if complete or radius_km >= HALF_CIRCUMFERENCE_KM:
            return {key: distance for distance, key in found}
        radius_km *= 3


def _measured(
    places: QuerySet[M], centre: Position, radius_km: float
) -> Iterable[tuple[float, object]]:
    box = box_around(centre, radius_km)
    west, east = Q(longitude__gte=box.west), Q(longitude__lte=box.east)
    candidates = places.filter(
        west | east if box.crosses_antimeridian else west & east,
        latitude__range=(box.south, box.north),
    ).values_list("pk", "latitude", "longitude")
    for key, latitude, longitude in candidates.iterator():
        yield distance_km(centre, Position(latitude, longitude)), key


def _nearby_cities(centre: Position, distances: dict[object, float]) -> tuple[NearbyCity, ...]:
    cities = City.objects.select_related("country").in_bulk(list(distances))
    return tuple(
        NearbyCity(
            id=city.id,
            name=city.name,
            country_iso=city.country.iso,
            country_name=city.country.name,
            population=city.population,
            distance_km=round(distance, 1),
            bearing_degrees=round(
                bearing_degrees(centre, Position(city.latitude, city.longitude)), 1
            ),
        )
        for key, distance in distances.items()
        for city in [cities[key]]
    )


def _nearby_airports(centre: Position, distances: dict[object, float]) -> tuple[NearbyAirport, ...]:
    airports = Airport.objects.select_related("country").in_bulk(list(distances))
    return tuple(
        NearbyAirport(
            iata=airport.iata,
            name=airport.name,
            country_name=airport.country.name,
            elevation_feet=airport.elevation_feet,
            distance_km=round(distance, 1),
            bearing_degrees=round(
                bearing_degrees(centre, Position(airport.latitude, airport.longitude)), 1
            ),
        )
        for key, distance in distances.items()
        for airport in [airports[key]]
    )
