"""Run blocks of Python, in a Django project whose default cache is pmemcache's.

    python run_blocks.py FOLDER < blocks

Blocks are separated by NUL. A name that nothing has defined is a stand-in.
"""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import django
from django.conf import settings


class StandIn(MagicMock):
    """Whatever is asked of it; it can be stored in a cache."""

    def __reduce__(self) -> tuple[type[StandIn], tuple[()]]:
        return StandIn, ()


class Names(dict[str, Any]):
    """The names of a program, and a stand-in for each that it does not define."""

    def __missing__(self, name: str) -> Any:
        if hasattr(builtins, name):
            raise KeyError(name)
        self[name] = StandIn(name=name)
        return self[name]


def main() -> None:
    """Run what stands in the input."""
    pool = str(Path(sys.argv[1]) / "site.pool")
    backend = "pmemcache.integrations.django.PmemCache"
    settings.configure(
        CACHES={"default": {"BACKEND": backend, "LOCATION": pool, "OPTIONS": {"size": "8MiB"}}},
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    )
    django.setup()
    from django.core.cache import cache  # noqa: PLC0415 - needs settings
    from django.db import transaction  # noqa: PLC0415 - needs settings
    from django.test import TestCase  # noqa: PLC0415 - needs settings

    names = Names(cache=cache, transaction=transaction, TestCase=TestCase, __name__="blocks")
    for block in sys.stdin.read().split("\0"):
        exec(compile(block, "<block>", "exec"), {"__name__": "blocks"}, names)  # noqa: S102


if __name__ == "__main__":
    main()
