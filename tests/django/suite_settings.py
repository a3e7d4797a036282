"""Settings of Django's own tests in which pmemcache takes the place of the cache that they use.

`LocMemCache` is that cache: in the settings of tests, as what other backends are made from, by its
name. Here the name stands for a `PmemCache`, whose LOCATION is a file in a folder of this run.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from django.core.cache.backends import locmem
from test_sqlite import *  # noqa: F403 - the settings of Django's own test runner

from pmemcache.integrations.django import PmemCache

POOLS = Path(os.environ["PMEMCACHE_TEST_POOLS"])


class Substitute(PmemCache):
    """A `PmemCache` that is set up like a `LocMemCache`: its LOCATION is a name."""

    def __init__(self, name: str, params: dict[str, Any]) -> None:
        super().__init__(POOLS / f"{name or 'unnamed'}.pool", params)


locmem.LocMemCache = Substitute  # type: ignore[assignment, misc]

CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
TEST_RUNNER = "suite_runner.Runner"
