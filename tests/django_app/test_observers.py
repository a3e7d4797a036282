"""Metrics, health and the panel of the debug toolbar."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from debug_toolbar.toolbar import StoredDebugToolbar
from django.core.cache import cache
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from pmemcache.binding import stat_table
from pmemcache.integrations.django import health, metrics
from pmemcache.integrations.django.aliases import pool_of
from pmemcache.integrations.django.backend import PmemCache
from pmemcache.integrations.django.metrics import GAUGES, PmemCacheCollector
from pmemcache.integrations.django.panels import _counted
from pmemcache.integrations.django.workers import SUMS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest
    from django.test import Client

    SetCaches = Callable[..., None]


def scraped(client: Client) -> dict[str, float]:
    text = client.get("/metrics/").content.decode()
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_are_those_of_the_pool_and_of_the_hot_tiers(client: Client) -> None:
    cache.set("city:7", "Lisbon")
    for _read in range(6):
        cache.get("city:7")
    cache.get("missing")

    values = scraped(client)

    label = "[('cache', 'default')]"
    assert values[f"pmemcache_up{label}"] == 1
    assert values[f"pmemcache_put_total{label}"] == 2  # that of the workers' report is one
    own_hits = values[f"pmemcache_own_hits_total{label}"]
    own_misses = values[f"pmemcache_own_gets_total{label}"] - own_hits
    assert values[f"pmemcache_hit_total{label}"] - own_hits == 2
    assert values[f"pmemcache_miss_total{label}"] - own_misses == 1
    assert values[f"pmemcache_hot_hits_total{label}"] == 4
    assert (
        values[f"pmemcache_capacity_bytes{label}"]
        == pool_of("default").pool().stats().capacity_bytes
    )
    assert values[f"pmemcache_hot_entries{label}"] == 1


def test_every_statistic_is_exported(client: Client) -> None:
    names = {name.partition("[")[0] for name in scraped(client)}
    for name, unit, _sentence in stat_table():
        bytes_named = name if unit != "bytes" or name.endswith("_bytes") else f"{name}_bytes"
        assert f"pmemcache_{bytes_named}{'' if name in GAUGES else '_total'}" in names
    for name in SUMS:
        assert f"pmemcache_{name}_total" in names


def test_pool_that_cannot_be_read_is_down(
    client: Client, set_caches: SetCaches, tmp_path: Path
) -> None:
    (tmp_path / "bad.pool").write_text("something else", encoding="utf-8")
    set_caches(default={}, bad={"LOCATION": str(tmp_path / "bad.pool")})

    values = scraped(client)

    assert values["pmemcache_up[('cache', 'bad')]"] == 0
    assert values["pmemcache_up[('cache', 'default')]"] == 1
    assert "pmemcache_entries[('cache', 'bad')]" not in values


def test_collector_is_registered_without_opening_a_pool() -> None:
    registry = CollectorRegistry()
    registry.register(PmemCacheCollector())
    assert not pool_of("default").is_open
    labels = {"cache": "default"}
    assert registry.get_sample_value("pmemcache_entries", labels) is not None
    assert {name for name, _unit, _sentence in stat_table()} >= metrics.GAUGES


def test_health_is_a_round_trip(client: Client, set_caches: SetCaches) -> None:
    set_caches(default={}, pages={"KEY_PREFIX": "pages"})

    response = client.get("/health/")

    assert response.status_code == 200
    assert response.json()["ok"] is True
    assert {alias: each["ok"] for alias, each in response.json()["caches"].items()} == {
        "default": True,
        "pages": True,
    }
    assert "no-store" in response["Cache-Control"]
    assert list(cache.iter_keys("*")) == []


def test_cache_that_cannot_be_opened_is_unhealthy(client: Client, tmp_path: Path) -> None:
    (tmp_path / "site.pool").write_text("something else", encoding="utf-8")

    response = client.get("/health/")

    assert response.status_code == 503
    assert response.json()["caches"]["default"]["ok"] is False
    assert str(tmp_path) not in response.content.decode()
    assert "site.pool" in health.health_of("default").problem


def test_cache_that_loses_values_is_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PmemCache, "set", lambda *_arguments, **_options: False)
    assert "is not there" in health.health_of("default").problem


def test_cache_that_keeps_what_was_deleted_is_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PmemCache, "delete", lambda *_arguments, **_options: True)
    assert "is still there" in health.health_of("default").problem


def test_panel_leaves_out_what_was_looked_up_for_tags() -> None:
    cache.set("key", 1, tags=("a", "b"))
    (before,) = [counts for _label, _shared, counts in _counted()]
    cache.get("key")
    cache.get("missing")
    (after,) = [counts for _label, _shared, counts in _counted()]
    assert (after["hit"] - before["hit"], after["miss"] - before["miss"]) == (1, 1)


def test_panel_counts_what_the_request_did(client: Client) -> None:
    # By other reads before the page's, the toolbar must not be misled.
    for missing in range(5):
        cache.get(missing)

    page = client.get("/page/").content.decode()

    (request_id,) = re.findall(r'data-request-id="(\w+)"', page)
    toolbar = StoredDebugToolbar.from_store(request_id)
    panel = toolbar.get_panel_by_id("PmemCachePanel")
    (pool,) = panel.get_stats()["pools"]
    # One miss of get_or_set and its own reads; the value is hot after two.
    assert pool["changes"]["miss"] == 1
    assert pool["changes"]["put"] == 1
    assert pool["changes"]["hit"] + pool["changes"]["hot_hits"] == 5
    assert panel.nav_subtitle == "5 hits, 1 misses"
    assert re.search(r"<td>hot_hits</td>\s*<td>\d", panel.content)
    assert pool_of("default").request.path in panel.content
