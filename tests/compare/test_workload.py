from __future__ import annotations

import itertools
import sqlite3
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from compare.workload import (
    City,
    Mix,
    Request,
    arrivals,
    cached_entries,
    read_cities,
    requests,
)

if TYPE_CHECKING:
    from pathlib import Path

CITIES = [City(number, "FR" if number % 2 else "DE") for number in range(1, 1001)]


def take(count: int, *, seed: int = 1, exponent: float = 1.0) -> list[Request]:
    return list(itertools.islice(requests(CITIES, seed=seed, exponent=exponent), count))


def test_same_seed_gives_same_sequence() -> None:
    assert take(500, seed=9) == take(500, seed=9)
    assert take(500, seed=9) != take(500, seed=10)


def test_sequence_of_a_seed_stays_what_it_is() -> None:
    assert [request.path for request in take(3, seed=5)] == [
        "/api/city/145/nearby/",
        "/api/city/650/nearby/",
        "/api/city/559/nearby/",
    ]


def test_zipf_prefers_large_cities_in_the_right_proportion() -> None:
    drawn = Counter(request.city_id for request in take(60_000) if request.city_id)
    assert drawn[1] / drawn[10] == pytest.approx(10, rel=0.25)
    assert sum(drawn[rank] for rank in range(1, 101)) > 0.6 * sum(drawn.values())


def test_exponent_zero_draws_all_cities_alike() -> None:
    drawn = Counter(request.city_id for request in take(60_000, exponent=0.0) if request.city_id)
    assert max(drawn.values()) < 2.2 * sum(drawn.values()) / len(CITIES)


def test_shares_of_kinds_are_those_of_the_mix() -> None:
    mix = Mix()
    drawn = take(20_000)
    shares = {
        mix.city_page: sum(request.path.startswith("/city/") for request in drawn),
        mix.nearby_api: sum(request.path.endswith("/nearby/") for request in drawn),
        mix.country_page: sum(request.path.startswith("/country/") for request in drawn),
        mix.write: sum(request.method == "POST" for request in drawn),
    }
    for share, count in shares.items():
        assert count / len(drawn) == pytest.approx(share, abs=0.01)


def test_every_write_names_its_city_and_no_read_is_a_post() -> None:
    for request in take(2000):
        writes = request.path.endswith("/revision/")
        assert (request.method == "POST") == writes
        assert not writes or request.path == f"/api/city/{request.city_id}/revision/"


def test_arrivals_ascend_at_the_mean_rate_and_repeat() -> None:
    times = list(itertools.islice(arrivals(seed=3, rate=200), 4000))
    assert times == sorted(times)
    assert times[-1] == pytest.approx(20, rel=0.1)
    assert times == list(itertools.islice(arrivals(seed=3, rate=200), 4000))


def test_cached_entries_counts_each_value_once() -> None:
    page = Request("GET", "/city/7/", 7)
    nearby = Request("GET", "/api/city/7/nearby/", 7)
    country = Request("GET", "/country/FR/", 0)
    write = Request("POST", "/api/city/8/revision/", 8)
    assert cached_entries([nearby]) == 1
    assert cached_entries([page, page, nearby]) == 3
    assert cached_entries([page, country, write]) == 5


def test_read_cities_returns_the_largest_first(tmp_path: Path) -> None:
    database = tmp_path / "places.sqlite3"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE places_city (id, country_id, population)")
        rows = [(1, "FR", 10), (2, "DE", 30), (3, "PL", 20), (4, "PL", 20)]
        connection.executemany("INSERT INTO places_city VALUES (?, ?, ?)", rows)
        connection.commit()
    assert read_cities(database, 3) == [City(2, "DE"), City(3, "PL"), City(4, "PL")]
