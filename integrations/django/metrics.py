"""The figures of every pool for Prometheus. Needs prometheus-client (`pmemcache[prometheus]`).

They are the same in whatever worker answers: the pools count for all processes, and the workers
tell each other what their hot tiers did. So prometheus-client's multiprocess mode is not needed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from pmemcache.binding import stat_table
from pmemcache.integrations.django.aliases import pools
from pmemcache.integrations.django.figures import figures_of
from pmemcache.integrations.django.sharing import FAILURES
from pmemcache.integrations.django.workers import SUMS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from pmemcache.integrations.django.figures import Figures

__all__ = ["PmemCacheCollector", "metrics_view"]

logger: Final = logging.getLogger("pmemcache.django")

# What can also grow smaller; everything else is counted since the pool was made.
GAUGES: Final = frozenset(
    {
        *("entries", "dram_size_used", "pool_size_used", "payload_bytes", "allocated_bytes"),
        *("capacity_bytes", "attached"),
    }
)
_LABELS: Final = ("cache",)


class PmemCacheCollector(Collector):
    """Collects the figures of all pools, labelled with their aliases.

    `prometheus_client.REGISTRY.register(PmemCacheCollector())` adds them to what a site exports
    already; `metrics_view` exports them by themselves.
    """

    def collect(self) -> Iterator[Metric]:
        """Yield each figure of each pool; one that cannot be read has `pmemcache_up` 0."""
        up = GaugeMetricFamily("pmemcache_up", "whether the pool can be read", labels=_LABELS)
        read: dict[str, Figures] = {}
        for shared, aliases in pools().items():
            label = ",".join(aliases)
            try:
                read[label] = figures_of(shared)
            except (ImproperlyConfigured, *FAILURES) as error:
                logger.warning("no metrics of %s: %s", label, error)
            up.add_metric([label], float(label in read))
        yield up
        for name, unit, sentence in stat_table():
            family = _family(name, unit, sentence)
            for label, figures in read.items():
                family.add_metric([label], getattr(figures.pool, name))
            yield family
        for name, sentence in SUMS.items():
            family = _family(name, "count", sentence)
            for label, figures in read.items():
                family.add_metric([label], figures.report.totals[name])
            yield family
        yield from _hot_tiers(read)

    def describe(self) -> list[Metric]:
        """Return nothing, so that registering opens no pool."""
        return []


def metrics_view(_request: HttpRequest) -> HttpResponse:
    """Answer with the figures in Prometheus' text format. Who may ask is for your URLs to say."""
    registry = CollectorRegistry()
    registry.register(PmemCacheCollector())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _family(name: str, unit: str, sentence: str) -> CounterMetricFamily | GaugeMetricFamily:
    """Return the empty metric of a figure, named as Prometheus wants it."""
    bytes_named = name if unit != "bytes" or name.endswith("_bytes") else f"{name}_bytes"
    kind = GaugeMetricFamily if name in GAUGES else CounterMetricFamily
    return kind(f"pmemcache_{bytes_named}", sentence, labels=_LABELS)


def _hot_tiers(read: dict[str, Figures]) -> Iterator[Metric]:
    """Yield what the hot tiers of the workers hold now."""
    for name, sentence in (
        ("hot_entries", "copies in the workers' hot tiers"),
        ("hot_bytes", "bytes of the copies in the workers' hot tiers"),
        ("hot_capacity_bytes", "most the workers' hot tiers may take"),
    ):
        family = GaugeMetricFamily(f"pmemcache_{name}", sentence, labels=_LABELS)
        for label, figures in read.items():
            family.add_metric([label], sum(getattr(each, name) for each in figures.report.workers))
        yield family
