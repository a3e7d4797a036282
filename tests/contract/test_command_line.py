from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pmemcache.cli import main
from pmemcache.doctor import diagnose

if TYPE_CHECKING:
    import pmemcache


def test_stat_prints_every_statistic(
    pool: pmemcache.Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    pool.put(b"k", b"v")
    assert main(["stat", str(pool.path)]) == 0
    printed = capsys.readouterr().out
    assert "entries           1" in printed
    assert "values stored" in printed


def test_stat_as_json(pool: pmemcache.Pool, capsys: pytest.CaptureFixture[str]) -> None:
    pool.put(b"k", b"v")
    assert main(["stat", "--json", str(pool.path)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["entries"] == 1
    assert printed["eviction"] == "s3fifo"
    assert printed["size_bytes"] == 8 * 1024 * 1024


def test_ls_lists_entries(pool: pmemcache.Pool, capsys: pytest.CaptureFixture[str]) -> None:
    pool.put_many({b"user:1": b"12345", b"user:2": b"1", b"\xff": b""})
    pool.put("page", b"html", ttl_seconds=100)
    assert main(["ls", str(pool.path), "--prefix", "user:"]) == 0
    assert sorted(capsys.readouterr().out.split()) == ["-", "-", "1", "5", "user:1", "user:2"]
    assert main(["ls", str(pool.path)]) == 0
    printed = capsys.readouterr().out
    assert "\\xff" in printed
    assert len(printed.splitlines()) == 4


def test_ls_prints_no_control_characters(
    pool: pmemcache.Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    pool.put("page:\x1b[31m\nred", b"")
    assert main(["ls", str(pool.path)]) == 0
    assert capsys.readouterr().out.endswith(" page:\\x1b[31m\\nred\n")


def test_ls_takes_and_prints_any_bytes(pool: pmemcache.Pool) -> None:
    """Also where the locale knows ASCII only."""
    pool.put(b"\xffkey", b"")
    pool.put("\N{SNOWMAN}", b"")
    command = [sys.executable, "-m", "pmemcache", "ls", str(pool.path), "--prefix"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for prefix, printed in ((b"\xff", b"\\xffkey"), (b"\xe2", b"\\u2603")):
        told = subprocess.check_output([*command, prefix], env=environment)
        assert told.split()[-1] == printed


def test_reader_that_wants_no_more_is_no_failure(pool: pmemcache.Pool) -> None:
    pool.put_many({f"key:{number}": b"" for number in range(2000)})
    for command in (["ls"], ["stat"]):
        run = [sys.executable, "-m", "pmemcache", *command, str(pool.path)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(run, **pipes) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 141


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "1e12"])
def test_interval_that_nobody_can_wait_for_is_refused(
    pool: pmemcache.Pool, capsys: pytest.CaptureFixture[str], seconds: str
) -> None:
    with pytest.raises(SystemExit):
        main(["top", str(pool.path), "--count", "1", "--interval", seconds])
    assert "must be more than 0, and at most" in capsys.readouterr().err


def test_check_says_sound(pool: pmemcache.Pool, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(pool.path)]) == 0
    assert capsys.readouterr().out == "sound\n"


def test_clear_empties(pool: pmemcache.Pool) -> None:
    pool.put(b"k", b"v")
    assert main(["clear", str(pool.path)]) == 0
    assert pool.get(b"k") is None


def test_top_prints_rates(pool: pmemcache.Pool, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", str(pool.path), "--interval", "0.01", "--count", "2"]) == 0
    assert capsys.readouterr().out.count("hit ratio") == 2


def test_commands_work_from_another_process(pool: pmemcache.Pool) -> None:
    pool.put(b"k", b"v")
    assert pool.path is not None
    command = [sys.executable, "-m", "pmemcache", "stat", pool.path, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["attached"] == 2
    assert pool.get(b"k") == b"v"


@pytest.mark.parametrize("command", ["stat", "ls", "check", "clear", "top"])
def test_pool_that_is_not_there_is_not_made(
    command: str, pool_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, str(pool_path)]) == 2
    assert "site.pool" in capsys.readouterr().err
    assert not pool_path.exists()


@pytest.mark.parametrize("arguments", [[], ["fly"], ["stat"], ["top", "p", "--interval", "0"]])
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2


def test_doctor_describes_a_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(tmp_path)]) == 0
    assert "A pool can be made here." in capsys.readouterr().out
    assert main(["doctor", "--json", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["usable"] is True


def test_doctor_knows_shared_memory() -> None:
    found = diagnose(Path("/dev/shm"))  # noqa: S108 - is only looked at
    assert found.file_system == "tmpfs"
    assert found.dram
    assert not found.dax


def test_doctor_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(0o777)
    assert main(["doctor", str(tmp_path)]) == 1
    assert "others may write" in capsys.readouterr().out
    assert main(["doctor", str(tmp_path / "no" / "such")]) == 1
    printed = capsys.readouterr().out
    assert "does not exist: create it" in printed
    assert "file system" not in printed  # nothing is said of what was not looked at


def test_bench_measures_each_call_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", str(tmp_path), "--seconds", "0.01", "--json"]) == 0
    figures = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {(figure["call"], figure["value_bytes"]) for figure in figures} >= {
        ("put", 64),
        ("get", 1024),
        ("miss", 0),
    }
    assert all(figure["p99_us"] >= figure["p50_us"] > 0 for figure in figures)
    assert list(tmp_path.iterdir()) == []
