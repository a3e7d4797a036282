"""`manage.py show_stampede`: two hundred clients ask for a page that is not cached; one query."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from compare.client import ask_all, errors, total
from compare.servers import WorkerKind
from compare.stage import Setting

from demonstrations.demonstration import Demonstration

if TYPE_CHECKING:
    import contextlib

    from compare.servers import Server

CLIENTS = 200
KIND = WorkerKind(name="gthread", worker_class="gthread", threads=CLIENTS // 4)


class Command(Demonstration):
    """One caller computes, the others of the host wait for it."""

    help = "200 clients ask for a page that is not in the cache: the database is asked once."
    title = "200 clients on a cold key"

    def show(self, stack: contextlib.ExitStack) -> None:
        """Ask for a page of each way by 200 clients at once."""
        pool = self.pool(stack)
        setting = Setting(
            cache="pmemcache",
            location=pool,
            more={
                "DJANGO_SETTINGS_MODULE": "demonstrations.settings",
                "PMEMCACHE_PATH": f"{pool}.decorated",
                "PMEMCACHE_POLICY": "hot=1MiB,warm=16MiB",
            },
        )
        self.say(
            f"Four workers of {KIND.threads} threads. The page needs one query that reads every "
            f"city. {CLIENTS} clients ask for it at the same moment, when it is in no cache."
        )
        server = self.served(stack, setting, kind=KIND)
        self._ask(server, "plain", "get, compute on a miss, set")
        queries, wrong = self._ask(server, "decorated", "a function with @pmemcache.cached")
        self.claim("every client got the page", holds=wrong == 0)
        self.claim("the database was asked once", holds=queries == 1)

    def _ask(self, server: Server, way: str, described: str) -> tuple[int, int]:
        """Return the queries and the error pages of all clients."""
        started = time.monotonic()
        answers = ask_all(server, [f"/populations/{way}/"] * CLIENTS, connections=CLIENTS)
        seconds = time.monotonic() - started
        queries, wrong = total(answers, "x-db-queries"), errors(answers)
        wrong += len({answer.body for answer in answers}) - 1
        self.say(f"{described}: {queries} queries, all answered after {seconds:.2f} s")
        return queries, wrong
