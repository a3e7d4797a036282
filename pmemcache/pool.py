"""`Pool`: a cache of bytes that all processes of a host share."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar, overload

from pmemcache.binding import Attachment, Door, WithoutWaiting, open_door, peek
from pmemcache.config import PoolOptions, parse_size, resolve_path
from pmemcache.errors import ConfigurationError, PoolClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType

    from typing_extensions import Self

    from pmemcache.stats import PoolStats
    from pmemcache.types import (
        BytesLike,
        Cause,
        EntryInfo,
        Eviction,
        Geometry,
        Key,
        Lease,
        Lifetime,
        Memory,
        OnlyIf,
        Versioned,
        Written,
    )

__all__ = ["Pool"]

_T = TypeVar("_T")
_K = TypeVar("_K", bound="bytes | str")


class Pool:
    """A pool of entries in mapped files, shared by all processes that open its path.

    Safe for any number of threads and processes. A child made by fork goes on using the pool it
    inherited. Every `Pool` of one path in one process shares one mapping.

    Keys are bytes or str; a str is its UTF-8, so `"k"` and `b"k"` are one key, of at most 65,535
    bytes. Values are bytes or anything with a buffer. Times to live are seconds: None never ends, 0
    and less deletes. They are counted in milliseconds by the kernel's tick: an entry may expire one
    tick (1 to 10 ms) too soon or too late.

    Every method may raise `PoolClosedError`, `KeyTooLongError`, and `TypeError` or `ValueError` for
    an argument that is none. Methods that write may raise `LockTimeoutError` when a process that
    holds a lock stands still; a put then returns False instead.
    """

    _mapping: _Mapping | None = None  # what __del__ needs of one that was not made

    def __init__(  # noqa: PLR0913 - the options of a pool, by keyword
        self,
        path: str | os.PathLike[str] | None = None,
        size: int | str | None = None,
        *,
        lifetime: Lifetime = "volatile",
        eviction: Eviction = "s3fifo",
        memory: Memory = "default",
        preallocate: bool = False,
        shards: int = 0,
        lock_timeout_seconds: float = 1.0,
        verify: bool = False,
    ) -> None:
        """Attach to the pool at *path*, creating it when it is not there.

        Args:
            path: The pool's file. A directory gives the file `pmemcache.pool` in it, None a private
                pool that no other program can open; children made by fork share it.
            size: The most that keys and values may take, as `parse_size` reads it. Memory is taken
                as the pool fills. None: as much as the file system has, or half of the machine's
                memory where that has no bound, as for a private pool; when that is full, the pool
                evicts.
            lifetime: "volatile": the last process to leave removes the pool. "restart": it is kept
                for the next, however its users ended, until the machine is started anew. A pool of
                another layout version or with other options is replaced by an empty one, which is a
                warning in the log.
            eviction: What goes when the pool is full: "s3fifo" keeps what is used again, "lru" what
                was used last, "none" refuses with `PoolFullError`.
            memory: When free memory goes back to the file system: "default", after 10 seconds, or
                "conservative", at once. A write does it, so a pool that is not written to keeps
                what it has; so does one that evicts.
            preallocate: Take the whole size at creation, and give nothing back.
            shards: Parts with a lock of their own, a power of two; 0 chooses from the size.
            lock_timeout_seconds: The longest wait for a lock.
            verify: Check the checksum of every value on every read.

        Raises:
            ConfigurationError: An option or the path cannot work, or the pool is in use with other
                options.
            DamagedPoolError: The file is a pool, but its bytes make no sense.
            LayoutMismatchError: The pool in use was made by another version of pmemcache.
            NoSpaceError: The file system has no room for the smallest pool.
            AttachLimitError: Too many processes are attached.
            LockTimeoutError: A process stopped while it was creating the pool.
            SystemCallError: The operating system refused for another reason.
        """
        options = PoolOptions(
            size_bytes=None if size is None else parse_size(size),
            lifetime=lifetime,
            eviction=eviction,
            memory=memory,
            preallocate=preallocate,
            shards=shards,
            lock_timeout_seconds=lock_timeout_seconds,
            verify=verify,
        )
        self._options = options
        self._path = None if path is None else resolve_path(path)
        self._mapping = mapping = _REGISTRY.join(self._path, options)
        self._door: Door = open_door(mapping.attachment)
        self.without_waiting = WithoutWaiting(self._door)
        """A context for calls in the thread of an event loop: none waits, one that had to raises
        `WouldWaitError`."""

    @classmethod
    def attach(cls, path: str | os.PathLike[str]) -> Self:
        """Attach to the pool at *path* with the options it was made with.

        A volatile pool that no process uses any more is found empty.

        Raises:
            ConfigurationError: There is no pool at *path*.
            LayoutMismatchError: It was made by another version of pmemcache.
        """
        file = resolve_path(path)
        made = vars(_REGISTRY.options_of(file) or peek(file)).copy()
        return cls(path, made.pop("size_bytes"), **made)

    @property
    def path(self) -> str | None:
        """The pool's file; None when it is private."""
        return self._path

    @property
    def options(self) -> PoolOptions:
        """What this pool was asked to be."""
        return self._options

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._mapping is None

    # One entry

    @overload
    def get(self, key: Key) -> bytes | None: ...
    @overload
    def get(self, key: Key, default: _T) -> bytes | _T: ...
    def get(self, key: Key, default: object = None) -> object:
        """Return the value of *key*, or *default* when it is missing or expired."""
        return self._door.get(key, default)

    def get_tagged(self, key: Key) -> tuple[bytes, int] | None:
        """Return the value of *key* and the tag it was stored with, or None."""
        return self._door.get_tagged(key)

    def get_into(self, key: Key, buffer: BytesLike, offset: int = 0) -> int | None:
        """Copy the value of *key* into *buffer*, which may be too small for all of it.

        Args:
            buffer: Anything writable with a buffer, as a bytearray.
            offset: Where in the value to begin, in bytes.

        Returns:
            The number of bytes copied, 0 at or past the value's end; None when there is no value.
        """
        return self._attachment.get_into(key, buffer, offset)

    def put(
        self,
        key: Key,
        value: BytesLike,
        *,
        ttl_seconds: float | None = None,
        only_if: OnlyIf = None,
        tag: int = 0,
    ) -> bool:
        """Store *value* under *key*, replacing what it held.

        Args:
            ttl_seconds: Time to live; None never expires, 0 and less deletes the key and returns
                True.
            only_if: "absent" or "present" stores only then; a generation that `info` gave stores
                only when the entry was not written since.
            tag: A byte, 0 to 255, that every read gives back: say how the value is to be read.

        Returns:
            True when it was stored: every read that begins later, in any process, sees it. False
            when *only_if* did not hold, when no room could be made (the key then holds nothing), or
            when a lock was not had in time (the key is then as it was).

        Raises:
            ValueTooLargeError: The value can never fit; the key is as it was.
            PoolFullError: There is no room, with `eviction="none"`; the key is as it was.
        """
        return self._door.put(key, value, ttl_seconds, only_if, tag)

    def delete(self, key: Key) -> bool:
        """Remove *key*; return whether it was there.

        No read that begins after this returned sees the entry, in any process.

        Raises:
            LockTimeoutError: The entry may still be there.
        """
        return self._door.delete(key)

    def exists(self, key: Key) -> bool:
        """Return whether *key* is present; this is no use of it, and calls no callback."""
        return self._door.exists(key)

    def touch(self, key: Key, ttl_seconds: float | None) -> bool:
        """Give *key* a new time to live; return whether it was there. 0 and less deletes it."""
        return self._door.touch(key, ttl_seconds)

    def incr(
        self,
        key: Key,
        delta: int = 1,
        *,
        initial: int | None = None,
        ttl_seconds: float | None = None,
        tag: int = 0,
    ) -> int | None:
        """Add *delta* to an integer stored in decimal ASCII, keeping its deadline and tag.

        Atomic among all threads and processes. Values have 64 bits and a sign.

        Args:
            initial: What a missing key counts as; None: it stays missing.
            ttl_seconds: Time to live of an entry that this call creates.
            tag: Tag of an entry that this call creates.

        Returns:
            The sum; None when the key is missing and *initial* is None, or no room could be made.

        Raises:
            NotAnIntegerError: The value is something else.
            IntegerOverflowError: The sum needs more than 64 bits; the value stays.
        """
        return self._door.incr(key, delta, initial, ttl_seconds, tag)

    def info(self, key: Key) -> EntryInfo | None:
        """Return size, time to live and generation of an entry, or None; this is no use of it."""
        return self._attachment.info(key)

    # Versions and leases: what a process needs to keep copies of its own, and to load once per host

    @property
    def versions(self) -> memoryview:
        """The versions of all keys: read-only shared memory, to be indexed by `version_index`.

        Any change of a key, by whomever, makes its version odd before and another even number
        after; keys may share one. So a copy of a value is good while the version it was read under
        is even and has not changed. After `close` a look at the view raises ValueError; views that
        were made of it keep the pool mapped until they are gone.
        """
        return self._attachment.versions

    def get_versioned(self, key: Key, known: int = 0) -> Versioned:
        """Return (value, tag, version_index, version, ttl_ms, generation) of *key*.

        The version was read before the value. On a miss the value is None, the tag and the
        generation are 0 and the version is that of the key; ttl_ms is None where there is no
        deadline.

        Args:
            known: The generation of a copy that the caller has: if the entry still has it, the copy
                is as good as the value, which is not copied, and None here. So a copy outlives the
                changes of other keys that share its version.
        """
        return self._door.get_versioned(key, known)

    def look_versioned(self, key: Key, known: int = 0) -> Versioned:
        """As `get_versioned`, but a miss calls no callback: nobody has asked for *key*."""
        return self._attachment.look(self._door, key, known)

    def put_versioned(  # noqa: PLR0913 - as put
        self,
        key: Key,
        value: BytesLike,
        *,
        ttl_seconds: float | None = None,
        tag: int = 0,
        if_version: int | None = None,
        lease: int = 0,
    ) -> Written | None:
        """As `put`; return (version_index, version, generation) that a copy of it is good under.

        None when it was not stored. The version is that after this write and before any later one;
        it is odd, for no copy, when *ttl_seconds* is 0 or less.

        Args:
            if_version: Store only if nothing happened to *key* since it had this version. Keys
                share versions, so another key's change may prevent it.
            lease: The token of a lease on *key*. While that stands and *key* was not changed since
                it was taken, other keys' changes prevent nothing; 0: there is none.
        """
        if if_version is None:
            return self._door.put_versioned(key, value, ttl_seconds, tag)
        return self._attachment.put_if_version(key, value, if_version, ttl_seconds, tag, lease)

    def put_if_version(
        self,
        key: Key,
        value: BytesLike,
        version: int,
        *,
        ttl_seconds: float | None = None,
        tag: int = 0,
    ) -> bool:
        """As `put`, but only if nothing happened to *key* since it had *version*."""
        written = self._attachment.put_if_version(key, value, version, ttl_seconds, tag)
        return written is not None

    def bump(self, key: Key) -> bool:
        """Mark *key* as used now, for a hit on a copy of it; return whether it is there."""
        return self._door.bump(key)

    def lease_take(self, key: Key, duration_seconds: float) -> Lease:
        """Take the right to load *key* for so long, unless another thread or process has it.

        A lease is free again once its time is up, or its process died.
        """
        return self._attachment.lease_take(key, duration_seconds)

    def lease_release(self, key: Key, token: int) -> bool:
        """End one's lease and wake those who wait; return whether it had not ended before."""
        return self._attachment.lease_release(key, token)

    def lease_wait(self, key: Key, token: int, timeout_seconds: float) -> bool:
        """Wait until the lease *token* has ended, in whatever way; return whether it has."""
        return self._attachment.lease_wait(key, token, timeout_seconds)

    # Many entries

    def get_many(self, keys: Iterable[_K]) -> dict[_K, bytes]:
        """Return `{key: value}` of those found, with the keys as they were given."""
        return self._door.get_many(keys)

    def get_many_tagged(self, keys: Iterable[_K]) -> dict[_K, tuple[bytes, int]]:
        """Return `{key: (value, tag)}` of those found, with the keys as they were given."""
        return self._door.get_many_tagged(keys)

    def put_many(
        self,
        mapping: Mapping[_K, BytesLike | tuple[BytesLike, int]],
        *,
        ttl_seconds: float | None = None,
    ) -> list[_K]:
        """Store every value, each as `put` does; return the keys that were not stored.

        The list is empty when all is well. The batch as a whole is not atomic. An error is raised
        after every item was tried; wrong arguments raise before the first. When one waited for its
        lock in vain, those that follow do not wait for theirs.

        Args:
            mapping: Keys to values, or to pairs (value, tag).
            ttl_seconds: Time to live of all; None never expires.
        """
        return self._door.put_many(mapping, ttl_seconds)

    def delete_many(self, keys: Iterable[Key]) -> int:
        """Remove every key; return how many were there. Raises as `delete`, after trying all."""
        return self._door.delete_many(keys)

    def keys(self, prefix: Key = b"") -> Iterator[bytes]:
        """Iterate over the keys that begin with *prefix*, in no order.

        A key that is present all the time is given exactly once. Takes no lock; this is no use of
        the entries.
        """
        return self._attachment.keys(prefix)

    def clear(self) -> None:
        """Remove everything. What other threads and processes store meanwhile may stay."""
        self._attachment.clear()

    def evict(self, key: Key | None = None) -> bytes | None:
        """Remove the entry that the policy would give up first, or *key*.

        Returns:
            The victim's key; None when the pool is empty, or does not hold *key*.
        """
        return self._attachment.evict(key)

    # Callbacks

    def on_evict(self, callback: Callable[[Pool, bytes, Cause], object] | None) -> None:
        """Call `callback(pool, key, cause)` after this process evicted an entry; None: no more.

        One callback for all `Pool` objects of a path in this process. It runs in the thread that
        made the room, with no lock held, and may use the pool. What it raises goes to
        `sys.unraisablehook`.
        """
        _check_callback(callback)
        if callback is None:
            self._attachment.set_on_evict(None)
            return
        this = weakref.ref(self)

        def evicted(key: bytes, cause: Cause) -> None:
            pool = this()
            if pool is not None:
                callback(pool, key, cause)

        self._attachment.set_on_evict(evicted)

    def on_miss(self, callback: Callable[[Pool, bytes], object] | None) -> None:
        """Call `callback(pool, key)` when a get misses; None: no more.

        The get then looks once more, so what the callback puts under the key is what it returns. A
        miss inside the callback calls nothing. Otherwise as `on_evict`.
        """
        _check_callback(callback)
        if callback is None:
            self._attachment.set_on_miss(None)
            return
        this = weakref.ref(self)

        def missed(key: bytes) -> None:
            pool = this()
            if pool is not None:
                callback(pool, key)

        self._attachment.set_on_miss(missed)

    # The pool as a whole

    def stats(self) -> PoolStats:
        """Return the statistics: totals over all processes since the pool was made."""
        return self._attachment.stats()

    def geometry(self) -> Geometry:
        """Return what the pool is made of: sizes, shards, layout version."""
        return self._attachment.geometry()

    def check(self) -> list[str]:
        """Check every invariant of the pool; return a line for each that is broken.

        Takes the lock of each part in turn, so writers wait a moment.
        """
        return self._attachment.check()

    def close(self) -> None:
        """Let go of the pool; may be called again.

        Later calls raise `PoolClosedError`. Calls that other threads are in finish first. When the
        last `Pool` of a path in the last process closes, a volatile pool is removed.
        """
        mapping, self._mapping = self._mapping, None
        if mapping is not None:
            self._door.close()
            _REGISTRY.leave(mapping)

    def __enter__(self) -> Self:
        """Return the pool, to be closed at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the pool."""
        self.close()

    def __del__(self) -> None:
        """Let go of a pool that nobody closed."""
        mapping = self._mapping
        if mapping is not None:
            self._mapping = None
            _REGISTRY.abandon(mapping)

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied: the copy's end would close the pool of the original.

        Raises:
            TypeError: Always.
        """
        message = (
            "a Pool is of one process and cannot be pickled or copied: pass its path, and make "
            "pmemcache.Pool(path, size) of it"
        )
        raise TypeError(message)

    def __repr__(self) -> str:
        """Name the pool's file."""
        state = "closed " if self.closed else ""
        return f"<{state}pmemcache.Pool {self._path or '(private)'}>"

    @property
    def _attachment(self) -> Attachment:
        mapping = self._mapping
        if mapping is None:
            message = "the pool is closed: make a new Pool on its path"
            raise PoolClosedError(message)
        return mapping.attachment


def _check_callback(callback: object) -> None:
    if not (callback is None or callable(callback)):
        message = f"a callback is a function or None, not {type(callback).__name__}"
        raise TypeError(message)


class _Mapping:
    """One attachment and the number of `Pool` objects that use it."""

    def __init__(self, path: str | None, options: PoolOptions) -> None:
        self.path = path
        self.options = options
        self.attachment = Attachment(path, options)
        self.users = 0


class _Registry:
    """The mappings of this process: one for each path, and the private ones.

    The lock is held across fork, so that a child never inherits it from another thread's hands.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._mappings: set[_Mapping] = set()
        # Left by __del__, which may run anywhere, also in a thread that holds the lock.
        self._abandoned: deque[_Mapping] = deque()

    def join(self, path: str | None, options: PoolOptions) -> _Mapping:
        """Return the mapping of *path*, attached now if need be, with one more user."""
        with self._lock:
            self._leave_abandoned_locked()
            mapping = self._find_locked(path)
            if mapping is None:
                mapping = _Mapping(path, options)
                self._mappings.add(mapping)
            elif mapping.options != options:
                differences = ", ".join(options.differences(mapping.options))
                message = (
                    f"this process has the pool {path} open with other options: {differences}. "
                    "Give the same options everywhere, or another path"
                )
                raise ConfigurationError(message)
            mapping.users += 1
            return mapping

    def options_of(self, path: str) -> PoolOptions | None:
        """Return the options of the mapping of *path*, when this process has one."""
        with self._lock:
            mapping = self._find_locked(path)
            return None if mapping is None else mapping.options

    def leave(self, mapping: _Mapping) -> None:
        """Take one user from *mapping*, and detach after the last."""
        with self._lock:
            self._leave_abandoned_locked()
            self._leave_locked(mapping)

    def abandon(self, mapping: _Mapping) -> None:
        """As `leave`, but without ever waiting: when the lock is taken, the next caller does it."""
        self._abandoned.append(mapping)
        if self._lock.acquire(blocking=False):
            try:
                self._leave_abandoned_locked()
            finally:
                self._lock.release()

    def close_all(self) -> None:
        """Detach from everything, at the end of the process."""
        with self._lock:
            while self._mappings:
                self._mappings.pop().attachment.close()

    def before_fork(self) -> None:
        """Make sure that no other thread is at work here while the process forks."""
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Go on as before."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Go on with all mappings, in a process that has this thread only."""
        for mapping in self._mappings:
            mapping.attachment.forked()
        self._lock.release()

    def _find_locked(self, path: str | None) -> _Mapping | None:
        if path is None:
            return None
        return next((mapping for mapping in self._mappings if mapping.path == path), None)

    def _leave_locked(self, mapping: _Mapping) -> None:
        mapping.users -= 1
        if mapping.users == 0:
            self._mappings.discard(mapping)
            mapping.attachment.close()

    def _leave_abandoned_locked(self) -> None:
        while self._abandoned:
            self._leave_locked(self._abandoned.popleft())


_REGISTRY: Final = _Registry()
os.register_at_fork(
    before=_REGISTRY.before_fork,
    after_in_parent=_REGISTRY.after_fork_in_parent,
    after_in_child=_REGISTRY.after_fork_in_child,
)
atexit.register(_REGISTRY.close_all)
