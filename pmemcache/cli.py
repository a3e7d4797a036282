"""The command `pmemcache`: look at a pool, check it, empty it."""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pmemcache.binding import stat_table
from pmemcache.config import default_path
from pmemcache.doctor import Diagnosis, diagnose
from pmemcache.errors import PmemCacheError
from pmemcache.pool import Pool
from pmemcache.trial import run_trial

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pmemcache.stats import PoolStats

__all__ = ["main", "stat_text"]

_READER_GONE: Final = 128 + signal.SIGPIPE
"""What a shell says of a command that SIGPIPE has ended."""
_SECONDS_MAX: Final = 86_400
_CLEAR_SCREEN: Final = "\x1b[2J\x1b[H"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status.

    0: all is well. 1: the pool or the path has a problem, which is printed. 2: wrong usage, or the
    pool cannot be attached to. 141: whoever reads the output wants no more, as `head` does.
    """
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer goes nowhere, or Python would complain about it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_GONE
    except (PmemCacheError, OSError) as error:
        print(f"pmemcache: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    else:
        return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pmemcache", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    doctor = commands.add_parser("doctor", help="say what a path is worth as the place of a pool")
    doctor.add_argument("path", type=Path, nargs="?", help="default: the default pool's place")
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    doctor.set_defaults(run=_doctor)

    stat = commands.add_parser("stat", help="print the statistics of a pool")
    stat.add_argument("--json", action="store_true", help="print one JSON object")
    stat.set_defaults(run=_stat)

    top = commands.add_parser("top", help="watch a pool at work")
    top.add_argument("--interval", type=_seconds, default=1.0, metavar="SECONDS")
    top.add_argument("--count", type=int, metavar="N", help="stop after N screens")
    top.set_defaults(run=_top)

    ls = commands.add_parser("ls", help="list the entries: bytes, seconds to live, key")
    ls.add_argument("--prefix", default="", help="only keys that begin so")
    ls.set_defaults(run=_ls)

    check = commands.add_parser("check", help="check every invariant, name those that are broken")
    check.set_defaults(run=_check)

    clear = commands.add_parser("clear", help="remove every entry")
    clear.set_defaults(run=_clear)

    bench = commands.add_parser("bench", help="measure how fast a pool in a directory is")
    bench.add_argument("directory", type=Path, nargs="?", help="default: the default pool's place")
    bench.add_argument("--json", action="store_true", help="print one JSON object a line")
    bench.add_argument("--seconds", type=_seconds, default=0.5, help="for each kind of call")
    bench.set_defaults(run=_bench)

    for command in (stat, top, ls, check, clear):
        command.add_argument("pool", type=Path, help="the pool's file, or its directory")
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= _SECONDS_MAX:
        message = f"must be more than 0, and at most {_SECONDS_MAX}"
        raise argparse.ArgumentTypeError(message)
    return seconds


def _doctor(options: argparse.Namespace) -> int:
    found = diagnose(options.path or default_path())
    if options.json:
        print(json.dumps(found.as_dict()))
    else:
        _print_diagnosis(found)
    return 0 if found.usable else 1


def _print_diagnosis(found: Diagnosis) -> None:
    if found.exists:
        _print_facts(found)
    for problem in found.problems:
        print(f"problem      {problem}")
    for advice in found.advice:
        print(f"advice       {advice}")
    print("A pool can be made here." if found.usable else "A pool cannot be made here.")


def _print_facts(found: Diagnosis) -> None:
    kind = "DAX" if found.dax else "DRAM" if found.dram else "disk, through the page cache"
    print(f"directory    {found.directory} ({found.mode}, owner {found.owner})")
    print(f"file system  {found.file_system} on {found.mount_point} ({found.mount_options})")
    print(f"memory       {kind}")
    if found.dram:
        print(f"huge pages   {found.huge_pages}")
    print(f"free         {_amount(found.free_bytes, 'bytes')}")


def _stat(options: argparse.Namespace) -> int:
    with Pool.attach(options.pool) as pool:
        print(stat_text(pool, as_json=options.json))
    return 0


def stat_text(pool: Pool, *, as_json: bool = False) -> str:
    """Return the statistics of *pool* as lines for people, or as one JSON object."""
    stats = pool.stats()
    geometry = asdict(pool.geometry())
    del geometry["created"]
    if as_json:
        return json.dumps({**geometry, **stats.as_dict(), "hit_ratio": stats.hit_ratio})
    lines = [f"{name:<18}{value}" for name, value in geometry.items()]
    lines.append(f"{'hit_ratio':<18}{stats.hit_ratio:.4f}")
    lines += [
        f"{name:<18}{_amount(stats.as_dict()[name], unit):<24}{sentence}"
        for name, unit, sentence in stat_table()
    ]
    return "\n".join(lines)


def _top(options: argparse.Namespace) -> int:
    screens = 0
    with Pool.attach(options.pool) as pool:
        before, then = pool.stats(), time.monotonic()
        while options.count is None or screens < options.count:
            time.sleep(options.interval)
            stats, now = pool.stats(), time.monotonic()
            if sys.stdout.isatty():
                print(_CLEAR_SCREEN, end="")
            _print_rates(options.pool, before, stats, now - then)
            before, then = stats, now
            screens += 1
    return 0


def _print_rates(path: Path, before: PoolStats, stats: PoolStats, seconds: float) -> None:
    looked = stats.get - before.get
    hit_ratio = (stats.hit - before.hit) / looked if looked else 0.0
    share = stats.pool_size_used / stats.capacity_bytes if stats.capacity_bytes else 0.0
    print(f"{path}  {stats.attached} processes  {stats.entries:,} entries")
    print(f"used         {_amount(stats.pool_size_used, 'bytes')} ({share:.1%})")
    print(f"hit ratio    {hit_ratio:.4f} now, {stats.hit_ratio:.4f} since the pool was made")
    for name in ("get", "put", "delete", "evict", "expired", "rejected", "lock_timeouts"):
        rate = (getattr(stats, name) - getattr(before, name)) / seconds
        print(f"{name:<12} {rate:,.0f}/s", flush=True)


def _ls(options: argparse.Namespace) -> int:
    with Pool.attach(options.pool) as pool:
        for key in pool.keys(os.fsencode(options.prefix)):
            info = pool.info(key)
            if info is not None:
                ttl = "-" if info.ttl_seconds is None else f"{info.ttl_seconds:.3f}"
                print(f"{info.value_size:>12} {ttl:>14} {_readable(key)}")
    return 0


def _readable(key: bytes) -> str:
    """Return a key in one line: it may be a visitor's, and hold what a terminal would obey."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in key.decode(errors="backslashreplace")
    )


def _check(options: argparse.Namespace) -> int:
    with Pool.attach(options.pool) as pool:
        broken = pool.check()
    for line in broken:
        print(line)
    print(f"{len(broken)} broken invariants" if broken else "sound")
    return 1 if broken else 0


def _clear(options: argparse.Namespace) -> int:
    with Pool.attach(options.pool) as pool:
        pool.clear()
    return 0


def _bench(options: argparse.Namespace) -> int:
    directory = options.directory or default_path().parent
    if not options.json:
        print(f"A pool of 64 MiB in {directory}, one process, clock included:")
        print(f"{'call':<6}{'value':>12}{'calls/s':>14}{'p50 us':>10}{'p99 us':>10}")
    for figure in run_trial(directory, seconds=options.seconds):
        if options.json:
            print(json.dumps(asdict(figure)), flush=True)
            continue
        value = _amount(figure.value_bytes, "bytes") if figure.value_bytes else "-"
        print(
            f"{figure.call:<6}{value:>12}{figure.calls_per_second:>14,.0f}"
            f"{figure.p50_us:>10.2f}{figure.p99_us:>10.2f}",
            flush=True,
        )
    return 0


def _amount(value: int, unit: str) -> str:
    """Return a number as people read it."""
    if unit != "bytes":
        return f"{value:,}"
    scaled = float(value)
    for name in ("B", "KiB", "MiB", "GiB"):
        if scaled < 1024:  # noqa: PLR2004 - the step between units
            return f"{scaled:,.0f} B" if name == "B" else f"{scaled:,.1f} {name}"
        scaled /= 1024
    return f"{scaled:,.1f} TiB"
