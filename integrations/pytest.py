"""The pytest plugin of pmemcache: the fixture `pmemcache_isolated`. Nothing is to be set up.

Nothing of pmemcache is imported before a test asks for the fixture.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["pmemcache_isolated"]


@pytest.fixture
def pmemcache_isolated() -> Iterator[None]:
    """Give a test caches that are empty, that no other test and process sees, and that end with it.

    These are the pools of all `PmemCache` entries of Django's `CACHES`, where Django is set up, and
    the default cache of `@pmemcache.cached` functions. Safe under pytest-xdist.
    """
    decorator: Any = importlib.import_module("pmemcache.decorator")
    tiered: Any = importlib.import_module("pmemcache.tiered")
    with contextlib.ExitStack() as stack:
        private = stack.enter_context(tiered.TieredCache(None, policy="hot=4MiB,warm=64MiB"))
        stack.enter_context(decorator.replaced_default_cache(private))
        if _has_django():
            testing: Any = importlib.import_module("pmemcache.integrations.django.testing")
            stack.enter_context(testing.isolated_caches())
        yield


def _has_django() -> bool:
    conf = sys.modules.get("django.conf")
    return conf is not None and bool(conf.settings.configured)
