"""The app's registration with Django."""

from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig


class PlacesConfig(AppConfig):
    """The app `places`."""

    name = "places"

    def ready(self) -> None:
        """Let edits be forgotten by the cache."""
        import_module("places.signals")
