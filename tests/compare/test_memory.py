from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

from compare.memory import anonymous_bytes, family, mappings, measure

SMAPS = """\
55d0c0a00000-55d0c0a20000 r-xp 00000000 fe:00 1234             /usr/bin/python3.11
Size:                128 kB
Rss:                 100 kB
Pss:                  40 kB
Pss_Dirty:             7 kB
7f0000000000-7f0001000000 rw-s 00000000 00:1c 99               /mnt/tmpfs/a dir/site.pool
Size:              16384 kB
Pss:                4096 kB
7f0002000000-7f0003000000 rw-p 00000000 00:00 0 \n\
Pss:                 300 kB
7f0004000000-7f0005000000 rw-s 00000000 00:1c 98               /memfd:pool (deleted)
Pss:                   5 kB
7f0006000000-7f0007000000 rw-s 00000000 fe:00 97               /tmp/places.sqlite3-shm
Pss:                   8 kB
7f0008000000-7f0008007000 r--s 00000000 fe:00 96               /usr/lib/gconv-modules.cache
Pss:                   9 kB
"""


def test_files_mapped_as_shared_are_told_from_the_rest() -> None:
    found = list(mappings(SMAPS))
    pool = Path("/mnt/tmpfs/a dir/site.pool")
    assert [one.pool_file for one in found] == [None, pool, None, None, None, None]
    assert [one.pss_bytes // 1024 for one in found] == [40, 4096, 300, 5, 8, 9]


def test_mapped_file_outside_the_pool_directory_is_counted_once(tmp_path: Path) -> None:
    index = tmp_path / "index"
    index.write_bytes(bytes(1 << 20))
    empty = tmp_path / "pool"
    empty.mkdir()
    with index.open("r+b") as file, mmap.mmap(file.fileno(), 0), mmap.mmap(file.fileno(), 0):
        used = measure(os.getpid(), [], empty)
    assert 1 << 20 <= used.pool_bytes < 1 << 21


def test_family_holds_grandchildren() -> None:
    code = "import subprocess,sys; subprocess.run([sys.executable,'-c','input()'])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as child:
        while len(family(child.pid)) < 2:
            assert child.poll() is None
        assert os.getpid() not in family(child.pid)
        assert child.stdin is not None
        child.stdin.write(b"\n")


def test_pool_files_are_counted_by_their_blocks(tmp_path: Path) -> None:
    (tmp_path / "written").write_bytes(bytes(1 << 20))
    with (tmp_path / "sparse").open("wb") as sparse:
        sparse.truncate(1 << 24)
    used = measure(os.getpid(), [], tmp_path)
    assert 1 << 20 <= used.pool_bytes < 1 << 21
    assert used.site_bytes > 1 << 20
    assert used.server_bytes == 0
    assert used.total_bytes == used.site_bytes + used.pool_bytes


def test_anonymous_memory_grows_by_what_is_allocated_and_not_by_what_is_mapped(
    tmp_path: Path,
) -> None:
    file = tmp_path / "mapped"
    file.write_bytes(bytes(32 << 20))
    before = anonymous_bytes(os.getpid())
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapped:
        assert sum(mapped[:: 1 << 12]) == 0
        assert anonymous_bytes(os.getpid()) < before + (8 << 20)
    kept = bytearray(b"x") * (32 << 20)
    assert anonymous_bytes(os.getpid()) > before + (24 << 20)
    assert len(kept) == 32 << 20
