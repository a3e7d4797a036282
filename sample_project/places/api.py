"""The JSON API, from the same cached values as the pages."""

from __future__ import annotations

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from places.caching import forget_city
from places.cityfacts import city_facts
from places.models import City
from places.neighbourhood import neighbourhood
from places.search import search_cities


@require_safe
def city(_request: HttpRequest, city_id: int) -> JsonResponse:
    """Return the facts of a city."""
    try:
        facts = city_facts(city_id)
    except City.DoesNotExist:
        return _not_found(city_id)
    response = JsonResponse(facts._asdict())
    response["X-Revision"] = str(facts.revision)
    return response


@require_safe
def nearby(_request: HttpRequest, city_id: int) -> JsonResponse:
    """Return the nearest cities and airports of a city."""
    try:
        found = neighbourhood(city_id)
    except City.DoesNotExist:
        return _not_found(city_id)
    response = JsonResponse(
        {
            "id": found.city_id,
            "revision": found.revision,
            "cities": [place._asdict() for place in found.cities],
            "airports": [airport._asdict() for airport in found.airports],
        }
    )
    response["X-Revision"] = str(found.revision)
    return response


@require_safe
def search(request: HttpRequest) -> JsonResponse:
    """Return the cities whose names match `?q=`."""
    query = request.GET.get("q", "").strip()
    results = [place._asdict() for place in search_cities(query)]
    return JsonResponse({"query": query, "results": results})


@csrf_exempt
@require_POST
def revise(_request: HttpRequest, city_id: int) -> JsonResponse:
    """Edit a city: give it the next revision and delete what was cached of the last one.

    This is the write of the cache comparison. Anybody may call it without a token, therefore it
    only exists when the setting ALLOW_EDITS is on.
    """
    if not settings.ALLOW_EDITS:
        return JsonResponse({"error": "Set SAMPLE_ALLOW_EDITS=1 to allow edits."}, status=403)
    with transaction.atomic():
        updated = City.objects.filter(pk=city_id).update(revision=F("revision") + 1)
        if not updated:
            return _not_found(city_id)
        revision = City.objects.values_list("revision", flat=True).get(pk=city_id)
        transaction.on_commit(lambda: forget_city(city_id))
    return JsonResponse({"id": city_id, "revision": revision})


def _not_found(city_id: int) -> JsonResponse:
    return JsonResponse({"error": f"There is no city {city_id}."}, status=404)
