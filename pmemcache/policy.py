"""`UsagePolicy`: how much of which memory a cache uses, and for what."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, get_args

from pmemcache.config import PoolOptions, parse_size
from pmemcache.errors import ConfigurationError
from pmemcache.types import Eviction, Lifetime, Memory

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["DEFAULT_HOT_BYTES", "POLICY_VARIABLE", "UsagePolicy"]

POLICY_VARIABLE: Final = "PMEMCACHE_POLICY"
"""The environment variable that `UsagePolicy.from_environment` reads."""

DEFAULT_HOT_BYTES: Final = 64 * 1024**2
_DEFAULT_WARM_MAX_BYTES: Final = 1024**3
_DEFAULT_WARM_MIN_BYTES: Final = 16 * 1024**2
_DEFAULT_WARM_SHARE: Final = 8
_RATIO: Final = re.compile(r"ratio:(\d+):(\d+)")
_SHORT_NAMES: Final = {
    "hot": "hot_bytes",
    "hot_size": "hot_bytes",
    "warm": "warm_bytes",
    "size": "warm_bytes",
    "promotion": "promotion_count",
}
_PROMOTION_MAX: Final = 255


@dataclass(frozen=True)
class UsagePolicy:
    """How much of which memory a cache uses, and for what.

    A tier that is full gives up what is used least; it never fails.

    Raises:
        ConfigurationError: A value is none, or two contradict each other.
    """

    hot_bytes: int | str | None = None
    """Most bytes of the hot tier in each process, as `parse_size` reads them; None: 64 MiB, or what
    *placement* says."""
    warm_bytes: int | str | None = None
    """Most bytes of the pool; None: an eighth of its file system, from 16 MiB to 1 GiB."""
    placement: str = "heat"
    """What goes into the hot tier. `heat`: what is asked for again and again. `size:1KiB`: the
    same, but nothing larger. `ratio:1:8`: as `heat`, with one byte of hot for eight of warm.
    `warm-only`: nothing. `hot-only`: everything, and the pool holds no values, but for a moment
    those that other processes wait for while one loads."""
    promotion_count: int = 2
    """The number of the warm hit that makes a hot copy; earlier uses by the same process count too,
    as far as they are remembered. What was asked for in vain, and then set or loaded by the same
    process, is hot at once."""
    eviction: Eviction = "s3fifo"
    """The pool's eviction."""
    memory: Memory = "default"
    """When free memory of the pool goes back to the file system: "default", after 10 seconds, or
    "conservative", at once."""

    def __post_init__(self) -> None:
        """Check each value, then what they say together."""
        for name, choices in (("eviction", get_args(Eviction)), ("memory", get_args(Memory))):
            if getattr(self, name) not in choices:
                message = f"{name}={getattr(self, name)!r} does not exist: choose one of {choices}"
                raise ConfigurationError(message)
        count = self.promotion_count
        if type(count) is not int or not 1 <= count <= _PROMOTION_MAX:
            message = f"promotion_count={count!r}: give 1 to {_PROMOTION_MAX}"
            raise ConfigurationError(message)
        if self.hot_bytes in (0, "0"):
            message = "hot_bytes=0: for no hot tier write placement='warm-only', and no hot_bytes"
            raise ConfigurationError(message)
        for size in (self.hot_bytes, self.warm_bytes):
            if size is not None:
                parse_size(size)
        self._check_placement()

    def _check_placement(self) -> None:
        placement: object = self.placement
        if not isinstance(placement, str):
            message = f"placement={placement!r}: give a str, such as 'heat'"
            raise ConfigurationError(message)
        kind, _, detail = self.placement.partition(":")
        if kind not in {"heat", "size", "ratio", "warm-only", "hot-only"}:
            message = (
                f"placement={self.placement!r} does not exist: choose heat, size:BYTES, "
                "ratio:DRAM:PMEM, warm-only or hot-only"
            )
            raise ConfigurationError(message)
        if kind in {"heat", "warm-only", "hot-only"} and detail:
            message = f"placement={self.placement!r}: {kind} takes nothing behind it"
            raise ConfigurationError(message)
        if kind == "size" and parse_size(detail) > self.hot_capacity(None):
            message = f"placement={self.placement!r} is larger than the hot tier: raise hot_bytes"
            raise ConfigurationError(message)
        if kind == "ratio":
            self._ratio()
        if kind in {"ratio", "warm-only"} and self.hot_bytes is not None:
            message = f"placement={self.placement!r} sets the hot tier's size: leave hot_bytes out"
            raise ConfigurationError(message)
        if kind == "hot-only" and self.warm_bytes is not None:
            message = "placement='hot-only' keeps no values in the pool: leave warm_bytes out"
            raise ConfigurationError(message)

    def _ratio(self) -> tuple[int, int]:
        match = _RATIO.fullmatch(self.placement)
        if match is None or not int(match[1]) or not int(match[2]):
            message = f"placement={self.placement!r}: write ratio:1:8 for one byte hot to 8 warm"
            raise ConfigurationError(message)
        return int(match[1]), int(match[2])

    def check_pool(self, pool: PoolOptions, lifetime: Lifetime) -> None:
        """Refuse to be the policy of a pool that is open already, and works in another way.

        Its size is what it is.

        Args:
            lifetime: What is asked for besides.

        Raises:
            ConfigurationError: What is not the default is not that of the pool.
        """
        asked = {"eviction": self.eviction, "memory": self.memory, "lifetime": lifetime}
        wrong = [
            f"{name}={value!r}"
            for name, value in asked.items()
            if value not in {getattr(pool, name), getattr(PoolOptions, name)}
        ]
        if wrong:
            message = (
                f"{', '.join(wrong)} is not what the pool that is given was made with: leave it "
                "out, or give the pool's path instead"
            )
            raise ConfigurationError(message)

    @property
    def kind(self) -> str:
        """The placement without its detail."""
        return self.placement.partition(":")[0]

    @property
    def value_max_bytes(self) -> int | None:
        """Largest payload that may be hot; None: as large as fits."""
        kind, _, detail = self.placement.partition(":")
        return parse_size(detail) if kind == "size" else None

    def hot_capacity(self, warm_bytes: int | None) -> int:
        """Return the bytes of the hot tier, above a pool of *warm_bytes*; 0: there is none."""
        if self.kind == "warm-only":
            return 0
        if self.kind == "ratio" and warm_bytes is not None:
            hot, warm = self._ratio()
            return warm_bytes * hot // warm
        return DEFAULT_HOT_BYTES if self.hot_bytes is None else parse_size(self.hot_bytes)

    def warm_capacity(self, directory: str | os.PathLike[str]) -> int:
        """Return the bytes of a pool in *directory*; the same in every process."""
        if self.warm_bytes is not None:
            return parse_size(self.warm_bytes)
        if self.kind == "hot-only":
            return _DEFAULT_WARM_MIN_BYTES
        system = os.statvfs(directory)
        share = system.f_blocks * system.f_frsize // _DEFAULT_WARM_SHARE
        return max(_DEFAULT_WARM_MIN_BYTES, min(_DEFAULT_WARM_MAX_BYTES, share))

    @classmethod
    def of(cls, given: object) -> UsagePolicy:
        """Return the policy that is meant: one, its line, its options, or None: the environment's.

        Raises:
            ConfigurationError: It is none of these, or cannot work.
        """
        if isinstance(given, UsagePolicy):
            return given
        if given is None:
            return cls.from_environment()
        if isinstance(given, str):
            return cls.parse(given)
        if isinstance(given, Mapping):
            return cls.from_options(given)
        message = (
            f"{given!r} is no policy: give a UsagePolicy, its line, such as 'hot=64MiB,warm=8GiB', "
            "or its options in a dict"
        )
        raise ConfigurationError(message)

    @classmethod
    def from_options(cls, options: Mapping[Any, Any]) -> Self:
        """Return the policy of a dict, as of Django's `OPTIONS`; case does not matter.

        `hot`, `hot_size`, `warm`, `size` and `promotion` stand for the longer names.

        Raises:
            ConfigurationError: A name does not exist or stands twice, or a value cannot work.
        """
        known = {field.name for field in fields(cls)}
        values: dict[str, Any] = {}
        for given, value in options.items():
            if not isinstance(given, str):
                message = f"a usage policy has no {given!r}: the names of its options are str"
                raise ConfigurationError(message)
            name = _SHORT_NAMES.get(given.lower(), given.lower())
            if name not in known:
                message = f"a usage policy has no {given!r}: choose from {', '.join(sorted(known))}"
                raise ConfigurationError(message)
            if name in values:
                message = f"a usage policy has {name} twice"
                raise ConfigurationError(message)
            values[name] = value
        return cls(**values)

    @classmethod
    def parse(cls, line: str) -> Self:
        """Return the policy of one line: `"hot=64MiB,warm=8GiB,placement=size:1KiB"`.

        Raises:
            ConfigurationError: It cannot be read, or the policy cannot work.
        """
        pairs = [part.split("=", 1) for part in line.split(",") if part.strip()]
        options: dict[str, Any] = {}
        for pair in pairs:
            name, value = pair[0].strip().lower(), pair[-1].strip()
            if len(pair) != 2 or not value or name in options:  # noqa: PLR2004 - a pair
                message = f"cannot read the usage policy {line!r}: write name=value,name=value"
                raise ConfigurationError(message)
            is_count = name in {"promotion", "promotion_count"} and value.isdigit()
            options[name] = int(value) if is_count else value
        return cls.from_options(options)

    @classmethod
    def from_environment(cls, variable: str = POLICY_VARIABLE) -> Self:
        """Return the policy of the line in an environment variable; the default where it is not.

        Raises:
            ConfigurationError: The line cannot be read, or contradicts itself.
        """
        try:
            return cls.parse(os.environ.get(variable, ""))
        except ConfigurationError as error:
            message = f"the environment variable {variable}: {error}"
            raise ConfigurationError(message) from None
