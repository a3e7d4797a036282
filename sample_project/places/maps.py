"""Maps drawn from nothing but the positions of cities, as inline SVG.

A dot is a path segment of length zero with round ends (`M3 4h0`), the shortest way to write many
of them.
"""

from __future__ import annotations

from math import cos, radians, sin
from typing import TYPE_CHECKING, NamedTuple

from django.db.models import F
from django.db.models.functions import Floor

from places.caching import CITIES, cached_function
from places.geodesy import Position, longitudes_in_one_piece
from places.models import City

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from places.neighbourhood import Neighbourhood

WORLD_TIMEOUT_SECONDS = 24 * 3600
WORLD_STEP_DEGREES = 1.5
WORLD_DOT_SIZE = 0.93
# The world map ends where no city is: at 84 degrees north and 60 south.
WORLD_NORTH, WORLD_SOUTH = 84.0, -60.0

COUNTRY_MAP_SIZE = 400
COUNTRY_MAP_DOTS = 3000
COUNTRY_MAP_HIGHLIGHTS = 6

LOCAL_MAP_RADIUS = 88.0


class Dot(NamedTuple):
    """A point of a drawing, in its user units; y grows downward."""

    x: float
    y: float


class DotMap(NamedTuple):
    """A drawing of many dots and a few highlighted ones."""

    width: int
    height: int
    path: str
    highlights: tuple[Dot, ...]


class LocalDot(NamedTuple):
    """A city around another one; its rank is its row in the table beside the map."""

    rank: int
    name: str
    x: float
    y: float


class LocalMap(NamedTuple):
    """The nearest cities around the centre (0, 0) of a drawing that reaches 100 units each way."""

    ring_km: float
    ring_radius: float
    dots: tuple[LocalDot, ...]


@cached_function(timeout=WORLD_TIMEOUT_SECONDS, tags=(CITIES,))
def world_path() -> str:
    """Return one SVG path with a dot for each cell of the world that has a city.

    Its user units are those of `world_dot`.
    """
    cells = (
        City.objects.filter(latitude__range=(WORLD_SOUTH, WORLD_NORTH))
        .values_list(
            Floor(F("latitude") / WORLD_STEP_DEGREES),
            Floor(F("longitude") / WORLD_STEP_DEGREES),
        )
        .distinct()
    )
    return _dots_path(
        world_dot(Position((row + 0.5) * WORLD_STEP_DEGREES, (column + 0.5) * WORLD_STEP_DEGREES))
        for row, column in cells
    )


def world_dot(position: Position) -> Dot:
    """Return where *position* is on the world map, 360 by 144 units large."""
    return Dot(round(position.longitude + 180, 2), round(WORLD_NORTH - position.latitude, 2))


def dot_map(positions: Sequence[Position]) -> DotMap:
    """Return a map of *positions*, the most important of which come first.

    Longitudes are narrowed by the cosine of the middle latitude. A country that lies on both
    sides of the antimeridian is drawn in one piece.
    """
    if not positions:
        return DotMap(COUNTRY_MAP_SIZE, COUNTRY_MAP_SIZE // 2, "", ())
    shown = positions[:COUNTRY_MAP_DOTS]
    longitudes = longitudes_in_one_piece([position.longitude for position in shown])
    latitudes = [position.latitude for position in shown]
    north, south, west = max(latitudes), min(latitudes), min(longitudes)
    narrowing = cos(radians((north + south) / 2))
    width = (max(longitudes) - west) * narrowing
    height = north - south
    scale = COUNTRY_MAP_SIZE / (max(width, height) or 1.0)
    dots = [
        Dot(round((longitude - west) * narrowing * scale), round((north - latitude) * scale))
        for longitude, latitude in zip(longitudes, latitudes, strict=True)
    ]
    return DotMap(
        width=round(width * scale),
        height=round(height * scale),
        path=_dots_path(dots),
        highlights=tuple(dots[:COUNTRY_MAP_HIGHLIGHTS]),
    )


def local_map(nearby: Neighbourhood) -> LocalMap:
    """Return the nearest cities as seen from the centre: direction and distance are true."""
    reach_km = max((city.distance_km for city in nearby.cities), default=0.0) or 1.0
    ring_km = _round_figure(reach_km / 2)
    return LocalMap(
        ring_km=ring_km,
        ring_radius=round(LOCAL_MAP_RADIUS * ring_km / reach_km, 1),
        dots=tuple(
            LocalDot(
                rank=rank,
                name=city.name,
                x=round(sin(radians(city.bearing_degrees)) * radius, 1),
                y=round(-cos(radians(city.bearing_degrees)) * radius, 1),
            )
            for rank, city in enumerate(nearby.cities, start=1)
            for radius in [LOCAL_MAP_RADIUS * city.distance_km / reach_km]
        ),
    )


def _dots_path(dots: Iterable[Dot]) -> str:
    return "".join(f"M{x:g} {y:g}h0" for x, y in sorted(set(dots)))


def _round_figure(value: float) -> float:
    """Return the largest of 1, 2, 5, 10, 20, 50, ... (or 0.1, 0.2, ...) not above *value*."""
    figure = 0.1
    for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000):
        if step <= value:
            figure = step
    return figure
