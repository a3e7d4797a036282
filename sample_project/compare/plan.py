"""What one comparison does: sizes, times and rates, all in one place."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The settings that every backend gets alike.

    The budget is small so that a short run fills it: a shared cache holds about half of what
    all cities' pages are made of; the quarter of it that each of four LocMemCaches gets, far less.

    Args:
        seed: Determines the requests and their arrival times.
        cities: How many cities, most populous first, requests are drawn from.
        exponent: Of the Zipf law over these cities.
        workers: gunicorn's worker processes.
        cache_bytes: The budget of each cache.
        warmup_requests: Sent to each freshly started site before anything is measured.
        warmup_seconds: The longest a warm-up may take; only a site without a cache needs it.
        rounds: Into how many turns each kind of load is cut; every round visits each backend
            once, so that a noisy moment of the host does not fall on one of them alone.
        closed_seconds: Duration of one turn of the closed loop.
        closed_connections: Requests under way at once in the closed loop.
        open_seconds: Duration of one turn of the open loop.
        open_connections: The most requests under way at once in the open loop.
        rate: Requests a second of the open loop; `None`: `rate_share` of what the slowest
            cache served while it was warmed up.
        call_rounds: Rounds of the single-call measurement; each visits every backend once.
        calls_per_round: Calls of each kind in one round; a tenth of it for `get_many`.
    """

    seed: int = 20250
    cities: int = 3000
    exponent: float = 0.9
    workers: int = 4
    cache_bytes: int = 16 * MIB
    warmup_requests: int = 3000
    warmup_seconds: float = 12.0
    rounds: int = 4
    closed_seconds: float = 2.5
    closed_connections: int = 8
    open_seconds: float = 4.0
    open_connections: int = 64
    rate: float | None = None
    rate_share: float = 0.65
    call_rounds: int = 40
    calls_per_round: int = 50


QUICK = Plan(
    warmup_requests=150,
    warmup_seconds=2.0,
    rounds=1,
    closed_seconds=1.0,
    open_seconds=1.0,
    call_rounds=4,
    calls_per_round=20,
)
"""A plan that shows that everything works; its figures mean little."""
