"""A tiny site on a Unix socket that answers like the sample site, as told by a test."""

from __future__ import annotations

import contextlib
import json
import socketserver
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class StandInSite(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Serves until its `with` block ends; `forgets_writes` makes every read show revision 1."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Handler)
        self.path = str(path)
        self.lock = threading.Lock()
        self.revisions: dict[int, int] = {}
        self.requested: list[str] = []
        self.forgets_writes = False
        self.delay_seconds = 0.0
        self.failing_prefix = "/nothing"


class _Handler(BaseHTTPRequestHandler):
    server: StandInSite

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(b"<p>a page</p>")

    def do_POST(self) -> None:
        site, city = self.server, self._city()
        with site.lock:
            site.revisions[city] = revision = site.revisions.get(city, 1) + 1
        self._answer(json.dumps({"id": city, "revision": revision}).encode())

    def _city(self) -> int:
        return int(next(filter(str.isdigit, self.path.split("/")), 0))

    def _answer(self, body: bytes) -> None:
        site = self.server
        with site.lock:
            site.requested.append(self.path)
            revision = 1 if site.forgets_writes else site.revisions.get(self._city(), 1)
        time.sleep(site.delay_seconds)
        self.send_response(500 if self.path.startswith(site.failing_prefix) else 200)
        self.send_header("X-Revision", str(revision))
        self.send_header("X-Cache-Hits", "2")
        self.send_header("X-Cache-Misses", "1")
        self.send_header("X-Db-Queries", "3")
        self.send_header("X-Worker-Pid", "42")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def stand_in_site(path: Path) -> Iterator[StandInSite]:
    """Serve on a Unix socket at *path* while the block runs."""
    with StandInSite(path) as site:
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield site
        finally:
            site.shutdown()
            thread.join()
