"""The site under test: LocMemCache, a database in memory, and a world small enough to know.

Django has one configuration per process, so this folder needs a process where nobody else made one.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import django
import pytest
from django.conf import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django.fixtures import SettingsWrapper

HERE = Path(__file__).resolve().parent
SITE = HERE.parents[1] / "sample_project"
SCRATCH = tempfile.TemporaryDirectory(prefix="pmemcache-sample-tests-")

if settings.configured:
    pytest.exit(
        "Django is configured for other tests already: run `pytest tests/sample_project` by itself",
        returncode=pytest.ExitCode.USAGE_ERROR,
    )
sys.path[:0] = [str(SITE), str(HERE), str(HERE.parent)]
# The variables are read once, here; the processes that other tests start shall not see them.
with pytest.MonkeyPatch.context() as environment:
    environment.setenv("DJANGO_SETTINGS_MODULE", "config.settings")
    environment.setenv("SAMPLE_ALLOW_EDITS", "1")
    environment.setenv("SAMPLE_CACHE", "locmem")
    environment.setenv("SAMPLE_DB", str(Path(SCRATCH.name) / "places.sqlite3"))
    django.setup()

from config.caches import CacheChoice, caches_setting  # noqa: E402 - importable only now
from django.core.cache import cache  # noqa: E402 - needs the setup above
from places.loading import load  # noqa: E402
from places.models import Airport, City, Country  # noqa: E402

from pmemcache.integrations.django.sharing import forget_pools  # noqa: E402

COUNTRIES = [
    # iso, name, continent, capital, area, population, neighbours
    ("DE", "Germany", "EU", "Berlin", 357_021, 82_927_922, "FR"),
    ("FR", "France", "EU", "Paris", 547_030, 66_987_244, "DE"),
    ("FJ", "Fiji", "OC", "Suva", 18_270, 883_483, ""),
    ("AQ", "Antarctica", "AN", "", 14_000_000, 0, ""),
]
CITIES = [
    # id, name, other names, country, latitude, longitude, population
    (1, "Berlin", "Berlino\nBerlín\n베를린", "DE", 52.524, 13.411, 3_426_354),
    (2, "Potsdam", "Postupim", "DE", 52.396, 13.059, 228_066),
    (3, "München", "Munich\nMonaco di Baviera", "DE", 48.137, 11.575, 1_505_005),
    (4, "Freiburg", "Fribourg-en-Brisgau", "DE", 47.996, 7.849, 215_966),
    (5, "Brocken", "", "DE", 51.799, 10.617, 0),
    (11, "Paris", "Lutetia", "FR", 48.853, 2.349, 2_138_551),
    (12, "Strasbourg", "Straßburg", "FR", 48.584, 7.746, 274_845),
    (13, "Colmar", "", "FR", 48.078, 7.358, 65_405),
    (21, "Suva", "", "FJ", -18.142, 178.442, 77_366),
    (22, "Lakeba", "", "FJ", -18.225, -178.800, 2_100),
    (23, "Labasa", "", "FJ", -16.433, 179.365, 27_949),
]
AIRPORTS = [
    # iata, name, country, latitude, longitude
    ("BER", "Berlin Brandenburg Airport", "DE", 52.362, 13.501),
    ("MUC", "Munich Airport", "DE", 48.354, 11.786),
    ("CDG", "Paris Charles de Gaulle Airport", "FR", 49.013, 2.550),
    ("SUV", "Nausori International Airport", "FJ", -18.043, 178.559),
]


class SmallWorld:
    """A source of four countries."""

    def __init__(self, version: str = "1") -> None:
        self.version = version

    def versions(self) -> dict[str, str]:
        return {"smallworld": self.version}

    def countries(self) -> Iterator[Country]:
        for iso, name, continent, capital, area, population, neighbours in COUNTRIES:
            yield Country(
                iso=iso,
                name=name,
                continent=continent,
                capital=capital,
                area_km2=area,
                population=population,
                neighbour_codes=neighbours,
            )

    def cities(self) -> Iterator[City]:
        for city_id, name, other_names, iso, latitude, longitude, population in CITIES:
            yield City(
                id=city_id,
                name=name,
                other_names=other_names,
                country_id=iso,
                latitude=latitude,
                longitude=longitude,
                population=population,
                time_zone="Europe/Berlin" if iso == "DE" else "UTC",
            )

    def airports(self) -> Iterator[Airport]:
        for iata, name, iso, latitude, longitude in AIRPORTS:
            yield Airport(
                iata=iata,
                name=name,
                country_id=iso,
                latitude=latitude,
                longitude=longitude,
                elevation_feet=0,
            )


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    cache.clear()


@pytest.fixture
def small_world() -> SmallWorld:
    return SmallWorld()


@pytest.fixture
def _world(db: None, small_world: SmallWorld) -> None:  # noqa: ARG001 - opens the database
    """Load the small world into the test database."""
    load(small_world, progress=lambda _step, _rows: None)


@pytest.fixture
def pmemcache_site(settings: SettingsWrapper, tmp_path: Path) -> Iterator[None]:
    """Put the site on pmemcache, with a pool that ends with the test."""
    choice = CacheChoice(
        backend="pmemcache_hot",
        location=str(tmp_path / "site.pool"),
        budget_bytes=32 << 20,
        workers=1,
        lifetime="restart",
    )
    settings.CACHES = caches_setting(choice)
    yield
    forget_pools(setting="CACHES")
