"""System checks of the caches, under `Tags.caches`: `manage.py check` says what will not work.

`E` is a cache that cannot work, or is open to others; `W` one that works otherwise than one thinks.
Nothing is written, and no pool is opened.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's name
from django.core.exceptions import ImproperlyConfigured

from pmemcache.doctor import Diagnosis, diagnose
from pmemcache.integrations.django.aliases import pmem_settings
from pmemcache.integrations.django.options import PoolRequest, misplaced_setting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["check_caches", "check_default_for_deployment"]

_LOCMEM: Final = "django.core.cache.backends.locmem.LocMemCache"
_SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - where containers have their shared memory
_DOCKER_SHARED_BYTES: Final = 64 * 1024**2
_GUNICORN_WORKERS: Final = re.compile(r"(?:^|\s)(?:-w|--workers)[\s=]*(\d+)")


def check_caches(**_: Any) -> list[CheckMessage]:
    """Return what is wrong with each pmemcache in `CACHES`, and a LocMemCache beside workers."""
    messages: list[CheckMessage] = []
    requests: dict[str, PoolRequest] = {}
    for alias, entry in pmem_settings().items():
        messages += _misplaced(alias, entry)
        location = entry.get("LOCATION", "")
        try:
            request = PoolRequest.from_settings(location, entry.get("OPTIONS", {}))
        except ImproperlyConfigured as error:
            messages.append(Error(f"{_name(alias)}: {error}", id="pmemcache.E001"))
            continue
        messages += _check_pool(alias, location, request)
        requests[alias] = request
    messages += _check_geometries(requests)
    workers = _known_workers()
    if workers is not None and workers > 1:
        messages += _check_default(f"{workers} worker processes")
    return messages


def check_default_for_deployment(**_: Any) -> list[CheckMessage]:
    """Return a warning of a LocMemCache where the number of workers is not known to be one."""
    return _check_default("more than one worker process") if _known_workers() is None else []


def _name(alias: str) -> str:
    return f"CACHES[{alias!r}]"


def _check_pool(alias: str, location: Any, request: PoolRequest) -> Iterator[CheckMessage]:
    if location and not Path(location).is_absolute():
        yield Warning(
            f"{_name(alias)}: LOCATION {str(location)!r} is relative, so each process looks for it "
            f"in its own working directory (here: {request.path}).",
            hint="Write the absolute path, as with BASE_DIR.",
            id="pmemcache.W001",
        )
    place = diagnose(Path(request.path).parent, probe=False)
    yield from _check_access(alias, request)
    yield from _check_place(alias, request, place)
    yield from _check_size(alias, request, place)
    size = request.pool.size_bytes
    if size is not None and request.hot_bytes > size:
        yield Warning(
            f"{_name(alias)}: hot_size, {request.hot_bytes:,} bytes for each worker, is more than "
            f"the pool's size, {size:,}: it holds copies of what the pool holds, "
            "and is never filled.",
            hint="Give size more, or hot_size less; a hot_size of 0 is no hot tier.",
            id="pmemcache.W008",
        )


def _check_access(alias: str, request: PoolRequest) -> Iterator[CheckMessage]:
    """Look at the owner and the mode of the pool and of its directory."""
    path = Path(request.path)
    directory = path.parent
    if not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
        yield Error(
            f"{_name(alias)}: {directory} is not writable by this user (uid {os.geteuid()}).",
            hint="Give the workers' user the directory, or run this as the workers' user.",
            id="pmemcache.E002",
        )
    others_write = directory.stat().st_mode & 0o022
    is_sticky = directory.stat().st_mode & stat.S_ISVTX
    if others_write and not is_sticky:
        yield Error(
            f"{_name(alias)}: other users may write in {directory}, so a pool there is refused.",
            hint=f"chmod go-w {directory}",
            id="pmemcache.E003",
        )
    elif others_write:
        yield Warning(
            f"{_name(alias)}: an entry can be a pickle without a signature (HMAC), whatever the "
            f"serializer here, and {directory} is shared with other users. Nobody else can write "
            "this pool as it is, but whoever makes the file first, or is given access to it, could "
            "run code in the workers.",
            hint="Use a directory that only the workers' user can write; leave LOCATION empty for "
            "one in shared memory.",
            id="pmemcache.W005",
        )
    try:
        about = path.lstat()
    except OSError:
        return
    if about.st_uid != os.geteuid():
        yield Error(
            f"{_name(alias)}: the pool {path} belongs to another user (uid {about.st_uid}, this is "
            f"{os.geteuid()}), and is refused.",
            hint="Run all workers and commands as one user, or choose another LOCATION.",
            id="pmemcache.E004",
        )
    if about.st_mode & 0o077:
        yield Warning(
            f"{_name(alias)}: the pool {path} can be read by other users "
            f"({stat.filemode(about.st_mode)}): sessions and pages are in it.",
            hint=f"chmod 600 {path}",
            id="pmemcache.W004",
        )


def _check_place(alias: str, request: PoolRequest, place: Diagnosis) -> Iterator[CheckMessage]:
    """Look at the file system, and at what else the directory is for."""
    if place.remote:
        yield Error(
            f"{_name(alias)}: {place.directory} is on a network file system ({place.file_system}); "
            "its memory maps are not shared between hosts, and its locks may not be between "
            "processes.",
            hint="Use a local file system, such as /dev/shm or a DAX mount.",
            id="pmemcache.E006",
        )
    for setting, served in _served_directories():
        if Path(request.path).is_relative_to(served):
            yield Error(
                f"{_name(alias)}: the pool {request.path} is inside {setting} ({served}), where "
                "the web server finds what it hands out.",
                hint="Keep it outside of every directory that is served.",
                id="pmemcache.E007",
            )
    if place.dram and request.pool.lifetime == "restart":
        yield Warning(
            f'{_name(alias)}: lifetime="restart" on {place.file_system} keeps the pool while '
            "workers restart, but not when the host or its container does.",
            hint="If that is what you want, add 'pmemcache.W006' to SILENCED_SYSTEM_CHECKS. "
            "No other LOCATION outlives the host either, as the index is in memory.",
            id="pmemcache.W006",
        )


def _check_size(alias: str, request: PoolRequest, place: Diagnosis) -> Iterator[CheckMessage]:
    size = request.pool.size_bytes
    if size is None or not place.size_bytes or size <= place.size_bytes:
        return
    message = (
        f"{_name(alias)}: size is {size:,} bytes, but the file system of {place.directory} has "
        f"{place.size_bytes:,} in all: the pool will evict long before it is full."
    )
    if place.mount_point == _SHARED_MEMORY and place.size_bytes <= _DOCKER_SHARED_BYTES:
        yield Warning(
            f"{message} That is what a container has by default.",
            hint=f"docker run --shm-size={_rounded_up(size)}, or in Kubernetes a volume "
            "emptyDir: {medium: Memory}.",
            id="pmemcache.W003",
        )
    else:
        yield Warning(
            message,
            hint="Give size less, or None for all that the file system has.",
            id="pmemcache.W002",
        )


def _rounded_up(size: int) -> str:
    """Return a size for Docker with room for the pool's own tables."""
    return f"{-(-size * 5 // 4 // 1024**2)}m"


def _served_directories() -> Iterator[tuple[str, Path]]:
    static = [
        ("STATICFILES_DIRS", entry[1] if isinstance(entry, list | tuple) else entry)
        for entry in settings.STATICFILES_DIRS
    ]
    roots = [("MEDIA_ROOT", settings.MEDIA_ROOT), ("STATIC_ROOT", settings.STATIC_ROOT)]
    for setting, directory in roots + static:
        if directory:
            yield setting, Path(os.path.realpath(directory))


def _check_geometries(requests: dict[str, PoolRequest]) -> Iterator[CheckMessage]:
    """Compare the aliases that share a file with the first of them."""
    first: dict[str, str] = {}
    for alias, request in requests.items():
        other = first.setdefault(request.path, alias)
        if requests[other] != request:
            yield Error(
                f"{_name(alias)} and {_name(other)} share the pool {request.path} but ask for "
                f"different OPTIONS: {request.differences(requests[other])}.",
                hint="Give both the same, or one of them another LOCATION.",
                id="pmemcache.E005",
            )


def _misplaced(alias: str, entry: Mapping[str, Any]) -> Iterator[CheckMessage]:
    """Find what Django passes over in silence."""
    for setting in entry:
        advice = misplaced_setting(setting)
        if advice is not None:
            yield Warning(
                f"{_name(alias)} has {setting!r}, which nothing reads.",
                hint=advice,
                id="pmemcache.W009",
            )
    options = entry.get("OPTIONS", {})
    if "CULL_FREQUENCY" in options and not ("MAX_ENTRIES" in options or "max_entries" in entry):
        yield Warning(
            f"{_name(alias)}: CULL_FREQUENCY has no effect without MAX_ENTRIES.",
            hint="Leave it out: size is the limit of the pool.",
            id="pmemcache.W010",
        )


def _check_default(workers: str) -> list[CheckMessage]:
    if settings.CACHES.get("default", {}).get("BACKEND") != _LOCMEM:
        return []
    return [
        Warning(
            f"{_name('default')} is LocMemCache beside {workers}: each has a cache of its own, so "
            "a delete in one is not seen by the others.",
            hint="BACKEND: 'pmemcache.integrations.django.PmemCache' is shared by all of a host. "
            "With one worker, set WEB_CONCURRENCY=1.",
            id="pmemcache.W007",
        )
    ]


def _known_workers() -> int | None:
    """Return the number of workers that the environment asks of the web server; None: unknown."""
    asked = _GUNICORN_WORKERS.search(os.environ.get("GUNICORN_CMD_ARGS", ""))
    number = asked[1] if asked else os.environ.get("WEB_CONCURRENCY", "")
    return int(number) if number.isdecimal() else None
