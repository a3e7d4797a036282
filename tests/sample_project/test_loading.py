"""Filling the database."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from places.loading import load
from places.models import City, LoadedSource
from places.search import search_cities

if TYPE_CHECKING:
    from places.loading import Source

SITE = Path(__file__).resolve().parents[2] / "sample_project"


@pytest.mark.django_db
def test_same_versions_are_loaded_once(small_world: Source) -> None:
    rows: Counter[str] = Counter()

    def count(step: str, number: int) -> None:
        rows[step] += number

    assert load(small_world, progress=count)
    assert rows == {"countries": 4, "cities": 11, "airports": 4}
    assert not load(small_world, progress=count)
    assert rows.total() == 19


@pytest.mark.django_db
def test_another_version_replaces_everything(small_world: Source) -> None:
    load(small_world, progress=lambda _step, _rows: None)
    City.objects.filter(pk=1).update(name="Edited")
    small_world.versions = lambda: {"smallworld": "2"}  # type: ignore[method-assign]
    assert load(small_world, progress=lambda _step, _rows: None)
    assert City.objects.get(pk=1).name == "Berlin"
    assert [str(source) for source in LoadedSource.objects.all()] == ["smallworld 2"]
    assert [city.name for city in search_cities("berlino")] == ["Berlin"]


@pytest.mark.django_db(transaction=True)
def test_failed_load_leaves_what_was_there(small_world: Source) -> None:
    load(small_world, progress=lambda _step, _rows: None)

    def fail(step: str, _rows: int) -> None:
        if step == "airports":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(small_world, replace=True, progress=fail)
    assert City.objects.count() == 11
    assert [city.name for city in search_cities("berlino")] == ["Berlin"]


@pytest.mark.slow
def test_command_loads_the_real_world_once_however_many_begin(tmp_path: Path) -> None:
    database = str(tmp_path / "new" / "places.sqlite3")
    begun = [
        subprocess.Popen(
            [sys.executable, str(SITE / "manage.py"), "load_places"],
            env={**os.environ, "SAMPLE_CACHE": "locmem", "SAMPLE_DB": database},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = sorted(process.communicate()[0] for process in begun)
    assert [process.returncode for process in begun] == [0, 0]
    assert "Nothing to do." in said[0]
    assert "Loaded 1" in said[1]
