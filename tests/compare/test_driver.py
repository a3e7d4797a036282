from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from compare.driver import Drive, Driver, Outcome, combine, drive_in_own_process

if TYPE_CHECKING:
    from pathlib import Path

CITIES = [(number, "FR") for number in range(1, 6)]


def drive(site: Any, **options: Any) -> Drive:
    settings: dict[str, Any] = {"seed": 4, "exponent": 0.5, "connections": 4, **options}
    return Drive(socket_path=site.path, cities=CITIES, **settings)


def run(site: Any, **options: Any) -> Outcome:
    return asyncio.run(Driver(drive(site, **options)).run())


def test_closed_loop_sends_up_to_its_limit(site: Any) -> None:
    outcome = run(site, limit=60)
    assert outcome.served == outcome.reads + outcome.writes == 60
    assert len(outcome.latencies_us) == 60
    assert outcome.errors == outcome.unserved == 0


def test_headers_are_summed(site: Any) -> None:
    outcome = run(site, limit=20)
    assert (outcome.cache_hits, outcome.cache_misses, outcome.database_queries) == (40, 20, 60)
    assert outcome.requests_per_worker == {"42": 20}


def test_skipping_goes_on_where_the_last_drive_stopped(site: Any) -> None:
    run(site, limit=30, connections=1)
    together = list(site.requested)
    site.requested.clear()
    run(site, limit=10, connections=1)
    run(site, skip=10, limit=20, connections=1)
    assert site.requested == together


def test_closed_loop_stops_when_its_time_is_over(site: Any) -> None:
    site.delay_seconds = 0.2
    outcome = run(site, seconds=1.0, connections=2)
    assert 2 <= outcome.served <= 10


def test_coherent_site_has_no_stale_reads(site: Any) -> None:
    outcome = run(site, limit=400, connections=1)
    assert outcome.writes > 0
    assert outcome.stale_reads == 0


def test_site_that_forgets_writes_has_stale_reads(site: Any) -> None:
    site.forgets_writes = True
    outcome = run(site, limit=400, connections=1)
    assert 0 < outcome.stale_reads <= outcome.reads
    assert len(outcome.stale_ages_ms) == outcome.stale_reads
    assert all(0 <= age < 60_000 for age in outcome.stale_ages_ms)


def test_writes_of_an_earlier_drive_are_remembered(site: Any) -> None:
    earlier = run(site, limit=400, connections=1)
    site.forgets_writes = True
    known = run(site, limit=10, connections=1, acknowledged=earlier.acknowledged)
    assert known.stale_reads > 0
    assert run(site, limit=10, connections=1).stale_reads == 0


def test_drives_combine_to_one(site: Any) -> None:
    first, second = run(site, limit=30), run(site, skip=30, limit=20)
    whole = combine([first, second])
    assert whole.served == whole.sent == 50
    assert whole.latencies_us == first.latencies_us + second.latencies_us
    assert whole.elapsed_seconds == first.elapsed_seconds + second.elapsed_seconds
    assert whole.requests_per_worker == {"42": 50}


def test_open_loop_keeps_its_rate(site: Any) -> None:
    outcome = run(site, rate=100.0, seconds=0.6, drain_seconds=60.0)
    assert outcome.served == pytest.approx(60, abs=25)
    assert outcome.unserved == 0


def test_open_loop_charges_requests_for_waiting(site: Any) -> None:
    site.delay_seconds = 0.05
    outcome = run(site, rate=100.0, limit=20, connections=1, drain_seconds=60.0)
    assert outcome.served == 20
    assert max(outcome.latencies_us) > 500_000


def test_open_loop_gives_up_on_a_queue_and_counts_it(site: Any) -> None:
    site.delay_seconds = 0.2
    outcome = run(site, rate=200.0, limit=20, connections=1, drain_seconds=0.3)
    assert outcome.unserved > 0
    assert outcome.served + outcome.unserved == 20
    assert len(outcome.latencies_us) == 20


def test_failed_requests_are_counted_and_named(site: Any) -> None:
    site.failing_prefix = "/country/"
    outcome = run(site, limit=200)
    assert outcome.errors > 0
    assert outcome.served + outcome.errors == 200
    assert outcome.first_error == "GET /country/FR/: status 500"


def test_site_that_is_gone_is_an_error_not_a_crash(tmp_path: Path) -> None:
    gone = Drive(
        socket_path=str(tmp_path / "x"),
        cities=CITIES,
        seed=1,
        exponent=1.0,
        connections=1,
        limit=3,
    )
    outcome = asyncio.run(Driver(gone).run())
    assert (outcome.served, outcome.errors) == (0, 3)


def test_drive_in_its_own_process_reports_the_same(site: Any) -> None:
    outcome = drive_in_own_process(drive(site, limit=50))
    assert outcome.served == 50
    assert outcome.lateness_us
