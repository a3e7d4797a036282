"""Run Django's own tests of what uses a cache, in a process of its own, with pmemcache for it.

    python tests/django/django_suite.py FOLDER LABEL...

The tests come with the source distribution of the installed Django, which pip fetches once into
FOLDER. Labels are those of Django's `runtests.py`, and `base_cache_tests`. See `suite_settings` and
`suite_runner` for what stands in for what, and for what is left out.
"""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import django


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


def main() -> None:
    """Fetch, and run what Django's own `runtests.py` does with these labels."""
    tests = tests_folder(Path(sys.argv[1]).resolve())
    os.chdir(tests)
    sys.path.insert(0, str(tests))
    options = ["--settings=suite_settings", "--parallel=1", "--verbosity=0", "--noinput"]
    sys.argv = ["runtests.py", *options, *sys.argv[2:]]
    runpy.run_path("runtests.py", run_name="__main__")


if __name__ == "__main__":
    main()
