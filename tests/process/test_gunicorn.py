"""Four gunicorn workers see one cache, started apart or forked from a process that had it open."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from socket import AF_UNIX, socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKERS = 4
INCREMENTS = 500
START_SECONDS = 60
ANSWER_SECONDS = 60


class UnixConnection(HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._socket_path = path

    def connect(self) -> None:
        self.sock = socket(AF_UNIX)
        self.sock.settimeout(ANSWER_SECONDS)
        self.sock.connect(str(self._socket_path))


class Site:
    """The site of `cache_site.py` under gunicorn."""

    def __init__(self, folder: Path, *, preload: bool) -> None:
        self.pool = folder / "site.pool"
        self._folder = folder
        self._socket = folder / "site.sock"
        self._log = folder / "gunicorn.log"
        self._meetings = 0
        command = [sys.executable, "-m", "gunicorn", "cache_site:application"]
        command += ["--bind", f"unix:{self._socket}", "--workers", str(WORKERS)]
        command += ["--worker-class", "sync"]
        command += ["--log-file", str(self._log), "--timeout", str(ANSWER_SECONDS)]
        command += ["--no-control-socket", *(["--preload"] if preload else [])]
        self._server = subprocess.Popen(
            command,
            cwd=Path(__file__).parent,
            env=os.environ | {"PMEMCACHE_TEST_POOL": str(self.pool)},
        )

    def ask(self, operation: str, **query: Any) -> tuple[Any, int]:
        """Return what one worker answers, and its process id."""
        connection = UnixConnection(self._socket)
        try:
            connection.request("GET", f"/{operation}?{urlencode(query)}")
            response = connection.getresponse()
            body = response.read()
            assert response.status == 200, self._log.read_text(encoding="utf-8")
        finally:
            connection.close()
        answer = json.loads(body)
        return answer["result"], answer["pid"]

    def ask_all(self, operation: str, **query: Any) -> list[Any]:
        """Return what each of the workers answers, all at the same time."""
        self._meetings += 1
        meeting = self._folder / f"meeting{self._meetings}"
        meeting.mkdir()
        query |= {"together": WORKERS, "at": meeting}
        with ThreadPoolExecutor(WORKERS) as threads:
            waiting = [threads.submit(self.ask, operation, **query) for _ in range(WORKERS)]
            answers = [answer.result(timeout=ANSWER_SECONDS) for answer in waiting]
        assert len({pid for _, pid in answers}) == WORKERS
        return [result for result, _ in answers]

    def wait_until_up(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.ask("get", key="at start")
            except OSError:
                log = self._log.read_text(encoding="utf-8") if self._log.exists() else ""
                assert self._server.poll() is None, log
                assert time.monotonic() < deadline, log
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        self._server.send_signal(signal.SIGTERM)
        try:
            self._server.wait(timeout=30)
        finally:
            self._server.kill()
            self._server.wait()


@pytest.fixture(scope="module", params=[False, True], ids=["each-opens", "preload"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    running = Site(tmp_path_factory.mktemp("site"), preload=request.param)
    try:
        running.wait_until_up()
        yield running
    finally:
        running.stop()


def test_value_set_in_one_worker_is_read_in_all(site: Site) -> None:
    site.ask("set", key="city", value=json.dumps({"name": "Zürich", "places": [1, 2]}))

    assert site.ask_all("get", key="city") == [{"name": "Zürich", "places": [1, 2]}] * WORKERS


def test_no_increment_is_lost(site: Site) -> None:
    site.ask("set", key="visits", value="0")

    totals = site.ask_all("incr", key="visits", times=INCREMENTS)

    assert site.ask("get", key="visits")[0] == WORKERS * INCREMENTS
    assert len(set(totals)) == WORKERS
    assert max(totals) == WORKERS * INCREMENTS


def test_increments_of_a_float_are_not_lost_either(site: Site) -> None:
    site.ask("set", key="score", value="0.5")

    site.ask_all("incr", key="score", times=100)

    assert site.ask("get", key="score")[0] == WORKERS * 100 + 0.5


def test_value_deleted_in_one_worker_is_served_by_none(site: Site) -> None:
    for round_ in range(10):
        site.ask("set", key="news", value=json.dumps(round_))
        assert site.ask_all("get", key="news") == [round_] * WORKERS
        assert site.ask("delete", key="news")[0] is True

        assert site.ask_all("get", key="news") == ["missing"] * WORKERS


def test_exactly_one_of_all_workers_deletes(site: Site) -> None:
    site.ask("set", key="once", value="1")

    assert sorted(site.ask_all("delete", key="once")) == [False] * (WORKERS - 1) + [True]


def test_overwritten_value_is_seen_by_all(site: Site) -> None:
    for round_ in range(10):
        site.ask("set", key="price", value=json.dumps(round_))

        assert site.ask_all("get", key="price") == [round_] * WORKERS


def test_killed_worker_leaves_the_cache_to_the_others(site: Site) -> None:
    _, victim = site.ask("set", key="kept", value="1")

    os.kill(victim, signal.SIGKILL)

    assert site.ask_all("get", key="kept") == [1] * WORKERS  # its replacement among them


def test_last_process_removes_the_pool(tmp_path: Path) -> None:
    site = Site(tmp_path, preload=True)
    try:
        site.wait_until_up()
        assert site.pool.exists()
    finally:
        site.stop()

    assert not site.pool.exists()
