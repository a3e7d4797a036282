"""A WSGI site of one process-shared cache, for gunicorn in `test_gunicorn.py`.

`/OPERATION?key=...` does one operation of Django's cache and answers in JSON with the worker's
process id. With `together=N` the worker first waits until N workers have such a request: a sync
worker has one request at a time, so these are N different processes.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import django
from django.conf import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MEETING_SECONDS = 30

settings.configure(
    CACHES={
        "default": {
            "BACKEND": "pmemcache.integrations.django.PmemCache",
            "LOCATION": os.environ["PMEMCACHE_TEST_POOL"],
            "OPTIONS": {"size": "8MiB"},
        }
    },
    SECRET_KEY="for these tests only",  # noqa: S106 - signs nothing
)
django.setup()

from django.core import signals  # noqa: E402 - needs the settings
from django.core.cache import cache  # noqa: E402 - needs the settings

# With --preload this opens the pool before the workers are forked.
cache.set("at start", os.getpid(), None)


def _incr_often(query: dict[str, str]) -> int:
    for _ in range(int(query["times"])):
        total = cache.incr(query["key"])
    return total


OPERATIONS: dict[str, Callable[[dict[str, str]], Any]] = {
    "get": lambda query: cache.get(query["key"], "missing"),
    "set": lambda query: cache.set(query["key"], json.loads(query["value"]), None),
    "delete": lambda query: cache.delete(query["key"]),
    "incr": _incr_often,
}


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer one request as a Django site would: the caches are closed when it is over."""
    query = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    if "together" in query:
        _meet(Path(query["at"]), int(query["together"]))
    result = OPERATIONS[environ["PATH_INFO"].strip("/")](query)
    signals.request_finished.send(sender=None)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"result": result, "pid": os.getpid()}).encode()]


def _meet(folder: Path, workers: int) -> None:
    """Wait until *workers* processes are here.

    Raises:
        TimeoutError: They did not all come.
    """
    (folder / str(os.getpid())).touch()
    deadline = time.monotonic() + MEETING_SECONDS
    while len(list(folder.iterdir())) < workers:
        if time.monotonic() > deadline:
            raise TimeoutError(folder)
        time.sleep(0.005)
