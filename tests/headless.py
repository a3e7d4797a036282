"""Chromium without a window, for the tests that look at pages."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed (Debian: apt-get install chromium)"
)

DARK = "--blink-settings=preferredColorScheme=0"

WIDTH, HEIGHT = 1000, 800
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    f"--window-size={WIDTH},{HEIGHT}",
)


class Browser(NamedTuple):
    """Chromium with an empty profile for each visit."""

    scratch: Path
    site: str

    def document_of(self, path: str, *options: str) -> str:
        """Return the document as it stands after loading."""
        return self._visit(path, "--dump-dom", *options)

    def picture_of(self, path: str, *options: str) -> bytes:
        """Return the page's first screen as PNG."""
        picture = self.scratch / "screen.png"
        self._visit(path, f"--screenshot={picture}", *options)
        return picture.read_bytes()

    def _visit(self, path: str, *options: str) -> str:
        profile = self.scratch / "profile"
        shutil.rmtree(profile, ignore_errors=True)
        return subprocess.run(
            [str(CHROMIUM), *OPTIONS, f"--user-data-dir={profile}", *options, self.site + path],
            check=True,
            capture_output=True,
            encoding="utf-8",
            timeout=120,
        ).stdout
