"""What all tests share: they run against the installed package, never the source tree."""

from __future__ import annotations

import importlib
import os

import pytest


def pytest_configure() -> None:
    try:
        importlib.import_module("pmemcache._engine")
    except ImportError as error:
        pytest.exit(
            f"pmemcache is not installed, or the source folder hides it ({error}): run "
            "`make install`, then `.venv/bin/pytest`, not `python -m pytest`, which puts the "
            "source folder first",
            returncode=pytest.ExitCode.USAGE_ERROR,
        )


@pytest.fixture(scope="session", autouse=True)
def _outside_the_source_tree(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Leave the repository, so that Pythons which tests start import the installed package too."""
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
