"""Countries, cities and airports, and which data they were loaded from."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.urls import reverse


class Continent(models.TextChoices):
    """The seven continents of GeoNames."""

    AFRICA = "AF", "Africa"
    ANTARCTICA = "AN", "Antarctica"
    ASIA = "AS", "Asia"
    EUROPE = "EU", "Europe"
    NORTH_AMERICA = "NA", "North America"
    OCEANIA = "OC", "Oceania"
    SOUTH_AMERICA = "SA", "South America"


class Country(models.Model):
    """A country or territory with its own ISO 3166 code."""

    iso = models.CharField(primary_key=True, max_length=2)
    name = models.CharField(max_length=60)
    continent = models.CharField(max_length=2, choices=Continent.choices)
    capital = models.CharField(max_length=60, blank=True)
    area_km2 = models.PositiveIntegerField()
    population = models.PositiveBigIntegerField()
    currency_code = models.CharField(max_length=3, blank=True)
    currency_name = models.CharField(max_length=30, blank=True)
    neighbour_codes = models.CharField(max_length=60, blank=True, help_text="ISO codes, comma")

    class Meta:
        """Alphabetical by default."""

        ordering: ClassVar[list[str]] = ["name"]
        verbose_name_plural = "countries"

    def __str__(self) -> str:
        """Return the country's name."""
        return self.name

    def get_absolute_url(self) -> str:
        """Return the address of the country's page."""
        return reverse("country", args=[self.iso])


class City(models.Model):
    """A populated place of at least a thousand people, or a seat of government."""

    id = models.IntegerField(primary_key=True, help_text="GeoNames id")
    name = models.CharField(max_length=100)
    other_names = models.TextField(blank=True, help_text="One per line, in any language")
    # The composite index below serves the foreign key, too.
    country = models.ForeignKey(
        Country, on_delete=models.CASCADE, related_name="cities", db_index=False
    )
    region = models.CharField(max_length=60, blank=True, help_text="Known for US states")
    latitude = models.FloatField()
    longitude = models.FloatField()
    population = models.PositiveIntegerField(help_text="0: not known")
    time_zone = models.CharField(max_length=40)
    revision = models.PositiveIntegerField(default=1, help_text="Grows with every edit")

    class Meta:
        """One index per question that the site asks."""

        verbose_name_plural = "cities"
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["latitude", "longitude"], name="city_position"),
            models.Index(fields=["country", "-population"], name="city_country_size"),
            models.Index(fields=["-population"], name="city_size"),
        ]

    def __str__(self) -> str:
        """Return the city's name."""
        return self.name

    def get_absolute_url(self) -> str:
        """Return the address of the city's page."""
        return reverse("city", args=[self.id])


class Airport(models.Model):
    """An airport with an IATA code, which is what passengers know it by."""

    iata = models.CharField(primary_key=True, max_length=3)
    icao = models.CharField(max_length=4, blank=True)
    name = models.CharField(max_length=100)
    city_name = models.CharField(max_length=60, blank=True)
    country = models.ForeignKey(Country, on_delete=models.CASCADE, related_name="airports")
    latitude = models.FloatField()
    longitude = models.FloatField()
    elevation_feet = models.FloatField()

    class Meta:
        """Found by position, like cities."""

        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["latitude", "longitude"], name="airport_position"),
        ]

    def __str__(self) -> str:
        """Return the airport's name."""
        return self.name


class LoadedSource(models.Model):
    """A data package whose content is in the database."""

    package = models.CharField(primary_key=True, max_length=40)
    version = models.CharField(max_length=40)
    loaded_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        """Return the package with its version."""
        return f"{self.package} {self.version}"
