"""Run Django's own tests of a cache backend on pmemcache, in a process of their own.

    python tests/django/django_suite.py FOLDER

The tests come with the source distribution of the installed Django, which pip fetches once into
FOLDER. Prints one line of JSON: the number of tests run and the failures, each with its traceback.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import django
from django.conf import settings

if TYPE_CHECKING:
    import unittest


def tests_folder(folder: Path) -> Path:
    """Return the `tests/` of the installed Django, fetched into *folder* when not there yet."""
    source = folder / f"django-{django.get_version()}"
    if not source.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as download:
            _download(Path(download))
            (archive,) = Path(download).glob("*.tar.gz")
            shutil.unpack_archive(archive, download)
            (Path(download) / source.name).rename(source)
    return source / "tests"


def _download(folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-binary=django", f"--dest={folder}"]
    command += [f"django=={django.get_version()}"]
    subprocess.run(command, check=True, stdout=sys.stderr)


def configure() -> None:
    """Set up Django as its own test runner does for the tests of the cache."""
    settings.configure(
        CACHES={"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}},
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=["cache"],
        SECRET_KEY="for these tests only",  # noqa: S106 - signs nothing
        USE_TZ=False,
    )
    django.setup()


def run() -> unittest.TestResult:
    """Run `base_cache_tests.py` and return its results."""
    from django.test.runner import DiscoverRunner  # noqa: PLC0415 - needs settings

    runner = DiscoverRunner(verbosity=0)
    runner.setup_test_environment()
    suite = runner.build_suite(["base_cache_tests"])
    databases = runner.setup_databases(serialized_aliases=set())
    try:
        return runner.run_suite(suite)
    finally:
        runner.teardown_databases(databases)


def main() -> None:
    """Fetch, run, report."""
    sys.path.insert(0, str(tests_folder(Path(sys.argv[1]))))
    configure()
    result = run()
    failures = {str(test): trace for test, trace in result.failures + result.errors}
    skipped = {str(test): reason for test, reason in result.skipped}
    print(json.dumps({"run": result.testsRun, "failures": failures, "skipped": skipped}))  # noqa: T201


if __name__ == "__main__":
    main()
