"""Latency of requests against offered load: an open loop at several rates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compare.driver import drive_in_own_process
from compare.figures import Figure, panel, series
from compare.percentiles import summarise

if TYPE_CHECKING:
    from compare.driver import Outcome
    from compare.experiments.bench import Bench
    from compare.percentiles import Summary
    from compare.site import Site

PERCENTILES = ("p50_us", "p95_us", "p99_us")


def measure(bench: Bench) -> Figure:
    """Return the figure; the sites are those of the comparison, warm."""
    plan = bench.plan
    fastest = max(
        done.served / done.elapsed_seconds
        for site in bench.sites
        for done in [site.combined("closed")]
    )
    rates = [float(f"{share * fastest:.2g}") for share in plan.load_shares]
    # Beyond what any of them has been asked for.
    skip = 10 * plan.warmup_requests
    seen: dict[str, dict[float, list[Outcome]]] = {}
    for repetition in bench.repetitions(plan.repetitions):
        for number, rate in enumerate(rates):
            limit = max(1, round(rate * plan.load_seconds))
            for place in range(len(bench.sites)):
                site = bench.sites[(place + repetition + number) % len(bench.sites)]
                outcome = _drive(bench, site, rate, skip=skip, limit=limit)
                seen.setdefault(site.backend.key, {}).setdefault(rate, []).append(outcome)
            skip += limit
    return Figure(
        name="load_curve",
        title="Latency of requests against offered load",
        lead=(
            f"Open loop: requests are due at their own times, {plan.load_seconds:g} s at each "
            "load, and latency counts from then. Where a line rises steeply the site cannot keep "
            "up; what was not answered when the driver gave up counts as it stood, so those "
            "points are lower bounds."
        ),
        notes=_notes(bench, seen),
        columns=2,
        panels=[
            *(
                panel(
                    f"{name[:3]} of requests",
                    x="offered load, requests/s",
                    y="latency, ms (log)",
                    better="lower",
                    y_scale="log",
                    series=[
                        series(key, {rate: _latencies(found, name) for rate, found in by.items()})
                        for key, by in seen.items()
                    ],
                )
                for name in PERCENTILES
            ),
            panel(
                "miss ratio beside it",
                x="offered load, requests/s",
                y="misses per look-up",
                better="lower",
                series=[
                    series(key, {rate: _miss_ratios(found) for rate, found in by.items()})
                    for key, by in seen.items()
                    if key != "none"
                ],
            ),
        ],
    )


def _drive(bench: Bench, site: Site, rate: float, *, skip: int, limit: int) -> Outcome:
    drive = site.drive(
        bench.plan, skip=skip, limit=limit, rate=rate, connections=bench.plan.open_connections
    )
    outcome = drive_in_own_process(drive)
    site.acknowledged = outcome.acknowledged
    return outcome


def _latencies(found: list[Outcome], name: str) -> list[float]:
    summaries: list[Summary] = [summarise(one.latencies_us) for one in found if one.latencies_us]
    return [summary[name] / 1000 for summary in summaries]  # type: ignore[literal-required]


def _miss_ratios(found: list[Outcome]) -> list[float]:
    looked_up = [(one.cache_misses, one.cache_hits + one.cache_misses) for one in found]
    return [misses / lookups for misses, lookups in looked_up if lookups]


def _notes(bench: Bench, seen: dict[str, dict[float, list[Outcome]]]) -> list[str]:
    notes = []
    for site in bench.sites:
        unserved = sum(one.unserved for by in seen[site.backend.key].values() for one in by)
        errors = sum(one.errors for by in seen[site.backend.key].values() for one in by)
        if unserved or errors:
            notes.append(f"{site.backend.label}: {unserved:,} unanswered, {errors} errors.")
    return notes
