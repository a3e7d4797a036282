"""Django's own `BaseCacheTests`, unchanged, over pmemcache.

Loaded by `django_suite.py`, which puts the tests of the installed Django on the path.
"""

import os

from cache.tests import BaseCacheTests, caches_setting_for_tests
from django.test import TestCase, override_settings


@override_settings(
    CACHES=caches_setting_for_tests(
        BACKEND="pmemcache.integrations.django.PmemCache",
        LOCATION=os.environ["PMEMCACHE_TEST_POOL"],
    )
)
class PmemCacheTests(BaseCacheTests, TestCase):
    """Every test that Django requires of a cache backend."""
