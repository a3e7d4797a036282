"""The admin page in headless Chromium, light and dark, wide and narrow."""

from __future__ import annotations

import shutil
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest
from django.core.cache import cache

if TYPE_CHECKING:
    from pathlib import Path

    from django.contrib.auth.models import User
    from pytest_django.live_server_helper import LiveServer

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PAGE = "/admin/pmemcache/pool/"

pytestmark = [
    pytest.mark.skipif(
        CHROMIUM is None, reason="chromium is not installed (Debian: apt-get install chromium)"
    ),
    # The pages are served by a thread, which sees what is committed.
    pytest.mark.django_db(transaction=True),
]


def visit(scratch: Path, address: str, *options: str) -> str:
    """Return what a browser with an empty profile prints."""
    return subprocess.run(
        [
            *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--hide-scrollbars", f"--user-data-dir={scratch / 'profile'}"),
            *(*options, address),
        ],
        check=True,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    ).stdout


@pytest.fixture
def address(live_server: LiveServer, admin_user: User) -> str:
    """Fill the cache, and return the address that shows the page to the admin."""
    for number in range(300):
        cache.set(f"city:{number}", "x" * 400)
        cache.set(f"country:{number}:statistics", "x" * 900)
        cache.get(f"city:{number % 20}")
        cache.get(f"airport:{number % 7}")
    return f"{live_server.url}/enter/?as={admin_user.username}&next={PAGE}"


def test_page_shows_its_content(tmp_path: Path, address: str) -> None:
    document = visit(tmp_path, address, "--dump-dom")
    shown = [":1:city", ":1:country", "Who answered the look-ups", "Clear default", "recoveries"]
    assert [words for words in shown if words not in document] == []


@pytest.mark.parametrize(
    ("width", "options"),
    [(1200, []), (1200, ["--blink-settings=preferredColorScheme=0"]), (500, [])],
    ids=["wide", "dark", "narrow"],
)
def test_page_is_painted(tmp_path: Path, address: str, width: int, options: list[str]) -> None:
    picture = tmp_path / "screen.png"
    size = f"--window-size={width},1000"
    visit(tmp_path, address, f"--screenshot={picture}", size, *options)
    assert struct.unpack(">II", picture.read_bytes()[16:24]) == (width, 1000)
    # An empty screen of this size compresses to a few kilobytes.
    assert picture.stat().st_size > 25_000
