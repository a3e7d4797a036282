"""The binding: the one module that touches the engine's `lib` and `ffi`.

An `Attachment` is this process's hold on a pool. Short calls go through a `Door` onto it, of which
there are two kinds with the same methods: `ShortDoor`, a small CPython extension that keeps the GIL
(a call of 300 ns that releases it is starved by any busy thread), and `CffiDoor`, for PyPy and for
comparison. The environment variable `PMEMCACHE_DOOR=cffi` chooses the second.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, TypeVar, get_args

from pmemcache._engine import ffi, lib
from pmemcache.config import PoolOptions
from pmemcache.errors import (
    AttachLimitError,
    ConfigurationError,
    DamagedPoolError,
    IntegerOverflowError,
    KeyTooLongError,
    LayoutMismatchError,
    LockTimeoutError,
    NoSpaceError,
    NotAnIntegerError,
    PmemCacheError,
    PoolClosedError,
    PoolFullError,
    SystemCallError,
    ValueTooLargeError,
    WouldWaitError,
)
from pmemcache.stats import PoolStats
from pmemcache.types import (
    BytesLike,
    Cause,
    EntryInfo,
    Eviction,
    Geometry,
    Lease,
    Lifetime,
    Memory,
)

try:
    from pmemcache._short import ShortDoor
except ImportError:  # not CPython
    ShortDoor = None  # type: ignore[assignment, misc]

if TYPE_CHECKING:
    from pmemcache.types import Key, OnlyIf, Versioned, Written

__all__ = [
    "DOORS",
    "Attachment",
    "CffiDoor",
    "Door",
    "WithoutWaiting",
    "checked_ttl",
    "open_door",
    "peek",
    "raise_status",
    "refuse",
]

logger: Final = logging.getLogger("pmemcache")

_T = TypeVar("_T")
_K = TypeVar("_K", bound="bytes | str")

KEY_MAX_BYTES: Final[int] = lib.PMC_KEY_MAX_BYTES
POOL_MIN_BYTES: Final[int] = lib.PMC_POOL_MIN_BYTES

_TTL_NONE: Final[int] = lib.PMC_TTL_NONE
_TTL_MAX_MS: Final = 9.0e15  # 285,000 years: beyond it a time to live has no end
_INT64_MAX: Final = 2**63 - 1
_UINT32_MAX: Final = 2**32 - 1
_KEYS_BUFFER_BYTES: Final = 512 * 1024
_REPORT_BYTES: Final = 64 * 1024

# The engine counts its enums in the order of these literals.
_LIFETIMES: Final[tuple[Lifetime, ...]] = get_args(Lifetime)
_EVICTIONS: Final[tuple[Eviction, ...]] = get_args(Eviction)
_MEMORIES: Final[tuple[Memory, ...]] = get_args(Memory)
_CAUSES: Final[tuple[Cause, ...]] = get_args(Cause)

# Statuses

_NOT_STORED: Final = frozenset({lib.PMC_UNMET, lib.PMC_DROPPED, lib.PMC_ETIMEDOUT})

_ERRORS: Final[Mapping[int, type[PmemCacheError]]] = {
    lib.PMC_EINVAL: ConfigurationError,
    lib.PMC_EKEY_SIZE: KeyTooLongError,
    lib.PMC_EVALUE_SIZE: ValueTooLargeError,
    lib.PMC_EFULL: PoolFullError,
    lib.PMC_ETIMEDOUT: LockTimeoutError,
    lib.PMC_ENOT_INTEGER: NotAnIntegerError,
    lib.PMC_EOVERFLOW: IntegerOverflowError,
    lib.PMC_ECLOSED: PoolClosedError,
    lib.PMC_EDAMAGED: DamagedPoolError,
    lib.PMC_ELAYOUT: LayoutMismatchError,
    lib.PMC_ENOT_POOL: ConfigurationError,
    lib.PMC_EOWNER: ConfigurationError,
    lib.PMC_EPERMISSIONS: ConfigurationError,
    lib.PMC_EGEOMETRY: ConfigurationError,
    lib.PMC_ENOSPACE: NoSpaceError,
    lib.PMC_ESYSTEM: SystemCallError,
    lib.PMC_EATTACH_LIMIT: AttachLimitError,
    lib.PMC_EWOULD_WAIT: WouldWaitError,
}

_ADVICE: Final[Mapping[int, str]] = {
    lib.PMC_EKEY_SIZE: (
        f"the key has {{key_size:,}} bytes, the most is {KEY_MAX_BYTES:,}: use a digest of it"
    ),
    lib.PMC_EVALUE_SIZE: (
        "a value of {value_size:,} bytes (key: {key_size:,}) can never fit in this pool: store "
        "less, or make the pool with a larger size or fewer shards"
    ),
    lib.PMC_EFULL: (
        'the pool is full and was made with eviction="none": delete entries, make it larger, or '
        "choose another eviction"
    ),
    lib.PMC_ETIMEDOUT: (
        "a lock of the pool was not had in time: look for a stopped process that is attached to "
        "it, or raise lock_timeout_seconds; the call may be repeated"
    ),
    lib.PMC_ENOT_INTEGER: (
        "the value is not a decimal signed 64-bit integer, so it cannot be counted: put an "
        "integer, or delete the key"
    ),
    lib.PMC_EOVERFLOW: "the sum would leave the signed 64-bit range; the value stays as it was",
    lib.PMC_EDAMAGED: (
        "the pool's files were damaged, cut short, or closed by other code (a daemon that closes "
        "all descriptors has to do so before it opens a pool): close the pool and open it anew"
    ),
    lib.PMC_ECLOSED: "the pool is closed: make a new Pool on its path",
}

# Errors of a system call that the user mends by another path or by permissions.
_PATH_ERRNOS: Final = frozenset(
    {
        errno.EACCES,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    }
)


def raise_status(status: int, key_size: int, value_size: int) -> NoReturn:
    """Raise the error that *status* of a call with a key and value of these sizes stands for."""
    advice = _ADVICE.get(status)
    if advice is None:
        _raise_status_text(status, _status_text(status), 0)
    _raise_status_text(status, advice.format(key_size=key_size, value_size=value_size), 0)


def _raise_status_text(status: int, message: str, system_errno: int) -> NoReturn:
    if status == lib.PMC_ESYSTEM:
        if system_errno in _PATH_ERRNOS:
            raise ConfigurationError(message)
        raise SystemCallError(message, system_errno)
    raise _ERRORS.get(status, PmemCacheError)(message)


def _status_text(status: int) -> str:
    return str(ffi.string(lib.pmc_status_text(status)).decode())


# Arguments

_EXPECTED: Final[Mapping[str, str]] = {
    "key": "bytes or str",
    "value": "bytes or another object with a buffer (serialize other values first)",
    "ttl_seconds": "a finite number of seconds, or None for no deadline",
    "only_if": 'None, "absent", "present", or a generation from info()',
    "tag": "an int from 0 to 255",
    "delta": "an int of 64 bits",
    "initial": "an int of 64 bits, or None",
    "offset": "an int, 0 or more",
    "keys": "an iterable of keys",
    "known": "an int of 64 bits without a sign",
    "mapping": "a mapping of keys to values",
}

# Arguments whose value can be wrong though their type is right.
_RIGHT_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "ttl_seconds": (int, float),
    "only_if": (int, str),
    "tag": (int,),
    "delta": (int,),
    "initial": (int,),
    "offset": (int,),
    "known": (int,),
}


def refuse(name: str, given: object) -> NoReturn:
    """Raise what an argument *name* that cannot be *given* deserves.

    Raises:
        TypeError: Its type is wrong.
        ValueError: Its type is right, and its value is not.
    """
    if name == "key" and isinstance(given, str):
        message = f"key {given!r} has no UTF-8, for it holds a lone surrogate: encode it to bytes"
        raise ValueError(message)
    is_right_type = isinstance(given, _RIGHT_TYPES.get(name, ())) and not isinstance(given, bool)
    shown = repr(given) if is_right_type else type(given).__name__
    message = f"{name} must be {_EXPECTED[name]}, not {shown}"
    raise (ValueError if is_right_type else TypeError)(message)


def _key_bytes(key: object) -> bytes:
    if isinstance(key, bytes):
        return key
    if isinstance(key, str):
        try:
            return key.encode()
        except UnicodeEncodeError:
            pass
    refuse("key", key)


def _value_bytes(value: BytesLike) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        view = memoryview(value)
    except TypeError:
        refuse("value", value)
    return view.tobytes()


def _ttl_ms(seconds: object) -> int:
    """Seconds to milliseconds, rounded up: none is 0 that was not."""
    if seconds is None:
        return _TTL_NONE
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        refuse("ttl_seconds", seconds)
    if isinstance(seconds, float) and not math.isfinite(seconds):
        refuse("ttl_seconds", seconds)
    if seconds <= 0:
        return 0
    if seconds >= _TTL_MAX_MS / 1000:
        return _TTL_NONE
    return seconds * 1000 if isinstance(seconds, int) else math.ceil(seconds * 1000 - 1e-6)


def checked_ttl(seconds: float | None) -> float | None:
    """Return *seconds*, which are a time to live.

    Raises:
        TypeError, ValueError: They are none.
    """
    _ttl_ms(seconds)
    return seconds


def _integer(name: str, given: object, lowest: int, highest: int) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or not lowest <= given <= highest:
        refuse(name, given)
    return given


def _tag(tag: object) -> int:
    return _integer("tag", tag, 0, 255)


def _int64(name: str, number: object) -> int:
    return _integer(name, number, -_INT64_MAX - 1, _INT64_MAX)


def _condition(only_if: object) -> tuple[int, int]:
    """Return the engine's condition and generation."""
    if only_if is None:
        return lib.PMC_ALWAYS, 0
    if only_if == "absent":
        return lib.PMC_IF_ABSENT, 0
    if only_if == "present":
        return lib.PMC_IF_PRESENT, 0
    return lib.PMC_IF_GENERATION, _integer("only_if", only_if, 0, 2**64 - 1)


# Callbacks

EvictCallback = Callable[[bytes, Cause], object]
MissCallback = Callable[[bytes], object]


class _Callbacks:
    """The Python side of an attachment's callbacks; the engine holds a handle of it."""

    def __init__(self) -> None:
        self.on_evict: EvictCallback | None = None
        self.on_miss: MissCallback | None = None
        self._thread = threading.local()

    @property
    def depth(self) -> int:
        """How many callbacks the current thread is inside of."""
        return getattr(self._thread, "depth", 0)

    @property
    def is_quiet(self) -> bool:
        """Whether the current thread looks for ends of its own, so that a miss is nobody's."""
        return getattr(self._thread, "is_quiet", False)

    @contextlib.contextmanager
    def quietly(self) -> Iterator[None]:
        """Let no miss of the current thread call `on_miss`."""
        before, self._thread.is_quiet = self.is_quiet, True
        try:
            yield
        finally:
            self._thread.is_quiet = before

    def run(self, callback: Callable[..., object] | None, *arguments: object) -> None:
        if callback is None:  # removed while this call was on its way
            return
        self._thread.depth = self.depth + 1
        try:
            callback(*arguments)
        finally:
            self._thread.depth = self.depth - 1


# cffi gives what a callback raises to sys.unraisablehook: it must not travel through the engine.


@ffi.def_extern()  # type: ignore[untyped-decorator]
def door_on_evict(_cache: Any, key: Any, key_size: int, cause: int, context: Any) -> None:
    """Run an attachment's on-evict callback."""
    callbacks: _Callbacks = ffi.from_handle(context)
    callbacks.run(callbacks.on_evict, ffi.buffer(key, key_size)[:], _CAUSES[cause])


@ffi.def_extern()  # type: ignore[untyped-decorator]
def door_on_miss(_cache: Any, key: Any, key_size: int, context: Any) -> None:
    """Run an attachment's on-miss callback."""
    callbacks: _Callbacks = ffi.from_handle(context)
    if not callbacks.is_quiet:
        callbacks.run(callbacks.on_miss, ffi.buffer(key, key_size)[:])


# The attachment


class Attachment:
    """This process's hold on a pool, and every call on it that is not short.

    Safe for any number of threads. After fork the child goes on using it, once `forked` was called.
    Once closed, every method raises `PoolClosedError`.
    """

    def __init__(self, path: str | None, options: PoolOptions) -> None:
        """Attach to the pool at *path*, creating it when it is not there; None: a private pool.

        That an empty pool replaced one that was to be kept is a warning in the log.

        Raises:
            PmemCacheError: The error that the engine's status stands for.
        """
        self._closing = threading.Lock()
        self._closed = False
        self._callbacks = _Callbacks()
        # Given to the engine before any callback, so that none ever meets another context.
        self._context = ffi.new_handle(self._callbacks)
        self.handle = ffi.new("struct pmc_handle *")
        encoded = ffi.NULL if path is None else ffi.new("char[]", os.fsencode(path))
        error = ffi.new("struct pmc_error *")
        status = lib.handle_open(self.handle, _engine_options(encoded, options), error)
        if status != lib.PMC_OK:
            self._closed = True
            message = ffi.string(error.message).decode(errors="replace") or _status_text(status)
            _raise_status_text(status, message, error.system_errno)
        if error.message[0] != b"\0":
            logger.warning("%s", ffi.string(error.message).decode(errors="replace"))
        lib.handle_on_evict(self.handle, ffi.NULL, self._context)
        lib.handle_on_miss(self.handle, ffi.NULL, self._context)
        self.versions = self._map_versions()

    def _map_versions(self) -> memoryview:
        """Return all versions as a read-only view of shared memory, an int of 64 bits each.

        `close` releases the view first, so a look at it later is a ValueError and never a crash.
        Other views that were made of it keep the pool mapped until they are gone.
        """
        words = ffi.new("uint64_t *[1]")
        count = ffi.new("size_t *")
        handle, done = self.handle, lib.handle_versions_done
        self._done(lib.handle_versions(handle, words, count))
        held = ffi.gc(words[0], lambda _words: done(handle))
        return memoryview(ffi.buffer(held, 8 * count[0])).toreadonly().cast("Q")

    def close(self) -> None:
        """Detach, once every call that is inside has returned; may be called again."""
        with self._closing:
            closed, self._closed = self._closed, True
        if not closed:
            versions, self.versions = self.versions, memoryview(b"")
            with contextlib.suppress(BufferError):  # somebody has an array of it
                versions.release()
            del versions
            lib.handle_close(self.handle)

    def forked(self) -> None:
        """Go on in a child process; to be called there by the only thread, after fork."""
        self._closing = threading.Lock()
        if not self._closed:
            lib.handle_forked(self.handle, self._callbacks.depth + 1)  # the versions are inside

    # The engine's side of a callback is never taken away again: another thread may be about to call
    # it. Without a callback it does nothing.

    def set_on_evict(self, callback: EvictCallback | None) -> None:
        """Call *callback* with (key, cause) after an entry left to make room; None: no more."""
        self._callbacks.on_evict = callback
        if callback is not None:
            self._done(lib.handle_on_evict(self.handle, lib.door_on_evict, self._context))

    def look(self, door: Door, key: Key, known: int) -> Versioned:
        """Return what *door* has of *key*; a miss calls no callback."""
        if self._callbacks.on_miss is None:
            return door.get_versioned(key, known)
        with self._callbacks.quietly():
            return door.get_versioned(key, known)

    def set_on_miss(self, callback: MissCallback | None) -> None:
        """Call *callback* with the key of a get that missed and will look again; None: no more."""
        self._callbacks.on_miss = callback
        if callback is not None:
            self._done(lib.handle_on_miss(self.handle, lib.door_on_miss, self._context))

    def get_into(self, key: Key, buffer: BytesLike, offset: int) -> int | None:
        """Copy a value from *offset* on into *buffer*; return how many bytes, or None on a miss."""
        data = _key_bytes(key)
        found = ffi.new("struct pmc_found *")
        _integer("offset", offset, 0, _INT64_MAX)
        with ffi.from_buffer(buffer, require_writable=True) as room:
            capacity = len(room)
            status = lib.handle_get_into(
                self.handle, data, len(data), room, capacity, offset, found
            )
        if status == lib.PMC_MISS:
            return None
        self._done(status, len(data))
        return max(0, min(capacity, int(found.value_size) - offset))

    def info(self, key: Key) -> EntryInfo | None:
        """Return what the pool knows about an entry, or None."""
        data = _key_bytes(key)
        info = ffi.new("struct pmc_info *")
        status = lib.handle_info(self.handle, data, len(data), info)
        if status == lib.PMC_MISS:
            return None
        self._done(status, len(data))
        return EntryInfo(
            value_size=info.value_size,
            stored_bytes=info.stored_bytes,
            ttl_seconds=None if info.ttl_ms == _TTL_NONE else info.ttl_ms / 1000,
            heat=info.heat,
            generation=info.generation,
            tag=info.tag,
        )

    def put_if_version(  # noqa: PLR0913, PLR0917 - a put
        self,
        key: Key,
        value: BytesLike,
        version: int,
        ttl_seconds: float | None,
        tag: int,
        lease: int = 0,
    ) -> Written | None:
        """Store a value if nothing happened to the key since *version*; None: it was not stored.

        With the token of a *lease*, also if this very key was not changed since it was taken.
        """
        options = ffi.new("struct pmc_put_options *")
        options.condition, options.generation = lib.PMC_IF_VERSION, version
        options.lease = lease
        return _put_versioned(self.handle, key, value, ttl_seconds, tag, options)

    def lease_take(self, key: Key, duration_seconds: float) -> Lease:
        """Take the right to load *key*, unless another has it."""
        data = _key_bytes(key)
        lease = ffi.new("struct pmc_lease *")
        duration_ms = max(1, min(_UINT32_MAX, math.ceil(duration_seconds * 1000)))
        status = lib.handle_lease_take(self.handle, data, len(data), duration_ms, lease)
        if status == lib.PMC_DROPPED:
            return Lease(granted=False, token=0, version=0)
        if status not in (lib.PMC_OK, lib.PMC_BUSY):
            raise_status(status, len(data), 0)
        return Lease(granted=status == lib.PMC_OK, token=lease.token, version=lease.version)

    def lease_release(self, key: Key, token: int) -> bool:
        """End one's lease; return whether it had not ended before."""
        data = _key_bytes(key)
        status = lib.handle_lease_release(self.handle, data, len(data), token)
        if status not in (lib.PMC_OK, lib.PMC_MISS):
            raise_status(status, len(data), 0)
        return bool(status == lib.PMC_OK)

    def lease_wait(self, key: Key, token: int, timeout_seconds: float) -> bool:
        """Wait until a lease has ended; return whether it has."""
        data = _key_bytes(key)
        timeout_ms = max(0, min(_UINT32_MAX, math.ceil(timeout_seconds * 1000)))
        status = lib.handle_lease_wait(self.handle, data, len(data), token, timeout_ms)
        if status not in (lib.PMC_OK, lib.PMC_BUSY):
            raise_status(status, len(data), 0)
        return bool(status == lib.PMC_OK)

    def evict(self, key: Key | None) -> bytes | None:
        """Evict *key*, or the victim that the policy chooses; return its key, or None."""
        data = None if key is None else _key_bytes(key)
        victim = ffi.new("char[]", KEY_MAX_BYTES)
        victim_size = ffi.new("size_t *")
        status = lib.handle_evict(
            self.handle,
            ffi.NULL if data is None else ffi.from_buffer(data),
            0 if data is None else len(data),
            victim,
            victim_size,
        )
        if status == lib.PMC_MISS:
            return None
        self._done(status, 0 if data is None else len(data))
        return bytes(ffi.buffer(victim, victim_size[0]))

    def clear(self) -> None:
        """Remove everything; entries stored meanwhile by others may stay."""
        self._done(lib.handle_clear(self.handle))

    def keys(self, prefix: Key) -> Iterator[bytes]:
        """Yield the keys that begin with *prefix*."""
        data = _key_bytes(prefix)
        cursor = ffi.new("struct pmc_cursor *")
        used = ffi.new("size_t *")
        buffer = ffi.new("char[]", _KEYS_BUFFER_BYTES)
        while True:
            status = lib.handle_keys(
                self.handle, cursor, data, len(data), buffer, len(buffer), used
            )
            if status == lib.PMC_MISS:
                return
            if status == lib.PMC_EINVAL:  # for the keys of one bucket
                buffer = ffi.new("char[]", 2 * len(buffer))
                continue
            self._done(status, len(data))
            yield from _packed_keys(ffi.buffer(buffer, used[0])[:])

    def stats(self) -> PoolStats:
        """Return the statistics of all processes since the pool was made."""
        values = ffi.new("uint64_t[]", lib.STAT_COUNT)
        self._done(lib.handle_stats(self.handle, values))
        return PoolStats(**dict(zip(_STAT_NAMES, values, strict=True)))

    def check(self) -> list[str]:
        """Return a line for each broken invariant."""
        report = ffi.new("char[]", _REPORT_BYTES)
        broken = lib.handle_check(self.handle, report, _REPORT_BYTES)
        if broken < 0:
            self._done(broken)
        lines = ffi.string(report).decode(errors="replace").splitlines() if broken else []
        missing = broken - len(lines)
        return [*lines, f"and {missing} more"] if missing > 0 else lines

    def geometry(self) -> Geometry:
        """Return what the pool is made of."""
        found = ffi.new("struct pmc_geometry *")
        self._done(lib.handle_geometry(self.handle, found))
        return Geometry(
            size_bytes=None if found.size_bytes == lib.PMC_SIZE_GROW else found.size_bytes,
            shard_bytes=found.shard_bytes,
            value_max_bytes=found.value_max_bytes,
            pool_id=found.pool_id,
            shards=found.shards,
            layout_version=found.layout_version,
            lifetime=_LIFETIMES[found.lifetime],
            eviction=_EVICTIONS[found.eviction],
            memory=_MEMORIES[found.memory],
            created=found.created,
        )

    def advance_clock(self, seconds: float) -> None:
        """Move this process's idea of now, so that tests of deadlines need not sleep."""
        self._done(lib.handle_advance_clock(self.handle, round(seconds * 1000)))

    def _done(self, status: int, key_size: int = 0) -> None:
        if status != lib.PMC_OK:
            raise_status(status, key_size, 0)


def _engine_options(path: Any, options: PoolOptions) -> Any:
    """Return a struct pmc_options, which does not keep *path* alive."""
    made = ffi.new("struct pmc_options *")
    lib.pmc_options_default(made)
    made.path = path
    made.size_bytes = lib.PMC_SIZE_GROW if options.size_bytes is None else options.size_bytes
    made.shards = options.shards
    made.lock_timeout_ms = max(1, round(options.lock_timeout_seconds * 1000))
    made.lifetime = _LIFETIMES.index(options.lifetime)
    made.eviction = _EVICTIONS.index(options.eviction)
    made.memory = _MEMORIES.index(options.memory)
    made.preallocate = options.preallocate
    made.verify = options.verify
    return made


def peek(path: str) -> PoolOptions:
    """Return the options that the pool at *path* was made with, in use or not.

    Raises:
        ConfigurationError: There is no pool, or it cannot be read.
        LayoutMismatchError: It was made by another version of pmemcache.
    """
    found = ffi.new("struct pmc_options *")
    status = lib.door_peek(os.fsencode(path), found)
    if status == lib.PMC_ESYSTEM:
        message = f"cannot open the pool {path}: {os.strerror(ffi.errno)}"
        _raise_status_text(status, message, ffi.errno)
    if status != lib.PMC_OK:
        _raise_status_text(status, f"{path}: {_status_text(status)}", 0)
    return PoolOptions(
        size_bytes=None if found.size_bytes == lib.PMC_SIZE_GROW else found.size_bytes,
        lifetime=_LIFETIMES[found.lifetime],
        eviction=_EVICTIONS[found.eviction],
        memory=_MEMORIES[found.memory],
        preallocate=found.preallocate,
        shards=found.shards,
    )


def _packed_keys(packed: bytes) -> Iterator[bytes]:
    """Yield the keys of {uint32_t size; bytes}... without padding."""
    start = 0
    while start < len(packed):
        (size,) = struct.unpack_from("=I", packed, start)
        start += 4 + size
        yield packed[start - size : start]


def stat_table() -> list[tuple[str, str, str]]:
    """Return (name, unit, sentence) of each statistic, as the engine's table has them."""
    rows = [lib.stat_table[index] for index in range(lib.STAT_COUNT)]
    return [
        (
            # C has no keyword delete, C++ does.
            ffi.string(row.name).decode().rstrip("_"),
            ffi.string(row.unit).decode(),
            ffi.string(row.sentence).decode(),
        )
        for row in rows
    ]


_STAT_NAMES: Final = tuple(name for name, _unit, _sentence in stat_table())


def _put(handle: Any, key: Key, value: BytesLike, options: Any) -> bool:
    """Store a value; return whether it was stored."""
    key_data, data = _key_bytes(key), _value_bytes(value)
    status = lib.handle_put(handle, key_data, len(key_data), data, len(data), options)
    if status != lib.PMC_OK and status not in _NOT_STORED:
        raise_status(status, len(key_data), len(data))
    return bool(status == lib.PMC_OK)


def _put_versioned(  # noqa: PLR0913, PLR0917 - a put
    handle: Any,
    key: Key,
    value: BytesLike,
    ttl_seconds: float | None,
    tag: int,
    options: Any,
) -> Written | None:
    """Store a value; return what a copy of it is good under, or None when it was not stored."""
    written = ffi.new("struct pmc_written *")
    written.version = 1  # odd: of a put that stored nothing
    options.written_out = written
    options.ttl_ms = _ttl_ms(ttl_seconds)
    options.tag = _tag(tag)
    if not _put(handle, key, value, options):
        return None
    return written.version_index, written.version, written.generation


# The doors


class Door(Protocol):
    """The short calls on one attachment. All arguments are given, by position.

    A door can be closed apart from its attachment; then every call raises `PoolClosedError`.
    """

    def get(self, key: Key, default: _T, /) -> bytes | _T:
        """Return the value, or *default*."""

    def get_tagged(self, key: Key, /) -> tuple[bytes, int] | None:
        """Return (value, tag), or None."""

    def get_versioned(self, key: Key, known: int, /) -> Versioned:
        """Return value, tag, version and time to live, see `Versioned`."""

    def bump(self, key: Key, /) -> bool:
        """Mark a key as used now; return whether it was there."""

    def put(
        self, key: Key, value: BytesLike, ttl_seconds: float | None, only_if: OnlyIf, tag: int, /
    ) -> bool:
        """Store a value; return whether it was stored."""

    def put_versioned(
        self, key: Key, value: BytesLike, ttl_seconds: float | None, tag: int, /
    ) -> Written | None:
        """Store a value; return what a copy of it is good under, or None when it was not stored."""

    def delete(self, key: Key, /) -> bool:
        """Remove a key; return whether it was there."""

    def exists(self, key: Key, /) -> bool:
        """Return whether a key is present."""

    def touch(self, key: Key, ttl_seconds: float | None, /) -> bool:
        """Give a key a new time to live; return whether it was there."""

    def incr(
        self, key: Key, delta: int, initial: int | None, ttl_seconds: float | None, tag: int, /
    ) -> int | None:
        """Add to an integer; return the sum, or None when there is none."""

    def get_many(self, keys: Iterable[_K], /) -> dict[_K, bytes]:
        """Return the values found."""

    def get_many_tagged(self, keys: Iterable[_K], /) -> dict[_K, tuple[bytes, int]]:
        """Return (value, tag) of the keys found."""

    def put_many(
        self,
        mapping: Mapping[_K, BytesLike | tuple[BytesLike, int]],
        ttl_seconds: float | None,
        /,
    ) -> list[_K]:
        """Store every value; return the keys that were not stored."""

    def delete_many(self, keys: Iterable[Key], /) -> int:
        """Remove every key; return how many were there."""

    def thread_waits(self, waits: bool, /) -> None:  # noqa: FBT001 - as all arguments of a door
        """Say whether calls of this thread may wait; one that had to is a `WouldWaitError` then."""

    def close(self) -> None:
        """Refuse every later call."""


class _Batch:
    """The items of one batch, and all that they point to."""

    def __init__(self, keys: list[bytes]) -> None:
        self.count = len(keys)
        self._keep: list[Any] = []
        self.items = ffi.new("struct pmc_item[]", self.count)
        for item, key in zip(self.items, keys, strict=True):
            item.key = self._hold(key)
            item.key_size = len(key)

    def _hold(self, data: bytes) -> Any:
        pointer = ffi.from_buffer(data)
        self._keep.append(pointer)
        return pointer

    def set_value(self, index: int, value: bytes, tag: int) -> None:
        item = self.items[index]
        item.value = self._hold(value)
        item.value_size = len(value)
        item.tag = tag

    def finish(self, status: int) -> list[int]:
        """Return the status of each item, once the whole call and each item may pass."""
        if status != lib.PMC_OK:
            raise_status(status, 0, 0)
        for item in self.items:
            if item.status < 0 and item.status != lib.PMC_ETIMEDOUT:
                raise_status(item.status, item.key_size, item.value_size)
        return [item.status for item in self.items]


def _batch_keys(keys: Iterable[_K]) -> list[_K]:
    if isinstance(keys, str | bytes):
        refuse("keys", keys)
    return list(keys)


class CffiDoor:
    """The door through cffi: the GIL is released around every call."""

    def __init__(self, attachment: Attachment) -> None:
        """Open a door onto *attachment*."""
        self._attachment = attachment
        self._open_handle: Any = attachment.handle

    def close(self) -> None:
        """Refuse every later call."""
        self._open_handle = None

    @property
    def _handle(self) -> Any:
        handle = self._open_handle
        if handle is None:
            raise_status(lib.PMC_ECLOSED, 0, 0)
        return handle

    def get(self, key: Key, default: _T, /) -> bytes | _T:
        """Return the value, or *default*."""
        found = self.get_tagged(key)
        return default if found is None else found[0]

    def get_tagged(self, key: Key, /) -> tuple[bytes, int] | None:
        """Return (value, tag), or None."""
        data = _key_bytes(key)
        copy = ffi.new("void *[1]")
        found = ffi.new("struct pmc_found *")
        try:
            status = lib.handle_get_copy(self._handle, data, len(data), copy, found)
            if status == lib.PMC_OK:
                return ffi.buffer(copy[0], found.value_size)[:], found.tag
        finally:
            lib.door_release(copy, 1)
        if status != lib.PMC_MISS:
            raise_status(status, len(data), 0)
        return None

    def get_versioned(self, key: Key, known: int, /) -> Versioned:
        """Return value, tag, version and time to live, see `Versioned`."""
        data = _key_bytes(key)
        _integer("known", known, 0, 2**64 - 1)
        copy = ffi.new("void *[1]")
        found = ffi.new("struct pmc_versioned *")
        try:
            status = lib.handle_get_versioned(self._handle, data, len(data), known, copy, found)
            if status == lib.PMC_MISS:
                return None, 0, found.version_index, found.version, None, 0
            if status != lib.PMC_OK:
                raise_status(status, len(data), 0)
            generation = found.found.generation
            is_known = generation == known
            value = None if is_known else ffi.buffer(copy[0], found.found.value_size)[:]
        finally:
            lib.door_release(copy, 1)
        ttl_ms = None if found.ttl_ms == _TTL_NONE else found.ttl_ms
        return value, found.found.tag, found.version_index, found.version, ttl_ms, generation

    def bump(self, key: Key, /) -> bool:
        """Mark a key as used now; return whether it was there."""
        data = _key_bytes(key)
        return self._found(lib.handle_bump(self._handle, data, len(data)), data)

    def put(
        self, key: Key, value: BytesLike, ttl_seconds: float | None, only_if: OnlyIf, tag: int, /
    ) -> bool:
        """Store a value; return whether it was stored."""
        options = ffi.new("struct pmc_put_options *")
        options.ttl_ms = _ttl_ms(ttl_seconds)
        options.condition, options.generation = _condition(only_if)
        options.tag = _tag(tag)
        return _put(self._handle, key, value, options)

    def put_versioned(
        self, key: Key, value: BytesLike, ttl_seconds: float | None, tag: int, /
    ) -> Written | None:
        """Store a value; return what a copy of it is good under, or None when it was not stored."""
        options = ffi.new("struct pmc_put_options *")
        return _put_versioned(self._handle, key, value, ttl_seconds, tag, options)

    def delete(self, key: Key, /) -> bool:
        """Remove a key; return whether it was there."""
        data = _key_bytes(key)
        return self._found(lib.handle_delete(self._handle, data, len(data)), data)

    def exists(self, key: Key, /) -> bool:
        """Return whether a key is present."""
        data = _key_bytes(key)
        return self._found(lib.handle_exists(self._handle, data, len(data)), data)

    def touch(self, key: Key, ttl_seconds: float | None, /) -> bool:
        """Give a key a new time to live; return whether it was there."""
        data = _key_bytes(key)
        ttl_ms = _ttl_ms(ttl_seconds)
        return self._found(lib.handle_touch(self._handle, data, len(data), ttl_ms), data)

    def _found(self, status: int, key: bytes) -> bool:
        if status not in (lib.PMC_OK, lib.PMC_MISS):
            raise_status(status, len(key), 0)
        return bool(status == lib.PMC_OK)

    def incr(
        self, key: Key, delta: int, initial: int | None, ttl_seconds: float | None, tag: int, /
    ) -> int | None:
        """Add to an integer; return the sum, or None when there is none."""
        data = _key_bytes(key)
        _int64("delta", delta)
        options = ffi.new("struct pmc_incr_options *")
        options.ttl_ms = _ttl_ms(ttl_seconds)
        options.tag = _tag(tag)
        if initial is not None:
            options.create = True
            options.initial = _int64("initial", initial)
        total = ffi.new("int64_t *")
        status = lib.handle_incr(self._handle, data, len(data), delta, options, total)
        if status in (lib.PMC_MISS, lib.PMC_DROPPED):
            return None
        if status != lib.PMC_OK:
            raise_status(status, len(data), 0)
        return int(total[0])

    def get_many(self, keys: Iterable[_K], /) -> dict[_K, bytes]:
        """Return the values found."""
        return {key: value for key, (value, _tag) in self.get_many_tagged(keys).items()}

    def get_many_tagged(self, keys: Iterable[_K], /) -> dict[_K, tuple[bytes, int]]:
        """Return (value, tag) of the keys found."""
        wanted = _batch_keys(keys)
        batch = _Batch([_key_bytes(key) for key in wanted])
        copies = ffi.new("void *[]", batch.count)
        try:
            status = lib.handle_get_many(self._handle, batch.items, batch.count, copies)
            statuses = batch.finish(status)
            return {
                key: (ffi.buffer(copies[index], item.found.value_size)[:], item.found.tag)
                for index, (key, item) in enumerate(zip(wanted, batch.items, strict=True))
                if statuses[index] == lib.PMC_OK
            }
        finally:
            lib.door_release(copies, batch.count)

    def put_many(
        self,
        mapping: Mapping[_K, BytesLike | tuple[BytesLike, int]],
        ttl_seconds: float | None,
        /,
    ) -> list[_K]:
        """Store every value; return the keys that were not stored."""
        options = ffi.new("struct pmc_put_options *")
        options.ttl_ms = _ttl_ms(ttl_seconds)
        if not isinstance(mapping, Mapping):
            refuse("mapping", mapping)
        pairs = list(mapping.items())
        batch = _Batch([_key_bytes(key) for key, _value in pairs])
        for index, (_key, value) in enumerate(pairs):
            is_tagged = isinstance(value, tuple) and len(value) == 2  # noqa: PLR2004 - a pair
            data, tag = value if is_tagged else (value, 0)
            batch.set_value(index, _value_bytes(data), _tag(tag))
        status = lib.handle_put_many(self._handle, batch.items, batch.count, options)
        statuses = batch.finish(status)
        return [pair[0] for pair, status in zip(pairs, statuses, strict=True) if status]

    def thread_waits(self, waits: bool, /) -> None:  # noqa: FBT001 - as all arguments of a door
        """Say whether calls of this thread may wait; one that had to is a `WouldWaitError` then."""
        lib.pmc_thread_waits(waits)

    def delete_many(self, keys: Iterable[Key], /) -> int:
        """Remove every key; return how many were there."""
        batch = _Batch([_key_bytes(key) for key in _batch_keys(keys)])
        status = lib.handle_delete_many(self._handle, batch.items, batch.count)
        statuses = batch.finish(status)
        if lib.PMC_ETIMEDOUT in statuses:
            raise_status(lib.PMC_ETIMEDOUT, 0, 0)
        return statuses.count(lib.PMC_OK)


class WithoutWaiting:
    """A context in which no call of this thread waits: one that had to raises `WouldWaitError`.

    For an event loop, whose thread must not sleep: it repeats the call in another thread. There is
    no `await` inside the context.
    """

    def __init__(self, door: Door) -> None:
        """Tell the engine through *door*."""
        self._thread_waits = door.thread_waits

    def __enter__(self) -> None:
        """Wait no more."""
        self._thread_waits(False)

    def __exit__(self, *_error: object) -> None:
        """Wait again."""
        self._thread_waits(True)


def _open_short_door(attachment: Attachment) -> Door:
    handle_address = int(ffi.cast("uintptr_t", attachment.handle))
    return ShortDoor(lib.door_table_address(), handle_address, attachment, raise_status, refuse)


DOORS: Final[Mapping[str, Callable[[Attachment], Door]]] = {
    **({"short": _open_short_door} if ShortDoor is not None else {}),
    "cffi": CffiDoor,
}
"""The doors of this interpreter, the preferred one first."""


def open_door(attachment: Attachment) -> Door:
    """Open the door that suits this interpreter, or that `PMEMCACHE_DOOR` names.

    Raises:
        ConfigurationError: There is no door of that name here.
    """
    name = os.environ.get("PMEMCACHE_DOOR") or next(iter(DOORS))
    if name not in DOORS:
        message = f"PMEMCACHE_DOOR={name!r}: this interpreter has {', '.join(DOORS)}"
        raise ConfigurationError(message)
    return DOORS[name](attachment)
