"""Every way to install the package gives the same working package."""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Environment

STORE_AND_READ = """
import pmemcache
with pmemcache.Pool(None, "1MiB") as pool:
    pool.put(b"key", b"value")
    print(pool.get(b"key"), pool.check())
"""
SUPPORTED_MINORS = (10, 11, 12, 13, 14)


def find_interpreter(minor: int) -> str | None:
    """Return a Python 3.*minor* that can make environments, from the path or pyenv."""
    candidates = [shutil.which(f"python3.{minor}")]
    candidates += [
        str(path) for path in Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3")
    ]
    for candidate in filter(None, candidates):
        check = f"import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, {minor}))"
        finished = subprocess.run([candidate, "-c", check], check=False, capture_output=True)
        if finished.returncode == 0:
            return candidate
    return None


def test_package_stores_and_reads_after_install(installed: Environment) -> None:
    assert installed.python(STORE_AND_READ) == "b'value' []"


def test_both_doors_are_stable_abi_modules(installed: Environment) -> None:
    code = """
import pmemcache._engine, pmemcache._short
print(pmemcache._engine.__file__, pmemcache._short.__file__)
"""
    assert all(path.endswith(".abi3.so") for path in installed.python(code).split())


def test_integrations_are_installed_under_the_package(installed: Environment) -> None:
    code = "import importlib.util as u; print(u.find_spec('pmemcache.integrations.django').name)"
    assert installed.python(code) == "pmemcache.integrations.django"


def test_package_imports_no_framework(installed: Environment) -> None:
    code = "import sys, pmemcache, pmemcache.integrations; print('django' in sys.modules)"
    assert installed.python(code) == "False"


def test_type_hints_are_announced(installed: Environment) -> None:
    code = """
from importlib.resources import files
print(files("pmemcache").joinpath("py.typed").is_file())
"""
    assert installed.python(code) == "True"


def test_command_line_is_installed(installed: Environment) -> None:
    assert "doctor" in installed.command("pmemcache", "--help")


def test_run_time_needs_are_cffi_and_cachetools_only(installed: Environment) -> None:
    code = """
from importlib.metadata import requires
print(*[line for line in requires("pmemcache") if "extra ==" not in line], sep="\\n")
"""
    names = {
        match.group()
        for match in map(re.compile(r"[\w-]+").match, installed.python(code).split())
        if match
    }
    assert names == {"cachetools", "cffi"}


def test_wheel_is_for_every_python_from_3_10(wheel: Path) -> None:
    assert "-cp310-abi3-linux_" in wheel.name


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    top_level = {name.split("/")[0] for name in names}
    assert top_level == {"pmemcache", f"pmemcache-{wheel.name.split('-')[1]}.dist-info"}
    assert "pmemcache/integrations/__init__.py" in names
    assert {Path(name).suffix for name in names if name.startswith("pmemcache/")} <= {
        ".py",
        ".pyi",
        ".so",
        ".typed",
        ".css",
        ".html",
    }


def test_sdist_holds_the_engine_and_the_licence(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {
        "LICENSE",
        "native/CMakeLists.txt",
        "native/include/pmemcache.h",
        "native/binding/short_door.c",
        "integrations/__init__.py",
        "pmemcache/py.typed",
    } <= names


@pytest.mark.parametrize("minor", SUPPORTED_MINORS)
def test_one_wheel_works_on_every_python(
    minor: int, wheel: Path, make_environment: Callable[..., Environment]
) -> None:
    interpreter = find_interpreter(minor)
    if interpreter is None:
        pytest.skip(f"no Python 3.{minor} on this machine")
    environment = make_environment(interpreter)
    environment.pip("install", wheel)
    assert environment.python(STORE_AND_READ) == "b'value' []"


def test_django_finds_templates_styles_and_commands(installed: Environment) -> None:
    code = """
from importlib.resources import files
django = files("pmemcache.integrations") / "django"
for name in ("templates/pmemcache/admin_page.html", "templates/pmemcache/panel.html",
             "static/pmemcache/admin.css", "management/commands/pmemcache.py"):
    assert django.joinpath(name).is_file(), name
print("all there")
"""
    assert installed.python(code) == "all there"
