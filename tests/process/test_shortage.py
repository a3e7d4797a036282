"""File systems without room for a pool: an error at creation, eviction later, never a crash."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pmemcache import ConfigurationError, NoSpaceError, Pool
from pmemcache.doctor import diagnose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MIB = 1 << 20
DISK_BYTES = 16 * MIB
VALUE = b"v" * 4000


def run_or_skip(*command: str, what: str) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"cannot {what} here: there is no {command[0]}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"cannot {what} here: {done.stderr.strip()}")


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mount something at a place of its own, for the length of a test."""
    mounted: list[Path] = []

    def make(*arguments: str) -> Path:
        place = tmp_path / f"mount{len(mounted)}"
        place.mkdir()
        run_or_skip("mount", *arguments, str(place), what="mount a file system")
        mounted.append(place)
        return place

    yield make
    for place in mounted:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture(params=["disk", "tmpfs"])
def small(
    request: pytest.FixtureRequest, tmp_path: Path, mount: Callable[..., Path]
) -> Callable[[], Path]:
    """Make a file system of DISK_BYTES: a real one in a file, or one in memory."""

    def disk() -> Path:
        image = tmp_path / "disk.image"
        image.write_bytes(b"")
        with image.open("r+b") as file:
            file.truncate(DISK_BYTES)
        run_or_skip("mkfs.ext4", "-q", "-m", "0", str(image), what="make a file system")
        return mount("-o", "loop", str(image))

    def tmpfs() -> Path:
        return mount("-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs")

    return disk if request.param == "disk" else tmpfs


def fill(place: Path) -> Path:
    """Take all the room that is left."""
    hog = place / "hog"
    with hog.open("wb", buffering=0) as file:
        for size in (MIB, 4096):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue
    return hog


def names_in(place: Path) -> set[str]:
    return {path.name for path in place.iterdir()} - {"lost+found", "hog"}


def use(pool: Pool, entries: int) -> None:
    """Put more than fits; what is put is there at once."""
    for number in range(entries):
        assert pool.put(f"k{number}", b"%d" % number + VALUE)
        assert pool.get(f"k{number}") == b"%d" % number + VALUE


def test_full_file_system_at_creation_is_an_error_that_leaves_nothing(
    small: Callable[[], Path],
) -> None:
    place = small()
    hog = fill(place)

    with pytest.raises(NoSpaceError, match="room"):
        Pool(place / "site.pool", 8 * MIB)
    left = names_in(place)
    hog.unlink()

    assert left == set()
    with Pool(place / "site.pool", 8 * MIB) as pool:
        use(pool, 10)


def test_file_system_that_is_too_small_for_a_preallocated_pool_refuses_it(
    small: Callable[[], Path],
) -> None:
    place = small()

    with pytest.raises(NoSpaceError, match="room"):
        Pool(place / "site.pool", 2 * DISK_BYTES, preallocate=True)

    assert names_in(place) == set()


def test_file_system_that_fills_up_while_the_pool_grows_makes_it_evict(
    small: Callable[[], Path],
) -> None:
    place = small()

    with Pool(place / "site.pool", 4 * DISK_BYTES) as pool:
        use(pool, 3 * DISK_BYTES // len(VALUE))
        stats = pool.stats()

        assert stats.evict > 0
        assert stats.rejected == 0
        assert DISK_BYTES / 2 < stats.allocated_bytes <= DISK_BYTES
        assert pool.check() == []


def test_file_system_that_others_fill_makes_the_pool_evict(small: Callable[[], Path]) -> None:
    place = small()

    with Pool(place / "site.pool", 4 * DISK_BYTES) as pool:
        use(pool, 200)
        hog = fill(place)
        before = pool.stats()
        use(pool, 2000)
        full = pool.stats()
        hog.unlink()

        assert full.evict > before.evict
        assert full.rejected == 0
        assert pool.check() == []


def test_kept_pool_on_a_full_file_system_is_found_again(small: Callable[[], Path]) -> None:
    place = small()
    with Pool(place / "site.pool", 4 * MIB, lifetime="restart") as pool:
        use(pool, 20)
    fill(place)

    with Pool(place / "site.pool", 4 * MIB, lifetime="restart") as pool:
        assert pool.get("k7") == b"7" + VALUE
        use(pool, 2000)
        assert pool.check() == []

    with Pool(place / "site.pool", 4 * MIB, lifetime="volatile"):
        pass  # takes the place of the kept one, and its index, and goes


# The index of a pool on a disk is in shared memory, which may be small and full (64 MiB in
# containers). A namespace of its own, so that nobody else's is.
IN_SMALL_SHARED_MEMORY = """
mount -t tmpfs -o size=$2 tmpfs /dev/shm && exec "$0" -c "$1" "$3"
"""
FILL_INDEX = """
import sys
from pmemcache import NoSpaceError, Pool

try:
    pool = Pool(sys.argv[1], "64MiB", shards=1)
except NoSpaceError as error:
    print("no space:", error)
    sys.exit()
for number in range(60_000):
    assert pool.put(f"k{number}", b"v")
    assert pool.get(f"k{number}") == b"v"
stats = pool.stats()
print("evicted", stats.evict, "rejected", stats.rejected, "broken", len(pool.check()))
pool.close()
"""


def run_in_small_shared_memory(path: Path, size: str) -> str:
    run_or_skip("unshare", "--mount", "true", what="have a mount namespace")
    command = ["unshare", "--mount", "sh", "-c", IN_SMALL_SHARED_MEMORY, sys.executable]
    command += [FILL_INDEX, size, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def on_disk(tmp_path: Path) -> Path:
    """Return a path that is not in memory, so that the index is put into shared memory."""
    kind = subprocess.run(
        ["stat", "--file-system", "--format=%T", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    if kind.stdout.strip() in {"tmpfs", "ramfs"}:
        pytest.skip("there is no disk here: the folder for temporary files is in memory")
    return tmp_path / "site.pool"


def test_shared_memory_too_small_for_an_index_is_an_error_that_leaves_nothing(
    on_disk: Path,
) -> None:
    assert run_in_small_shared_memory(on_disk, "16k").startswith("no space: ")
    assert list(on_disk.parent.iterdir()) == []


def test_shared_memory_that_fills_up_makes_the_pool_evict(on_disk: Path) -> None:
    said = run_in_small_shared_memory(on_disk, "512k").split()

    assert int(said[1]) > 0
    assert said[2:] == ["rejected", "0", "broken", "0"]


def test_read_only_file_system_is_an_error_that_names_it(mount: Callable[..., Path]) -> None:
    place = mount("-t", "tmpfs", "-o", "size=4m,ro", "tmpfs")

    with pytest.raises(ConfigurationError, match=r"(?i)site\.pool.*read-only"):
        Pool(place / "site.pool", MIB)


@pytest.mark.parametrize(("huge", "is_slow"), [("advise", True), ("within_size", False)])
def test_doctor_knows_which_mounts_give_huge_pages(
    huge: str, mount: Callable[..., Path], *, is_slow: bool
) -> None:
    found = diagnose(mount("-t", "tmpfs", "-o", f"size=4m,huge={huge}", "none"))
    assert found.huge_pages == huge
    assert any("huge=within_size" in advice for advice in found.advice) == is_slow
