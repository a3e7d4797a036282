"""What a worker has in use, told by itself when it is asked: gunicorn's configuration in the soak.

The size of a process does not say it: malloc keeps what was freed, in an area for each thread that
ever asked, and where every request has a thread of its own it takes tens of thousands of requests
until that no longer grows. So a worker that gets the signal collects its garbage, gives back what
malloc keeps and writes down what is left: the blocks of Python's own allocator and the bytes of
malloc. Two caches that fill slowly are taken off: SQLite's, up to two megabytes of pages for each
connection, and Python's of attributes of types, which keeps up to 4,096 of the names that Django
puts together for each query.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, NamedTuple

ASKED = signal.SIGRTMIN + 4
DIRECTORY = "SOAK_DIRECTORY"
"""The variable that names where workers write; their file is named by their process id."""
GUNICORN_OPTIONS = f"--config python:{__name__}"
_C = ctypes.CDLL(None)


class InUse(NamedTuple):
    """What a process has in use."""

    blocks: int
    """What Python's own allocator was asked for, of any size."""
    malloc_bytes: int
    """What is larger than 512 bytes or belongs to code in C, but for SQLite.

    0 where the C library or SQLite does not say.
    """


class _Mallinfo(ctypes.Structure):
    """`struct mallinfo2` of glibc."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def on_starting(_master: Any) -> None:
    """Let no worker die of being asked before it is ready; gunicorn calls this at its start."""
    signal.signal(ASKED, signal.SIG_IGN)


def post_worker_init(_worker: Any) -> None:
    """Be ready to be asked; gunicorn calls this in every worker that it has made."""
    if hasattr(_C, "mallinfo2"):
        _C.mallinfo2.restype = _Mallinfo
    signal.signal(ASKED, _tell)


def _tell(*_: Any) -> None:
    while gc.collect():
        pass
    sys._clear_type_cache()  # noqa: SLF001 - there is no other way, and nothing else is cleared
    if hasattr(_C, "malloc_trim"):
        _C.malloc_trim(0)
    path = told_file(Path(os.environ[DIRECTORY]), os.getpid())
    begun = path.with_suffix(".part")
    begun.write_text(json.dumps(in_use()))
    begun.replace(path)


def told_file(directory: Path, pid: int) -> Path:
    """Return where the worker *pid* writes."""
    return directory / f"{pid}.told"


def in_use() -> InUse:
    """Return what this process has in use."""
    malloc_bytes = 0
    of_sqlite = _sqlite_bytes()
    if of_sqlite is not None and hasattr(_C, "mallinfo2"):
        found = _C.mallinfo2()
        malloc_bytes = found.uordblks + found.hblkhd - of_sqlite
    return InUse(sys.getallocatedblocks(), malloc_bytes)


def _sqlite_bytes() -> int | None:
    """Return what SQLite has in use, None where it is no library of its own."""
    try:
        # Only the one that Python has loaded; another would say 0.
        library = ctypes.CDLL("libsqlite3.so.0", mode=os.RTLD_NOLOAD)
    except OSError:
        return None
    library.sqlite3_memory_used.restype = ctypes.c_int64
    return int(library.sqlite3_memory_used())
