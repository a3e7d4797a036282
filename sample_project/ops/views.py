"""`/ops/`: what the cache does, live.

The page asks for its figures once a second, and draws them itself. Anybody may look here, for this
is a sample: a real site puts `django.contrib.admin.views.decorators.staff_member_required` before
both views.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.http import JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from places.latency import histograms

from pmemcache.doctor import diagnose
from pmemcache.errors import PmemCacheError
from pmemcache.integrations.django.aliases import pmem_settings, pool_of
from pmemcache.integrations.django.census import take_census
from pmemcache.integrations.django.figures import figures_of

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

# Enough for a fair estimate, and twenty milliseconds' work.
CENSUS_LIMIT = 2000
NAMESPACES_SHOWN = 8

_UNREADABLE = (ImproperlyConfigured, PmemCacheError, OSError)


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """Show the page with its first figures in it."""
    if "default" not in pmem_settings():
        return render(request, "ops/other_cache.html")
    shared = pool_of("default")
    context: dict[str, Any] = {"path": shared.request.path, "options": shared.request.pool}
    try:
        context["first"] = read_figures()
        context["place"] = diagnose(Path(shared.request.path), probe=False)
    except _UNREADABLE as error:
        context["error"] = str(error)
    return render(request, "ops/page.html", context)


@require_safe
@never_cache
def figures(_request: HttpRequest) -> JsonResponse:
    """Return the figures of now; 503 when the pool cannot be read."""
    if "default" not in pmem_settings():
        return JsonResponse({"error": "The site's cache is no pmemcache."}, status=404)
    try:
        return JsonResponse(read_figures())
    except _UNREADABLE as error:
        return JsonResponse({"error": str(error)}, status=503)


def read_figures() -> dict[str, Any]:
    """Return everything that the page draws.

    Raises:
        ImproperlyConfigured, PmemCacheError, OSError: The pool cannot be opened or read.
    """
    shared = pool_of("default")
    found = figures_of(shared)
    census = take_census(shared.pool(), CENSUS_LIMIT)
    return {
        "at": time.time(),
        **found.as_dict(),
        "latency": histograms(found.report.totals),
        "namespaces": [vars(each) for each in census.namespaces[:NAMESPACES_SHOWN]],
        "is_sample": census.is_sample,
    }
