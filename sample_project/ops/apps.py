"""The app's registration with Django."""

from __future__ import annotations

from django.apps import AppConfig


class OpsConfig(AppConfig):
    """The app `ops`."""

    name = "ops"
