from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pmemcache
from pmemcache.binding import peek
from pmemcache.config import default_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    MakePool = Callable[..., pmemcache.Pool]

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")


def test_directory_gives_a_file_in_it(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(tmp_path, "1MiB")
    assert pool.path == str(tmp_path / "pmemcache.pool")
    assert (tmp_path / "pmemcache.pool").is_file()


@pytest.mark.usefixtures("pool")
def test_files_are_for_the_user_alone(tmp_path: Path) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert "site.pool" in modes
    assert set(modes.values()) == {0o600}


@pytest.mark.parametrize("content", [b"something else", b"x" * 100_000])
def test_file_of_something_else_is_refused_and_kept(
    make_pool: MakePool, pool_path: Path, content: bytes
) -> None:
    pool_path.write_bytes(content)
    with pytest.raises(pmemcache.ConfigurationError, match=r"site\.pool"):
        make_pool(pool_path, "1MiB")
    assert pool_path.read_bytes() == content


def test_directory_in_place_of_the_file_is_refused(make_pool: MakePool, tmp_path: Path) -> None:
    (tmp_path / "pmemcache.pool").mkdir()
    with pytest.raises(pmemcache.ConfigurationError, match=r"pmemcache\.pool"):
        make_pool(tmp_path, "1MiB")


def test_fifo_in_place_of_the_file_is_refused(make_pool: MakePool, pool_path: Path) -> None:
    os.mkfifo(pool_path)
    with pytest.raises(pmemcache.ConfigurationError, match=r"site\.pool"):
        make_pool(pool_path, "1MiB")


def test_symbolic_link_in_place_of_the_file_is_refused(
    make_pool: MakePool, pool_path: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target.pool"
    pool_path.symlink_to(target)
    with pytest.raises(pmemcache.ConfigurationError, match=r"site\.pool"):
        make_pool(pool_path, "1MiB")
    assert not target.exists()
    target.write_bytes(b"precious")
    with pytest.raises(pmemcache.ConfigurationError, match=r"site\.pool"):
        make_pool(pool_path, "1MiB")
    assert target.read_bytes() == b"precious"


def test_missing_directory_is_named(make_pool: MakePool, tmp_path: Path) -> None:
    with pytest.raises(pmemcache.ConfigurationError, match=r"nowhere.* does not exist: create it"):
        make_pool(tmp_path / "nowhere" / "site.pool", "1MiB")


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_text_that_is_no_path_is_refused(make_pool: MakePool, path: str) -> None:
    with pytest.raises(pmemcache.ConfigurationError, match="is no path"):
        make_pool(path, "1MiB")


@pytest.mark.parametrize("path", [7, b"/tmp/bytes.pool", object()])
def test_path_of_another_type_is_refused(make_pool: MakePool, path: object) -> None:
    with pytest.raises(TypeError):
        make_pool(path, "1MiB")


def test_too_long_name_is_refused(make_pool: MakePool, tmp_path: Path) -> None:
    for length in (250, 300):
        with pytest.raises(pmemcache.ConfigurationError, match=r"too long|usable file name"):
            make_pool(tmp_path / ("x" * length), "1MiB")


def test_directory_that_others_may_write_is_refused(make_pool: MakePool, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(pmemcache.ConfigurationError, match="write"):
        make_pool(tmp_path, "1MiB")
    assert list(tmp_path.iterdir()) == []


def test_sticky_directory_that_others_may_write_is_accepted(
    make_pool: MakePool, tmp_path: Path
) -> None:
    tmp_path.chmod(0o1777)
    assert make_pool(tmp_path, "1MiB").put(b"k", b"v")


ATTACH_AS_NOBODY = """
import os, sys, pmemcache
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    pmemcache.Pool(sys.argv[1], "1MiB").put("k", "v".encode())
except pmemcache.ConfigurationError as error:
    print(error)
    sys.exit(3)
"""


def attach_as_nobody(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", ATTACH_AS_NOBODY, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def public_directory() -> Iterator[Path]:
    """A sticky directory that every user can reach."""
    directory = Path(tempfile.mkdtemp(prefix="pmemcache-test-", dir="/dev/shm"))
    directory.chmod(0o1777)
    yield directory
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()


@needs_root
def test_pool_of_another_user_is_refused(make_pool: MakePool, public_directory: Path) -> None:
    pool = make_pool(public_directory, "1MiB")
    done = attach_as_nobody(public_directory)
    assert done.returncode == 3, done.stderr
    assert "pmemcache.pool" in done.stdout
    assert pool.put(b"k", b"v")


@needs_root
def test_file_of_another_user_is_refused_and_kept(
    make_pool: MakePool, public_directory: Path
) -> None:
    path = public_directory / "pmemcache.pool"
    path.write_bytes(b"")
    os.chown(path, 65534, 65534)
    with pytest.raises(pmemcache.ConfigurationError, match="user"):
        make_pool(public_directory, "1MiB")
    assert path.stat().st_uid == 65534


@needs_root
@pytest.mark.usefixtures("door")
def test_directory_that_this_user_cannot_write_is_refused(tmp_path: Path) -> None:
    for directory in (tmp_path, *tmp_path.parents[:-2]):
        directory.chmod(0o755)
    done = attach_as_nobody(tmp_path)
    assert done.returncode == 3, done.stderr
    assert str(tmp_path) in done.stdout or "pmemcache.pool" in done.stdout


def patch(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def attach(path: Path) -> subprocess.CompletedProcess[str]:
    """Attach from another process, as this one knows the pool already."""
    program = (
        "import sys, pmemcache\n"
        "try:\n"
        "    pmemcache.Pool(sys.argv[1], '8MiB')\n"
        "except pmemcache.PmemCacheError as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    command = [sys.executable, "-c", program, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def test_pool_in_use_with_another_layout_is_refused(pool: pmemcache.Pool, pool_path: Path) -> None:
    patch(pool_path, 8, b"\xff\x7f\0\0")
    assert attach(pool_path).stdout.startswith("LayoutMismatchError ")
    assert pool.put(b"k", b"v")
    with pytest.raises(pmemcache.LayoutMismatchError):
        peek(str(pool_path))


def test_pool_in_use_whose_header_is_damaged_is_refused(
    pool: pmemcache.Pool, pool_path: Path
) -> None:
    patch(pool_path, 40, b"\xff" * 8)
    assert attach(pool_path).stdout.startswith("DamagedPoolError ")
    assert pool.put(b"k", b"v")


@pytest.mark.usefixtures("pool")
def test_pool_in_use_with_other_options_is_refused(pool_path: Path) -> None:
    program = (
        "import sys, pmemcache\n"
        "try:\n"
        "    pmemcache.Pool(sys.argv[1], '16MiB')\n"
        "except pmemcache.ConfigurationError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", program, str(pool_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "size" in done.stdout


def test_attach_takes_the_options_of_the_pool(make_pool: MakePool, pool_path: Path) -> None:
    pool = make_pool(pool_path, "3MiB", eviction="lru", lifetime="restart", shards=2)
    pool.put(b"k", b"v")
    pool.close()
    with pmemcache.Pool.attach(pool_path) as attached:
        assert attached.get(b"k") == b"v"
        assert attached.options.eviction == "lru"
        assert attached.geometry().shards == 2


@pytest.mark.parametrize("content", [None, b"", b"something else"])
@pytest.mark.usefixtures("door")
def test_attach_does_not_make_a_pool(pool_path: Path, content: bytes | None) -> None:
    if content is not None:
        pool_path.write_bytes(content)
    with pytest.raises(pmemcache.ConfigurationError, match=r"site\.pool"):
        pmemcache.Pool.attach(pool_path)
    assert pool_path.exists() == (content is not None)


def test_default_path_is_in_a_private_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PMEMCACHE_PATH", raising=False)
    path = default_path()
    assert path.name == "default.pool"
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert default_path() == path


def test_default_path_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PMEMCACHE_PATH", str(tmp_path))
    assert default_path() == tmp_path / "pmemcache.pool"


def test_default_directory_of_somebody_else_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PMEMCACHE_PATH", raising=False)
    monkeypatch.setattr("pmemcache.config._SHARED_MEMORY", str(tmp_path))
    directory = tmp_path / f"pmemcache-{os.getuid()}"
    directory.mkdir()
    directory.chmod(0o777)
    with pytest.raises(pmemcache.ConfigurationError, match="PMEMCACHE_PATH"):
        default_path()
    directory.rmdir()
    directory.symlink_to(tmp_path)
    with pytest.raises(pmemcache.ConfigurationError, match="PMEMCACHE_PATH"):
        default_path()
