"""How much memory a site and its cache take, every shared page counted once.

The kernel's proportional set size (PSS) divides a page among the processes that map it, so a sum
over all processes counts it once. A pool's files are the exception that needs care: their pages
take memory even while nobody maps them. So files that are mapped as shared and writable are left
out of the PSS, and counted by the blocks that they own instead, together with everything else in
the pool's directory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BLOCK_BYTES = 512
_MAPPING = re.compile(
    r"^[0-9a-f]+-[0-9a-f]+ (?P<access>\S{4}) \S+ \S+ (?P<inode>\d+) *(?P<path>.*)$"
)
_SQLITE_SUFFIX = "-shm"
"""SQLite's own shared file is the site's, not the cache's."""


class Mapping(NamedTuple):
    """One mapping of a process: its file, if it is a pool's, and its PSS."""

    pool_file: Path | None
    pss_bytes: int


@dataclass(frozen=True, kw_only=True)
class MemoryUse:
    """Bytes by owner; `site_bytes` and `server_bytes` are PSS without the pool's files."""

    site_bytes: int
    server_bytes: int
    pool_bytes: int

    @property
    def total_bytes(self) -> int:
        """Everything that the site and its cache take."""
        return self.site_bytes + self.server_bytes + self.pool_bytes


def measure(site_pid: int, server_pids: Iterable[int], pool_directory: Path) -> MemoryUse:
    """Return what the site (gunicorn and its workers), its cache's servers and a pool take now."""
    site = [found for pid in family(site_pid) for found in _mappings_of(pid)]
    server = [found for pid in server_pids for found in _mappings_of(pid)]
    pool_files = {found.pool_file for found in site if found.pool_file is not None}
    pool_files.update(pool_directory.rglob("*"))
    return MemoryUse(
        site_bytes=sum(found.pss_bytes for found in site if found.pool_file is None),
        server_bytes=sum(found.pss_bytes for found in server),
        pool_bytes=file_bytes(pool_files),
    )


def file_bytes(paths: Iterable[Path]) -> int:
    """Return what the blocks of these files take."""
    return sum(path.stat().st_blocks * BLOCK_BYTES for path in paths)


def anonymous_bytes(pid: int) -> int:
    """Return the memory of a process that belongs to no file, what it shares by fork in parts.

    Unlike all of its PSS this does not grow when another program that maps the same libraries ends.
    """
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(
        int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss_Anon:")
    )


def family(pid: int) -> list[int]:
    """Return *pid* and its children, children's children and so on."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    members = [pid]
    for member in members:
        members += children.get(member, [])
    return members


def mappings(smaps: str) -> Iterator[Mapping]:
    """Yield the mappings in *smaps*, the text of `/proc/PID/smaps`.

    A pool's file is one that is mapped as shared and writable and still has a name; of what has
    none, such as a private pool, the PSS is all that can be known.
    """
    pool_file = None
    for line in smaps.splitlines():
        if line.startswith("Pss:"):
            yield Mapping(pool_file, int(line.split()[1]) * 1024)
        elif heading := _MAPPING.match(line):
            path = heading["path"]
            named = heading["inode"] != "0" and not path.endswith((" (deleted)", _SQLITE_SUFFIX))
            pool_file = Path(path) if named and heading["access"].startswith("rw-s") else None


def _mappings_of(pid: int) -> Iterator[Mapping]:
    return mappings(Path(f"/proc/{pid}/smaps").read_text())
