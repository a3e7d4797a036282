"""Sizes, options and paths: what a user writes, checked and made exact."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from dataclasses import dataclass, fields
from decimal import Decimal
from pathlib import Path
from typing import Final, get_args

from pmemcache.errors import ConfigurationError
from pmemcache.types import Eviction, Lifetime, Memory

__all__ = ["POOL_FILE_NAME", "PoolOptions", "default_path", "parse_size", "resolve_path"]

POOL_FILE_NAME: Final = "pmemcache.pool"
"""The file of a pool whose path is a directory."""

_SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - where shared memory is, not a temporary file
_SIZE_MAX: Final = 2**63 - 1
_SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
_UNITS: Final[dict[str, int]] = {
    "": 1,
    "b": 1,
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgtp", start=1)},
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgtp", start=1)},
}


def parse_size(size: int | str) -> int:
    """Return a size in bytes.

    Args:
        size: Bytes as an int, or a number with a unit: `"64MiB"`, `"1.5 GiB"` (powers of 1024) or
            `"64MB"` (powers of 1000); no unit is bytes. Case does not matter.

    Raises:
        TypeError: Not an int or a str.
        ConfigurationError: Not a positive size, or an unknown unit.
    """
    if isinstance(size, bool) or not isinstance(size, int | str):
        message = f'a size is an int of bytes or a str like "64MiB", not {type(size).__name__}'
        raise TypeError(message)
    parsed = size if isinstance(size, int) else _parse_size_text(size)
    if not 0 < parsed <= _SIZE_MAX:
        message = f"size {size!r} is out of range: give at least one byte and less than 8 EiB"
        raise ConfigurationError(message)
    return parsed


def _parse_size_text(text: str) -> int:
    match = _SIZE.fullmatch(text)
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        message = (
            f'cannot read size {text!r}: write a number and a unit, like "64MiB" or "1GiB" '
            "(KiB, MiB, GiB, TiB, PiB; KB, MB, GB, TB, PB; none is bytes)"
        )
        raise ConfigurationError(message)
    return int(Decimal(match[1]) * unit)


@dataclass(frozen=True)
class PoolOptions:
    """How a pool is made. Every process that attaches to it must ask for the same."""

    size_bytes: int | None = None
    """Most bytes the heap may take; None: as much as the file system has."""
    lifetime: Lifetime = "volatile"
    eviction: Eviction = "s3fifo"
    memory: Memory = "default"
    preallocate: bool = False
    shards: int = 0
    """A power of two; 0: chosen from the size."""
    lock_timeout_seconds: float = 1.0
    """Longest wait for a lock."""
    verify: bool = False
    """Check the checksum of every value on every read."""

    def __post_init__(self) -> None:
        """Refuse what no pool can be.

        Raises:
            ConfigurationError: An option has a value that does not exist.
        """
        _require_choice("lifetime", self.lifetime, get_args(Lifetime))
        _require_choice("eviction", self.eviction, get_args(Eviction))
        _require_choice("memory", self.memory, get_args(Memory))
        for name in ("preallocate", "verify"):
            if not isinstance(getattr(self, name), bool):
                message = f"{name} is True or False, not {getattr(self, name)!r}"
                raise ConfigurationError(message)
        if type(self.shards) is not int or self.shards < 0 or self.shards & (self.shards - 1):
            message = f"shards={self.shards!r}: give a power of two, or 0 to choose from the size"
            raise ConfigurationError(message)
        timeout = self.lock_timeout_seconds
        if isinstance(timeout, bool) or not isinstance(timeout, int | float):
            message = f"lock_timeout_seconds is a number of seconds, not {timeout!r}"
            raise ConfigurationError(message)
        if not 0.001 <= timeout <= 3600:  # noqa: PLR2004 - a millisecond to an hour
            message = f"lock_timeout_seconds={timeout!r}: give 0.001 to 3600 seconds"
            raise ConfigurationError(message)

    def differences(self, other: PoolOptions) -> list[str]:
        """Return a phrase for each option that *other* has otherwise."""
        return [
            f"{field.name}={getattr(self, field.name)!r} instead of {getattr(other, field.name)!r}"
            for field in fields(self)
            if getattr(self, field.name) != getattr(other, field.name)
        ]


def _require_choice(name: str, given: object, choices: tuple[str, ...]) -> None:
    if given not in choices:
        message = f"{name}={given!r} does not exist: choose one of {', '.join(map(repr, choices))}"
        raise ConfigurationError(message)


def resolve_path(path: str | os.PathLike[str]) -> str:
    """Return the absolute path of a pool's file.

    Symbolic links in the directory are followed, one in place of the file is left for the engine to
    refuse. A directory gives `POOL_FILE_NAME` in it.

    Raises:
        TypeError: Not a str or a path.
        ConfigurationError: The path is empty, too long, has a NUL byte, or is in a directory that
            does not exist.
    """
    text: object = os.fspath(path)
    if not isinstance(text, str):
        message = f"a pool's path is a str or a path object, not {type(path).__name__}"
        raise TypeError(message)
    if not text or "\0" in text:
        message = f"{text!r} is no path: give a file, a directory, or None for a private pool"
        raise ConfigurationError(message)
    given = Path(text)
    try:
        if given.is_dir():
            given /= POOL_FILE_NAME
        directory = os.path.realpath(given.parent)
        exists = Path(directory).is_dir()
    except OSError as error:
        message = f"cannot look at {text}: {error.strerror}; choose another path"
        raise ConfigurationError(message) from error
    if not exists:
        message = f"the directory {directory} of pool {text} does not exist: create it first"
        raise ConfigurationError(message)
    return str(Path(directory, given.name))


def default_path() -> Path:
    """Return the path of this user's default pool, in a directory only the user can enter.

    That is the environment variable `PMEMCACHE_PATH` where it is set, else a file in shared memory
    (`/dev/shm`), else one in the directory for temporary files. The directory is created.

    Raises:
        ConfigurationError: The directory's name is taken by something this user does not own.
    """
    chosen = os.environ.get("PMEMCACHE_PATH")
    if chosen:
        return Path(resolve_path(chosen))
    shared = Path(_SHARED_MEMORY)
    usable = shared.is_dir() and os.access(shared, os.W_OK | os.X_OK)
    base = shared if usable else Path(tempfile.gettempdir())
    directory = base / f"pmemcache-{os.getuid()}"
    _make_private_directory(directory)
    return directory / "default.pool"


def _make_private_directory(directory: Path) -> None:
    """Create *directory* for this user alone, or make sure that it is so."""
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        found = directory.lstat()
        private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
        if not private or found.st_mode & 0o022:
            message = (
                f"{directory} is not a directory that only this user can write: remove it, or name "
                "another place by the environment variable PMEMCACHE_PATH"
            )
            raise ConfigurationError(message) from None
