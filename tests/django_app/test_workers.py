"""What workers tell each other through the pool."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import cache

from pmemcache.errors import LockTimeoutError
from pmemcache.integrations.django import workers
from pmemcache.integrations.django.aliases import pool_of
from pmemcache.integrations.django.figures import figures_of
from pmemcache.integrations.django.workers import add_to_report, count, read_report

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from pmemcache.integrations.django.sharing import SharedPool


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a worker report as often as it is asked to."""
    monkeypatch.setattr(workers, "_INTERVAL_SECONDS", 0.0)


def in_child(work: Callable[[], None]) -> None:
    """Run *work* in a forked process and wait for its good end."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


def told(shared: SharedPool) -> dict[str, int]:
    """What other processes can read."""
    return workers._reporter(shared)._read().totals


def hit(times: int) -> None:
    """Be answered so many times by this process's hot tier."""
    cache.set("key", "value")
    before = pool_of("default").cache().stats().hot_hits
    while pool_of("default").cache().stats().hot_hits < before + times:
        cache.get("key")


@pytest.mark.usefixtures("no_pause")
def test_hot_hits_of_all_workers_are_summed() -> None:
    shared = pool_of("default")
    hit(5)
    add_to_report(shared)

    def work() -> None:
        hit(7)
        add_to_report(shared)
        add_to_report(shared)

    in_child(work)
    in_child(work)

    report = read_report(shared)
    assert report.totals["hot_hits"] == 5 + 7 + 7
    assert len(report.workers) == 3
    assert report.workers[0].hot_capacity_bytes == 16 * 1024**2


@pytest.mark.usefixtures("no_pause")
def test_child_does_not_tell_what_its_parent_did() -> None:
    shared = pool_of("default")
    hit(5)  # not told before the fork
    in_child(lambda: add_to_report(shared))
    assert told(shared)["hot_hits"] == 0
    add_to_report(shared)
    assert read_report(shared).totals["hot_hits"] == 5


@pytest.mark.usefixtures("no_pause")
def test_sums_of_the_site_s_own_are_summed_over_workers() -> None:
    shared = pool_of("default")
    cache.set("key", "value")
    count(shared, "visits", 2)
    add_to_report(shared)
    count(shared, "visits", 3)  # the parent's to tell

    def work() -> None:
        count(shared, "visits", 10)
        add_to_report(shared)

    in_child(work)
    add_to_report(shared)
    assert read_report(shared).totals["visits"] == 2 + 10 + 3


def refuse(*_arguments: Any) -> bool:
    message = "planted"
    raise LockTimeoutError(message)


@pytest.mark.usefixtures("no_pause")
@pytest.mark.parametrize("add", [lambda *_arguments: False, refuse])
def test_sum_that_could_not_be_told_is_told_later(
    monkeypatch: pytest.MonkeyPatch, add: Callable[..., bool]
) -> None:
    shared = pool_of("default")
    hit(5)
    count(shared, "visits", 2)
    with monkeypatch.context() as patch:
        patch.setattr(workers._Reporter, "_add", add)
        add_to_report(shared)
    assert told(shared)["hot_hits"] == 0
    assert "visits" not in told(shared)
    add_to_report(shared)
    totals = read_report(shared).totals
    assert (totals["visits"], totals["hot_hits"]) == (2, 5)
    assert told(shared)["visits"] == 2


def test_worker_reports_once_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    assert workers._INTERVAL_SECONDS == 1.0
    monkeypatch.setattr(workers, "_INTERVAL_SECONDS", 3600.0)
    shared = pool_of("default")
    hit(5)
    add_to_report(shared)
    hit(5)
    add_to_report(shared)
    assert told(shared)["hot_hits"] == 5
    assert read_report(shared).totals["hot_hits"] == 10  # its own it knows


@pytest.mark.usefixtures("no_pause")
def test_sums_begin_anew_when_the_cache_is_cleared() -> None:
    shared = pool_of("default")
    hit(5)
    add_to_report(shared)
    cache.clear()
    assert told(shared)["hot_hits"] == 0
    hit(3)
    add_to_report(shared)
    assert read_report(shared).totals["hot_hits"] == 3


@pytest.mark.parametrize("told", [b"", b"{}", b"[1]", b'{"totals": 1, "workers": []}', b"\xff"])
def test_report_of_another_version_counts_as_nothing(told: bytes) -> None:
    shared = pool_of("default")
    shared.pool().put(workers._KEY, told)
    assert read_report(shared).workers == ()
    hit(5)
    add_to_report(shared)
    assert read_report(shared).totals["hot_hits"] == 5


@pytest.mark.usefixtures("no_pause")
def test_worker_that_is_silent_for_a_minute_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = pool_of("default")
    hit(5)
    add_to_report(shared)
    monkeypatch.setattr(workers, "_GONE_SECONDS", -1.0)
    report = read_report(shared)
    assert (report.workers, report.totals["hot_hits"]) == ((), 5)


@pytest.mark.usefixtures("no_pause")
def test_reading_the_figures_leaves_no_trace_in_them() -> None:
    shared = pool_of("default")
    hit(5)
    first = figures_of(shared)
    for _read in range(10):
        figures_of(shared)
    last = figures_of(shared)
    assert (last.hot_hits, last.warm_hits, last.misses) == (
        first.hot_hits,
        first.warm_hits,
        first.misses,
    )


@pytest.mark.usefixtures("no_pause")
def test_look_ups_for_its_own_ends_are_not_in_the_figures() -> None:
    shared = pool_of("default")
    tiered = shared.cache()
    for number in range(10):
        tiered.get_or_load(f"city:{number}", str, 60, tags=("cities", "towns"))
    for _read in range(3):
        assert cache.get_many(["a", "b"]) == {}
        assert tiered.find("city:3") == "city:3"

    figures = figures_of(shared)

    assert figures.misses == 10 + 6
    assert figures.hot_hits + figures.warm_hits == 3


def test_request_makes_its_worker_report(client: Client) -> None:
    shared = pool_of("default")
    hit(5)
    client.get("/health/")
    assert read_report(shared).totals["hot_hits"] >= 5


def test_pool_is_not_opened_by_a_request_that_does_not_use_it(client: Client) -> None:
    client.get("/admin/login/")
    assert not pool_of("default").is_open
