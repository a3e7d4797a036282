"""The admin page in headless Chromium, light and dark, wide and narrow."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from django.core.cache import cache
from headless import DARK, PHONE, Browser, needs_chromium

from pmemcache.integrations.django.aliases import pool_of
from pmemcache.integrations.django.workers import add_to_report

if TYPE_CHECKING:
    from pathlib import Path

    from django.contrib.auth.models import User
    from django.test import Client
    from pytest_django.live_server_helper import LiveServer

PAGE = "/admin/pmemcache/pool/"

pytestmark = [
    needs_chromium,
    # The pages are served by a thread, which sees what is committed.
    pytest.mark.django_db(transaction=True),
]


@pytest.fixture
def browser(tmp_path: Path, live_server: LiveServer) -> Browser:
    return Browser(tmp_path, live_server.url)


@pytest.fixture
def page(admin_user: User) -> str:
    """Fill the cache, and return the address that shows the page to the admin."""
    for number in range(300):
        cache.set(f"city:{number}", "x" * 400)
        cache.set(f"country:{number}:statistics", "x" * 900)
        cache.get(f"city:{number % 20}")
        cache.get(f"airport:{number % 7}")
    return f"/enter/?as={admin_user.username}&next={PAGE}"


def test_page_shows_its_content(browser: Browser, page: str) -> None:
    document = browser.document_of(page)
    shown = [":1:city", ":1:country", "Who answered the look-ups", "Clear default", "recoveries"]
    assert [words for words in shown if words not in document] == []


@pytest.mark.parametrize(
    ("width", "options"), [(1200, []), (1200, [DARK]), (500, [])], ids=["wide", "dark", "narrow"]
)
def test_page_is_painted(browser: Browser, page: str, width: int, options: list[str]) -> None:
    picture = browser.picture_of(page, f"--window-size={width},1000", *options)
    assert struct.unpack(">II", picture[16:24]) == (width, 1000)
    # An empty screen of this size compresses to a few kilobytes.
    assert len(picture) > 25_000


@pytest.mark.usefixtures("page")
def test_nothing_is_cut_off_on_a_phone(browser: Browser, admin_client: Client) -> None:
    add_to_report(pool_of("default"))  # so that the table of the workers has a line
    assert browser.cut_off(admin_client.get(PAGE).content.decode(), PHONE) == []
