"""The site's addresses, and those of the demonstrations."""

from __future__ import annotations

from django.urls import include, path

from demonstrations import views

urlpatterns = [
    path("offers/<str:kind>/", views.offer),
    path("populations/<str:way>/", views.populations),
    path("", include("config.urls")),
]
