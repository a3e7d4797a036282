"""Compression of large payloads.

The first byte of a compressed payload names the algorithm, so a pool with several reads well. zlib
is always there; zstd and lz4 come with the extras of their names.
"""

from __future__ import annotations

import importlib
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from pmemcache.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Algorithm", "Compression", "decompress"]

Algorithm: TypeAlias = Literal["zlib", "zstd", "lz4"]

_ALGORITHMS: Final[tuple[Algorithm, ...]] = get_args(Algorithm)


@dataclass(frozen=True)
class Compression:
    """Compress payloads of *threshold_bytes* and more, when that makes them smaller.

    Raises:
        ConfigurationError: The algorithm does not exist, or its extra is not installed.
    """

    algorithm: Algorithm = "zlib"
    threshold_bytes: int = 1024

    def __post_init__(self) -> None:
        """Refuse what cannot work now rather than at the first large value."""
        if self.algorithm not in _ALGORITHMS:
            message = f"compression {self.algorithm!r} does not exist: choose one of {_ALGORITHMS}"
            raise ConfigurationError(message)
        if type(self.threshold_bytes) is not int or self.threshold_bytes < 0:
            message = f"threshold_bytes={self.threshold_bytes!r}: give an int of 0 or more bytes"
            raise ConfigurationError(message)
        _functions(self.algorithm)

    def compress(self, payload: bytes) -> bytes | None:
        """Return the compressed form of *payload*, or None where it is not worth having."""
        if len(payload) < self.threshold_bytes:
            return None
        compress, _decompress = _functions(self.algorithm)
        compressed = bytes((_ALGORITHMS.index(self.algorithm),)) + compress(payload)
        return compressed if len(compressed) < len(payload) else None


def decompress(compressed: bytes) -> bytes:
    """Return the payload that `Compression.compress` was given.

    Raises:
        Exception: Whatever the algorithm raises for bytes that it did not write; IndexError for an
            unknown algorithm.
    """
    _compress, decompress_bytes = _functions(_ALGORITHMS[compressed[0]])
    return decompress_bytes(compressed[1:])


def _functions(algorithm: Algorithm) -> tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]:
    """Return the compressing and the decompressing function of *algorithm*."""
    if algorithm == "zlib":
        return zlib.compress, zlib.decompress
    module = {"zstd": "zstandard", "lz4": "lz4.frame"}[algorithm]
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        message = f"{algorithm} is not installed: pip install pmemcache[{algorithm}]"
        raise ConfigurationError(message) from error
    return found.compress, found.decompress
