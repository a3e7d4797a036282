"""All addresses of the site: the pages and the API, the admin, and what its keepers look at."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from pmemcache.integrations.django.health import health_view

urlpatterns = [
    path("", include("places.urls")),
    path("admin/", admin.site.urls),
    path("health/", health_view),
    path("ops/", include("ops.urls")),
]
