"""What one comparison does: sizes, times and rates, all in one place."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
        repetitions: How often each point of a figure is measured.
        load_shares: Offered loads, as shares of what the fastest site served in the closed loop.
        load_seconds: Duration of one turn at each of them.
        value_sizes: Bytes of the values whose calls are timed.
        scaling_counts: How many processes, and threads, call at once.
        scaling_seconds: For how long.
        mix_seconds: How long each kind of load on one process lasts.
        capacity_mib: Sizes of a cache whose hit ratio is looked at.
        capacity_requests: Look-ups for each of them.
        traces: The most recorded traces that are replayed.
        stampedes: How often each way is overrun.
        restarts: How often sites are restarted; starting one takes seconds.
        restart_cities: Whose pages are asked for before a restart.
        restart_seconds: How long the hit ratio is looked at after a restart.
        worker_counts: How many gunicorn workers the memory is looked at with.
        worker_requests: Sent before it is.
        parts_requests: How many requests are taken apart.
    """

    seed: int = 20250
    cities: int = 3000
    exponent: float = 0.9
    workers: int = 4
    cache_bytes: int = 16 * MIB
    warmup_requests: int = 2000
    warmup_seconds: float = 8.0
    rounds: int = 2
    closed_seconds: float = 1.5
    closed_connections: int = 8
    open_seconds: float = 3.0
    open_connections: int = 64
    rate: float | None = None
    rate_share: float = 0.65
    call_rounds: int = 20
    calls_per_round: int = 50
    repetitions: int = 2
    load_shares: tuple[float, ...] = (0.25, 0.6, 0.9)
    load_seconds: float = 1.0
    value_sizes: tuple[int, ...] = (64, 4096, 1 << 18, 1 << 24)
    scaling_counts: tuple[int, ...] = (1, 2, 4)
    scaling_seconds: float = 0.2
    mix_seconds: float = 0.15
    capacity_mib: tuple[float, ...] = (2, 6, 16)
    capacity_requests: int = 10_000
    traces: int = 1
    stampedes: int = 1
    restarts: int = 1
    restart_cities: int = 150
    restart_seconds: float = 2.0
    worker_counts: tuple[int, ...] = (1, 4)
    worker_requests: int = 500
    parts_requests: int = 100


SHORT = Plan()
"""About six minutes: every figure, few points."""

FULL = Plan(
    warmup_requests=3000,
    warmup_seconds=12.0,
    rounds=5,
    closed_seconds=2.5,
    open_seconds=4.0,
    call_rounds=40,
    repetitions=5,
    load_shares=(0.2, 0.4, 0.6, 0.8, 1.0),
    load_seconds=1.5,
    value_sizes=(64, 1024, 1 << 13, 1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24),
    scaling_counts=(1, 2, 3, 4),
    scaling_seconds=0.4,
    mix_seconds=0.4,
    capacity_mib=(1, 2, 4, 8, 16, 24),
    capacity_requests=20_000,
    traces=3,
    stampedes=5,
    restarts=5,
    restart_seconds=4.0,
    worker_counts=(1, 2, 4, 8),
    worker_requests=700,
    parts_requests=400,
)
"""Everything, five times each."""

QUICK = replace(
    SHORT,
    workers=2,
    warmup_requests=150,
    warmup_seconds=2.0,
    rounds=1,
    closed_seconds=0.6,
    open_seconds=0.8,
    call_rounds=4,
    calls_per_round=20,
    repetitions=1,
    load_shares=(0.5,),
    load_seconds=0.5,
    value_sizes=(64, 1 << 16),
    scaling_counts=(1, 2),
    scaling_seconds=0.05,
    mix_seconds=0.05,
    capacity_mib=(2, 4),
    capacity_requests=2000,
    restart_cities=10,
    restart_seconds=0.5,
    worker_counts=(1,),
    worker_requests=50,
    parts_requests=10,
)
"""A plan that shows that everything works; its figures mean little."""
