"""`Faults`: what a cache does when its pool cannot serve; `FailureLog`: how often it says so.

Reads become misses and writes are dropped, each is counted, and the log has one line for each kind
of failure in a minute. With `strict` every failure raises. A wrong argument always raises.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from pmemcache.errors import (
    AttachLimitError,
    DamagedPoolError,
    LayoutMismatchError,
    LockTimeoutError,
    NoSpaceError,
    PoolClosedError,
    PoolFullError,
    SystemCallError,
    ValueTooLargeError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FAILURES", "FailureLog", "Faults"]

FAILURES: Final = (
    AttachLimitError,
    DamagedPoolError,
    LayoutMismatchError,
    LockTimeoutError,
    NoSpaceError,
    PoolClosedError,
    PoolFullError,
    SystemCallError,
    ValueTooLargeError,
    OSError,
)
"""What a pool raises when it cannot serve, though the call was right."""

_LOG_INTERVAL_SECONDS: Final = 60.0

logger: Final = logging.getLogger("pmemcache")


class FailureLog:
    """Logs failures, at most one line for each kind in a minute.

    Takes no lock, which a child made by fork could find taken: two threads that fail at the same
    moment may write a line each.

    Args:
        to: Where lines go, as warnings.
        line: What they say, of the operation, the error, and how many of this kind were left out.
        clock: Counts seconds.
    """

    def __init__(
        self,
        to: logging.Logger = logger,
        line: str = "%s failed: %s (%d like it since the last such line)",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = to
        self._line = line
        self._clock = clock
        self._silent_until: dict[tuple[str, type[BaseException]], float] = {}
        self._silenced: dict[tuple[str, type[BaseException]], int] = {}

    def report(self, operation: str, error: BaseException) -> None:
        """Log that *operation* failed with *error*, or count it until the minute is over."""
        kind = (operation, type(error))
        now = self._clock()
        if now < self._silent_until.get(kind, now):
            self._silenced[kind] = self._silenced.get(kind, 0) + 1
            return
        self._silent_until[kind] = now + _LOG_INTERVAL_SECONDS
        self._logger.warning(self._line, operation, error, self._silenced.pop(kind, 0))


class Faults:
    """Counts and logs failures, or raises them.

    Args:
        strict: Raise every failure.
        clock: Counts seconds.
    """

    def __init__(
        self, *, strict: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.strict = strict
        self.reads = 0
        self.writes = 0
        self.undecodable = 0
        self._log = FailureLog(clock=clock)

    def read(self, what: str, error: BaseException) -> None:
        """Count a read that failed: the caller answers with a miss.

        Raises:
            BaseException: *error* itself, when strict.
        """
        self.reads += 1
        self._report(what, error)

    def write(self, what: str, error: BaseException) -> None:
        """Count a write that was dropped.

        Raises:
            BaseException: *error* itself, when strict.
        """
        self.writes += 1
        self._report(what, error)

    def decode(self, error: BaseException) -> None:
        """Count a value that cannot be decoded: a miss in any case, as after a deploy."""
        self.undecodable += 1
        self._log.report("decoding", error)

    def _report(self, what: str, error: BaseException) -> None:
        if self.strict:
            raise error
        self._log.report(what, error)
