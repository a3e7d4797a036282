"""The app's registration with Django."""

from __future__ import annotations

from django.apps import AppConfig


class PlacesConfig(AppConfig):
    """The app `places`."""

    name = "places"
