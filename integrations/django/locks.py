"""Locks among all processes of a host, with the methods of those that django-redis gives.

A lock is a lease in the pool's shared memory: no entry, so nothing evicts it, and it ends with its
owner. A process that is killed while it holds one is found out by the next that wants it.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import TYPE_CHECKING, Final

from pmemcache.errors import PmemCacheError
from pmemcache.keys import INTERNAL_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

    from pmemcache.pool import Pool
    from pmemcache.types import Lease

_KEY_PREFIX: Final = INTERNAL_PREFIX + b"l:"
_LONGEST_SECONDS: Final = (2**32 - 1) / 1000
_WAIT_SLICE_SECONDS: Final = 0.1
"""A wait in the engine sees no signal before it ends."""
_NAP_SECONDS: Final = 0.005


class LockError(PmemCacheError):
    """A lock was not had in time, or was not held when it was to be released."""


class LockNotOwnedError(LockError):
    """The lock's time was over before it was released: somebody else may have it."""


class Lock:
    """A lock that one thread of one process of the host has at a time. Not reentrant.

    A child made by fork has none of its parent's locks.

    Args:
        pool: Returns the open pool; raises what the pool does.
        key: What is locked; has nothing to do with an entry of that key.
        timeout: Seconds after which the lock is free again, though it was not released; None: when
            it is released or its process ends (or after 49 days).
        blocking: Whether `acquire` waits.
        blocking_timeout: Seconds that it waits at most; None: for ever.
        thread_local: Whether only the thread that acquired it can release it.
    """

    def __init__(  # noqa: PLR0913 - django-redis's arguments
        self,
        pool: Callable[[], Pool],
        key: bytes,
        *,
        timeout: float | None = None,
        blocking: bool = True,
        blocking_timeout: float | None = None,
        thread_local: bool = True,
    ) -> None:
        if timeout is not None and not timeout > 0:
            message = f"timeout={timeout!r}: give more than 0 seconds, or None"
            raise ValueError(message)
        self._pool = pool
        self._key = _KEY_PREFIX + key
        self._seconds = _LONGEST_SECONDS if timeout is None else min(timeout, _LONGEST_SECONDS)
        self._blocking = blocking
        self._blocking_timeout = blocking_timeout
        self._held = threading.local() if thread_local else _Held()

    # Taking it

    def acquire(
        self, *, blocking: bool | None = None, blocking_timeout: float | None = None
    ) -> bool:
        """Take the lock; return whether it was had in time.

        Raises:
            PmemCacheError: The pool cannot serve, so nobody can tell whether the lock is free.
        """
        give_up_at = self._give_up_at(blocking=blocking, blocking_timeout=blocking_timeout)
        while (lease := self._take()) is not None:
            left = give_up_at - time.monotonic()
            if left <= 0:
                return False
            if lease.token:
                self._pool().lease_wait(self._key, lease.token, min(left, _WAIT_SLICE_SECONDS))
            else:  # there are too many at once
                time.sleep(min(left, _NAP_SECONDS))
        return True

    async def aacquire(
        self, *, blocking: bool | None = None, blocking_timeout: float | None = None
    ) -> bool:
        """As `acquire`, without blocking the event loop."""
        give_up_at = self._give_up_at(blocking=blocking, blocking_timeout=blocking_timeout)
        while self._take() is not None:
            left = give_up_at - time.monotonic()
            if left <= 0:
                return False
            await asyncio.sleep(min(left, _NAP_SECONDS))
        return True

    def _give_up_at(self, *, blocking: bool | None, blocking_timeout: float | None) -> float:
        if not (self._blocking if blocking is None else blocking):
            return 0.0
        wait = self._blocking_timeout if blocking_timeout is None else blocking_timeout
        return float("inf") if wait is None else time.monotonic() + wait

    def _take(self) -> Lease | None:
        """Take the lock if it is free; return the lease of whoever has it, or None."""
        lease = self._pool().lease_take(self._key, self._seconds)
        if not lease.granted:
            return lease
        self._held.token = lease.token
        self._held.pid = os.getpid()
        return None

    # Giving it back

    def release(self) -> None:
        """Give the lock back.

        Raises:
            LockNotOwnedError: Its time was over before.
            LockError: It was not acquired, or by another thread, or by the process that this one
                was forked from.
        """
        token = self._token()
        if token is None:
            message = "cannot release a lock that this thread has not acquired"
            raise LockError(message)
        self._held.token = None
        if not self._pool().lease_release(self._key, token):
            message = "the lock's timeout was over before it was released: give it a longer one"
            raise LockNotOwnedError(message)

    def _token(self) -> int | None:
        """Return the token of the lock; None where this thread has not acquired it."""
        token: int | None = getattr(self._held, "token", None)
        return token if token is not None and self._held.pid == os.getpid() else None

    async def arelease(self) -> None:
        """As `release`."""
        self.release()

    def owned(self) -> bool:
        """Return whether this thread has acquired the lock, and its time is not over."""
        token = self._token()
        return token is not None and not self._pool().lease_wait(self._key, token, 0)

    def locked(self) -> bool:
        """Return whether anybody has the lock. Takes it for an instant to find out."""
        lease = self._pool().lease_take(self._key, self._seconds)
        if lease.granted:
            self._pool().lease_release(self._key, lease.token)
        return not lease.granted

    def __enter__(self) -> Self:
        """Acquire the lock.

        Raises:
            LockError: It was not had in time.
        """
        if self.acquire():
            return self
        raise self._not_had()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release the lock."""
        self.release()

    async def __aenter__(self) -> Self:
        """As `__enter__`, without blocking the event loop."""
        if await self.aacquire():
            return self
        raise self._not_had()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release the lock."""
        self.release()

    def _not_had(self) -> LockError:
        return LockError(f"the lock was not had within {self._blocking_timeout} seconds")


class _Held:
    """The token of a lock that any thread of the process may release."""

    token: int | None = None
    pid = 0
