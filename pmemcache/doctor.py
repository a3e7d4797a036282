"""What a path is worth as the place of a pool: the facts, and what to change."""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import stat
import struct
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pmemcache.binding import POOL_MIN_BYTES

__all__ = ["Diagnosis", "diagnose"]

_DRAM_FILE_SYSTEMS: Final = frozenset({"tmpfs", "ramfs", "hugetlbfs"})
_REMOTE_FILE_SYSTEMS: Final = frozenset({"9p", "ceph", "cifs", "fuse.sshfs", "nfs", "nfs4", "smb3"})

# How /proc writes spaces and the like in a path.
_OCTAL: Final = re.compile(r"\\([0-7]{3})")

# Linux: include/uapi/linux/mman.h and include/uapi/linux/stat.h.
_MAP_SHARED_VALIDATE: Final = 0x03
_MAP_SYNC: Final = 0x80000
_STATX_ATTR_DAX: Final = 0x200000
_AT_FDCWD: Final = -100


@dataclass
class Diagnosis:
    """The findings about one directory."""

    directory: str
    exists: bool = True
    """Without it, nothing else was found out."""
    file_system: str = "unknown"
    mount_point: str = "/"
    mount_options: str = ""
    dax: bool = False
    dram: bool = False
    remote: bool = False
    huge_pages: str = "never"
    free_bytes: int = 0
    size_bytes: int = 0
    owner: int = -1
    mode: str = ""
    problems: list[str] = field(default_factory=list)
    """What keeps a pool from being made here, and what to do."""
    advice: list[str] = field(default_factory=list)
    """What would make a pool here better."""

    @property
    def usable(self) -> bool:
        """Whether a pool can be made here."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """Return the findings by name."""
        return {**vars(self), "usable": self.usable}


def diagnose(path: Path, *, probe: bool = True) -> Diagnosis:
    """Return what *path*, a directory or a file in it, is worth as the place of a pool.

    Args:
        probe: Write a file to find out about DAX; without it nothing is written, and `dax` is
            False.
    """
    directory = path if path.is_dir() else path.parent
    found = Diagnosis(directory=os.path.realpath(directory), exists=directory.is_dir())
    if not found.exists:
        found.problems.append(f"{directory} does not exist: create it first")
        return found
    _look_at_mount(found)
    _look_at_space(found)
    _look_at_permissions(found)
    if os.access(directory, os.W_OK | os.X_OK):
        found.dax = probe and _is_dax(directory)
    else:
        found.problems.append(f"{directory} cannot be written: give this user the right to")
    if not (found.dax or found.dram):
        found.advice.append(
            f"{found.file_system} is neither DAX nor DRAM: values are read through the page cache; "
            "a mount with -o dax, or /dev/shm, is faster"
        )
    return found


def _look_at_mount(found: Diagnosis) -> None:
    """Find the mount that holds the directory, and its kind."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        mount_point = _OCTAL.sub(lambda code: chr(int(code[1], 8)), before.split()[4])
        covers = os.path.commonpath([found.directory, mount_point]) == mount_point
        if covers and len(mount_point) >= len(found.mount_point):
            kind, _device, options = after.split(maxsplit=2)
            found.mount_point = mount_point
            found.file_system = kind
            found.mount_options = f"{before.split()[5]},{options}"
    found.dram = found.file_system in _DRAM_FILE_SYSTEMS
    found.remote = found.file_system in _REMOTE_FILE_SYSTEMS
    if found.remote:
        found.problems.append(f"{found.file_system} is a network file system: use a local one")
    if "ro" in found.mount_options.split(","):
        found.problems.append(f"{found.mount_point} is mounted read-only: mount it with -o rw")
    if found.dram:
        _look_at_huge_pages(found)


def _look_at_huge_pages(found: Diagnosis) -> None:
    """Find whether this tmpfs gives huge pages, which map 60 times faster.

    With `huge=advise` it gives none to memory that is allocated before it is used, as a heap's is.
    """
    options = dict(option.partition("=")[::2] for option in found.mount_options.split(","))
    found.huge_pages = options.get("huge", "never")
    if found.file_system == "tmpfs" and found.huge_pages in {"never", "advise"}:
        found.advice.append(
            f"4 KiB pages cost each worker about half a second per GiB to map: "
            f"mount -o remount,huge=within_size {found.mount_point}"
        )


def _look_at_space(found: Diagnosis) -> None:
    space = os.statvfs(found.directory)
    found.free_bytes = space.f_bavail * space.f_frsize
    found.size_bytes = space.f_blocks * space.f_frsize
    if found.free_bytes < POOL_MIN_BYTES:
        found.problems.append(
            f"{found.free_bytes:,} bytes are free, the smallest pool takes {POOL_MIN_BYTES:,}"
        )


def _look_at_permissions(found: Diagnosis) -> None:
    about = Path(found.directory).stat()
    found.owner = about.st_uid
    found.mode = stat.filemode(about.st_mode)
    others_write = about.st_mode & 0o022
    if others_write and not about.st_mode & stat.S_ISVTX:
        found.problems.append(
            f"others may write in {found.directory}: chmod go-w, or set its sticky bit"
        )


def _is_dax(directory: Path) -> bool:
    """Whether files here are mapped to persistent memory itself.

    Both signs are needed: the attribute is reported for files that only asked for DAX, and MAP_SYNC
    is ignored by kernels that do not know it.
    """
    with tempfile.NamedTemporaryFile(dir=directory, prefix=".pmemcache-doctor-") as probe:
        probe.truncate(mmap.PAGESIZE)
        try:
            flags = _MAP_SHARED_VALIDATE | _MAP_SYNC
            mmap.mmap(probe.fileno(), mmap.PAGESIZE, flags=flags).close()
        except OSError:
            return False
        return bool(_statx_attributes(probe.name) & _STATX_ATTR_DAX)


def _statx_attributes(path: str) -> int:
    """Return stx_attributes of *path*; 0 when this system has no statx."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "statx"):
        return 0
    buffer = ctypes.create_string_buffer(256)
    if libc.statx(_AT_FDCWD, os.fsencode(path), 0, 0, buffer) != 0:
        return 0
    (attributes,) = struct.unpack_from("=Q", buffer.raw, 8)
    return int(attributes)
