"""The request sequence: the same seed gives the same requests, at the same times, on every run.

Cities are drawn by a Zipf law over their population rank, so a few large cities get most of the
requests and a long tail gets the rest, which is what makes a bounded cache choose.
"""

from __future__ import annotations

import itertools
import random
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path


class City(NamedTuple):
    """What a request needs to know of a city."""

    geonameid: int
    country: str


class Request(NamedTuple):
    """One request; `city_id` is 0 when it is not about one city."""

    method: str
    path: str
    city_id: int


@dataclass(frozen=True)
class Mix:
    """Shares of the kinds of request; what is left over are writes."""

    city_page: float = 0.55
    nearby_api: float = 0.30
    country_page: float = 0.13

    @property
    def write(self) -> float:
        """The share of requests that change a city."""
        return 1.0 - self.city_page - self.nearby_api - self.country_page


def read_cities(database: Path, count: int) -> list[City]:
    """Return the *count* most populous cities of the site's *database*, largest first."""
    query = "SELECT id, country_id FROM places_city ORDER BY population DESC, id LIMIT ?"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return [City(*row) for row in connection.execute(query, (count,))]


def requests(
    cities: Sequence[City], *, seed: int, exponent: float, mix: Mix | None = None
) -> Iterator[Request]:
    """Yield an endless sequence of requests that *seed* alone determines.

    Args:
        exponent: Of the Zipf law: the city at rank `r` is drawn in proportion to
            `r ** -exponent`; 0 draws all cities equally often.
        mix: Shares of the kinds of request.
    """
    mix = mix or Mix()
    source = random.Random(seed)
    weights = list(itertools.accumulate(rank**-exponent for rank in range(1, len(cities) + 1)))
    city_limit = mix.city_page
    nearby_limit = city_limit + mix.nearby_api
    country_limit = nearby_limit + mix.country_page
    while True:
        kind = source.random()
        city = source.choices(cities, cum_weights=weights)[0]
        if kind < city_limit:
            yield Request("GET", f"/city/{city.geonameid}/", city.geonameid)
        elif kind < nearby_limit:
            yield Request("GET", f"/api/city/{city.geonameid}/nearby/", city.geonameid)
        elif kind < country_limit:
            yield Request("GET", f"/country/{city.country}/", 0)
        else:
            yield Request("POST", f"/api/city/{city.geonameid}/revision/", city.geonameid)


def pages_of(cities: Sequence[City]) -> list[str]:
    """Return every address that requests for these cities read, each once."""
    paths = [f"/city/{city.geonameid}/" for city in cities]
    paths += [f"/api/city/{city.geonameid}/nearby/" for city in cities]
    return [*paths, *dict.fromkeys(f"/country/{city.country}/" for city in cities)]


def cached_entries(planned: Iterable[Request]) -> int:
    """Return how many different values of the site's cache these requests ask for.

    A city's page is made of its facts, its neighbourhood and a template fragment, the API answers
    with the neighbourhood alone, a country's page has its statistics and a fragment.
    """
    entries: set[tuple[str, str]] = set()
    for request in planned:
        if request.path.startswith("/country/"):
            entries |= {("statistics", request.path), ("sidebar", request.path)}
        elif request.method == "GET":
            city = str(request.city_id)
            entries.add(("neighbourhood", city))
            if request.path.startswith("/city/"):
                entries |= {("facts", city), ("fragment", city)}
    return len(entries)


def arrivals(*, seed: int, rate: float) -> Iterator[float]:
    """Yield an endless ascending sequence of arrival times in seconds from the start.

    Gaps are exponential with mean `1 / rate`: visitors who do not know of each other.
    """
    source = random.Random(seed)
    now = 0.0
    while True:
        now += source.expovariate(rate)
        yield now
