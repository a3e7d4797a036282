from __future__ import annotations

import asyncio
import contextlib
import json
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from compare.http_client import Response
from compare.workload import City
from soak.rule import Rule, digest, shows_favourite
from soak.soak import KINDS, faults_of_death
from soak.visitors import Tally, Visitors, addresses
from soak.watch import Growth, Sample, Watch

if TYPE_CHECKING:
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


@pytest.mark.parametrize(
    ("growth", "named"),
    [
        (Growth(SAMPLE, Sample(120 << 20, 0), (20, 24)), "memory grew from 100.0 to 120.0 MiB"),
        (Growth(SAMPLE, SAMPLE, (20, 25)), "descriptors at rest grew from 20 to 25"),
    ],
)
def test_growth_is_a_fault(growth: Growth, named: str) -> None:
    tolerated = {"memory_tolerance": 0.1, "more_descriptors": 4}
    assert Growth(SAMPLE, SAMPLE, (20, 24)).faults(**tolerated) == []
    assert growth.faults(**tolerated) == [named]


def test_descriptors_are_counted_at_rest(tmp_path: Path) -> None:
    watch = Watch(os.getpid(), tmp_path)
    watch.samples.append(SAMPLE)
    asyncio.run(watch.rest(workers_last=True))
    with contextlib.ExitStack() as kept:
        for number in range(5):
            kept.enter_context((tmp_path / str(number)).open("w"))
        asyncio.run(watch.rest(workers_last=False))
    early, late = watch.growth().descriptors
    assert late == early + 5


def test_requests_may_only_be_cut_by_deaths() -> None:
    assert faults_of_death(Tally(cut=2), deaths=9, held=1, killed=2) == []
    assert faults_of_death(Tally(cut=3), deaths=9, held=1, killed=2) != []
    assert faults_of_death(Tally(cut=36), deaths=3, held=12, killed=1) == []
    assert faults_of_death(Tally(cut=37), deaths=3, held=12, killed=1) != []


def visit(site: Any, *, seconds: float = 0.3) -> Tally:
    """Let four visitors loose on a site all of whose pages are known."""
    cities = [City(number, "FR") for number in range(1, 6)]
    rule = Rule()
    for path in addresses(cities):
        rule.learn(path, b"<p>a page</p>")
    visitors = Visitors(site.path, rule, cities, seed=1)

    asyncio.run(visitors.run(4, seconds))
    return visitors.tally


def test_visitors_find_nothing_wrong_with_a_right_site(site: Any) -> None:
    tally = visit(site)
    assert tally.faults == []
    assert tally.edits > 0
    assert tally.requests > tally.edits


def test_visitors_find_errors_and_forgotten_edits(site: Any) -> None:
    site.failing_prefix = "/country/"
    site.forgets_writes = True
    tally = visit(site, seconds=1.0)
    assert "/country/FR/ is answered with status 500" in tally.faults
    assert tally.stale > 0


def test_requests_to_a_site_that_is_gone_are_faults(site: Any) -> None:
    gone = SimpleNamespace(path=site.path + "x")
    assert any("FileNotFoundError" in fault for fault in visit(gone, seconds=0.05).faults)


@pytest.mark.slow
def test_site_survives_a_minute_of_load_and_dying_workers(tmp_path: Path, run_python: Any) -> None:
    where = ["--output", str(tmp_path / "out"), "--pool-directory", str(tmp_path)]
    done = run_python("-m", "soak", "--short", *where, seconds=240)
    assert done.returncode == 0, done.stdout + done.stderr
    stages = json.loads((tmp_path / "out" / "soak.json").read_text())["stages"]
    assert [stage["kind"] for stage in stages[::2]] == [kind.name for kind in KINDS]
    for stage in stages:
        assert stage["faults"] == []
        assert stage["requests"] > 20
        storm = stage["stage"] == "storm"
        assert (stage["killed"] > 2) == storm
        assert (stage["workers_seen"] > 4) == storm
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
