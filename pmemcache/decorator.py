"""`@cached`: `functools.lru_cache` for all processes of a host.

Wherever `lru_cache` has an opinion, so has this: equal numbers are one argument unless `typed`,
unhashable arguments are a TypeError, an error is raised and not remembered. Beyond it, a call is
known by its bound arguments, so `price(7)`, `price(city_id=7)` and `price(7, "EUR")` are one entry,
and one computation at a time runs for each key on a host.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import logging
import os
import threading
import time
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    NamedTuple,
    ParamSpec,
    Protocol,
    TypeVar,
    overload,
)

from pmemcache.binding import checked_ttl
from pmemcache.config import default_path
from pmemcache.envelope import grace_ms_of
from pmemcache.errors import ConfigurationError, KeyEncodingError
from pmemcache.faults import FAILURES
from pmemcache.keys import canonical, digest
from pmemcache.loaders import is_coroutine_function
from pmemcache.naming import function_name, source_version
from pmemcache.stampede import checked_load_policy
from pmemcache.stats import counted
from pmemcache.tiered import TieredCache
from pmemcache.warm import checked_tags

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from pmemcache.stampede import LoadPolicy

__all__ = ["CacheInfo", "cached", "default_cache", "replaced_default_cache"]

_P = ParamSpec("_P")
_R = TypeVar("_R")

_MISSING: Final = object()
_KEYWORDS: Final = object()
_MEMO_MAX: Final = 4096
_MEMO_TEXT_MAX: Final = 256
_RETRY_OPEN_SECONDS: Final = 5.0
_SIMPLE: Final = frozenset({int, float, bool, type(None), str, bytes})

logger: Final = logging.getLogger("pmemcache")


class _FunctoolsInfo(NamedTuple):
    hits: int
    misses: int
    maxsize: int | None
    currsize: int


class CacheInfo(_FunctoolsInfo):
    """What `cache_info` returns: as from `functools`, equal to the plain tuple.

    `hits` and `misses` are this process's since `cache_clear`; `currsize` counts the entries that
    all processes share, by a walk over them.
    """

    tiers: dict[str, int]
    """The number of this function's entries in each tier: `{"hot": ..., "warm": ...}`."""


class CachedFunction(Protocol[_P, _R]):
    """A function with a cache in front of it."""

    __wrapped__: Callable[..., _R]
    __name__: str
    __qualname__: str

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Return the result for these arguments, computed at most once at a time per host."""

    def __get__(self, instance: Any, owner: type | None = None) -> CachedFunction[..., _R]:
        """Bind to an instance, as a function does."""

    def cache_info(self) -> CacheInfo:
        """Return hits, misses and sizes."""

    def cache_clear(self) -> None:
        """Forget all results of this function, in all processes; costs one delete."""

    def cache_parameters(self) -> dict[str, Any]:
        """Return a new dict with `maxsize` and `typed`."""

    def cache_key(self, *args: _P.args, **kwargs: _P.kwargs) -> str:
        """Return the key of a call: the same in all processes."""

    def invalidate(self, *args: _P.args, **kwargs: _P.kwargs) -> bool:
        """Forget the result of a call, in all processes; return whether there was one."""

    def refresh(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Compute a call anew and remember the result."""


@dataclass(frozen=True)
class _Options:
    """The arguments of `cached`."""

    maxsize: int | None
    typed: bool
    ttl_seconds: float | Callable[[Any], float | None] | None
    grace_seconds: float
    key: Callable[..., Any] | None
    cache: TieredCache | Callable[[], TieredCache] | None
    tags: Iterable[str] | Callable[..., Iterable[str]]
    unless: Callable[[Any], bool] | None
    version: int | str
    name: str | None
    load: LoadPolicy | None


@overload
def cached(function: Callable[_P, _R], /) -> CachedFunction[_P, _R]: ...
@overload
def cached(
    function: None = None,
    /,
    *,
    ttl_seconds: float | Callable[[Any], float | None] | None = None,
    grace_seconds: float = 0.0,
    typed: bool = False,
    maxsize: int | None = None,
    key: Callable[..., Any] | None = None,
    cache: TieredCache | Callable[[], TieredCache] | None = None,
    tags: Iterable[str] | Callable[..., Iterable[str]] = (),
    unless: Callable[[Any], bool] | None = None,
    version: int | str = "",
    name: str | None = None,
    load: LoadPolicy | None = None,
) -> Callable[[Callable[_P, _R]], CachedFunction[_P, _R]]: ...
def cached(  # noqa: PLR0913 - the options of a cached function, by keyword
    function: Any = None,
    /,
    *,
    ttl_seconds: float | Callable[[Any], float | None] | None = None,
    grace_seconds: float = 0.0,
    typed: bool = False,
    maxsize: int | None = None,
    key: Callable[..., Any] | None = None,
    cache: TieredCache | Callable[[], TieredCache] | None = None,
    tags: Iterable[str] | Callable[..., Iterable[str]] = (),
    unless: Callable[[Any], bool] | None = None,
    version: int | str = "",
    name: str | None = None,
    load: LoadPolicy | None = None,
) -> Any:
    """Remember the results of a function, for all processes of the host.

    Works on functions, methods, class and static methods and coroutine functions, with or without
    parentheses. Concurrent calls with equal arguments share one computation, in all processes.

    Args:
        ttl_seconds: How long a result counts, or a function of the result that says it; None: for
            ever, 0 and less: not at all.
        grace_seconds: How long after that one caller computes anew while the others get the old
            result at once; so do all when the computation fails.
        typed: Whether arguments of different types are different, though they are equal.
        maxsize: Keep at most so many results that this process has used, the least recently used
            goes; None: the cache's own bound, in bytes; 0: none.
        key: Called with the arguments, returns what they are known by. For methods whose `self` has
            no lasting name, and for arguments that do not matter.
        cache: A `TieredCache`, or a function that returns it at the first call; None: the default
            cache of this user, in shared memory.
        tags: Tags of every result, or a function of the arguments that returns them.
        unless: Results for which this is true are returned but not remembered.
        version: Change it when the function's meaning changes; "source" does so whenever its
            source does.
        name: Instead of the function's own name; give one to functions that capture variables.
        load: Other than the cache's `LoadPolicy`.

    Raises:
        TypeError, ValueError: An option is of another type, or out of its range.
        TypeError: The function is a generator, whose result can be read only once; or, at a call,
            an argument cannot be part of a key (`KeyEncodingError`, which names it).
    """
    options = _Options(
        max(0, maxsize) if type(maxsize) is int else maxsize,
        typed,
        ttl_seconds,
        grace_seconds,
        key,
        cache,
        tags if callable(tags) else checked_tags(tags),
        unless,
        version,
        name,
        checked_load_policy(load),
    )
    _check_options(vars(options))
    if function is None:
        return lambda given: _decorate(given, options)
    return _decorate(function, options)


def _check_options(options: dict[str, Any]) -> None:
    """Refuse what would else fail at a call, or be taken for something else."""
    if not callable(options["ttl_seconds"]):
        checked_ttl(options["ttl_seconds"])
    grace_ms_of(options["grace_seconds"])
    maxsize = options["maxsize"]
    for option, is_right, what in (
        ("maxsize", type(maxsize) is int, "a number of results"),
        ("key", callable(options["key"]), "a function"),
        ("unless", callable(options["unless"]), "a function"),
        ("name", isinstance(options["name"], str), "a str"),
    ):
        if not (is_right or options[option] is None):
            message = f"{option}={options[option]!r}: give {what}, or None"
            raise TypeError(message)


def _decorate(function: Any, options: _Options) -> Any:
    if isinstance(function, classmethod | staticmethod):
        return type(function)(_decorate(function.__func__, options))
    if not callable(function):
        message = (
            f"cached() decorates functions, not {type(function).__name__}; its options have names: "
            "@cached(maxsize=128)"
        )
        raise TypeError(message)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        message = (
            f"{function!r} is a generator: its result can be read only once, so it cannot be "
            "remembered; return a list or a tuple instead"
        )
        raise TypeError(message)
    cache: Any = options.cache
    if not (cache is None or isinstance(cache, TieredCache) or callable(cache)):
        message = (
            f"cache= is a TieredCache or a function that returns one, not {type(cache).__name__}: "
            f"give TieredCache({cache!r})"
        )
        raise TypeError(message)
    calls = _Calls(function, options)
    make = _async_wrapper if calls.is_async else _wrapper
    wrapper: Any = functools.update_wrapper(make(calls), function)
    # Lambdas show the signatures that functools shows: without the annotations of a method.
    wrapper.cache_info = lambda: calls.info()  # noqa: PLW0108 - see above
    wrapper.cache_clear = lambda: calls.clear()  # noqa: PLW0108 - see above
    wrapper.cache_parameters = lambda: {"maxsize": options.maxsize, "typed": options.typed}
    wrapper.cache_key = lambda *args, **kwargs: calls.key(args, kwargs)
    wrapper.invalidate = lambda *args, **kwargs: calls.invalidate(args, kwargs)
    wrapper.refresh = lambda *args, **kwargs: calls.refresh(args, kwargs)
    return wrapper


def _wrapper(calls: _Calls[Any]) -> Callable[..., Any]:
    function, is_bounded = calls.function, calls.options.maxsize is not None

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        cache = calls.opened or calls.cache()
        if cache is None:
            next(calls.misses)
            return function(*args, **kwargs)
        name = calls.key(args, kwargs)
        if not calls.must_load:
            value = cache.find(name, _MISSING)
            if value is not _MISSING:
                next(calls.hits)
                if is_bounded:
                    calls.used(name)
                return value
        return calls.load(cache, name, args, kwargs)

    return wrapper


def _async_wrapper(calls: _Calls[Any]) -> Callable[..., Any]:
    function, is_bounded = calls.function, calls.options.maxsize is not None

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        cache = calls.opened or calls.cache()
        if cache is None:
            next(calls.misses)
            return await function(*args, **kwargs)
        name = calls.key(args, kwargs)
        if not calls.must_load:
            value = cache.find(name, _MISSING)
            if value is not _MISSING:
                next(calls.hits)
                if is_bounded:
                    calls.used(name)
                return value
        return await calls.aload(cache, name, args, kwargs)

    return wrapper


class _Calls(Generic[_R]):
    """The calls of one function: their keys, their results, and what is counted of them."""

    def __init__(self, function: Callable[..., _R], options: _Options) -> None:
        self.function = function
        self.options = options
        self.hits = itertools.count()
        self.misses = itertools.count()
        self.is_async = is_coroutine_function(function)
        self._name = options.name or function_name(function, tell_files_apart=options.cache is None)
        version = options.version
        if version == "source":
            version = source_version(function)
        if version not in {"", None}:
            self._name = f"{self._name}@{version}"
        self._is_typed = options.typed
        self._memo: dict[Any, str] = {}
        self._order: OrderedDict[str, None] | None = (
            OrderedDict() if options.maxsize is not None else None
        )
        self._lock = threading.Lock()
        self.opened = (
            options.cache
            if isinstance(options.cache, TieredCache) and options.maxsize != 0
            else None
        )
        """The cache, once it is open and of use."""
        if options.cache is None:
            _DEFAULT.users.add(self)
        self.must_load = self._must_load()
        self._signatures = list(_signatures(function))
        _every_calls.add(self)

    def __cache_key__(self) -> str:
        """Return by what a cached function is known that is cached once more."""
        return self._name

    def cache(self) -> TieredCache | None:
        """Return the cache; None when nothing is to be remembered, or it cannot be opened."""
        if self.options.maxsize == 0:
            return None
        if self.opened is None:
            opener = self.options.cache
            opened = opener() if callable(opener) else _DEFAULT.get()
            if not (opened is None or hasattr(opened, "load_missing")):
                message = f"cache= returned no TieredCache, but {opened!r}: return TieredCache(...)"
                raise TypeError(message)
            self.opened = opened
            self.must_load = self._must_load()
        return self.opened

    def _must_load(self) -> bool:
        """Whether a result that is there may be computed anew, so that a look is not enough."""
        policy = self.options.load or getattr(self.opened, "load_policy", None)
        return policy is not None and policy.looks_ahead

    def forked(self) -> None:
        """Go on in a child process, where another thread may have held the lock."""
        self._lock = threading.Lock()

    # Keys

    def key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Return the key of a call.

        Raises:
            KeyEncodingError: An argument cannot be part of a key.
        """
        known: Any = (_KEYWORDS, args, tuple(kwargs.items())) if kwargs else args
        if self._is_typed:
            known = (known, tuple(map(type, args)), tuple(map(type, kwargs.values())))
        try:
            return self._memo[known]
        except (KeyError, TypeError):  # TypeError: unhashable; `canonical` names the argument
            pass
        return self._make_key(args, kwargs, known)

    def _make_key(self, args: tuple[Any, ...], kwargs: dict[str, Any], known: Any) -> str:
        if self.options.key is not None:
            chosen = self.options.key(*args, **kwargs)
            return f"{self._name}#{digest(canonical(chosen), b'call').hex()}"
        arguments = self._bound(args, kwargs)
        content = b"".join(self._write(name, value) for name, value in arguments)
        name = f"{self._name}#{digest(content, b'call').hex()}"
        if all(map(_is_simple, itertools.chain(args, kwargs.values()))):
            if len(self._memo) >= _MEMO_MAX:
                self._memo.clear()
            self._memo[known] = name
        return name

    def _bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[str, Any]]:
        """Return the name and value of each argument, defaults included."""
        if not self._signatures:
            named = [(str(position), value) for position, value in enumerate(args)]
            return [*named, *kwargs.items()]
        bound = None
        for signature in self._signatures:
            with contextlib.suppress(TypeError):
                bound = signature.bind(*args, **kwargs)
                break
        if bound is None:
            self.function(*args, **kwargs)  # raises an error that says it better
            message = f"{self._name} does not take these arguments"
            raise TypeError(message)
        bound.apply_defaults()
        named = []
        for name, value in bound.arguments.items():
            kind = bound.signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                named += [(f"*{name}{position}", each) for position, each in enumerate(value)]
            elif kind is inspect.Parameter.VAR_KEYWORD:
                named += [(f"**{key}", each) for key, each in value.items()]
            else:
                named.append((name, value))
        return named

    def _write(self, name: str, value: Any) -> bytes:
        """Write one argument of a key."""
        written = canonical(name)
        if self.options.typed:
            kind = type(value)
            written += canonical(f"{kind.__module__}.{kind.__qualname__}")
        try:
            return written + canonical(value)
        except KeyEncodingError as error:
            if self._is_default(name, value):
                return written + b"="
            message = f"argument {name!r} of {self._name}: {error}; or give cached() a key="
            raise KeyEncodingError(message) from None

    def _is_default(self, name: str, value: Any) -> bool:
        """Whether *value* is the object that stands in the signature: it needs no form then."""
        parameters = [each.parameters.get(name) for each in self._signatures]
        return any(each is not None and each.default is value for each in parameters)

    # Results

    def load(
        self, cache: TieredCache, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Return the result, of this call or of one elsewhere that is under way."""
        computed = False

        def compute(_key: Any) -> Any:
            nonlocal computed
            computed = True
            next(self.misses)
            return self.function(*args, **kwargs)

        load = cache.get_or_load if self.must_load else cache.load_missing
        value = load(name, compute, **self._plan(args, kwargs))
        if not computed:
            next(self.hits)
        self.used(name)
        return value

    async def aload(
        self, cache: TieredCache, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """As `load`, of a coroutine function."""
        computed = False

        async def compute(_key: Any) -> Any:
            nonlocal computed
            computed = True
            next(self.misses)
            result: Any = self.function(*args, **kwargs)
            return await result

        load = cache.aget_or_load if self.must_load else cache.aload_missing
        value = await load(name, compute, **self._plan(args, kwargs))
        if not computed:
            next(self.hits)
        self.used(name)
        return value

    def refresh(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute a call anew, and remember the result."""
        cache = self.cache()
        next(self.misses)
        if cache is None:
            return self.function(*args, **kwargs)
        name = self.key(args, kwargs)
        plan = self._plan(args, kwargs)
        if self.is_async:

            async def compute(_key: Any) -> Any:
                result: Any = self.function(*args, **kwargs)
                return await result

            return self._arefresh(cache.arefresh(name, compute, **plan), name)
        value = cache.refresh(name, lambda _key: self.function(*args, **kwargs), **plan)
        self.used(name)
        return value

    async def _arefresh(self, refreshing: Awaitable[_R], name: str) -> _R:
        value = await refreshing
        self.used(name)
        return value

    def invalidate(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Forget the result of a call."""
        cache = self.cache()
        if cache is None:
            return False
        name = self.key(args, kwargs)
        if self._order is not None:
            with self._lock:
                self._order.pop(name, None)
        return cache.delete(name)

    def _plan(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        options = self.options
        tags = options.tags(*args, **kwargs) if callable(options.tags) else options.tags
        return {
            "ttl_seconds": options.ttl_seconds,
            "grace_seconds": options.grace_seconds,
            "tags": tags,
            "namespace": self._name,
            "unless": options.unless,
            "load": options.load,
        }

    # The function's entries

    def used(self, name: str) -> None:
        """Note that *name* was used now; with a `maxsize`, the least recently used may go."""
        order = self._order
        if order is None or self.options.maxsize is None:
            return
        victims = []
        with self._lock:
            order[name] = None
            order.move_to_end(name)
            while len(order) > self.options.maxsize:
                victims.append(order.popitem(last=False)[0])
        cache = self.cache()
        for victim in victims:
            # It is not wrong, only one too many: the call that comes now is answered all the same.
            with contextlib.suppress(*FAILURES):
                if cache is not None:
                    cache.delete(victim)

    def clear(self) -> None:
        """Forget all results, and count from 0 again."""
        cache = self.cache()
        if cache is not None:
            cache.clear(self._name)
        self.hits = itertools.count()
        self.misses = itertools.count()
        if self._order is not None:
            with self._lock:
                self._order.clear()

    def info(self) -> CacheInfo:
        """Return what `cache_info` says."""
        cache = self.cache()
        tiers = {"hot": 0, "warm": 0}
        if cache is not None:
            tiers = cache.count(f"{self._name}#")
        counts = counted(self.hits), counted(self.misses)
        info = CacheInfo(*counts, self.options.maxsize, max(tiers.values()))
        info.tiers = tiers
        return info


_every_calls: Final[weakref.WeakSet[_Calls[Any]]] = weakref.WeakSet()


def _signatures(function: Callable[..., Any]) -> Iterator[inspect.Signature]:
    """Return what *function* takes: as what it wraps says, and if it passes other arguments on."""
    with contextlib.suppress(ValueError):  # some built-in functions have none
        yield inspect.signature(function)
        if hasattr(function, "__wrapped__"):
            yield inspect.signature(function, follow_wrapped=False)


def _is_simple(value: Any) -> bool:
    """Whether a key may be remembered by *value*: it is small, and holds nothing else alive."""
    kind = type(value)
    if kind is tuple:
        return len(value) <= 8 and all(map(_is_simple, value))  # noqa: PLR2004 - a few
    if kind is str or kind is bytes:
        return len(value) <= _MEMO_TEXT_MAX
    return kind in _SIMPLE


class _DefaultCache:
    """The cache of functions that name none, opened at the first call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cache: TieredCache | None = None
        self._retry_at = 0.0
        self.users: weakref.WeakSet[_Calls[Any]] = weakref.WeakSet()
        """The functions that name no cache; each remembers the one it was given."""

    def replace(self, cache: TieredCache | None) -> TieredCache | None:
        """Be *cache* from now on, for all functions; None: opened anew. Return the one before."""
        with self._lock:
            before, self._cache = self._cache, cache
        for calls in list(self.users):
            calls.opened = None
        return before

    def get(self) -> TieredCache | None:
        """Return the cache; None while it cannot be opened, which is tried every five seconds.

        Raises:
            ConfigurationError: The path or the policy that the environment names cannot work.
        """
        cache = self._cache
        if cache is not None:
            return cache
        with self._lock:
            if self._cache is None and time.monotonic() >= self._retry_at:
                self._open_locked()
            return self._cache

    def _open_locked(self) -> None:
        try:
            self._cache = TieredCache(default_path())
        except ConfigurationError:
            raise
        except FAILURES as error:
            self._retry_at = time.monotonic() + _RETRY_OPEN_SECONDS
            logger.warning("the default cache cannot be opened, so nothing is cached: %s", error)

    def forked(self) -> None:
        """Go on in a child process, where another thread may have held the lock."""
        self._lock = threading.Lock()


_DEFAULT: Final = _DefaultCache()


def _after_fork_in_child() -> None:
    _DEFAULT.forked()
    for calls in list(_every_calls):
        calls.forked()


os.register_at_fork(after_in_child=_after_fork_in_child)


@contextlib.contextmanager
def replaced_default_cache(cache: TieredCache) -> Iterator[None]:
    """Let functions that name no cache use *cache* in this block; for tests."""
    before = _DEFAULT.replace(cache)
    try:
        yield
    finally:
        _DEFAULT.replace(before)


def default_cache() -> TieredCache:
    """Return the cache of functions that name none: this user's, in shared memory.

    Its path is `default_path()`; its policy is what `PMEMCACHE_POLICY` says.

    Raises:
        PmemCacheError: It cannot be opened.
    """
    return _DEFAULT.get() or TieredCache(default_path())
