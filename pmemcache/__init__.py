"""pmemcache: the cache that all worker processes of a host share, without a server.

`Pool` is the engine: bytes under keys, in mapped files. `TieredCache` keeps Python values in
it, with hot copies in each process, and `cached` the results of functions. The README says more.
"""

from importlib.metadata import version
from pkgutil import extend_path

# Python started in a checkout finds this folder first; the extension modules are where the
# package was installed.
__path__ = extend_path(__path__, __name__)

from pmemcache.compression import Compression
from pmemcache.config import default_path, parse_size
from pmemcache.decorator import CacheInfo, cached, default_cache
from pmemcache.errors import (
    AttachLimitError,
    ConfigurationError,
    DamagedPoolError,
    IntegerOverflowError,
    KeyEncodingError,
    KeyTooLongError,
    LayoutMismatchError,
    LoaderError,
    LockTimeoutError,
    NoSpaceError,
    NotAnIntegerError,
    PmemCacheError,
    PoolClosedError,
    PoolFullError,
    SystemCallError,
    ValueTooLargeError,
)
from pmemcache.hot import HotCache
from pmemcache.policy import UsagePolicy
from pmemcache.pool import Pool
from pmemcache.signing import Signer
from pmemcache.stampede import LoadPolicy
from pmemcache.stats import PoolStats, TieredStats
from pmemcache.tiered import TieredCache
from pmemcache.types import EntryInfo, Geometry

__all__ = [
    "AttachLimitError",
    "CacheInfo",
    "Compression",
    "ConfigurationError",
    "DamagedPoolError",
    "EntryInfo",
    "Geometry",
    "HotCache",
    "IntegerOverflowError",
    "KeyEncodingError",
    "KeyTooLongError",
    "LayoutMismatchError",
    "LoadPolicy",
    "LoaderError",
    "LockTimeoutError",
    "NoSpaceError",
    "NotAnIntegerError",
    "PmemCacheError",
    "Pool",
    "PoolClosedError",
    "PoolFullError",
    "PoolStats",
    "Signer",
    "SystemCallError",
    "TieredCache",
    "TieredStats",
    "UsagePolicy",
    "ValueTooLargeError",
    "cached",
    "default_cache",
    "default_path",
    "parse_size",
]

__version__ = version("pmemcache")
