"""Builds the package from a copy of its sources and installs it in fresh environments."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = (
    ".gitignore",
    "LICENSE",
    "README.md",
    "integrations",
    "native",
    "pmemcache",
    "pyproject.toml",
)


def run(*command: str | Path) -> str:
    """Run a command outside the repository; its output is in the error when it fails."""
    finished = subprocess.run(
        command, cwd="/", check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if finished.returncode != 0:
        pytest.fail(f"{' '.join(map(str, command))}\n{finished.stdout}", pytrace=False)
    return finished.stdout


@dataclass(frozen=True)
class Environment:
    """A virtual environment."""

    folder: Path

    @classmethod
    def create(cls, folder: Path, interpreter: str = sys.executable) -> Environment:
        run(interpreter, "-m", "venv", folder)
        return cls(folder)

    def pip(self, *arguments: str | Path) -> str:
        return run(
            self.folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check", *arguments
        )

    def python(self, code: str) -> str:
        """Return what *code* prints."""
        return run(self.folder / "bin" / "python", "-c", code).strip()

    def command(self, name: str, *arguments: str) -> str:
        """Return what an installed command prints."""
        return run(self.folder / "bin" / name, *arguments)


@pytest.fixture(scope="session")
def source_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the package is built from, so that a build leaves nothing behind."""
    copy = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(
                source, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.so")
            )
        else:
            shutil.copy2(source, copy / name)
    return copy


@pytest.fixture(scope="session")
def sdist(source_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--sdist", "--outdir", folder, source_tree)
    return next(folder.glob("*.tar.gz"))


@pytest.fixture(scope="session")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that pip builds from the sdist."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder, sdist)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def make_environment(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Environment]:
    """A function that makes an empty environment, of another interpreter when it names one."""

    def make(interpreter: str = sys.executable) -> Environment:
        return Environment.create(tmp_path_factory.mktemp("environment"), interpreter)

    return make


@pytest.fixture(scope="module", params=["install", "editable", "wheel from sdist"])
def installed(
    request: pytest.FixtureRequest, make_environment: Callable[..., Environment]
) -> Environment:
    """An environment with the package in it, once per way to install it."""
    environment = make_environment()
    if request.param == "install":
        environment.pip("install", request.getfixturevalue("source_tree"))
    elif request.param == "editable":
        environment.pip("install", "--editable", request.getfixturevalue("source_tree"))
    else:
        environment.pip("install", request.getfixturevalue("wheel"))
    return environment
