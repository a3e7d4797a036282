"""CPython's own tests of `functools.lru_cache`, run against `cached`.

Each decorated function gets a private cache, as `lru_cache` gives each a dict of its own.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

import pytest

import pmemcache

upstream = pytest.importorskip("test.test_functools", reason="this Python comes without its tests")

# What cannot be, and why. Everything else in the class runs.
EXCLUDED = {
    "test_lru_hash_only_once": "its argument is a Mock, which has no form for all processes",
    "test_need_for_rlock": "its argument is a local class that says what it equals",
    "test_lru_reentrancy_with_len": "it caches the built-in len, by which keys are written down",
    "test_lru_with_types": "it counts f(3) and f(x=3) as two entries; here they are one",
    "test_lru_recursion": "it recurses as deep as C frames go, deeper than the frames of Python",
    "test_lru_cache_threaded2": "it needs equal calls to run at once; here they share one run",
}


class Functools:
    """Stands for the module `functools`, with our decorator in it."""

    WRAPPER_ASSIGNMENTS = functools.WRAPPER_ASSIGNMENTS
    _CacheInfo = functools._CacheInfo
    partial = functools.partial

    @staticmethod
    def lru_cache(maxsize: Any = 128, typed: bool = False) -> Any:  # noqa: FBT001, FBT002
        """Take what lru_cache takes."""

        def decorate(function: Any) -> Any:
            cache = pmemcache.TieredCache(None, policy={"hot": "64KiB", "warm": "1MiB"})
            return pmemcache.cached(cache=cache, maxsize=maxsize, typed=typed)(function)

        if callable(maxsize):
            function, maxsize = maxsize, 128
            return decorate(function)
        return decorate


module = Functools()


@module.lru_cache()
def ours_cached_func(x: Any, y: Any) -> Any:
    return 3 * x + y


class TestLRU(upstream.TestLRU, importlib.import_module("unittest").TestCase):  # type: ignore[misc, name-defined]
    module = module
    cached_func = (ours_cached_func,)

    @module.lru_cache()
    def cached_meth(self, x: Any, y: Any) -> Any:
        return 3 * x + y

    @staticmethod
    @module.lru_cache()
    def cached_staticmeth(x: Any, y: Any) -> Any:
        return 3 * x + y


# Pickle finds functions by name, in a module that can be imported.
for _name, _reason in EXCLUDED.items():
    if hasattr(TestLRU, _name):
        setattr(TestLRU, _name, pytest.mark.skip(_reason)(getattr(TestLRU, _name)))
