"""The JSON API, from the same cached values as the pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from places.caching import forget_city
from places.cityfacts import city_facts, facts_of
from places.geodesy import Position
from places.models import City
from places.neighbourhood import neighbourhood
from places.positions import positions
from places.ratelimit import seconds_to_wait
from places.search import search_cities

if TYPE_CHECKING:
    from django.http import QueryDict

NEAREST_SHOWN = 10
NEAREST_CALLS, NEAREST_PER_SECONDS = 20, 60


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


@require_safe
async def nearest(request: HttpRequest) -> JsonResponse:
    """Return the cities nearest to `?latitude=&longitude=`; to an address twenty times a minute.

    An async view: the cache's async methods end in memory, and run in place.
    """
    wait = await seconds_to_wait(
        request.META["REMOTE_ADDR"], calls=NEAREST_CALLS, per_seconds=NEAREST_PER_SECONDS
    )
    if wait:
        error = f"That was more than {NEAREST_CALLS} questions; ask again in {wait} s."
        return JsonResponse({"error": error}, status=429, headers={"Retry-After": str(wait)})
    try:
        centre = _position(request.GET)
    except ValueError as error:
        return JsonResponse({"error": str(error)}, status=400)
    distances = (await positions()).nearest(centre, NEAREST_SHOWN)
    facts = await sync_to_async(facts_of)(distances)
    cities = [
        {"id": city.id, "name": city.name, "country": city.country_name, "distance_km": distance}
        for city_id, distance in distances.items()
        for city in [facts.get(city_id)]
        if city is not None  # deleted since the positions were read
    ]
    return JsonResponse({"cities": cities})


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


def _position(query: QueryDict) -> Position:
    """Return the position that a query asks for.

    Raises:
        ValueError: There is none; the message is for whoever asked.
    """
    message = "Give latitude=-90..90 and longitude=-180..180 in degrees."
    try:
        latitude, longitude = float(str(query["latitude"])), float(str(query["longitude"]))
    except (KeyError, ValueError):
        raise ValueError(message) from None
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):  # noqa: PLR2004 - the Earth's
        raise ValueError(message)
    return Position(latitude, longitude)


def _not_found(city_id: int) -> JsonResponse:
    return JsonResponse({"error": f"There is no city {city_id}."}, status=404)
