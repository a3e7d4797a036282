"""Every page about migrating is true of what it leaves and of what it leads to."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent
PAGES = HERE.parents[1] / "docs" / "migrating"
# The server that the settings before need: its program and arguments, and its socket.
SERVERS = {
    "redis.md": (
        ["redis-server", "--port", "0", "--save", "", "--unixsocket", "redis.sock"],
        "redis.sock",
    ),
    "memcached.md": (["memcached", "-u", "root", "-s", "memcached.sock"], "memcached.sock"),
}


@contextlib.contextmanager
def _server(page: str, folder: Path) -> Iterator[None]:
    """Run what the page's settings before need, if anything; skip where it is not installed."""
    if page not in SERVERS:
        yield
        return
    command, socket = SERVERS[page]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed, and {page} is about leaving it")
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as server:
        try:
            deadline = time.monotonic() + 60
            while not (folder / socket).exists():
                assert server.poll() is None, f"{command[0]} ended"
                assert time.monotonic() < deadline, f"{command[0]} does not listen"
                time.sleep(0.01)
            yield
        finally:
            server.terminate()


def _run(page: str, phase: str, folder: Path) -> str:
    finished = subprocess.run(
        [sys.executable, HERE / "migrating.py", PAGES / page, phase, folder],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_every_page_is_tested() -> None:
    assert {page.name for page in PAGES.iterdir()} == {
        *("diskcache.md", "filebased.md", "locmem.md", "memcached.md", "redis.md")
    }


@pytest.mark.parametrize("page", sorted(page.name for page in PAGES.iterdir()))
def test_page_is_true_before_and_after(page: str, tmp_path: Path) -> None:
    with _server(page, tmp_path):
        before = _run(page, "before", tmp_path)
    after = _run(page, "after", tmp_path)

    assert int(after.split()[0]) > int(before.split()[0]) > 3
