"""What all demonstrations share: telling a story, and owning up when a promise was broken."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compare import servers
from compare.stage import Setting, served
from compare.workload import read_cities
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

if TYPE_CHECKING:
    from compare.workload import City

POOL_PARENT = Path(os.environ.get("SAMPLE_POOL_DIRECTORY") or "/dev/shm")  # noqa: S108
"""A private directory is made in it."""


class Demonstration(BaseCommand):
    """A story with promises: `claim` says whether one came true; a broken one is the last word."""

    title = ""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._broken: list[str] = []

    def handle(self, *_args: Any, **_options: Any) -> None:
        """Show it.

        Raises:
            CommandError: A promise was broken, or a server did not start.
        """
        call_command("load_places", verbosity=0, stdout=self.stdout)
        self.say(self.style.MIGRATE_HEADING(self.title))
        try:
            with contextlib.ExitStack() as stack:
                self.show(stack)
        except servers.ServerError as error:
            raise CommandError(str(error)) from error
        if self._broken:
            raise CommandError("Not as promised: " + "; ".join(self._broken))

    def show(self, stack: contextlib.ExitStack) -> None:
        """Tell the story; what is entered into *stack* ends with it."""
        raise NotImplementedError

    def say(self, text: str) -> None:
        """Tell what is done next, or what was seen."""
        self.stdout.write(text)
        self.stdout.flush()

    def claim(self, promise: str, *, holds: bool) -> None:
        """Say whether *promise* came true."""
        self.say(self.style.SUCCESS(f"  ✓ {promise}") if holds else f"  ✗ {promise}")
        if not holds:
            self._broken.append(promise)

    # What the stories are made of

    def served(
        self, stack: contextlib.ExitStack, setting: Setting, **options: Any
    ) -> servers.Server:
        """Serve the site on a fresh copy of the database until *stack* ends."""
        return stack.enter_context(served(settings.DATABASE_FILE, setting, **options))

    def pool(self, stack: contextlib.ExitStack) -> str:
        """Return the path of a pool that is gone when *stack* ends."""
        return str(stack.enter_context(servers.scratch_directory(POOL_PARENT)) / "site.pool")

    def redis(self, stack: contextlib.ExitStack, setting_bytes: int) -> servers.Server | None:
        """Run a Redis until *stack* ends; `None`, and a word about it, where there is none."""
        if shutil.which("redis-server") is None:
            self.say("redis-server is not installed, so its part is left out.")
            return None
        directory = stack.enter_context(servers.scratch_directory())
        return stack.enter_context(servers.redis(directory, budget_bytes=setting_bytes))

    def cities(self, count: int) -> list[City]:
        """Return the most populous cities."""
        return read_cities(settings.DATABASE_FILE, count)
