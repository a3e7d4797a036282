"""The application of the demonstrations."""

from __future__ import annotations

from django.apps import AppConfig


class DemonstrationsConfig(AppConfig):
    """Management commands alone; it has no models."""

    name = "demonstrations"
