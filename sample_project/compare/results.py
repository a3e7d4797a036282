"""The shape of `report.json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from compare.calls import CallCosts
    from compare.environment import Environment
    from compare.figures import Figure
    from compare.footprint import Footprint
    from compare.percentiles import Summary


QUEUE_SECONDS = 1.0
"""A site that needs longer than this for what had queued up did not keep up."""


class Phase(TypedDict):
    """What the driver saw of one site under one kind of load."""

    requests_per_second: float
    latency: Summary
    lateness: Summary
    elapsed_seconds: float
    queue_seconds: float
    served: int
    unserved: int
    errors: int
    first_error: str
    reads: int
    writes: int
    stale_reads: int
    cache_hits: int
    cache_misses: int
    database_queries: int
    requests_per_worker: dict[str, int]
    latencies_us: list[int]


class Memory(TypedDict):
    """Bytes taken by a site and its cache after the open loop; PSS without the pool's files."""

    site_bytes: int
    server_bytes: int
    pool_bytes: int
    total_bytes: int


class BackendResult(TypedDict):
    """Everything about one backend."""

    key: str
    label: str
    setting: dict[str, Any]
    note: str
    spread: dict[str, list[float]]
    commands: list[str]
    warmup_requests: int
    warmup_seconds: float
    closed: Phase
    open: Phase
    memory: Memory


class WorkingSet(TypedDict):
    """What the requests of warm-up and open loop ask of a cache."""

    requests: int
    entries: int
    bytes: int


class Report(TypedDict):
    """One comparison."""

    command: str
    started: str
    seconds: float
    quick: bool
    form: str
    plan: dict[str, Any]
    rate: float
    environment: Environment
    load_average_after: list[float]
    footprint: Footprint
    working_set: WorkingSet
    skipped: dict[str, str]
    lost: dict[str, str]
    backends: list[BackendResult]
    calls: CallCosts
    figures: list[Figure]


def hit_ratio(phase: Phase) -> float | None:
    """Return hits per lookup, `None` when nothing was looked up."""
    lookups = phase["cache_hits"] + phase["cache_misses"]
    return phase["cache_hits"] / lookups if lookups else None


def queries_per_request(phase: Phase) -> float:
    """Return database queries per served request."""
    return phase["database_queries"] / max(1, phase["served"])


def sustained(phase: Phase) -> bool:
    """Whether a site kept up with an open loop: no turn left a queue behind."""
    return phase["unserved"] == 0 and phase["queue_seconds"] <= QUEUE_SECONDS
