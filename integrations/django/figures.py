"""All that is to be told about one pool: what admin page, metrics and commands are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pmemcache.integrations.django.workers import (
    OWN_GETS,
    OWN_HITS,
    WorkerReport,
    add_to_report,
    read_report,
)

if TYPE_CHECKING:
    from pmemcache.integrations.django.sharing import SharedPool
    from pmemcache.stats import PoolStats
    from pmemcache.types import Geometry

__all__ = ["Figures", "figures_of"]


@dataclass(frozen=True)
class Figures:
    """One pool at one moment: the pool's own figures, and those of the workers' hot tiers."""

    path: str
    geometry: Geometry
    pool: PoolStats
    report: WorkerReport

    @property
    def hot_hits(self) -> int:
        """Look-ups answered from a worker's own memory."""
        return self.report.totals["hot_hits"]

    @property
    def warm_hits(self) -> int:
        """Look-ups answered by the pool, without those for its own ends."""
        return max(0, self.pool.hit - self.report.totals[OWN_HITS])

    @property
    def misses(self) -> int:
        """Look-ups that found nothing, likewise."""
        totals = self.report.totals
        return max(0, self.pool.miss - totals[OWN_GETS] + totals[OWN_HITS])

    @property
    def lookups(self) -> int:
        """All look-ups."""
        return self.hot_hits + self.warm_hits + self.misses

    @property
    def hot_ratio(self) -> float:
        """The share of look-ups that a hot tier answered, 0.0 to 1.0."""
        return self._share(self.hot_hits)

    @property
    def warm_ratio(self) -> float:
        """The share of look-ups that the pool answered with an entry."""
        return self._share(self.warm_hits)

    @property
    def miss_ratio(self) -> float:
        """The share of look-ups that found nothing."""
        return self._share(self.misses)

    @property
    def hit_ratio(self) -> float:
        """The share of look-ups that either tier answered."""
        return self.hot_ratio + self.warm_ratio

    def _share(self, count: int) -> float:
        return count / self.lookups if self.lookups else 0.0

    @property
    def used_ratio(self) -> float:
        """How full the pool is, 0.0 to 1.0."""
        capacity = self.pool.capacity_bytes
        return min(1.0, self.pool.pool_size_used / capacity) if capacity else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the figures by name, ready for JSON."""
        return {
            "path": self.path,
            "lookups": self.lookups,
            "hot_hits": self.hot_hits,
            "warm_hits": self.warm_hits,
            "misses": self.misses,
            "hit_ratio": self.hit_ratio,
            "hot_ratio": self.hot_ratio,
            "warm_ratio": self.warm_ratio,
            "miss_ratio": self.miss_ratio,
            "used_ratio": self.used_ratio,
            "pool": self.pool.as_dict(),
            "workers": [vars(worker) for worker in self.report.workers],
            "totals": self.report.totals,
        }


def figures_of(shared: SharedPool) -> Figures:
    """Return the figures of a pool, opening it if need be.

    Raises:
        ImproperlyConfigured: The settings ask for a pool that cannot be.
        PmemCacheError, OSError: It cannot be opened or read now.
    """
    pool = shared.pool()
    add_to_report(shared)
    report = read_report(shared)  # before the statistics, which count this as a hit
    return Figures(shared.request.path, pool.geometry(), pool.stats(), report)
