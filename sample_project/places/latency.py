"""How long look-ups take, in all workers: for `/ops/`.

Times are counted in classes a fifth wide, each by one of the sums that workers tell each other
through the pool. Other caches than pmemcache have no such sums, and nothing is counted.
"""

from __future__ import annotations

from math import log2
from typing import TYPE_CHECKING

from pmemcache.integrations.django.aliases import pmem_settings, pool_of
from pmemcache.integrations.django.workers import count

if TYPE_CHECKING:
    from collections.abc import Mapping

CLASSES_PER_DOUBLING = 4
SHORTEST_US = 0.1

_PREFIX = "latency"


def observe(kind: str, seconds: float) -> None:
    """Count one look-up of *kind*: a hit, a load, or another word."""
    if "default" not in pmem_settings():
        return
    microseconds = max(seconds * 1e6, SHORTEST_US)
    count(
        pool_of("default"), f"{_PREFIX}:{kind}:{round(CLASSES_PER_DOUBLING * log2(microseconds))}"
    )


def histograms(totals: Mapping[str, int]) -> dict[str, list[tuple[float, int]]]:
    """Return for each kind its times in microseconds, ascending, each with its count."""
    found: dict[str, list[tuple[float, int]]] = {}
    for name, number in totals.items():
        prefix, _, rest = name.partition(":")
        kind, _, size_class = rest.partition(":")
        if prefix == _PREFIX:
            microseconds = 2 ** (int(size_class) / CLASSES_PER_DOUBLING)
            found.setdefault(kind, []).append((round(microseconds, 3), number))
    return {kind: sorted(times) for kind, times in sorted(found.items())}
