"""Figures about a country's cities: SQL counts and sums, Python finds the middle."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from django.db.models import Count, Q, QuerySet, Sum

from places.caching import cached_value, country_tag
from places.geodesy import Position, longitudes_in_one_piece
from places.maps import DotMap, dot_map
from places.models import City, Country

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMEOUT_SECONDS = 3600
LARGEST_SHOWN = 15
TIME_ZONES_SHOWN = 6

# Lower bound of each class of city sizes; a class ends where the next one begins.
SIZE_CLASSES = (
    (1_000_000, "over 1 million"),
    (100_000, "100,000 to 1 million"),
    (20_000, "20,000 to 100,000"),
    (5_000, "5,000 to 20,000"),
    (1, "under 5,000"),
)


class SizeClass(NamedTuple):
    """How many cities have a population in one range."""

    label: str
    cities: int
    percent_of_largest_class: float


class RankedCity(NamedTuple):
    """One of the largest cities."""

    id: int
    name: str
    region: str
    population: int
    percent_of_largest: float


class ExtremeCity(NamedTuple):
    """The last city in one direction."""

    direction: str
    id: int
    name: str


class TimeZoneShare(NamedTuple):
    """How many cities keep one time."""

    name: str
    cities: int


class CountryStatistics(NamedTuple):
    """What a country's page counts, sums and draws; populations are numbers of people."""

    cities: int
    airports: int
    city_population: int
    mean_population: float
    median_population: float
    people_per_km2: float
    largest: tuple[RankedCity, ...]
    size_classes: tuple[SizeClass, ...]
    extremes: tuple[ExtremeCity, ...]
    time_zones: tuple[TimeZoneShare, ...]
    map: DotMap


def country_statistics(country: Country) -> CountryStatistics:
    """Return the statistics of *country*, from the cache when they are there."""
    return cached_value(
        f"country:{country.iso}:statistics",
        lambda: _measure(country),
        TIMEOUT_SECONDS,
        tags=(country_tag(country.iso),),
    )


def _measure(country: Country) -> CountryStatistics:
    cities = City.objects.filter(country=country)
    by_size = list(cities.defer("other_names").order_by("-population"))
    populations = [city.population for city in by_size if city.population]
    total = sum(populations)
    return CountryStatistics(
        cities=len(by_size),
        airports=country.airports.count(),
        city_population=total,
        mean_population=total / len(populations) if populations else 0.0,
        median_population=median(populations) if populations else 0.0,
        people_per_km2=country.population / country.area_km2 if country.area_km2 else 0.0,
        largest=_largest(by_size[:LARGEST_SHOWN]),
        size_classes=_size_classes(cities),
        extremes=_extremes(by_size),
        time_zones=_time_zones(cities),
        map=dot_map([Position(city.latitude, city.longitude) for city in by_size]),
    )


def _largest(cities: Sequence[City]) -> tuple[RankedCity, ...]:
    return tuple(
        RankedCity(
            id=city.id,
            name=city.name,
            region=city.region,
            population=city.population,
            percent_of_largest=round(100 * city.population / cities[0].population, 1),
        )
        for city in cities
        if city.population
    )


def _size_classes(cities: QuerySet[City]) -> tuple[SizeClass, ...]:
    at_least = {
        f"at_least_{bound}": Count("pk", filter=Q(population__gte=bound))
        for bound, _label in SIZE_CLASSES
    }
    cumulative = list(cities.aggregate(**at_least).values())
    counts = [count - larger for larger, count in zip([0, *cumulative], cumulative, strict=False)]
    most = max(counts) or 1
    return tuple(
        SizeClass(label, count, round(100 * count / most, 1))
        for (_bound, label), count in zip(SIZE_CLASSES, counts, strict=True)
    )


def _extremes(cities: Sequence[City]) -> tuple[ExtremeCity, ...]:
    if not cities:
        return ()
    eastward = longitudes_in_one_piece([city.longitude for city in cities])
    by_longitude = sorted(zip(eastward, cities, strict=True), key=lambda pair: pair[0])
    by_latitude = sorted(cities, key=lambda city: city.latitude)
    last = {
        "Northernmost": by_latitude[-1],
        "Southernmost": by_latitude[0],
        "Easternmost": by_longitude[-1][1],
        "Westernmost": by_longitude[0][1],
    }
    return tuple(ExtremeCity(direction, city.id, city.name) for direction, city in last.items())


def _time_zones(cities: QuerySet[City]) -> tuple[TimeZoneShare, ...]:
    zones = (
        cities.values("time_zone")
        .annotate(cities=Count("pk"), people=Sum("population"))
        .order_by("-people")[:TIME_ZONES_SHOWN]
    )
    return tuple(TimeZoneShare(zone["time_zone"], zone["cities"]) for zone in zones)
