"""The name of a cached function, under which all processes find its results.

A function at the top of a module is its module and qualified name, in every process. Others could
share a name with something else, and would then be handed its results; so they get more:

*   In `__main__`: the file's path and a digest of the code.
*   Within a function, or a lambda: a digest of the code.
*   With captured variables, which can differ from one to the next: a name of its own, shared only
    with children made by fork. Pass `name=` to share its results with others.
"""

from __future__ import annotations

import functools
import inspect
import os
from types import CodeType
from typing import TYPE_CHECKING, Any

from pmemcache.errors import ConfigurationError
from pmemcache.keys import digest

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
            parts.append(_own_token() if code.co_freevars else digest(_code(code)).hex()[:12])
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


def _code(code: CodeType) -> bytes:
    """Return what *code* does, without where it is."""
    constants = [
        _code(each) if isinstance(each, CodeType) else repr(each).encode()
        for each in code.co_consts
    ]
    return b"\0".join((code.co_code, repr(code.co_names).encode(), *constants))
