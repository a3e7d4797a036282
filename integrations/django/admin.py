"""The admin page of the pools: what they hold, how well they do, and a button that clears one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django.contrib import admin, messages
from django.core.cache import InvalidCacheBackendError, caches
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from pmemcache.doctor import Diagnosis, diagnose
from pmemcache.integrations.django.aliases import pool_of, pools
from pmemcache.integrations.django.census import Census, take_census
from pmemcache.integrations.django.figures import Figures, figures_of
from pmemcache.integrations.django.models import Pool
from pmemcache.integrations.django.sharing import FAILURES
from pmemcache.integrations.django.workers import SUMS

if TYPE_CHECKING:
    from pmemcache.integrations.django.sharing import SharedPool

_HOT_TIER: Final = ("promotions", "hot_evictions", "stale")
_LOADERS: Final = ("loads", "load_errors", "load_waits", "load_takeovers", "loads_voided")
_FAILURES: Final = ("read_failures", "dropped_writes", "undecodable")


class Row(NamedTuple):
    """One count in a table."""

    name: str
    number: int
    meaning: str


class PoolPage(NamedTuple):
    """What the page says of one pool."""

    path: str
    aliases: list[str]
    figures: Figures | None = None
    census: Census | None = None
    place: Diagnosis | None = None
    error: str = ""

    @property
    def shares(self) -> dict[str, float]:
        """Percentages of the look-ups: in either tier, hot, warm, and missed."""
        if self.figures is None:
            return {}
        ratios = ("hit_ratio", "hot_ratio", "warm_ratio", "miss_ratio")
        return {name.removesuffix("_ratio"): 100 * getattr(self.figures, name) for name in ratios}

    @property
    def tables(self) -> list[tuple[str, list[Row]]]:
        """Return title and rows of each table of counts."""
        if self.figures is None:
            return []
        pool, totals = self.figures.pool, self.figures.report.totals
        return [
            ("Loaders and leases", _told(totals, _LOADERS)),
            ("Hot tiers", _told(totals, _HOT_TIER)),
            (
                "What should be 0",
                [
                    Row("recoveries", pool.recoveries, "parts repaired after a death in a write"),
                    Row("damaged", pool.damaged, "entries whose bytes made no sense"),
                    Row("lock timeouts", pool.lock_timeouts, "operations without a lock in time"),
                    Row("rejected", pool.rejected, "writes refused, for want of room or a lock"),
                    *_told(totals, _FAILURES),
                ],
            ),
        ]


@admin.register(Pool)
class PoolAdmin(admin.ModelAdmin):  # type: ignore[type-arg] # Django's has no parameter
    """One page for all pools. Staff need the permission to view; another one to clear."""

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002 - Django's
        """Refuse: pools are made by the settings."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Refuse: there is nothing to edit."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Refuse: a pool is cleared, not deleted."""
        return False

    def has_clear_permission(self, request: HttpRequest) -> bool:
        """Whether the user may clear pools."""
        user: Any = request.user
        return bool(user.has_perm("pmemcache.clear_pool"))

    def get_urls(self) -> list[URLPattern]:
        """Return the addresses of the page and of its button."""
        view = self.admin_site.admin_view
        return [
            path("", view(self.pools_view), name="pmemcache_pool_changelist"),
            path("clear/<str:alias>/", view(self.clear_view), name="pmemcache_pool_clear"),
        ]

    def pools_view(self, request: HttpRequest) -> HttpResponse:
        """Show all pools."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "title": "Cache",
            "opts": self.opts,
            "pools": [_page(shared, aliases) for shared, aliases in pools().items()],
            "may_clear": self.has_clear_permission(request),
        }
        return TemplateResponse(request, "pmemcache/admin_page.html", context)

    def clear_view(self, request: HttpRequest, alias: str) -> HttpResponse:
        """Clear the pool of *alias*, by POST with the CSRF token only."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_clear_permission(request):
            raise PermissionDenied
        try:
            pool_of(alias)
        except InvalidCacheBackendError as error:
            raise Http404(str(error)) from error
        try:
            caches[alias].clear()
        except FAILURES as error:
            messages.error(request, f"The pool of {alias} was not cleared: {error}")
        else:
            messages.success(request, f"The pool of {alias} was cleared.")
        page = reverse("admin:pmemcache_pool_changelist", current_app=self.admin_site.name)
        return redirect(page)


def _page(shared: SharedPool, aliases: list[str]) -> PoolPage:
    where = shared.request.path
    try:
        figures = figures_of(shared)
        census = take_census(shared.pool())
    except (ImproperlyConfigured, *FAILURES) as error:
        return PoolPage(where, aliases, error=str(error))
    return PoolPage(where, aliases, figures, census, diagnose(Path(where).parent, probe=False))


def _told(totals: dict[str, int], names: tuple[str, ...]) -> list[Row]:
    return [Row(name.replace("_", " "), totals[name], SUMS[name]) for name in names]
