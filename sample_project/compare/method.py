"""How a comparison was made, as (name, text) pairs for the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compare.workload import Mix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from compare.results import Report

MIB = 1024 * 1024

CONNECTIONS = (
    "One request per connection over a Unix socket, as a reverse proxy in front of gunicorn's sync "
    "workers does: an idle worker takes the next request, so no backend is lucky with how its "
    "connections spread. Connecting costs every backend the same."
)
PROXY = (
    "A proxy in C between the client and a Redis of its own makes both ways late, as a network "
    "within a data centre would."
)
STALE_READ = (
    "A page that shows an older revision of its city than a write whose answer had arrived before "
    "the page was asked for."
)
COMPUTING = (
    "On a miss the site computes and stores; on pmemcache one worker does so while the others that "
    "miss the same wait, and what was deleted meanwhile is not stored. Other caches have no such "
    "call, so there every worker that misses computes (places/caching.py)."
)
HITS = (
    "Hits and misses are lookups of facts, neighbourhoods and statistics; the pages' template "
    "fragments are cached as well but not counted."
)


def method(report: Report) -> Iterator[tuple[str, str]]:
    """Yield everything that somebody needs to repeat or to doubt the comparison."""
    yield "Command", report["command"]
    yield "Started, took", f"{report['started']}, {report['seconds']:.0f} s"
    yield "Requests", _requests(report)
    yield "Warm-up", _warm_up(report)
    yield "Closed loop", _closed_loop(report)
    yield "Open loop", _open_loop(report)
    yield "Connections", CONNECTIONS
    yield "Byte budget", _byte_budget(report)
    yield "Working set", _working_set(report)
    yield "Spread", _spread(report)
    yield "Misses", HITS
    yield from _delay(report)
    yield "Stale read", STALE_READ
    yield "Computing", COMPUTING
    yield from _host(report)


def _requests(report: Report) -> str:
    plan, mix = report["plan"], Mix()
    return (
        f"Seed {plan['seed']}: {mix.city_page:.0%} city pages, {mix.nearby_api:.0%} JSON of nearby "
        f"places, {mix.country_page:.0%} country pages, {mix.write:.0%} writes that change a city "
        f"and delete what was cached of it. Cities are drawn from the {plan['cities']:,} most "
        f"populous by a Zipf law with exponent {plan['exponent']:g}. The same sequence, in the "
        "same order, for every backend."
    )


def _warm_up(report: Report) -> str:
    plan = report["plan"]
    return (
        f"{plan['warmup_requests']:,} requests (at most {plan['warmup_seconds']:g} s) to each "
        "site, on a fresh copy of the database and an empty cache; the measurement goes on where "
        "the warm-up ends in the sequence. Then the sites take turns while the others are idle: "
        f"{plan['rounds']} rounds of the open loop, then of the closed loop, each beginning with "
        "another site."
    )


def _closed_loop(report: Report) -> str:
    plan = report["plan"]
    return (
        f"{plan['closed_connections']} connections, {plan['rounds']} turns of "
        f"{plan['closed_seconds']:g} s. A faster site gets further in the sequence."
    )


def _open_loop(report: Report) -> str:
    plan = report["plan"]
    chosen = f"{plan['rate_share']:.0%} of what the slowest cache served in its warm-up"
    return (
        f"{report['rate']:g} requests/s, {plan['rounds']} turns of {plan['open_seconds']:g} s "
        f"({'given' if plan['rate'] else chosen}), arriving independently of each other at "
        f"seeded times, at most {plan['open_connections']} under way at once. The requests and "
        "their times are the same for all. Misses, queries, memory and stale reads are from this "
        "part."
    )


def _byte_budget(report: Report) -> str:
    plan, footprint = report["plan"], report["footprint"]
    share = plan["cache_bytes"] / plan["workers"]
    return (
        f"{plan['cache_bytes'] / MIB:g} MiB for each: Redis as maxmemory with allkeys-lru and no "
        "persistence, Memcached as -m, diskcache as size_limit, pmemcache as the size of its pool "
        "(with a hot tier a quarter less, which the workers have for copies), FileBasedCache as "
        f"MAX_ENTRIES for all, LocMemCache as {share / MIB:g} MiB in "
        f"each worker, which at {footprint['entry_bytes']:,} measured bytes an entry (of which "
        f"{footprint['payload_bytes']:,} pickled value) is MAX_ENTRIES = "
        f"{share // footprint['entry_bytes']:,.0f}."
    )


def _spread(report: Report) -> str:
    plan = report["plan"]
    return (
        f"Each figure of the table is of {plan['rounds']} turns together; least and most of the "
        f"single turns stand below it. Each point of a figure is the median of "
        f"{plan['repetitions']} repetitions, its band least and most, unless the figure says "
        "otherwise. Every latency has its misses beside it."
    )


def _delay(report: Report) -> Iterator[tuple[str, str]]:
    for result in report["backends"]:
        if result["note"]:
            yield (
                f"Delay of {result['label']}",
                (
                    f"{PROXY} What was measured of it before the run: {result['note']}. Each "
                    "connection has threads of its own, so connections do not wait for each other."
                ),
            )


def _working_set(report: Report) -> str:
    working_set = report["working_set"]
    return (
        f"Warm-up and open loop send {working_set['requests']:,} requests, which ask for "
        f"{working_set['entries']:,} different entries, about "
        f"{working_set['bytes'] / MIB:.1f} MiB as LocMemCache stores them."
    )


def _host(report: Report) -> Iterator[tuple[str, str]]:
    environment = report["environment"]
    system = environment["pool_file_system"]
    before, after = environment["load_average"][0], report["load_average_after"][0]
    versions = (f"{name} {version}" for name, version in environment["versions"].items())
    yield "Host", f"{environment['host']}, {environment['cpu']}, {environment['cores']} cores"
    yield (
        "Kernel, load",
        f"Linux {environment['kernel']}; load average {before:g} before, {after:g} after.",
    )
    yield (
        "File system of the pool",
        (
            f"{system['kind']} ({system['source']}, {system['options']}) at {system['directory']}: "
            f"{system['medium']}."
        ),
    )
    yield "Versions", ", ".join([environment["python"], *versions])
