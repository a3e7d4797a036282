"""Filling the database from a source, all of it or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Protocol

from django.core.cache import cache
from django.db import models, transaction

from places.models import Airport, City, Country, LoadedSource
from places.search import clear_index, index_names

BATCH_ROWS = 5000


class Source(Protocol):
    """Where rows come from: instances that are not saved yet."""

    def versions(self) -> dict[str, str]:
        """Return the version of each data package."""

    def countries(self) -> Iterable[Country]:
        """Return all countries."""

    def cities(self) -> Iterable[City]:
        """Return all cities; their countries are among `countries`."""

    def airports(self) -> Iterable[Airport]:
        """Return all airports; their countries are among `countries`."""


Progress = Callable[[str, int], None]


@transaction.atomic
def load(source: Source, *, replace: bool = False, progress: Progress) -> bool:
    """Load everything *source* has; return False when these versions were there already.

    One transaction: other processes see the old data until all of the new is there, and a second
    loader waits for the first one and then finds nothing to do.

    Args:
        source: The rows and the versions they belong to.
        replace: Load even if the versions are the same.
        progress: Called with the name of the current step and the rows just finished.
    """
    loaded = dict(LoadedSource.objects.values_list("package", "version"))
    if loaded == source.versions() and not replace:
        return False
    for model in (Airport, City, Country, LoadedSource):
        model.objects.all().delete()
    clear_index()
    _create(Country, source.countries(), progress)
    _create(City, source.cities(), progress)
    _create(Airport, source.airports(), progress)
    for package, version in source.versions().items():
        LoadedSource.objects.create(package=package, version=version)
    if loaded:  # what was computed from the old rows
        transaction.on_commit(cache.clear)
    return True


def _create(model: type[models.Model], rows: Iterable[models.Model], progress: Progress) -> None:
    step = str(model._meta.verbose_name_plural)  # noqa: SLF001 - Django's documented Meta API
    remaining = iter(rows)
    while batch := list(islice(remaining, BATCH_ROWS)):
        model._default_manager.bulk_create(batch)  # noqa: SLF001 - documented, too
        if model is City:
            _index(batch)
        progress(step, len(batch))


def _index(cities: Sequence[models.Model]) -> None:
    index_names(
        (city.id, f"{city.name}\n{city.other_names}") for city in cities if isinstance(city, City)
    )
