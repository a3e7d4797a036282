"""`manage.py show_restart`: all workers end and start again, and the cache is as warm as before."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from compare.client import ask_all, total
from compare.stage import Setting

from demonstrations.demonstration import Demonstration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compare.http_client import Response

PAGES = 60


class Command(Demonstration):
    """The pool outlives its workers, with `lifetime="restart"`."""

    help = "Restart all workers: the cache stays warm."
    title = "Restart all workers and stay warm"

    def show(self, stack: contextlib.ExitStack) -> None:
        """Read pages, end all workers, start new ones, read the same pages."""
        paths = [f"/city/{city.geonameid}/" for city in self.cities(PAGES)]
        local = Setting(cache="locmem")
        pool = Setting(cache="pmemcache", location=self.pool(stack), lifetime="restart")
        self.say(
            f"{PAGES} city pages are read; then gunicorn and its four workers end and start anew."
        )
        for name, setting in (("LocMemCache", local), ("pmemcache", pool)):
            before = self._read(paths, setting, repeat=4)
            after = self._read(paths, setting, repeat=1)
            misses = total(after, "x-cache-misses")
            self.say(
                f"{name}: {total(before, 'x-db-queries'):,} database queries before; after the "
                f"restart {total(after, 'x-cache-hits')} hits, {misses} misses, "
                f"{total(after, 'x-db-queries'):,} queries, {self._seconds:.2f} s for {PAGES} pages"
            )
        self.claim("after the restart pmemcache misses nothing", holds=misses == 0)
        self.claim("and asks the database nothing", holds=total(after, "x-db-queries") == 0)

    def _read(self, paths: Sequence[str], setting: Setting, *, repeat: int) -> list[Response]:
        """Serve the site from new workers, and read all pages so often."""
        with contextlib.ExitStack() as stack:
            server = self.served(stack, setting)
            started = time.monotonic()
            answers = ask_all(server, [*paths] * repeat)
            self._seconds = time.monotonic() - started
            return answers
