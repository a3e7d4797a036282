"""The addresses of a site whose `/ops/` gets an error for its figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from config.urls import urlpatterns as whole
from django.http import JsonResponse
from django.urls import path

if TYPE_CHECKING:
    from django.http import HttpRequest


def broken(_request: HttpRequest) -> JsonResponse:
    """Fail as a pool does that cannot be read."""
    return JsonResponse({"error": "the pool is damaged"}, status=503)


urlpatterns = [path("ops/figures/", broken), *whole]
