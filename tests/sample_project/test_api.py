"""The JSON API, and what an edit does to the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.test import Client

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

pytestmark = [
    # Deletion after the commit is only seen where transactions really end.
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("_world"),
]

NEARBY = "/api/city/1/nearby/"


def test_city_is_returned_with_its_country(client: Client) -> None:
    city = client.get("/api/city/1/").json()
    assert city["name"] == "Berlin"
    assert city["country_name"] == "Germany"
    assert city["other_names"] == ["Berlino", "Berlín", "베를린"]
    assert city["revision"] == 1


def test_nearby_is_sorted_by_distance(client: Client) -> None:
    nearby = client.get(NEARBY).json()
    distances = [city["distance_km"] for city in nearby["cities"]]
    assert [city["name"] for city in nearby["cities"]][:2] == ["Potsdam", "Brocken"]
    assert distances == sorted(distances)
    assert [airport["iata"] for airport in nearby["airports"]] == ["BER", "MUC", "CDG", "SUV"]


def test_search_finds_other_names_and_beginnings_without_accents(client: Client) -> None:
    def found(query: str) -> list[str]:
        results = client.get("/api/search/", {"q": query}).json()["results"]
        return [city["name"] for city in results]

    assert found("munchen") == found("MUNI") == found("monaco baviera") == ["München"]
    assert found("la") == ["Labasa", "Lakeba"]
    assert found("") == found("m") == found('"') == found("-- *") == []


@pytest.mark.parametrize("address", ["/api/city/999/", "/api/city/999/nearby/"])
def test_unknown_city_is_a_json_404(client: Client, address: str) -> None:
    response = client.get(address)
    assert response.status_code == 404
    assert response.json() == {"error": "There is no city 999."}


@pytest.mark.parametrize("address", ["/city/1/", "/api/city/1/", NEARBY])
def test_edit_is_seen_by_the_next_request(client: Client, address: str) -> None:
    assert client.get(address)["X-Revision"] == "1"
    assert client.post("/api/city/1/revision/").json() == {"id": 1, "revision": 2}
    assert client.get(address)["X-Revision"] == "2"


def test_edit_leaves_other_cities_in_the_cache(client: Client) -> None:
    client.get("/api/city/2/")
    client.post("/api/city/1/revision/")
    assert client.get("/api/city/2/")["X-Cache-Hits"] == "1"


def test_edit_needs_no_token_but_a_post() -> None:
    client = Client(enforce_csrf_checks=True)
    assert client.post("/api/city/1/revision/").status_code == 200
    assert client.get("/api/city/1/revision/").status_code == 405
    assert client.post("/api/city/999/revision/").status_code == 404


def test_edit_is_refused_unless_allowed(client: Client, settings: SettingsWrapper) -> None:
    settings.ALLOW_EDITS = False
    assert client.post("/api/city/1/revision/").status_code == 403
    assert client.get("/api/city/1/").json()["revision"] == 1
