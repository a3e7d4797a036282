"""A panel of django-debug-toolbar: which tier answered during a request, and what the pools hold.

`DEBUG_TOOLBAR_PANELS` takes `"pmemcache.integrations.django.panels.PmemCachePanel"`; the toolbar's
own cache panel shows each call. Needs django-debug-toolbar (`pmemcache[debug-toolbar]`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from debug_toolbar.panels import Panel
from django.core.exceptions import ImproperlyConfigured

from pmemcache.integrations.django.aliases import pools
from pmemcache.integrations.django.sharing import FAILURES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.http import HttpRequest, HttpResponse

    from pmemcache.integrations.django.sharing import SharedPool

_TIERED: Final = (
    *("hot_hits", "promotions", "loads", "load_errors", "load_waits", "stale", "undecodable"),
)
_POOL: Final = ("hit", "miss", "put", "delete", "evict", "expired", "rejected", "lock_timeouts")


class PmemCachePanel(Panel):
    """What the pmemcaches did while this request was answered.

    Pools count for all processes, so on a site that others use at the same time their look-ups are
    in here too; the hot tier's are this process's. What this process looked up besides what it was
    asked for, such as the tags of an entry, is left out.
    """

    template = "pmemcache/panel.html"
    title = "pmemcache"
    nav_title = "pmemcache"

    @property
    def nav_subtitle(self) -> str:
        """Hits and misses, in the toolbar's list of panels."""
        pools_seen = self.get_stats().get("pools", [])  # type: ignore[no-untyped-call] # the toolbar's
        hits = sum(pool["changes"].get("hot_hits", 0) for pool in pools_seen)
        hits += sum(pool["changes"].get("hit", 0) for pool in pools_seen)
        misses = sum(pool["changes"].get("miss", 0) for pool in pools_seen)
        return f"{hits} hits, {misses} misses"

    def enable_instrumentation(self) -> None:
        """Note the counts before the request."""
        self._before = {label: counts for label, _shared, counts in _counted()}

    def generate_stats(self, request: HttpRequest, response: HttpResponse) -> None:  # noqa: ARG002
        """Keep what changed since, and what the pools hold now."""
        before = getattr(self, "_before", {})
        self.record_stats(  # type: ignore[no-untyped-call] # the toolbar's
            {
                "pools": [
                    _described(label, shared, counts, before.get(label, {}))
                    for label, shared, counts in list(_counted())
                ]
            }
        )


def _counted() -> Iterator[tuple[str, SharedPool, dict[str, int]]]:
    """Yield the aliases and the counts of each pool that can be read."""
    for shared, aliases in pools().items():
        try:
            stats = shared.cache().stats()
            pool_stats = shared.pool().stats()
        except (ImproperlyConfigured, *FAILURES):  # the log says why
            continue
        counts = {name: getattr(stats, name) for name in _TIERED}
        counts |= {name: getattr(pool_stats, name) for name in _POOL}
        counts["hit"] -= stats.own_hits
        counts["miss"] -= stats.own_gets - stats.own_hits
        yield ", ".join(aliases), shared, counts


def _described(
    label: str, shared: SharedPool, counts: dict[str, int], before: dict[str, int]
) -> dict[str, Any]:
    stats = shared.cache().stats()
    return {
        "aliases": label,
        "path": shared.request.path,
        "changes": {name: count - before.get(name, 0) for name, count in counts.items()},
        "pool": shared.pool().stats().as_dict(),
        "hot_bytes": stats.hot_bytes,
        "hot_entries": stats.hot_entries,
    }
