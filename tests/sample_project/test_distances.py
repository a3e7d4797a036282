"""Distances, and the search for the nearest places."""

from __future__ import annotations

import math
import random

import pytest
from places.geodesy import (
    Position,
    bearing_degrees,
    box_around,
    distance_km,
    longitudes_in_one_piece,
)
from places.models import City, Country
from places.neighbourhood import nearest

BERLIN, PARIS = Position(52.524, 13.411), Position(48.853, 2.349)


def test_known_distance_and_direction() -> None:
    assert distance_km(BERLIN, PARIS) == pytest.approx(878, abs=1)
    assert bearing_degrees(BERLIN, PARIS) == pytest.approx(246.6, abs=0.5)
    assert distance_km(Position(0, 0), Position(0, 180)) == pytest.approx(math.pi * 6371.0088)


def test_box_over_the_antimeridian_runs_from_east_to_west() -> None:
    box = box_around(Position(-18, 179.5), 100)
    assert box.crosses_antimeridian
    assert box.west == pytest.approx(178.55, abs=0.01)
    assert box.east == pytest.approx(-179.55, abs=0.01)


def test_box_near_a_pole_spans_all_longitudes() -> None:
    box = box_around(Position(89.5, 20), 100)
    assert (box.west, box.east, box.north) == (-180, 180, 90)


def test_longitudes_on_both_sides_of_the_antimeridian_become_one_run() -> None:
    assert longitudes_in_one_piece([178.0, -179.0, 177.0]) == [178.0, 181.0, 177.0]
    assert longitudes_in_one_piece([-5.0, 8.0]) == [-5.0, 8.0]
    assert longitudes_in_one_piece([42.0]) == [42.0]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "centre",
    [BERLIN, Position(-18, 179.9), Position(12, -179.95), Position(89.9, 0), Position(-75, 60)],
)
def test_nearest_is_what_measuring_everything_finds(centre: Position) -> None:
    source = random.Random(7)
    country = Country.objects.create(iso="DE", area_km2=1, population=1)
    cities = [
        City(
            id=number,
            country=country,
            latitude=source.uniform(-90, 90),
            longitude=source.uniform(-180, 180),
            population=0,
        )
        for number in range(400)
    ]
    City.objects.bulk_create(cities)
    expected = sorted(
        (distance_km(centre, Position(city.latitude, city.longitude)), city.id) for city in cities
    )
    found = nearest(City.objects.all(), centre, 12)
    assert [(distance, key) for key, distance in found.items()] == expected[:12]


@pytest.mark.django_db
def test_nearest_of_fewer_places_than_asked_for_is_all_of_them() -> None:
    country = Country.objects.create(iso="DE", area_km2=1, population=1)
    City.objects.create(id=1, country=country, latitude=-50, longitude=100, population=0)
    assert list(nearest(City.objects.all(), BERLIN, 12)) == [1]
