"""The admin of the places. A saved city is forgotten by the cache: see `places.signals`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin

from places.models import City, Country

if TYPE_CHECKING:
    from django.http import HttpRequest


@admin.register(City)
class CityAdmin(admin.ModelAdmin):  # type: ignore[type-arg] # Django's has no parameter
    """Cities are found by name and edited; each edit is a new revision."""

    list_display = ("name", "country", "population", "revision")
    list_select_related = ("country",)
    show_full_result_count = False
    search_fields = ("name__istartswith",)
    fields = ("id", "name", "other_names", "country", "region", "population", "revision")
    readonly_fields = ("id", "country", "revision")

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002 - Django's
        """Refuse: cities come from GeoNames, with their ids."""
        return False

    def save_model(self, request: HttpRequest, obj: City, form: Any, change: bool) -> None:  # noqa: FBT001 - Django's
        """Give the city its next revision."""
        obj.revision += 1
        super().save_model(request, obj, form, change)


@admin.register(Country)
class CountryAdmin(admin.ModelAdmin):  # type: ignore[type-arg] # Django's has no parameter
    """Countries are looked at."""

    list_display = ("name", "iso", "continent", "population")

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002 - Django's
        """Refuse: countries come from GeoNames."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Refuse: nobody wrote what forgets an edited country."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Refuse, for the same reason."""
        return False
