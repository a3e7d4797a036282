"""`manage.py show_edit`: an edit in one worker is what the next page of every worker shows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from compare.client import ask, ask_all
from compare.stage import Setting
from django.core.management.base import CommandError

from demonstrations.demonstration import Demonstration

if TYPE_CHECKING:
    import contextlib

    from compare.servers import Server

MOST_TRIES = 60


class Command(Demonstration):
    """One cache for all workers has one truth."""

    help = "Edit a city in one worker: all workers show it."
    title = "Edit in one worker, seen in all"

    def show(self, stack: contextlib.ExitStack) -> None:
        """Read a page in all workers, edit its city, read it in all workers again."""
        city = self.cities(1)[0].geonameid
        for name, setting in (
            ("LocMemCache, one in each worker", Setting(cache="locmem")),
            ("pmemcache, one for all", Setting(cache="pmemcache", location=self.pool(stack))),
        ):
            server = self.served(stack, setting)
            self.say(f"{name}: all four workers show revision {self._shown(server, city)}")
            edited = ask(server, f"/api/city/{city}/revision/", method="POST")
            revision = json.loads(edited.body)["revision"]
            self.say(
                f"  worker {edited.headers['x-worker-pid']} makes revision {revision}; "
                "from now on the workers show"
            )
            shown = self._by_worker(server, city)
            for worker, what in sorted(shown.items()):
                old = "" if what == revision else "   (stale)"
                self.say(f"    worker {worker}: revision {what}{old}")
        stale = sum(what != revision for what in shown.values())
        self.claim("no worker of pmemcache shows the old revision", holds=stale == 0)

    def _shown(self, server: Server, city: int) -> str:
        return ", ".join(map(str, set(self._by_worker(server, city).values())))

    def _by_worker(self, server: Server, city: int) -> dict[str, int]:
        """Return the first revision that each of the four workers shows.

        Raises:
            CommandError: Some worker answers nothing.
        """
        shown: dict[str, int] = {}
        for _try in range(MOST_TRIES):
            for answer in ask_all(server, [f"/city/{city}/"] * 8):
                worker = answer.headers["x-worker-pid"]
                shown.setdefault(worker, int(answer.headers["x-revision"]))
            if len(shown) == 4:  # noqa: PLR2004 - the workers of a setting
                return shown
        message = f"only the workers {', '.join(shown)} have answered"
        raise CommandError(message)
