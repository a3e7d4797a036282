"""The page that shows what the cache does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from headless import DARK, PHONE, Browser, needs_chromium

if TYPE_CHECKING:
    from pathlib import Path

    from django.test import Client
    from pytest_django.live_server_helper import LiveServer

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("_world"),
]
# Timers of the page run ahead, as if so many milliseconds had passed.
FIVE_SECONDS = "--virtual-time-budget=5000"


@pytest.fixture
def browser(
    tmp_path: Path, live_server: LiveServer, pmemcache_site: None, client: Client
) -> Browser:
    del pmemcache_site
    for _visit in range(3):
        for address in ("/", "/largest/", "/city/1/", "/city/2/", "/country/DE/"):
            client.get(address)
    return Browser(tmp_path, live_server.url)


@pytest.mark.usefixtures("pmemcache_site")
def test_figures_are_those_of_the_pool(client: Client) -> None:
    for _visit in range(4):
        client.get("/api/city/1/nearby/")

    figures = client.get("/ops/figures/").json()

    # The first visit misses and loads. Whether the others were answered hot or warm is theirs.
    assert figures["hot_hits"] + figures["warm_hits"] == 3
    assert figures["misses"] == 1
    assert figures["hit_ratio"] == pytest.approx(0.75)
    assert figures["totals"]["loads"] == 1
    assert sum(count for _time, count in figures["latency"]["hit"]) == 3
    assert sum(count for _time, count in figures["latency"]["load"]) == 1
    assert ":1:city" in [each["name"] for each in figures["namespaces"]]


@pytest.mark.usefixtures("pmemcache_site")
def test_pool_that_cannot_be_read_is_told(client: Client, tmp_path: Path) -> None:
    (tmp_path / "site.pool").write_text("damaged" * 1000, encoding="utf-8")
    figures = client.get("/ops/figures/")
    assert figures.status_code == 503
    assert "site.pool" in figures.json()["error"]
    assert "not readable" in client.get("/ops/").content.decode()


def test_other_cache_is_told(client: Client) -> None:
    assert "The site runs on another cache" in client.get("/ops/").content.decode()
    assert client.get("/ops/figures/").status_code == 404


@needs_chromium
def test_page_draws_its_figures_and_keeps_them_up_to_date(browser: Browser) -> None:
    document = browser.document_of("/ops/", FIVE_SECONDS)
    (updates,) = re.findall(r'<html[^>]* data-updates="(\d+)"', document)
    assert int(updates) >= 3  # the first figures came with the page
    assert re.search(r'data-show="hit-now">\d+\.\d %<', document)
    assert re.search(r'data-show="hit-p50">[\d.]+ (µs|ms)<', document)
    assert re.search(r'data-show="used">\d+\.\d %<', document)
    assert "<td>:<wbr>1:<wbr>city</td>" in document
    assert re.search(r'id="state" role="status">live<', document)
    assert "A load, after a miss" in document


@needs_chromium
def test_page_says_so_when_its_figures_do_not_come(browser: Browser, tmp_path: Path) -> None:
    from django.test import override_settings  # noqa: PLC0415

    del tmp_path
    with override_settings(ROOT_URLCONF="ops_without_figures"):
        document = browser.document_of("/ops/", FIVE_SECONDS)
    assert "no answer" in document


@needs_chromium
@pytest.mark.parametrize("options", [[], [DARK]], ids=["light", "dark"])
def test_page_is_painted(browser: Browser, options: list[str]) -> None:
    picture = browser.picture_of("/ops/", FIVE_SECONDS, *options)
    assert len(picture) > 40_000


@needs_chromium
def test_nothing_is_cut_off_on_a_phone(browser: Browser, client: Client) -> None:
    assert browser.cut_off(client.get("/ops/").content.decode(), PHONE) == []
