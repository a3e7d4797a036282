"""The test runner of `django_suite.py`: leaves out what is not about a backend, and reports.

What is left out, and why, is in EXCLUDED, by the beginning of a test's name. A line that leaves
nothing out is an error of the run.
"""

from __future__ import annotations

import json
import os
import unittest
from pathlib import Path
from typing import Any, Final

from django.test.runner import DiscoverRunner

_OTHER_BACKEND: Final = "tests of another backend's own, without ours in it"
_OTHER_SESSIONS: Final = "sessions that are not kept in a cache"
_LOCMEM: Final = (
    "its setUp and tests read LocMemCache's own dicts, locks and least-recently-used order; the "
    "contract that it inherits is run as base_cache_tests.PmemCacheTests"
)
_EXPIRE_INFO: Final = (
    "reads LocMemCache's own dict of deadlines; test_values.py asks the same of the pool"
)

EXCLUDED: Final = {
    "cache.tests.DummyCacheTests.": _OTHER_BACKEND,
    "cache.tests_async.AsyncDummyCacheTests.": _OTHER_BACKEND,
    "cache.tests.DBCacheTests.": _OTHER_BACKEND,
    "cache.tests.DBCacheWithTimeZoneTests.": _OTHER_BACKEND,
    "cache.tests.CreateCacheTableForDBCacheTests.": _OTHER_BACKEND,
    "cache.tests.FileBasedCacheTests.": _OTHER_BACKEND,
    "cache.tests.FileBasedCachePathLibTests.": _OTHER_BACKEND,
    "cache.tests.PyLibMCCacheTests.": _OTHER_BACKEND,
    "cache.tests.PyMemcacheCacheTests.": _OTHER_BACKEND,
    "cache.tests.RedisCacheTests.": _OTHER_BACKEND,
    "cache.tests.LocMemCacheTests.": _LOCMEM,
    "cache.tests.DefaultNonExpiringCacheKeyTests.test_caches_set_with_timeout_as_none_set_non_": (
        _EXPIRE_INFO
    ),
    "cache.tests.DefaultNonExpiringCacheKeyTests.test_caches_with_unset_timeout_set_expiring_key": (
        _EXPIRE_INFO
    ),
    "sessions_tests.tests.DatabaseSessionTests.": _OTHER_SESSIONS,
    "sessions_tests.tests.DatabaseSessionWithTimeZoneTests.": _OTHER_SESSIONS,
    "sessions_tests.tests.CustomDatabaseSessionTests.": _OTHER_SESSIONS,
    "sessions_tests.tests.FileSessionTests.": _OTHER_SESSIONS,
    "sessions_tests.tests.FileSessionPathLibTests.": _OTHER_SESSIONS,
    "sessions_tests.tests.CookieSessionTests.": _OTHER_SESSIONS,
}


class Runner(DiscoverRunner):
    """Runs what is left, and writes a report to the file that PMEMCACHE_TEST_REPORT names."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.left_out: dict[str, int] = dict.fromkeys(EXCLUDED, 0)

    def build_suite(self, *arguments: Any, **options: Any) -> unittest.TestSuite:
        """Return the tests that are left."""
        suite = super().build_suite(*arguments, **options)
        return self.test_suite([test for test in _tests(suite) if not self._is_excluded(test)])

    def _is_excluded(self, test: unittest.TestCase) -> bool:
        for beginning in EXCLUDED:
            if test.id().startswith(beginning):
                self.left_out[beginning] += 1
                return True
        return False

    def suite_result(self, _suite: unittest.TestSuite, result: unittest.TestResult) -> int:
        """Write the report; return the number of failures."""
        failures = {str(test): trace for test, trace in result.failures + result.errors}
        report = {
            "run": result.testsRun,
            "failures": failures,
            "skipped": {str(test): reason for test, reason in result.skipped},
            "left_out": self.left_out,
            "classes": sorted(self.classes),
        }
        Path(os.environ["PMEMCACHE_TEST_REPORT"]).write_text(json.dumps(report), encoding="utf-8")
        return len(failures)

    def run_suite(self, suite: unittest.TestSuite, **options: Any) -> Any:
        """Run the tests, and note their classes."""
        self.classes = {test.id().rpartition(".")[0] for test in _tests(suite)}
        return super().run_suite(suite, **options)


def _tests(suite: Any) -> list[unittest.TestCase]:
    found: list[unittest.TestCase] = []
    for each in suite:
        found += _tests(each) if isinstance(each, unittest.TestSuite) else [each]
    return found
