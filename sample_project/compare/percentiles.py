"""Percentiles and the summary of a set of latencies."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Sequence


class Summary(TypedDict):
    """Latencies of one kind of operation; all times in microseconds."""

    count: int
    mean_us: float
    p50_us: float
    p95_us: float
    p99_us: float


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest sample that at least *share* of all samples do not exceed.

    This is the nearest-rank percentile: always a value that was measured, never
    an interpolation.

    Args:
        ordered: Samples in ascending order.
        share: Between 0 (exclusive) and 1.

    Raises:
        ValueError: There are no samples, or *share* is outside its range.
    """
    if not ordered:
        message = "a percentile needs at least one sample"
        raise ValueError(message)
    if not 0 < share <= 1:
        message = f"share must be in (0, 1], not {share}"
        raise ValueError(message)
    return ordered[math.ceil(share * len(ordered)) - 1]


def summarise(samples_us: Sequence[float]) -> Summary:
    """Return count, mean and percentiles of *samples_us*.

    Raises:
        ValueError: There are no samples.
    """
    ordered = sorted(samples_us)
    return Summary(
        count=len(ordered),
        p50_us=percentile(ordered, 0.50),
        p95_us=percentile(ordered, 0.95),
        p99_us=percentile(ordered, 0.99),
        mean_us=sum(ordered) / len(ordered),
    )
