"""Django's own tests of a cache backend, unchanged."""

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
# What Django 5.2 has; a run of fewer tests did not find them.
FEWEST_TESTS = 54


@pytest.mark.slow
def test_django_suite_passes(tmp_path: Path) -> None:
    outcome = _run_suite(tmp_path / "suite.pool")

    assert outcome["failures"] == {}
    assert outcome["skipped"] == {}
    assert outcome["run"] >= FEWEST_TESTS


def _run_suite(pool: Path) -> dict[str, Any]:
    finished = subprocess.run(
        [sys.executable, HERE / "django_suite.py", SOURCES],
        env=os.environ | {"PMEMCACHE_TEST_POOL": str(pool)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    outcome: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return outcome
