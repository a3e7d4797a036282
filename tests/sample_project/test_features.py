"""What the site shows of a cache, on pmemcache and, where others can do it too, on LocMemCache."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from django.core.cache import cache
from django.core.management import call_command
from django.db import transaction
from django.test import Client
from places import ratelimit
from places.geodesy import Position, distance_km
from places.models import City
from places.positions import all_positions

if TYPE_CHECKING:
    from django.contrib.auth.models import User

pytestmark = [
    # Tags are dropped after the commit, which is only seen where transactions really end.
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("_world"),
]

BERLIN, POTSDAM = 1, 2
NEAREST = "/api/nearest/"
# The city itself: the capital of Germany and a time zone are called so, too.
SHOWS_BERLIN = re.compile(r'<h1>Berlin<|/city/1/"[^<]*(<[^/][^>]*>\s*)?Berlin<|"name": "Berlin"')


@pytest.fixture(params=["locmem", "pmemcache"])
def _any_cache(request: pytest.FixtureRequest) -> None:
    if request.param == "pmemcache":
        request.getfixturevalue("pmemcache_site")


@pytest.fixture
def editor(admin_user: User) -> Client:
    client = Client()
    client.force_login(admin_user)
    return client


def edit(editor: Client, city_id: int, **fields: object) -> None:
    """Edit a city in the admin, as its form does."""
    city = City.objects.get(pk=city_id)
    kept = {name: getattr(city, name) for name in ("name", "other_names", "region", "population")}
    response = editor.post(f"/admin/places/city/{city_id}/change/", {**kept, **fields})
    assert response.status_code == 302, response.content.decode()


@pytest.mark.usefixtures("_any_cache")
def test_largest_cities_are_fifty_entries_got_at_once(client: Client) -> None:
    first, second = client.get("/largest/"), client.get("/largest/")
    assert first.content.decode().index("Berlin") < first.content.decode().index("Paris")
    assert int(first["X-Cache-Misses"]) >= 11
    assert (second["X-Cache-Misses"], second["X-Db-Queries"]) == ("0", "0")
    assert int(second["X-Cache-Hits"]) >= 11


@pytest.mark.usefixtures("_any_cache")
def test_entries_that_are_missing_are_computed_and_keep_their_place(client: Client) -> None:
    client.get("/largest/")
    cache.delete(f"city:{BERLIN}")
    text = client.get("/largest/").content.decode()
    assert text.index("Berlin") < text.index("Paris") < text.index("München")


@pytest.mark.usefixtures("_any_cache")
def test_nearest_cities_are_those_of_the_great_circle(client: Client) -> None:
    found = client.get(NEAREST, {"latitude": 52.5, "longitude": 13.4}).json()["cities"]
    assert [city["name"] for city in found][:3] == ["Berlin", "Potsdam", "Brocken"]
    centre = Position(52.5, 13.4)
    for city in found:
        row = City.objects.get(pk=city["id"])
        exact = distance_km(centre, Position(row.latitude, row.longitude))
        assert city["distance_km"] == pytest.approx(exact, abs=3)  # of single precision


@pytest.mark.usefixtures("pmemcache_site")
def test_positions_are_read_from_the_database_once(client: Client) -> None:
    asked = {"latitude": 0, "longitude": 179.9}
    first = client.get(NEAREST, asked)
    second = client.get(NEAREST, asked)
    assert [city["name"] for city in first.json()["cities"]][:3] == ["Labasa", "Suva", "Lakeba"]
    assert int(first["X-Db-Queries"]) > 0
    assert second["X-Db-Queries"] == "0"
    assert second.json() == first.json()
    assert all_positions().vectors.shape == (11, 3)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "latitude=1",
        "latitude=x&longitude=1",
        "latitude=91&longitude=0",
        "latitude=nan&longitude=0",
    ],
)
def test_question_without_a_position_is_told_what_to_give(client: Client, query: str) -> None:
    response = client.get(f"{NEAREST}?{query}")
    assert response.status_code == 400
    assert "latitude=-90..90" in response.json()["error"]


@pytest.mark.usefixtures("_any_cache")
def test_one_address_is_answered_twenty_times_a_minute(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000_000_020.0  # a minute begins
    monkeypatch.setattr(ratelimit.time, "time", lambda: now + 50)
    asked = {"latitude": 52.5, "longitude": 13.4}
    answers = [client.get(NEAREST, asked) for _call in range(21)]
    assert [answer.status_code for answer in answers] == [200] * 20 + [429]
    assert answers[-1]["Retry-After"] == "10"
    assert client.get(NEAREST, asked, REMOTE_ADDR="192.0.2.1").status_code == 200

    monkeypatch.setattr(ratelimit.time, "time", lambda: now + 60)
    assert client.get(NEAREST, asked).status_code == 200


@pytest.mark.parametrize(
    "address",
    [
        "/",
        "/largest/",
        "/country/DE/",
        f"/city/{BERLIN}/",
        f"/city/{POTSDAM}/",
        f"/api/city/{POTSDAM}/nearby/",
        "/search/?q=berlin",
        "/api/nearest/?latitude=52.5&longitude=13.4",
    ],
)
@pytest.mark.usefixtures("pmemcache_site")
def test_edit_in_the_admin_is_seen_on_every_page(
    client: Client, editor: Client, address: str
) -> None:
    assert SHOWS_BERLIN.search(client.get(address).content.decode())

    edit(editor, BERLIN, name="Kölln")

    page = client.get(address).content.decode().replace("\\u00f6", "ö")
    assert "Kölln" in page
    assert not SHOWS_BERLIN.search(page)


@pytest.mark.usefixtures("pmemcache_site")
def test_edit_gives_the_city_its_next_revision(client: Client, editor: Client) -> None:
    edit(editor, BERLIN, name="Kölln")
    assert client.get(f"/city/{BERLIN}/")["X-Revision"] == "2"


@pytest.mark.usefixtures("pmemcache_site")
def test_edit_of_a_country_s_city_leaves_other_countries_cached(
    client: Client, editor: Client
) -> None:
    client.get("/country/FJ/")
    edit(editor, BERLIN, name="Kölln")
    assert client.get("/country/FJ/")["X-Cache-Misses"] == "0"


@pytest.mark.usefixtures("pmemcache_site")
def test_tags_are_dropped_by_the_commit_and_not_before(client: Client) -> None:
    def misses() -> str:
        return str(client.get(f"/api/city/{POTSDAM}/nearby/")["X-Cache-Misses"])

    misses()
    with transaction.atomic():
        City.objects.get(pk=BERLIN).save()
        assert misses() == "0"
    assert misses() == "1"


@pytest.mark.usefixtures("pmemcache_site")
def test_edit_that_is_rolled_back_forgets_nothing(client: Client) -> None:
    client.get(f"/api/city/{POTSDAM}/nearby/")
    with transaction.atomic():
        City.objects.get(pk=BERLIN).save()
        transaction.set_rollback(True)
    assert client.get(f"/api/city/{POTSDAM}/nearby/")["X-Cache-Misses"] == "0"


@pytest.mark.usefixtures("pmemcache_site")
def test_what_was_computed_before_an_edit_is_not_stored_after_it(client: Client) -> None:
    """An edit arrives while a page is computed from the old row."""
    from places import neighbourhood  # noqa: PLC0415

    explore = neighbourhood._explore

    def slow(city_id: int) -> neighbourhood.Neighbourhood:
        old = explore(city_id)
        City.objects.filter(pk=BERLIN).update(name="Kölln")
        City.objects.get(pk=BERLIN).save()
        return old

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbourhood, "_explore", slow)
        client.get(f"/api/city/{POTSDAM}/nearby/")
    nearby = client.get(f"/api/city/{POTSDAM}/nearby/").json()
    assert nearby["cities"][0]["name"] == "Kölln"


@pytest.mark.usefixtures("pmemcache_site")
def test_warmed_site_misses_nothing_that_everybody_sees(client: Client) -> None:
    call_command("pmemcache", "warm")
    for address in ("/", "/largest/", f"/city/{BERLIN}/", "/country/DE/"):
        assert client.get(address)["X-Cache-Misses"] == "0", address


@pytest.mark.usefixtures("pmemcache_site")
def test_pools_are_in_the_admin(editor: Client) -> None:
    assert "Who answered the look-ups" in editor.get("/admin/pmemcache/pool/").content.decode()
