"""The main pages in headless Chromium."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest
from headless import HEIGHT, PHONE, WIDTH, Browser, needs_chromium
from places.models import City, Country

if TYPE_CHECKING:
    from pathlib import Path

    from django.test import Client
    from pytest_django.live_server_helper import LiveServer

pytestmark = [
    needs_chromium,
    # The pages are served by a thread, which sees what is committed.
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("_world"),
]


@pytest.fixture
def browser(tmp_path: Path, live_server: LiveServer) -> Browser:
    return Browser(tmp_path, live_server.url)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/", ["The towns of the Earth", "Great cities", "3,426,354"]),
        ("/countries/", ["Europe", "Germany", "Oceania"]),
        ("/country/DE/", ["Largest cities", "München", "Median city"]),
        ("/city/1/", ["Nearest cities", "Potsdam", "Berlin Brandenburg Airport"]),
        ("/search/?q=munich", ["München", "1,505,005"]),
        ("/about/", ["Creative Commons Attribution 4.0"]),
    ],
)
def test_page_shows_its_content(browser: Browser, path: str, shown: list[str]) -> None:
    document = browser.document_of(path)
    assert [words for words in shown if words not in document] == []


@pytest.mark.parametrize("path", ["/", "/country/DE/", "/city/1/"])
def test_page_is_painted(browser: Browser, path: str) -> None:
    picture = browser.picture_of(path)
    width, height = struct.unpack(">II", picture[16:24])
    assert (width, height) == (WIDTH, HEIGHT)
    # An empty screen of this size compresses to a few kilobytes.
    assert len(picture) > 25_000


@pytest.mark.parametrize("path", ["/", "/largest/", "/country/DE/", "/city/1/"])
def test_nothing_is_cut_off_on_a_phone(browser: Browser, client: Client, path: str) -> None:
    City.objects.filter(pk=2).update(name="Gesundbrunnen")
    Country.objects.filter(pk="FJ").update(name="The Democratic Republic of Fiji")
    assert browser.cut_off(client.get(path).content.decode(), PHONE) == []


def test_style_sheet_is_served(live_server: LiveServer) -> None:
    with urlopen(f"{live_server.url}/static/places/site.css") as response:  # noqa: S310 - http
        assert response.headers["Content-Type"] == "text/css"
        assert b"--paper" in response.read()
