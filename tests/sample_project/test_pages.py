"""What visitors see."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from django.test import Client

if TYPE_CHECKING:
    from django.http import HttpResponse

pytestmark = pytest.mark.usefixtures("_world")

BERLIN = "/city/1/"


def text_of(response: HttpResponse) -> str:
    """Return the page without its tags, in single spaces."""
    return " ".join(re.sub(r"<[^>]*>", " ", response.content.decode()).split())


@pytest.mark.parametrize(
    "address", ["/", "/countries/", "/country/DE/", BERLIN, "/search/?q=paris", "/about/"]
)
def test_every_page_names_its_source_in_the_footer(client: Client, address: str) -> None:
    response = client.get(address)
    assert response.status_code == 200
    assert "GeoNames , CC BY 4.0" in text_of(response)


def test_home_shows_how_much_there_is_and_the_largest_city_of_each_country(client: Client) -> None:
    text = text_of(client.get("/"))
    assert "11 cities 4 countries 4 airports" in text
    assert text.index("Berlin Germany 3,426,354") < text.index("Paris France 2,138,551")
    assert "München" not in text


def test_countries_are_grouped_by_continent(client: Client) -> None:
    text = text_of(client.get("/countries/"))
    assert "Europe 2 FR France DE Germany Oceania 1 FJ Fiji" in text
    assert "Asia" not in text


def test_country_page_computes_its_statistics(client: Client) -> None:
    text = text_of(client.get("/country/de/"))
    assert "Cities 5 People in cities 5,375,391 Median city 866,536 Mean city 1,343,848" in text
    assert "1 Berlin 3,426,354 2 München 1,505,005 3 Potsdam 228,066" in text
    assert "over 1 million 2 100,000 to 1 million 2 20,000 to 100,000 0" in text
    assert "Northernmost Berlin Southernmost Freiburg Easternmost Berlin" in text
    assert "Neighbours France" in text
    assert "Europe/Berlin 5 cities" in text


def test_country_across_the_antimeridian_begins_in_its_west(client: Client) -> None:
    assert "Easternmost Lakeba Westernmost Suva" in text_of(client.get("/country/FJ/"))


def test_country_without_cities_has_a_page(client: Client) -> None:
    text = text_of(client.get("/country/AQ/"))
    assert "Cities 0 People in cities 0" in text
    assert "Largest cities" not in text


def test_city_page_shows_what_is_nearest_in_order(client: Client) -> None:
    text = text_of(client.get(BERLIN))
    assert "People 3,426,354 Rank in Germany 1 Latitude 52.524° Longitude 13.411°" in text
    nearest = [text.index(name) for name in ("Potsdam", "Brocken", "München", "Strasbourg")]
    assert nearest == sorted(nearest)
    assert "BER Berlin Brandenburg Airport 19.0 km" in text
    assert "베를린" in text


def test_city_of_unknown_population_says_so(client: Client) -> None:
    assert "People not known" in text_of(client.get("/city/5/"))


@pytest.mark.parametrize("address", ["/city/999/", "/country/XX/", "/nowhere/"])
def test_unknown_address_is_a_friendly_404(client: Client, address: str) -> None:
    response = client.get(address)
    assert response.status_code == 404
    assert "There is no such place" in text_of(response)


def test_search_page_shows_matches_and_admits_to_none(client: Client) -> None:
    assert "Strasbourg France 274,845" in text_of(client.get("/search/?q=strasb"))
    assert "No city is called “xyz”" in text_of(client.get("/search/?q=xyz"))


def test_search_words_are_escaped(client: Client) -> None:
    assert b"<script>" not in client.get("/search/?q=<script>").content


def test_world_map_is_svg_that_browsers_keep(client: Client) -> None:
    response = client.get("/world.svg")
    assert response["Content-Type"] == "image/svg+xml"
    assert "max-age=86400" in response["Cache-Control"]
    assert b"M192.75 30.75h0" in response.content


def test_favourites_are_kept_for_the_visitor_only(client: Client) -> None:
    client.post("/city/1/favourite/", {"action": "add"})
    client.post("/city/11/favourite/", {"action": "add"})
    assert "Your favourites ★ Paris France ★ Berlin Germany" in text_of(client.get("/"))
    assert "Your favourites" not in text_of(Client().get("/"))

    response = client.post("/city/1/favourite/", {"action": "remove"}, follow=True)
    assert "☆ Add to favourites" in text_of(response)
    assert "Your favourites ★ Paris France Great cities" in text_of(client.get("/"))


def test_favourite_needs_the_token_of_the_form() -> None:
    client = Client(enforce_csrf_checks=True)
    assert client.post("/city/1/favourite/", {"action": "add"}).status_code == 403
    form = client.get(BERLIN).content.decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form)
    assert token is not None
    fields = {"action": "add", "csrfmiddlewaretoken": token[1]}
    assert client.post("/city/1/favourite/", fields).status_code == 302


def test_token_of_one_visitor_is_not_in_the_page_of_another() -> None:
    pages = [Client().get(BERLIN).content.decode() for _ in range(2)]
    tokens = [re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page) for page in pages]
    assert len(tokens[0]) == len(tokens[1]) == 1
    assert tokens[0] != tokens[1]


def test_page_is_served_from_the_cache_the_second_time(client: Client) -> None:
    first, second = client.get(BERLIN), client.get(BERLIN)
    assert (first["X-Cache-Hits"], first["X-Cache-Misses"]) == ("0", "2")
    assert int(first["X-Db-Queries"]) > 0
    assert (second["X-Cache-Hits"], second["X-Cache-Misses"]) == ("2", "0")
    assert second["X-Db-Queries"] == "0"
    assert int(second["X-Worker-Pid"]) > 0
    assert text_of(first) == text_of(second)
