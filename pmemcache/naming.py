"""The name of a cached function, under which all processes find its results.

A function at the top of a module is its module and qualified name, in every process. Others could
share a name with something else, and would then be handed its results; so they get more:

*   In `__main__`: the file's path and a digest of the code.
*   Within a function, or a lambda: a digest of the code, which another version of Python may
    compile to another.
*   Within a function and with captured variables, or defaults that cannot be written down, which
    can differ from one to the next: a name of its own, shared only with children made by fork.
    Pass `name=` to share its results with others.
*   In a wrapper, as `functools.wraps` makes them: a digest of which wrapper it is and of what it
    has captured, as far as that can be written down.
"""

from __future__ import annotations

import functools
import inspect
import os
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from pmemcache.errors import ConfigurationError, KeyEncodingError
from pmemcache.keys import canonical, digest

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["function_name", "source_version"]


def function_name(function: Callable[..., Any], *, tell_files_apart: bool) -> str:
    """Return the name of *function*.

    Args:
        tell_files_apart: Whether the cache is shared with other programs, whose modules may have
            the same names: the name then has a digest of the file's path.
    """
    plain = inspect.unwrap(function)
    module = getattr(plain, "__module__", None)
    qualified = getattr(plain, "__qualname__", None)
    if module is None or qualified is None or isinstance(plain, functools.partial):
        return f"{type(plain).__module__}.{type(plain).__qualname__}@{_own_token()}"
    parts = [f"{module}.{qualified}"]
    code = getattr(plain, "__code__", None)
    if code is not None:
        if tell_files_apart or module == "__main__":
            parts.append(digest(os.path.realpath(code.co_filename).encode()).hex()[:12])
        if "<" in qualified or module == "__main__":
            varies = code.co_freevars or ("<" in qualified and not _has_written_defaults(plain))
            parts.append(_own_token() if varies else digest(_code(code)).hex()[:12])
    wrappers = _wrappers(function)
    if wrappers:
        parts.append(digest(b"\0".join(wrappers)).hex()[:12])
    return "@".join(parts)


def source_version(function: Callable[..., Any]) -> str:
    """Return a version that changes whenever the source of *function* does.

    Raises:
        ConfigurationError: The source cannot be found.
    """
    try:
        source = inspect.getsource(inspect.unwrap(function))
    except (OSError, TypeError) as error:
        message = f"the source of {function!r} cannot be found: give version= a number or a text"
        raise ConfigurationError(message) from error
    return digest(source.encode(), b"source").hex()[:12]


def _own_token() -> str:
    return os.urandom(8).hex()


def _has_written_defaults(function: Callable[..., Any]) -> bool:
    """Whether keys tell *function* from one with other defaults: they have those with a form."""
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    try:
        canonical(defaults)
    except KeyEncodingError:
        return False
    return True


def _wrappers(function: Any) -> list[bytes]:
    """Return what tells each wrapper around a function from another, the outermost first."""
    found = []
    while (wrapped := getattr(function, "__wrapped__", None)) is not None:
        kind = type(function)
        parts = [f"{kind.__module__}.{kind.__qualname__}".encode()]
        code = getattr(function, "__code__", None)
        if code is not None:
            # Not its digest: the version of Python shall not matter here.
            parts.append(_place(code))
            for cell in getattr(function, "__closure__", None) or ():
                value = _content(cell)
                parts.append(b"wrapped" if value is wrapped else _form(value))
        found.append(b"\1".join(parts))
        function = wrapped
    return found


def _place(code: CodeType) -> bytes:
    """Return where *code* stands; of several lambdas in one line, which it is."""
    place = f"{Path(code.co_filename).name}:{code.co_firstlineno}:{code.co_name}".encode()
    return place + _code(code) if "<" in code.co_name else place


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing was assigned to it yet
        return None


def _form(value: Any) -> bytes:
    """Return the lasting form of what a wrapper has captured; empty for what has none."""
    try:
        return canonical(value)
    except KeyEncodingError:
        if isinstance(value, FunctionType):
            return _place(value.__code__)
        if isinstance(value, BuiltinFunctionType) and isinstance(value.__self__, ModuleType):
            return f"{value.__module__}.{value.__name__}".encode()
        return b""


def _code(code: CodeType) -> bytes:
    """Return what *code* does, without where it is."""
    constants = [_constant(each) for each in code.co_consts]
    return b"\0".join((code.co_code, repr(code.co_names).encode(), *constants))


def _constant(value: Any) -> bytes:
    if isinstance(value, CodeType):
        return _code(value)
    if isinstance(value, frozenset):  # its order is another under each hash seed
        return b"frozenset " + b", ".join(sorted(map(_constant, value)))
    return repr(value).encode()
