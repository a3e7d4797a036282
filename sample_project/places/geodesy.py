"""Distances and boxes on a spherical Earth."""

from __future__ import annotations

from itertools import pairwise
from math import asin, atan2, cos, degrees, pi, radians, sin, sqrt
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

EARTH_RADIUS_KM = 6371.0088
HALF_CIRCUMFERENCE_KM = pi * EARTH_RADIUS_KM


class Position(NamedTuple):
    """A point on the Earth, in degrees; north and east are positive."""

    latitude: float
    longitude: float


class Box(NamedTuple):
    """Latitudes from south to north; longitudes eastward from west to east.

    West is greater than east when the box crosses the antimeridian.
    """

    south: float
    north: float
    west: float
    east: float

    @property
    def crosses_antimeridian(self) -> bool:
        """Tell whether the box holds the line where +180 meets -180 degrees."""
        return self.west > self.east


def distance_km(a: Position, b: Position) -> float:
    """Return the great-circle distance of *a* and *b* by the haversine formula."""
    latitude_a, latitude_b = radians(a.latitude), radians(b.latitude)
    half_latitude = sin((latitude_b - latitude_a) / 2)
    half_longitude = sin(radians(b.longitude - a.longitude) / 2)
    haversine = half_latitude**2 + cos(latitude_a) * cos(latitude_b) * half_longitude**2
    return 2 * EARTH_RADIUS_KM * asin(min(1.0, sqrt(haversine)))


def bearing_degrees(start: Position, end: Position) -> float:
    """Return the direction in which one leaves *start* for *end*: 0 is north, 90 is east."""
    latitude_a, latitude_b = radians(start.latitude), radians(end.latitude)
    longitude = radians(end.longitude - start.longitude)
    east = sin(longitude) * cos(latitude_b)
    north = cos(latitude_a) * sin(latitude_b) - sin(latitude_a) * cos(latitude_b) * cos(longitude)
    return degrees(atan2(east, north)) % 360


def box_around(centre: Position, radius_km: float) -> Box:
    """Return a box that holds every point within *radius_km* of *centre*.

    Near a pole, and for a radius that reaches one, the box spans all longitudes.
    Source: J. P. Matuschek, Finding Points Within a Distance of a Latitude/Longitude.
    """
    angle = radius_km / EARTH_RADIUS_KM
    south = radians(centre.latitude) - angle
    north = radians(centre.latitude) + angle
    if south <= -pi / 2 or north >= pi / 2:
        return Box(max(-90.0, degrees(south)), min(90.0, degrees(north)), -180.0, 180.0)
    width = degrees(asin(min(1.0, sin(angle) / cos(radians(centre.latitude)))))
    west = _wrap(centre.longitude - width)
    east = _wrap(centre.longitude + width)
    return Box(degrees(south), degrees(north), west, east)


def longitudes_in_one_piece(longitudes: Sequence[float]) -> list[float]:
    """Return *longitudes* such that the smallest is the westernmost of them.

    Where the points lie on both sides of the antimeridian, those east of it are raised by 360
    degrees: the widest gap without a point is taken to be the outside. At least one is needed.
    """
    ordered = sorted(set(longitudes))
    around = ordered[0] + 360 - ordered[-1]
    gap, gap_east = max(
        ((east - west, east) for west, east in pairwise(ordered)), default=(0.0, ordered[0])
    )
    if gap <= around:
        return list(longitudes)
    return [value if value >= gap_east else value + 360 for value in longitudes]


def _wrap(longitude: float) -> float:
    return (longitude + 180.0) % 360.0 - 180.0
