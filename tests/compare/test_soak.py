from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from compare.http_client import Response
from compare.memory import family
from compare.tasks import SITE_DIRECTORY
from compare.workload import City
from soak.rule import Rule, digest, shows_favourite
from soak.soak import KINDS, faults_of_death
from soak.visitors import Tally, Visitors, addresses
from soak.watch import Growth, Rest, Sample, Tolerance, Watch
from soak.worker_memory import InUse

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAGE = b"""<form><input type="hidden" name="csrfmiddlewaretoken" value="aB3">
<button class="favourite" name="action" value="add">Add</button></form>
<p>Lisbon, 517,802 people, revision 4 ...</p>"""

SAMPLE = Sample(memory_bytes=100 << 20, pool_bytes=0)


def answer(body: bytes = PAGE, *, status: int = 200, revision: int = 4) -> Response:
    return Response(status, {"x-revision": str(revision)}, body)


@pytest.fixture
def rule() -> Rule:
    rule = Rule()
    rule.learn("/city/7/", PAGE)
    return rule


def test_page_is_right_whatever_its_token_revision_and_button(rule: Rule) -> None:
    other = PAGE.replace(b"aB3", b"Zz9").replace(b"revision 4", b"revision 12")
    other = other.replace(b'"favourite"', b'"favourite is-on"').replace(b"add", b"remove")
    assert rule.fault("/city/7/", answer(other)) is None
    assert digest(b'{"id": 7, "revision": 1}') == digest(b'{"id": 7, "revision": 22}')
    assert not shows_favourite(PAGE)
    assert shows_favourite(other)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (answer(PAGE.replace(b"517,802", b"517,803")), "something else"),
        (answer(PAGE.replace(b"Lisbon", b"Porto")), "something else"),
        (answer(PAGE[:-4]), "something else"),
        (answer(status=500), "status 500"),
    ],
)
def test_wrong_answer_is_a_fault(rule: Rule, wrong: Response, named: str) -> None:
    fault = rule.fault("/city/7/", wrong)
    assert fault is not None
    assert named in fault


def test_answer_older_than_an_answered_edit_is_stale(rule: Rule) -> None:
    assert rule.stale(answer(revision=2), floor=3)
    assert not rule.stale(answer(revision=3), floor=3)


def resting(*more: int, descriptors: int = 20, malloc_bytes: int = 0) -> Rest:
    """Workers that have so many objects more, and each so many bytes of malloc's."""
    workers = {
        pid: InUse(900_000 + each, (50 << 20) + malloc_bytes) for pid, each in enumerate(more)
    }
    return Rest(descriptors, workers)


REST = resting(0, 0, 0, 0)
TOLERANCE = Tolerance(memory=0.1, descriptors=4, blocks=2000, malloc_bytes=256 << 10)


@pytest.mark.parametrize(
    ("late", "rest", "named"),
    [
        (Sample(120 << 20, 0), REST, "memory grew from 100.0 to 120.0 MiB"),
        (SAMPLE, REST._replace(descriptors=25), "descriptors at rest grew from 20 to 25"),
        (
            SAMPLE,
            resting(1900, 2001, 2001, 2200),
            "objects in use at rest grew by 2,001 in each worker",
        ),
        (
            SAMPLE,
            resting(0, 0, 0, 0, malloc_bytes=1 << 20),
            "malloc's memory in use at rest grew by 1,024 KiB in each worker",
        ),
    ],
)
def test_growth_is_a_fault(late: Sample, rest: Rest, named: str) -> None:
    tolerated = resting(2000, 2000, 2000, 2000, descriptors=24, malloc_bytes=256 << 10)
    assert Growth(SAMPLE, SAMPLE, (REST, tolerated)).faults(TOLERANCE) == []
    assert Growth(SAMPLE, late, (REST, rest)).faults(TOLERANCE) == [named]


def test_what_one_worker_does_once_is_no_growth() -> None:
    assert Growth(SAMPLE, SAMPLE, (REST, resting(0, 30_000, 0, 0))).faults(TOLERANCE) == []


def test_what_is_in_use_is_not_judged_where_workers_die() -> None:
    assert Growth(SAMPLE, SAMPLE, (Rest(20), Rest(20))).faults(TOLERANCE) == []


def more_descriptors(directory: Path, opened: Callable[[contextlib.ExitStack], object]) -> int:
    """Return how many descriptors more are counted of this process once something is open."""
    watch = Watch(os.getpid(), directory, directory)
    watch.samples.append(SAMPLE)
    asyncio.run(watch.rest(workers_last=False))
    with contextlib.ExitStack() as kept:
        opened(kept)
        asyncio.run(watch.rest(workers_last=False))
    early, late = watch.growth().resting
    return late.descriptors - early.descriptors


def test_descriptors_are_counted_at_rest(tmp_path: Path) -> None:
    def open_files(kept: contextlib.ExitStack) -> None:
        for number in range(5):
            kept.enter_context((tmp_path / str(number)).open("w"))

    assert more_descriptors(tmp_path, open_files) == 5


def test_descriptors_of_a_master_are_counted_without_its_workers(tmp_path: Path) -> None:
    def start_workers(kept: contextlib.ExitStack) -> None:
        for _worker in range(4):
            worker = subprocess.Popen(["sleep", "60"], stdin=subprocess.PIPE)
            kept.callback(worker.communicate)
            kept.callback(worker.kill)

    assert more_descriptors(tmp_path, start_workers) == 0


LEAKING_MASTER = """
import os, sys, time
if worker := os.fork():
    os.waitpid(worker, 0)
    sys.exit()
import sqlite3
from soak.worker_memory import post_worker_init
database = sqlite3.connect(":memory:")
database.execute("CREATE TABLE numbers (number)")
kept = []
def leak(small, large):
    kept.extend(bytes([1]) * 200 for _ in range(small))
    kept.extend(bytes([1]) * 5000 for _ in range(large))
post_worker_init(None)
go = os.environ["GO"]
open(go + ".ready", "w").close()
while not os.path.exists(go):
    time.sleep(0.01)
leak(*map(int, os.environ["LEAK"].split()))
open(go + ".done", "w").close()
time.sleep(60)
"""


@pytest.mark.parametrize(("small", "large"), [(5000, 0), (0, 200)])
def test_workers_tell_what_they_have_in_use(tmp_path: Path, small: int, large: int) -> None:
    go = tmp_path / "go"
    environment = {
        **os.environ,
        "SOAK_DIRECTORY": str(tmp_path),
        "GO": str(go),
        "LEAK": f"{small} {large}",
    }
    command = [sys.executable, "-c", LEAKING_MASTER]
    with subprocess.Popen(command, cwd=SITE_DIRECTORY, env=environment) as master:
        try:
            watch = Watch(master.pid, tmp_path, tmp_path)
            _wait_for(tmp_path / "go.ready")
            asyncio.run(watch.rest(workers_last=True))
            go.touch()
            _wait_for(tmp_path / "go.done")
            asyncio.run(watch.rest(workers_last=True))
        finally:
            for pid in reversed(family(master.pid)):
                os.kill(pid, signal.SIGKILL)
    (early,), (late,) = (rest.in_use.values() for rest in watch.resting if rest.in_use)
    assert abs(late.blocks - early.blocks - small - large) < 200
    if not early.malloc_bytes:
        pytest.skip("the C library or SQLite does not say what it has in use")
    assert abs(late.malloc_bytes - early.malloc_bytes - large * 5000) < 100_000


STARTING_MASTER = """
import os, sys, time
from soak.worker_memory import on_starting, post_worker_init
on_starting(None)
if worker := os.fork():
    os.waitpid(worker, 0)
    sys.exit()
time.sleep(2)
post_worker_init(None)
time.sleep(60)
"""


def test_worker_that_is_still_starting_is_asked_until_it_tells(tmp_path: Path) -> None:
    environment = {**os.environ, "SOAK_DIRECTORY": str(tmp_path)}
    command = [sys.executable, "-c", STARTING_MASTER]
    with subprocess.Popen(command, cwd=SITE_DIRECTORY, env=environment) as master:
        try:
            while len(family(master.pid)) < 2:
                assert master.poll() is None
            watch = Watch(master.pid, tmp_path, tmp_path)
            asyncio.run(watch.rest(workers_last=True))
        finally:
            for pid in reversed(family(master.pid)):
                os.kill(pid, signal.SIGKILL)
    assert watch.resting[0].in_use is not None


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_requests_may_only_be_cut_by_deaths() -> None:
    assert faults_of_death(Tally(cut=2), deaths=9, held=1, killed=2) == []
    assert faults_of_death(Tally(cut=3), deaths=9, held=1, killed=2) != []
    assert faults_of_death(Tally(cut=36), deaths=3, held=12, killed=1) == []
    assert faults_of_death(Tally(cut=37), deaths=3, held=12, killed=1) != []


def visit(site: Any, enough: Callable[[Tally], object]) -> Tally:
    """Let four visitors loose on a site all of whose pages are known, until they saw *enough*."""
    cities = [City(number, "FR") for number in range(1, 6)]
    rule = Rule()
    for path in addresses(cities):
        rule.learn(path, b"<p>a page</p>")
    visitors = Visitors(site.path, rule, cities, seed=1)

    deadline = time.monotonic() + 60
    while not enough(visitors.tally) and time.monotonic() < deadline:
        asyncio.run(visitors.run(4, 0.3))
    return visitors.tally


def test_visitors_find_nothing_wrong_with_a_right_site(site: Any) -> None:
    tally = visit(site, lambda seen: 0 < seen.edits < seen.requests - 100)
    assert tally.faults == []
    assert tally.edits > 0
    assert tally.requests > tally.edits


def test_visitors_find_errors_and_forgotten_edits(site: Any) -> None:
    site.failing_prefix = "/country/"
    site.forgets_writes = True
    tally = visit(site, lambda seen: seen.faults and seen.stale)
    assert "/country/FR/ is answered with status 500" in tally.faults
    assert tally.stale > 0


def test_requests_to_a_site_that_is_gone_are_faults(site: Any) -> None:
    gone = SimpleNamespace(path=site.path + "x")
    tally = visit(gone, lambda seen: seen.faults)
    assert any("FileNotFoundError" in fault for fault in tally.faults)


@pytest.mark.slow
def test_site_survives_a_minute_of_load_and_dying_workers(tmp_path: Path, run_python: Any) -> None:
    where = ["--output", str(tmp_path / "out"), "--pool-directory", str(tmp_path)]
    done = run_python("-m", "soak", "--short", *where, seconds=580)
    assert done.returncode == 0, done.stdout + done.stderr
    stages = json.loads((tmp_path / "out" / "soak.json").read_text())["stages"]
    assert [stage["kind"] for stage in stages[::2]] == [kind.name for kind in KINDS]
    for stage in stages:
        assert stage["faults"] == []
        assert stage["requests"] > 20
        storm = stage["stage"] == "storm"
        assert bool(stage["blocks_in_use"]) != storm
        assert (stage["killed"] > 2) == storm
        assert (stage["workers_seen"] > 4) == storm
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
