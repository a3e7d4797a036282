"""The errors of pmemcache: one tree, each message saying what to do."""

from __future__ import annotations

__all__ = [
    "AttachLimitError",
    "ConfigurationError",
    "DamagedPoolError",
    "IntegerOverflowError",
    "KeyEncodingError",
    "KeyTooLongError",
    "LayoutMismatchError",
    "LoaderError",
    "LockTimeoutError",
    "NoSpaceError",
    "NotAnIntegerError",
    "PmemCacheError",
    "PoolClosedError",
    "PoolFullError",
    "SystemCallError",
    "ValueTooLargeError",
    "WouldWaitError",
]


class PmemCacheError(Exception):
    """The root of the tree."""


class ConfigurationError(PmemCacheError, ValueError):
    """A path, size or option cannot work, or disagrees with the pool that is in use."""


class ValueTooLargeError(PmemCacheError, ValueError):
    """The entry could never fit in this pool, however much were evicted."""


class KeyTooLongError(PmemCacheError, ValueError):
    """The key is longer than 65,535 bytes."""


class KeyEncodingError(PmemCacheError, TypeError):
    """A key, or an argument of a cached function, has no form that is the same in all processes."""


class LoaderError(PmemCacheError):
    """A loader of another process failed with an error that cannot be sent to this one."""


class NotAnIntegerError(PmemCacheError, ValueError):
    """`incr` met a value that is not a decimal 64-bit integer."""


class IntegerOverflowError(PmemCacheError, OverflowError):
    """The sum of an `incr` leaves the signed 64-bit range; the value stays as it was."""


class PoolFullError(PmemCacheError):
    """There is no room and the pool was made with `eviction="none"`."""


class PoolClosedError(PmemCacheError):
    """The pool was closed, or a child process could not attach to what it inherited."""


class DamagedPoolError(PmemCacheError):
    """The file is a pool, but its bytes make no sense."""


class LayoutMismatchError(PmemCacheError):
    """The pool was made by another layout version, or on another kind of machine."""


class LockTimeoutError(PmemCacheError):
    """A lock was not had in time: a process that holds it is stopped, or the host is overloaded."""


class NoSpaceError(PmemCacheError):
    """The file system has no room for the smallest pool."""


class AttachLimitError(PmemCacheError):
    """As many processes are attached to the pool as it has places for."""


class WouldWaitError(PmemCacheError):
    """A call inside `Pool.without_waiting` would have had to wait; nothing changed."""


class SystemCallError(PmemCacheError):
    """A system call failed; `errno` is its error number, 0 when unknown."""

    def __init__(self, message: str, errno: int = 0) -> None:
        """Describe a failed call by *message*, and by *errno* for programs."""
        super().__init__(message)
        self.errno = errno
