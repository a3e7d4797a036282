"""`manage.py load_places`: make the database and fill it with the world."""

from __future__ import annotations

import contextlib
import fcntl
import time
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from places.loading import load
from places.models import Airport, City, Country
from places.sources import WorldSource

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Iterator

# About how many rows there are: it only scales the progress bar, which then learns the truth.
EXPECTED_ROWS = 178_500


class Command(BaseCommand):
    """Creates the tables where they are missing, then loads countries, cities and airports."""

    help = "Load countries, cities and airports; does nothing when they are there already."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the one option."""
        parser.add_argument("--replace", action="store_true", help="load even if already loaded")

    def handle(self, *_args: Any, replace: bool, verbosity: int, **_options: Any) -> None:
        """Load and say what was done; whoever comes meanwhile waits."""
        with _alone():
            self._load(replace=replace, verbosity=verbosity)

    def _load(self, *, replace: bool, verbosity: int) -> None:
        call_command("migrate", verbosity=0)
        started = time.monotonic()
        with _progress_bar(disable=verbosity == 0) as bar:
            task = bar.add_task("countries", total=EXPECTED_ROWS)
            done = load(
                WorldSource(),
                replace=replace,
                progress=lambda step, rows: bar.update(task, description=step, advance=rows),
            )
            rows = bar.tasks[task].completed
            bar.update(task, total=rows, visible=done)
        if done:
            self.stdout.write(f"Loaded {_contents()} in {time.monotonic() - started:.1f} s.")
        else:
            self.stdout.write(f"Already loaded: {_contents()}. Nothing to do.")


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Keep out other processes that would make the same tables."""
    with settings.DATABASE_FILE.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _progress_bar(*, disable: bool) -> Progress:
    return Progress(
        TextColumn("Loading {task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        disable=disable,
    )


def _contents() -> str:
    return (
        f"{City.objects.count():,} cities in {Country.objects.count()} countries"
        f" and {Airport.objects.count():,} airports"
    )
