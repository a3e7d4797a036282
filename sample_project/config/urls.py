"""All addresses of the site; the app `places` owns every one of them."""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [path("", include("places.urls"))]
