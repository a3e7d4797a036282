"""pmemcache: the cache that all worker processes of a host share, without a server.

`Pool` is the engine: bytes under keys, in mapped files. See the README for the rest.
"""

from importlib.metadata import version
from pkgutil import extend_path

# Python started in a checkout finds this folder first; the extension modules are where the
# package was installed.
__path__ = extend_path(__path__, __name__)

from pmemcache.config import default_path, parse_size
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
)
from pmemcache.pool import Pool
from pmemcache.stats import PoolStats
from pmemcache.types import EntryInfo, Geometry

__all__ = [
    "AttachLimitError",
    "ConfigurationError",
    "DamagedPoolError",
    "EntryInfo",
    "Geometry",
    "IntegerOverflowError",
    "KeyTooLongError",
    "LayoutMismatchError",
    "LockTimeoutError",
    "NoSpaceError",
    "NotAnIntegerError",
    "PmemCacheError",
    "Pool",
    "PoolClosedError",
    "PoolFullError",
    "PoolStats",
    "SystemCallError",
    "ValueTooLargeError",
    "default_path",
    "parse_size",
]

__version__ = version("pmemcache")
