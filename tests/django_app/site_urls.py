"""The addresses of the site under test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.core.cache import cache
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import include, path

from pmemcache.integrations.django.health import health_view
from pmemcache.integrations.django.metrics import metrics_view

if TYPE_CHECKING:
    from django.http import HttpRequest


def shows(request: HttpRequest) -> bool:
    """Whether the debug toolbar is shown."""
    return request.path == "/page/"


def page(_request: HttpRequest) -> HttpResponse:
    """Miss once, store, then hit until the value is hot."""
    cache.get_or_set("city:7", "Lisbon", 60)
    for _read in range(4):
        cache.get("city:7")
    return HttpResponse("<html><body>Lisbon</body></html>")


def enter(request: HttpRequest) -> HttpResponse:
    """Log the browser in, for it can be sent to addresses only."""
    login(request, User.objects.get(username=request.GET["as"]))
    return redirect(request.GET["next"])


urlpatterns = [
    path("admin/", admin.site.urls),
    path("health/", health_view),
    path("metrics/", metrics_view),
    path("page/", page),
    path("enter/", enter),
    path("__debug__/", include("debug_toolbar.urls")),
]
