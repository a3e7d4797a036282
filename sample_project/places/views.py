"""The pages. Each view asks the services for values and hands them to a template."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_POST, require_safe

from places.cityfacts import city_facts
from places.countrystatistics import country_statistics
from places.favourites import (
    add_favourite,
    favourite_cities,
    favourite_ids,
    remove_favourite,
)
from places.geodesy import Position
from places.largest import largest_cities
from places.maps import WORLD_DOT_SIZE, local_map, world_dot, world_path
from places.models import City, Continent, Country, LoadedSource
from places.neighbourhood import neighbourhood
from places.overview import world_overview
from places.search import search_cities


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """Show the search, the largest cities and the visitor's favourites."""
    overview = world_overview()
    pins = [world_dot(Position(city.latitude, city.longitude)) for city in overview.highlights]
    context = {
        "overview": overview,
        "pins": pins,
        "favourites": favourite_cities(request.session),
    }
    return render(request, "places/home.html", context)


@require_safe
def country_list(request: HttpRequest) -> HttpResponse:
    """Show all countries, grouped by continent."""
    countries = list(Country.objects.all())
    by_continent = [
        (code, name, [country for country in countries if country.continent == code])
        for code, name in Continent.choices
    ]
    groups = [group for group in by_continent if group[-1]]
    return render(request, "places/country_list.html", {"groups": groups})


@require_safe
def country_page(request: HttpRequest, iso: str) -> HttpResponse:
    """Show a country and the statistics of its cities."""
    country = get_object_or_404(Country, pk=iso.upper())
    neighbours = Country.objects.filter(pk__in=country.neighbour_codes.split(","))
    context = {
        "country": country,
        "statistics": country_statistics(country),
        # Only evaluated when the sidebar is not in the fragment cache.
        "neighbours": neighbours,
    }
    return render(request, "places/country_page.html", context)


@require_safe
def city_page(request: HttpRequest, city_id: int) -> HttpResponse:
    """Show a city with its nearest cities and airports.

    The page is made of two cached values. `X-Revision` names the older of their revisions: the
    page is at least as new as that.
    """
    try:
        city = city_facts(city_id)
        nearby = neighbourhood(city_id)
    except City.DoesNotExist as error:
        raise Http404 from error
    context = {
        "city": city,
        "nearby": nearby,
        "local_map": local_map(nearby),
        "pin": world_dot(city.position),
        "is_favourite": city_id in favourite_ids(request.session),
    }
    response = render(request, "places/city_page.html", context)
    response["X-Revision"] = str(min(city.revision, nearby.revision))
    return response


@require_POST
def change_favourite(request: HttpRequest, city_id: int) -> HttpResponse:
    """Add the city to the visitor's favourites, or remove it, then show its page again."""
    city = get_object_or_404(City, pk=city_id)
    if request.POST.get("action") == "remove":
        remove_favourite(request.session, city.id)
    else:
        add_favourite(request.session, city.id)
    return redirect(city)


@require_safe
def largest_page(request: HttpRequest) -> HttpResponse:
    """Show the fifty largest cities: fifty entries of the cache, got by one call."""
    return render(request, "places/largest_page.html", {"cities": largest_cities()})


@require_safe
def search_page(request: HttpRequest) -> HttpResponse:
    """Show the cities whose names match `?q=`."""
    query = request.GET.get("q", "").strip()
    context = {"query": query, "results": search_cities(query)}
    return render(request, "places/search_page.html", context)


@require_safe
def about(request: HttpRequest) -> HttpResponse:
    """Name the sources of the data and their licences."""
    context = {"overview": world_overview(), "sources": LoadedSource.objects.order_by("package")}
    return render(request, "places/about.html", context)


@require_safe
@cache_control(public=True, max_age=86400)
def world_map(request: HttpRequest) -> HttpResponse:
    """Draw the world as dots; the same picture lies behind every city's pin."""
    context = {"path": world_path(), "dot_size": WORLD_DOT_SIZE}
    return render(request, "places/world.svg", context, content_type="image/svg+xml")
