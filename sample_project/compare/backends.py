"""The caches that are compared, and what each one needs before a site can use it."""

from __future__ import annotations

import importlib
import shutil
from dataclasses import dataclass


class BackendUnavailableError(RuntimeError):
    """A backend cannot be used here; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One cache: its name for the site, its name for readers, how it is drawn, what it needs.

    Args:
        key: Its name for the site's settings and in `report.json`.
        label: Its name for readers.
        colour: Of its line or bar.
        dash: Of its line, as matplotlib has it.
        modules: What has to be importable.
        programs: What has to be on the path.
        store: What keeps its values: a server's name, `files`, `pool`, or nothing.
    """

    key: str
    label: str
    colour: str
    dash: str = "-"
    modules: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    store: str = ""

    @property
    def caches(self) -> bool:
        """Whether the backend stores anything."""
        return self.key != "none"


REDIS_MODULES = ("redis", "hiredis")
NONE = Backend(key="none", label="no cache", colour="#9aa0a6")
LOCMEM = Backend(key="locmem", label="LocMemCache", colour="#e0a32e")
FILES = Backend(key="filebased", label="FileBasedCache", colour="#8a6d3b", store="files")
DISKCACHE = Backend(
    key="diskcache", label="diskcache", colour="#5a8f3c", modules=("diskcache",), store="files"
)
MEMCACHED = Backend(
    key="memcached",
    label="Memcached",
    colour="#7b4fa3",
    modules=("pymemcache",),
    programs=("memcached",),
    store="memcached",
)
REDIS = Backend(
    key="redis",
    label="RedisCache",
    colour="#c8443a",
    modules=REDIS_MODULES,
    programs=("redis-server",),
    store="redis",
)
DJANGO_REDIS = Backend(
    key="django_redis",
    label="django-redis",
    colour="#e58a82",
    dash="--",
    modules=(*REDIS_MODULES, "django_redis"),
    programs=("redis-server",),
    store="redis",
)
FAR_REDIS = Backend(
    key="far_redis",
    label="RedisCache +0.25 ms",
    colour="#7d2019",
    dash=":",
    modules=REDIS_MODULES,
    programs=("redis-server", "cc"),
    store="redis",
)
OURS_MODULES = ("pmemcache.integrations.django",)
PMEMCACHE = Backend(
    key="pmemcache", label="pmemcache", colour="#1f6fb2", modules=OURS_MODULES, store="pool"
)
PMEMCACHE_HOT = Backend(
    key="pmemcache_hot",
    label="pmemcache hot+warm",
    colour="#12b5b0",
    modules=OURS_MODULES,
    store="pool",
)
BACKENDS = (
    *(NONE, LOCMEM, FILES, DISKCACHE, MEMCACHED, REDIS, DJANGO_REDIS, FAR_REDIS),
    *(PMEMCACHE, PMEMCACHE_HOT),
)
SHORT_BACKENDS = (NONE, LOCMEM, MEMCACHED, REDIS, PMEMCACHE, PMEMCACHE_HOT)
"""What the short comparison takes; the whole one takes all."""
BY_KEY = {backend.key: backend for backend in BACKENDS}
PACKAGES_OF_PROGRAMS = {"cc": "gcc"}


def why_skipped(backend: Backend) -> str | None:
    """Return why *backend* is left out of the comparison, `None` when it takes part.

    Only a program that is not installed is a reason; everything else is an error.

    Raises:
        BackendUnavailableError: A Python package that the backend needs cannot be imported.
    """
    for module in backend.modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            message = (
                f"{backend.label} cannot be imported ({error}). "
                "Install the project with its extra: pip install '.[sample]'"
            )
            raise BackendUnavailableError(message) from error
    for program in backend.programs:
        if shutil.which(program) is None:
            package = PACKAGES_OF_PROGRAMS.get(program, program)
            return f"{program} is not installed (Debian, Ubuntu: apt-get install {package})"
    return None
