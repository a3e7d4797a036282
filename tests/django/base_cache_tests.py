"""Django's own `BaseCacheTests`, unchanged, over pmemcache, and over a namespace of one pool.

Loaded by `django_suite.py`, which puts the tests of the installed Django on the path.
"""

import os

from cache.tests import BaseCacheTests, caches_setting_for_tests
from django.test import TestCase, override_settings

BACKEND = "pmemcache.integrations.django.PmemCache"
POOLS = os.environ["PMEMCACHE_TEST_POOLS"]


@override_settings(CACHES=caches_setting_for_tests(BACKEND=BACKEND, LOCATION=f"{POOLS}/base.pool"))
class PmemCacheTests(BaseCacheTests, TestCase):
    """Every test that Django requires of a cache backend."""


@override_settings(
    CACHES=caches_setting_for_tests(
        {"OPTIONS": {"namespace": "tests", "single_flight": True}},
        exclude={"cull", "zero_cull"},  # MAX_ENTRIES counts a whole pool
        BACKEND=BACKEND,
        LOCATION=f"{POOLS}/namespace.pool",
    )
)
class NamespaceTests(BaseCacheTests, TestCase):
    """The same, of aliases that share a pool with others and load once per host."""
