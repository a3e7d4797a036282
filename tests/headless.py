"""Chromium without a window, for the tests that look at pages."""

from __future__ import annotations

import re
import shutil
import subprocess
from html import escape
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed (Debian: apt-get install chromium)"
)

DARK = "--blink-settings=preferredColorScheme=0"

# Put into a page, tells the page around it what reaches out of its room.
LOOK = """
<script>
addEventListener("load", () => setTimeout(() => {
  const found = ["looked"];
  const { scrollWidth, clientWidth } = document.documentElement;
  if (scrollWidth > clientWidth) found.push(`the page is ${scrollWidth} wide`);
  for (const part of document.querySelectorAll("table, dl, svg")) {
    const { right } = part.getBoundingClientRect();
    const end = part.parentElement.getBoundingClientRect().right;
    // An arrow that is turned has a larger box than is painted.
    if (right > end + 5) found.push(`${part.tagName} ends at ${right}, its room at ${end}`);
  }
  parent.postMessage(found.join("; "), "*");
}, 500));
</script>
"""
# A frame can be narrower than the narrowest window.
AROUND = """<!doctype html>
<title>nothing was told</title>
<script>addEventListener("message", (told) => { document.title = told.data; });</script>
<iframe srcdoc="%s" style="width: %dpx; height: 900px; border: 0"></iframe>
"""

WIDTH, HEIGHT = 1000, 800
PHONE = 390
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

    def cut_off(self, document: str, width: int) -> list[str]:
        """Return what of a *document* of the site reaches out of its room in so wide a window."""
        copy = self.scratch / "copy.html"
        # The sheets and pictures are still the site's.
        based = re.sub("<html[^>]*>", rf'\g<0><base href="{self.site}">', document, count=1)
        copy.write_text(AROUND % (escape(based + LOOK), width), encoding="utf-8")
        options = (f"--window-size={width + 100},1000", "--virtual-time-budget=2000", "--dump-dom")
        title = re.search("<title>looked(.*?)</title>", self._open(copy.as_uri(), *options))
        assert title is not None
        return title[1].split("; ")[1:]

    def _visit(self, path: str, *options: str) -> str:
        return self._open(self.site + path, *options)

    def _open(self, address: str, *options: str) -> str:
        profile = self.scratch / "profile"
        shutil.rmtree(profile, ignore_errors=True)
        return subprocess.run(
            [str(CHROMIUM), *OPTIONS, f"--user-data-dir={profile}", *options, address],
            check=True,
            capture_output=True,
            encoding="utf-8",
            timeout=300,
        ).stdout
