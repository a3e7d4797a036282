"""Where all cities are, as one NumPy array: the nearest to any point by one matrix product.

170,000 cities are 2.7 MB. Reading them from the database takes most of a second, from the cache a
millisecond, so the array is made once and shared by all workers.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
from asgiref.sync import sync_to_async
from django.core.cache import cache

from places.caching import CITIES, cached_value
from places.geodesy import EARTH_RADIUS_KM, Position
from places.models import City

KEY = "positions"
TIMEOUT_SECONDS = 24 * 3600


class Positions(NamedTuple):
    """The ids of all cities, and for each the unit vector from the centre of the Earth to it."""

    ids: npt.NDArray[np.int32]
    vectors: npt.NDArray[np.float32]

    def nearest(self, centre: Position, count: int) -> dict[int, float]:
        """Return the ids of the *count* nearest cities with the distance in km, nearest first."""
        if not len(self.ids):
            return {}
        along = np.asarray([centre.latitude]), np.asarray([centre.longitude])
        cosines = self.vectors @ _unit_vectors(*along)[0]
        count = min(count, len(self.ids))
        candidates = np.argpartition(-cosines, count - 1)[:count]
        ordered = candidates[np.argsort(-cosines[candidates])]
        angles = np.arccos(np.clip(cosines[ordered].astype(np.float64), -1.0, 1.0))
        distances = (EARTH_RADIUS_KM * angles).round(1)
        return dict(zip(self.ids[ordered].tolist(), distances.tolist(), strict=True))


async def positions() -> Positions:
    """Return the positions of all cities. Only a miss leaves the event loop, for the database."""
    found = await cache.aget(KEY)
    if found is not None:
        return cast("Positions", found)
    return await sync_to_async(all_positions)()


def all_positions() -> Positions:
    """Return the positions of all cities, from the cache when they are there."""
    return cached_value(KEY, _read_positions, TIMEOUT_SECONDS, tags=(CITIES,))


def _read_positions() -> Positions:
    rows = list(City.objects.values_list("pk", "latitude", "longitude"))
    table = np.asarray(rows, dtype=np.float64).reshape(-1, 3)
    return Positions(table[:, 0].astype(np.int32), _unit_vectors(table[:, 1], table[:, 2]))


def _unit_vectors(
    latitudes: npt.NDArray[np.float64], longitudes: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    north, east = np.radians(latitudes), np.radians(longitudes)
    vectors = (np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north))
    return np.stack(vectors, axis=1).astype(np.float32)
