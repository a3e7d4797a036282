"""The name of a cached function, under which all processes find its results.

A function at the top of a module is its module and qualified name, in every process. Others could
share a name with something else, and would then be handed its results; so they get more:

*   In `__main__`: the file's path and a digest of the code.
*   Of two in one module with one name (what `functools.singledispatch` registers is mostly called
    `_`), those after the first: a digest of the code.
*   Within a function, or a lambda: a digest of the code, which another version of Python may
    compile to another.
*   Within a function and with captured variables, or defaults that cannot be written down, which
    can differ from one to the next: a name of its own, shared only with children made by fork.
    Pass `name=` to share its results with others.
*   Bound to an object: what a key has of that object; if it has no form, a name of its own.
*   In a wrapper, as `functools.wraps` makes them: a digest of which wrapper it is and of what it
    has captured. What cannot be written down is an error that asks for `name=`: another wrapper
    could have captured something else, here or in another process.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from pmemcache.errors import ConfigurationError, KeyEncodingError
from pmemcache.keys import MAIN_MODULES, canonical, digest

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["function_name", "source_version"]

_TAKEN_OVER: Final = frozenset({"__wrapped__", "__type_params__", *functools.WRAPPER_ASSIGNMENTS})
"""What `functools.wraps` copies from the function."""

_first_of_name: Final[dict[str, Any]] = {}
"""The first function of each name, of those that stand at the top of a module or in a class."""


def function_name(function: Callable[..., Any], *, tell_files_apart: bool) -> str:
    """Return the name of *function*.

    Args:
        tell_files_apart: Whether the cache is shared with other programs, whose modules may have
            the same names: the name then has a digest of the file's path.

    Raises:
        ConfigurationError: A wrapper around it has captured what has no lasting form.
    """
    plain = inspect.unwrap(function)
    module = getattr(plain, "__module__", None)
    qualified = getattr(plain, "__qualname__", None)
    if module is None or qualified is None or isinstance(plain, functools.partial):
        return f"{type(plain).__module__}.{type(plain).__qualname__}@{_own_token()}"
    is_main = module in MAIN_MODULES
    parts = [f"{'__main__' if is_main else module}.{qualified}"]
    code = getattr(plain, "__code__", None)
    if code is None:
        if "<" in qualified or is_main:  # a class, which has no code to tell it by
            parts.append(_own_token())
    else:
        if tell_files_apart or is_main:
            parts.append(digest(os.path.realpath(code.co_filename).encode()).hex()[:12])
        is_known = "<" not in qualified and _is_like_first("@".join(parts), plain)
        if is_main or not is_known:
            varies = code.co_freevars or not (is_known or _has_written_defaults(plain))
            parts.append(_own_token() if varies else digest(_code(code)).hex()[:12])
    wrappers = _wrappers(function)
    if wrappers:
        parts.append(digest(b"\0".join(wrappers)).hex()[:12])
    parts += map(_owner, _owners(function))
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


def _is_like_first(name: str, function: Any) -> bool:
    """Whether *function* is the first of this name, or does the same with the same arguments."""
    function = getattr(function, "__func__", function)  # of a bound method: no object is kept
    first = _first_of_name.setdefault(name, function)
    if first is function:
        return True
    if _code(first.__code__) != _code(function.__code__):
        return False
    return _has_written_defaults(function) or (
        (first.__defaults__, first.__kwdefaults__)
        == (function.__defaults__, function.__kwdefaults__)
    )


def _has_written_defaults(function: Callable[..., Any]) -> bool:
    """Whether keys tell *function* from one with other defaults: they have those with a form."""
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    try:
        canonical(defaults)
    except KeyEncodingError:
        return False
    return True


def _owners(function: Any) -> list[Any]:
    """Return what the bound methods among *function* and what it wraps are bound to."""
    owners = []
    while function is not None:
        if isinstance(function, MethodType):
            owners.append(function.__self__)
        function = getattr(function, "__wrapped__", None)
    return owners


def _owner(owner: Any) -> str:
    """Return what tells the methods of *owner* from those of others."""
    try:
        return digest(canonical(owner)).hex()[:12]
    except KeyEncodingError:
        return _own_token()


def _wrappers(function: Any) -> list[bytes]:
    """Return what tells each wrapper around a function from another, the outermost first."""
    found = []
    while (wrapped := getattr(function, "__wrapped__", None)) is not None:
        kind = type(function)
        parts = [f"{kind.__module__}.{kind.__qualname__}".encode()]
        if hasattr(function, "__code__"):
            # Not its digest: the version of Python shall not matter here.
            parts.append(_place(function.__code__))
        for name, value in _captured(function):
            if value is wrapped:
                parts.append(b"wrapped")
                continue
            form = _form(value)
            if form is None:
                message = (
                    f"{function!r} is wrapped by what has captured {name}={value!r}, which has no "
                    "form that is the same in all processes, so its results could be taken for "
                    "those of another wrapper: give cached() a name= of its own"
                )
                raise ConfigurationError(message)
            parts.append(form)
        found.append(b"\1".join(parts))
        function = wrapped
    return found


def _captured(function: Any) -> list[tuple[str, Any]]:
    """Return what a function, or an object that is called, has besides its code."""
    code = getattr(function, "__code__", None)
    if code is None:
        if type(function).__module__ == functools.__name__:  # lru_cache: it changes no result
            return []
        return [item for item in vars(function).items() if item[0] not in _TAKEN_OVER]
    cells = getattr(function, "__closure__", None) or ()
    names = code.co_freevars
    captured = [(name, _content(cell)) for name, cell in zip(names, cells, strict=True)]
    captured += [("default", value) for value in function.__defaults__ or ()]
    return captured + list((function.__kwdefaults__ or {}).items())


def _place(code: CodeType) -> bytes:
    """Return where *code* stands; of several lambdas in one line, which it is."""
    place = f"{Path(code.co_filename).name}:{code.co_firstlineno}:{code.co_name}".encode()
    return place + _code(code) if "<" in code.co_name else place


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing was assigned to it yet
        return None


def _form(value: Any, within: tuple[Any, ...] = ()) -> bytes | None:
    """Return the lasting form of what a wrapper has captured; None: it has none.

    Args:
        within: The functions that have captured it.
    """
    if any(value is each for each in within):  # a function that calls itself
        return b"itself"
    if isinstance(value, FunctionType):
        forms = [_form(each, (*within, value)) for _name, each in _captured(value)]
        known = [form for form in forms if form is not None]
        return b"\2".join((_place(value.__code__), *known)) if known == forms else None
    name = _lasting_name(value)
    if name is not None:
        return name.encode()
    try:
        return canonical(value)
    except KeyEncodingError:
        return None


def _lasting_name(value: Any) -> str | None:
    """Return by what a module, a class and the like are known in every process."""
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, BuiltinFunctionType) and isinstance(value.__self__, ModuleType):
        return f"{value.__module__}.{value.__name__}"
    if isinstance(value, ModuleType):
        return value.__name__
    return value.name if isinstance(value, logging.Logger) else None


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
