"""Addresses of the page and of its figures."""

from __future__ import annotations

from django.urls import path

from ops import views

urlpatterns = [
    path("", views.page, name="ops"),
    path("figures/", views.figures, name="ops-figures"),
]
