"""`Faults`: what a cache does when its pool cannot serve.

Reads become misses and writes are dropped, each is counted, and the log has one line for each kind
of failure in a minute. With `strict` every failure raises. A wrong argument always raises.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
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

__all__ = ["FAILURES", "Faults"]

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
        self._clock = clock
        self._lock = threading.Lock()
        self._silent_until: dict[tuple[str, type[BaseException]], float] = {}
        self._silenced = 0
        _every_faults.add(self)

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
        self._log("decoding", error)

    def _report(self, what: str, error: BaseException) -> None:
        if self.strict:
            raise error
        self._log(what, error)

    def _log(self, what: str, error: BaseException) -> None:
        kind = (what, type(error))
        now = self._clock()
        with self._lock:
            if now < self._silent_until.get(kind, now):
                self._silenced += 1
                return
            self._silent_until[kind] = now + _LOG_INTERVAL_SECONDS
            silenced, self._silenced = self._silenced, 0
        logger.warning(
            "%s failed: %s (%d failures since the last such line)", what, error, silenced
        )

    def _forked(self) -> None:
        """Go on in a child process, where another thread may have held the lock."""
        self._lock = threading.Lock()


_every_faults: Final[weakref.WeakSet[Faults]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for faults in list(_every_faults):
        faults._forked()  # noqa: SLF001 - of this module


os.register_at_fork(after_in_child=_after_fork_in_child)
