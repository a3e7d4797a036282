"""Addresses of the pages and of the API."""

from __future__ import annotations

from django.urls import path

from places import api, views

urlpatterns = [
    path("", views.home, name="home"),
    path("countries/", views.country_list, name="countries"),
    path("country/<str:iso>/", views.country_page, name="country"),
    path("city/<int:city_id>/", views.city_page, name="city"),
    path("city/<int:city_id>/favourite/", views.change_favourite, name="favourite"),
    path("largest/", views.largest_page, name="largest"),
    path("search/", views.search_page, name="search"),
    path("about/", views.about, name="about"),
    path("world.svg", views.world_map, name="world-map"),
    path("api/city/<int:city_id>/", api.city, name="api-city"),
    path("api/city/<int:city_id>/nearby/", api.nearby, name="api-nearby"),
    path("api/city/<int:city_id>/revision/", api.revise, name="api-revise"),
    path("api/nearest/", api.nearest, name="api-nearest"),
    path("api/search/", api.search, name="api-search"),
]
