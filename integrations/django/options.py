"""What `LOCATION` and `OPTIONS` of one entry of `CACHES` ask for."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.crypto import salted_hmac

from pmemcache import config
from pmemcache.config import PoolOptions
from pmemcache.errors import ConfigurationError
from pmemcache.policy import UsagePolicy
from pmemcache.pool import Pool
from pmemcache.serializers import serializer_of
from pmemcache.tiered import TieredCache

DEFAULT_SIZE: Final = "64MiB"
DEFAULT_HOT_SIZE: Final = "16MiB"
DEFAULT_SERIALIZER: Final = "plain"

_POOL_OPTIONS: Final = frozenset(field.name for field in fields(PoolOptions)) - {"size_bytes"}
# What Django's own backends take; PmemCache reads them itself.
_CULL_OPTIONS: Final = {"MAX_ENTRIES": 1, "CULL_FREQUENCY": 0}
"""Django's options of culling, with the least that each can be."""
# What one alias may have otherwise than another of the same pool.
_ALIAS_OPTIONS: Final = frozenset({"namespace", "single_flight", "WARN_KEYS"})
KNOWN_OPTIONS: Final = sorted(
    {"size", "hot_size", "serializer", *_CULL_OPTIONS} | _POOL_OPTIONS | _ALIAS_OPTIONS
)
# What stands beside OPTIONS: Django reads the others in small letters, too.
_DJANGO_SETTINGS: Final = (
    *("BACKEND", "KEY_FUNCTION", "KEY_PREFIX", "LOCATION", "OPTIONS", "TIMEOUT", "VERSION"),
    *("cull_frequency", "max_entries", "timeout"),
)


@dataclass(frozen=True)
class PoolRequest:
    """The pool that settings ask for; aliases with equal requests share one."""

    path: str
    """The pool's file, absolute."""
    pool: PoolOptions
    hot_bytes: int
    """The most bytes of copies in each process's own memory; 0: none are made."""
    serializer: str
    """The name of what serializes values that have no raw form."""

    @classmethod
    def from_settings(cls, location: Any, options: dict[str, Any]) -> PoolRequest:
        """Return the request of one entry of `CACHES`.

        Args:
            location: `LOCATION`: a file, or a directory for it; empty is the project's own pool in
                shared memory.
            options: `OPTIONS`.

        Raises:
            ImproperlyConfigured: An option is unknown or out of its range, two contradict each
                other, or there is no such directory.
        """
        for name in options:
            if name not in KNOWN_OPTIONS:
                raise ImproperlyConfigured(_unknown_option(name))
        _refuse_contradictions(options)
        _check_alias_options(options)
        try:
            return cls(
                path=config.resolve_path(location or _default_location()),
                pool=_pool_options(options),
                hot_bytes=_hot_bytes(options.get("hot_size", DEFAULT_HOT_SIZE)),
                serializer=_serializer(options.get("serializer", DEFAULT_SERIALIZER)),
            )
        except (ConfigurationError, TypeError, OSError) as error:
            message = f"CACHES entry with LOCATION {location!r}: {error}"
            raise ImproperlyConfigured(message) from error

    def open(self) -> TieredCache:
        """Attach to the pool, creating it if need be.

        Returns:
            A cache that raises whatever the pool does. The pool stays open when it is closed.

        Raises:
            PmemCacheError: The errors of `pmemcache.Pool`.
        """
        options = {name: getattr(self.pool, name) for name in _POOL_OPTIONS}
        pool = Pool(self.path, self.pool.size_bytes, **options)
        return TieredCache(pool, policy=self._policy(), serializer=self.serializer, strict=True)

    def _policy(self) -> UsagePolicy:
        if not self.hot_bytes:
            return UsagePolicy(placement="warm-only")
        return UsagePolicy(hot_bytes=self.hot_bytes)

    def differences(self, other: PoolRequest) -> str:
        """Return in words what *other* asks for otherwise."""
        pairs = {
            "hot_size": (self.hot_bytes, other.hot_bytes),
            "serializer": (self.serializer, other.serializer),
        }
        own = [
            f"{name}={mine} instead of {others}"
            for name, (mine, others) in pairs.items()
            if mine != others
        ]
        return ", ".join([*self.pool.differences(other.pool), *own])


def _pool_options(options: dict[str, Any]) -> PoolOptions:
    given = {name: value for name, value in options.items() if name in _POOL_OPTIONS}
    size = options.get("size", DEFAULT_SIZE)
    size_bytes = None if size is None else config.parse_size(size)
    return replace(PoolOptions(size_bytes=size_bytes), **given)


def _hot_bytes(size: int | str) -> int:
    return 0 if size in (0, "0") else config.parse_size(size)


def _serializer(name: Any) -> str:
    if not isinstance(name, str):
        message = f"serializer={name!r}: give its name, as 'plain', 'pickle', 'json' or 'msgpack'"
        raise ConfigurationError(message)
    serializer_of(name)
    return name


def _check_alias_options(options: dict[str, Any]) -> None:
    """Refuse what one alias cannot ask for.

    Raises:
        ImproperlyConfigured: A flag is no bool, a count no number, a namespace has no name, or two
            options contradict each other.
    """
    for name in ("single_flight", "WARN_KEYS"):
        if not isinstance(options.get(name, False), bool):
            message = f"CACHES has {name}={options[name]!r} in OPTIONS: give True or False"
            raise ImproperlyConfigured(message)
    for name, least in _CULL_OPTIONS.items():
        if name in options and not _is_count(options[name], least):
            message = f"CACHES has {name}={options[name]!r} in OPTIONS: give an int from {least} up"
            raise ImproperlyConfigured(message)
    if "namespace" not in options:
        return
    if not isinstance(options["namespace"], str) or not options["namespace"]:
        message = f"CACHES has namespace={options['namespace']!r} in OPTIONS: give it a name, a str"
        raise ImproperlyConfigured(message)
    if "MAX_ENTRIES" in options:
        message = (
            "CACHES has both namespace and MAX_ENTRIES in OPTIONS, but MAX_ENTRIES counts the "
            "entries of the whole pool: leave it out, size is the limit"
        )
        raise ImproperlyConfigured(message)


def _is_count(value: Any, least: int) -> bool:
    """Whether Django would read *value* as an int of *least* or more; it takes 300 for the rest."""
    try:
        return int(value) >= least
    except (TypeError, ValueError, OverflowError):
        return False


def _default_location() -> str:
    """Return the path of this project's pool in shared memory.

    Two projects of one user are told apart by their secret keys, or one could be served what the
    other has stored.
    """
    path = config.default_path()
    if os.environ.get("PMEMCACHE_PATH") or not settings.configured:
        return str(path)
    project = salted_hmac("pmemcache.integrations.django", "", algorithm="sha256").hexdigest()[:16]
    return str(path.with_name(f"django-{project}.pool"))


def misplaced_setting(name: str) -> str | None:
    """Return what to do about a setting beside `OPTIONS` that nothing reads; None: leave it."""
    if name in _DJANGO_SETTINGS:
        return None
    if name in KNOWN_OPTIONS:
        return f"Write it inside of OPTIONS: {{{name!r}: ...}}."
    close = difflib.get_close_matches(name, [*_DJANGO_SETTINGS, *KNOWN_OPTIONS], n=1, cutoff=0.8)
    return f"Did you mean {close[0]!r}?" if close else None


def _refuse_contradictions(options: dict[str, Any]) -> None:
    """Refuse options of which each is right, but not with the other.

    Raises:
        ImproperlyConfigured: There are two of them.
    """
    contradiction = ""
    if options.get("eviction") == "none" and "MAX_ENTRIES" in options:
        contradiction = (
            "eviction='none' keeps every entry, and MAX_ENTRIES gives entries up: leave out one; "
            "for a bound that evicts, choose eviction='s3fifo'"
        )
    elif options.get("preallocate") is True and options.get("size", DEFAULT_SIZE) is None:
        contradiction = (
            "preallocate=True takes the whole size at once, and size=None is all that the file "
            "system has: give a size, such as '1GiB', or leave out preallocate"
        )
    if contradiction:
        message = f"CACHES has contradictory OPTIONS of a PmemCache: {contradiction}"
        raise ImproperlyConfigured(message)


def _unknown_option(name: str) -> str:
    if name.upper() in _DJANGO_SETTINGS:
        return (
            f"CACHES has the unknown option {name!r} in OPTIONS of a PmemCache: write "
            f"{name.upper()!r} beside OPTIONS, not in it."
        )
    close = difflib.get_close_matches(name, KNOWN_OPTIONS, n=1)
    if not close:
        close = [known for known in KNOWN_OPTIONS if known.lower() == name.lower()]
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(KNOWN_OPTIONS)}."
    return f"CACHES has the unknown option {name!r} in OPTIONS of a PmemCache: {hint}"
