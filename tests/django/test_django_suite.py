"""Django's own tests of what uses a cache, unchanged, with pmemcache in its place.

These are its tests of a backend, of the cache middleware, `cache_page`, template fragments and
their keys, of caches per thread and task, and of sessions in a cache and in a cached database. What
is left out, and why, stands in `suite_runner.EXCLUDED`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
SOURCES = HERE.parent.parent / "build" / "django-sdist"
LABELS = [
    *("base_cache_tests", "cache", "sessions_tests"),
    *("async.tests.CacheTest", "template_tests.syntax_tests.test_cache"),
]
# What Django 5.2 has; a run of fewer tests did not find them.
FEWEST_TESTS = 420
CLASSES = {
    "base_cache_tests.NamespaceTests",
    "base_cache_tests.PmemCacheTests",
    "cache.tests.CacheClosingTests",
    "cache.tests.CacheHandlerTest",
    "cache.tests.CacheI18nTest",
    "cache.tests.CacheMiddlewareTest",
    "cache.tests.CacheUtils",
    "sessions_tests.tests.CacheDBSessionTests",
    "sessions_tests.tests.CacheSessionTests",
    "template_tests.syntax_tests.test_cache.CacheTagTests",
}
SKIPS = {"Culling isn't implemented."}  # of the aliases with a namespace


@pytest.mark.slow
def test_django_suite_passes(tmp_path: Path) -> None:
    report = _run_suite(tmp_path)

    assert report["failures"] == {}
    assert set(report["skipped"].values()) <= SKIPS
    assert report["run"] >= FEWEST_TESTS
    assert set(report["classes"]) >= CLASSES
    useless = [beginning for beginning, count in report["left_out"].items() if not count]
    assert useless == []
    for beginning, count in report["left_out"].items():
        print(f"left out: {beginning}* ({count} tests)")  # noqa: T201 - shown by pytest -rP


def _run_suite(folder: Path) -> dict[str, Any]:
    report = folder / "report.json"
    variables = {"PMEMCACHE_TEST_POOLS": str(folder), "PMEMCACHE_TEST_REPORT": str(report)}
    finished = subprocess.run(
        [sys.executable, HERE / "django_suite.py", SOURCES, *LABELS],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=880,
        check=False,
    )
    assert report.exists(), finished.stdout + finished.stderr
    outcome: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return outcome
