from __future__ import annotations

from pathlib import Path

import pytest
from compare.environment import describe, file_system

MOUNTS = """\
/dev/vda / ext4 rw,relatime 0 0
tmpfs /mnt/tmpfs tmpfs rw,nosuid 0 0
/dev/pmem0 /mnt/pmem0 xfs rw,dax=always 0 0
/dev/vda / ext4 rw,relatime 0 0
"""


@pytest.mark.parametrize(
    ("directory", "kind", "medium"),
    [
        ("/mnt/tmpfs/pools", "tmpfs", "tmpfs is not persistent memory"),
        ("/mnt/pmem0", "xfs", "a DAX file system"),
        ("/mnt/pmem01", "ext4", "not persistent memory"),
    ],
)
def test_medium_follows_from_the_mount(directory: str, kind: str, medium: str) -> None:
    found = file_system(Path(directory), MOUNTS)
    assert found["kind"] == kind
    assert medium in found["medium"]


def test_this_host_can_be_described(tmp_path: Path) -> None:
    found = describe(tmp_path)
    assert found["cores"] >= 1
    assert found["kernel"]
    assert "Django" in found["versions"]
