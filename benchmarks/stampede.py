"""What happens when a popular key expires: requests and loads over time, four ways.

python benchmarks/stampede.py [--seconds 5] [--processes 8] [--threads 4]

Each thread of each process asks for one key, pauses 10 ms and asks again. The key lives one second
and takes 200 ms to load. The loader sleeps, so cores do not decide. Besides, a cold key is asked
for by all at once, a leader is killed while others wait, and values are invalidated while they are
loaded. Figures go to build/bench and benchmarks/results, the plot to docs/images/stampede.svg.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recording import ROOT, machine, record

import pmemcache

LOAD_SECONDS = 0.2
TTL_SECONDS = 1.0
PAUSE_SECONDS = 0.01
BIN_SECONDS = 0.1
Ask = Callable[[pmemcache.TieredCache, Callable[[str], str]], str]


def ask_nothing(_cache: pmemcache.TieredCache, load: Callable[[str], str]) -> str:
    """Load every time."""
    return load("key")


def ask_plain(cache: pmemcache.TieredCache, load: Callable[[str], str]) -> str:
    """Look, load on a miss, store."""
    value = cache.get("key")
    if value is None:
        value = load("key")
        cache.set("key", value, TTL_SECONDS)
    return str(value)


def ask_lease(cache: pmemcache.TieredCache, load: Callable[[str], str]) -> str:
    """Let one load while the others wait."""
    return str(cache.get_or_load("key", load, TTL_SECONDS))


def ask_grace(cache: pmemcache.TieredCache, load: Callable[[str], str]) -> str:
    """Let one load while the others get the stale value."""
    return str(cache.get_or_load("key", load, TTL_SECONDS, grace_seconds=10))


WAYS: dict[str, Ask] = {
    "no cache": ask_nothing,
    "plain cache": ask_plain,
    "lease": ask_lease,
    "lease and grace": ask_grace,
}


def open_cache(folder: Path) -> pmemcache.TieredCache:
    """Attach to the pool of one run."""
    return pmemcache.TieredCache(folder / "pool", policy="hot=1MiB,warm=16MiB")


def run_process(
    folder: Path, report: Path, threads: int, times: tuple[float, float], ask: Ask
) -> None:
    """Ask from several threads between two *times*, and write down what came of it."""
    begin, end = times
    requests: list[tuple[float, float]] = []
    loads: list[float] = []

    def load(_key: str) -> str:
        loads.append(time.monotonic() - begin)
        time.sleep(LOAD_SECONDS)
        return "value"

    def work() -> None:
        time.sleep(max(0.0, begin - time.monotonic()))
        while (asked := time.monotonic()) < end:
            ask(cache, load)
            requests.append((asked - begin, time.monotonic() - asked))
            time.sleep(PAUSE_SECONDS)

    with open_cache(folder) as cache:
        workers = [threading.Thread(target=work) for _thread in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    report.write_text(json.dumps({"requests": requests, "loads": loads}))


def measure(ask: Ask, processes: int, threads: int, seconds: float) -> dict[str, Any]:
    """Return when requests and loads began in all processes, and how long requests took."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        folder = Path(name)
        begin = time.monotonic() + 0.5
        paths = [folder / f"{number}.json" for number in range(processes)]
        with open_cache(folder):
            children = []
            for path in paths:
                children.append(os.fork())
                if children[-1] == 0:
                    run_process(folder, path, threads, (begin, begin + seconds), ask)
                    os._exit(0)
            for child in children:
                os.waitpid(child, 0)
        reports = [json.loads(path.read_text()) for path in paths]
    return {
        "requests": sorted(tuple(pair) for report in reports for pair in report["requests"]),
        "loads": sorted(moment for report in reports for moment in report["loads"]),
    }


def percentile(values: list[float], share: float) -> float:
    """Return the value that *share* of *values* do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def measure_cold_key(processes: int, threads: int) -> dict[str, float]:
    """Ask for a missing key from everywhere at once."""
    found = measure(ask_lease, processes, threads, LOAD_SECONDS / 2)
    first = [seconds for asked, seconds in found["requests"] if asked < LOAD_SECONDS / 2]
    return {
        "loads": len(found["loads"]),
        "p99_over_loader_ms": (percentile(first, 0.99) - LOAD_SECONDS) * 1000,
    }


def measure_takeover(rounds: int = 9) -> float:
    """Return the median milliseconds from a leader's death to its waiter's load."""
    took = []
    with pmemcache.TieredCache(None, policy="hot=1MiB,warm=16MiB") as cache:
        for number in range(rounds):
            child = os.fork()
            if child == 0:
                cache.get_or_load(number, lambda _key: time.sleep(60))
                os._exit(0)
            time.sleep(0.2)
            loaded: list[float] = []
            waiter = threading.Thread(
                target=cache.get_or_load,
                args=(number, lambda _key, loaded=loaded: loaded.append(time.monotonic())),
            )
            waiter.start()
            time.sleep(0.1)
            killed = time.monotonic()
            os.kill(child, signal.SIGKILL)
            waiter.join()
            os.waitpid(child, 0)
            took.append((loaded[0] - killed) * 1000)
    return percentile(took, 0.5)


def read_stale(ask: Ask, folder: Path, report: Path, database: memoryview, until: float) -> None:
    """Read and load, slowly, a number that others count up; write down how often it was too old.

    It is too old when it is less than what was committed, and invalidated, before the read began.
    """
    choose = random.Random(report.name)
    reads = stale = 0

    def load(_key: str) -> str:
        number = database[0]
        time.sleep(choose.choice((0, 0, 0.0005, 0.002)))
        return str(number)

    with open_cache(folder) as cache:
        while time.monotonic() < until:
            committed = database[1]
            stale += int(ask(cache, load)) < committed
            reads += 1
    report.write_text(json.dumps([reads, stale]))


def measure_refills(ask: Ask, processes: int, seconds: float = 3.0) -> dict[str, int]:
    """Count up a number and invalidate it, again and again, while others load it."""
    shared = mmap.mmap(-1, 16)
    database = memoryview(shared).cast("q")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name, open_cache(Path(name)) as cache:
        folder, until = Path(name), time.monotonic() + seconds
        reports = [folder / f"{number}.json" for number in range(processes)]
        children = []
        for report in reports:
            children.append(os.fork())
            if children[-1] == 0:
                read_stale(ask, folder, report, database, until)
                os._exit(0)
        while time.monotonic() < until:
            database[0] += 1
            cache.delete("key")
            database[1] = database[0]
            time.sleep(0.0007)
        for child in children:
            os.waitpid(child, 0)
        counts = [json.loads(report.read_text()) for report in reports]
    return {
        "invalidations": database[1],
        "reads": sum(reads for reads, _stale in counts),
        "stale": sum(stale for _reads, stale in counts),
    }


def draw(found: dict[str, dict[str, Any]], seconds: float, path: Path) -> None:
    """Draw requests and loads per tenth of a second, one row for each way."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 - needed for the plot alone
    except ImportError:
        print("matplotlib is not installed, so there is no plot: pip install matplotlib")
        return
    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the backend was chosen

    bins = [n * BIN_SECONDS for n in range(round(seconds / BIN_SECONDS) + 1)]
    figure, rows = plt.subplots(len(found), 1, sharex=True, figsize=(8, 8), layout="constrained")
    for row, (way, figures) in zip(rows, found.items(), strict=True):
        asked = [moment for moment, _seconds in figures["requests"]]
        row.hist(asked, bins, histtype="stepfilled", color="#b9d3e8", label="requests")
        row.hist(figures["loads"], bins, histtype="stepfilled", color="#c0392b", label="loads")
        row.set_yscale("symlog", linthresh=1)
        row.set_ylim(bottom=0)
        row.set_title(f"{way}: {len(figures['loads'])} loads for {len(asked)} requests", loc="left")
        row.spines[["top", "right"]].set_visible(False)
    handles, labels = rows[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside upper right", ncols=2)
    rows[-1].set_xlabel(f"seconds; each bar counts {BIN_SECONDS} s, logarithmic")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    print(f"The plot is {path}")


def main() -> None:
    """Measure the four ways, print, keep and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--threads", type=int, default=4)
    options = parser.parse_args()
    host = machine("tmpfs (/dev/shm); tmpfs is not persistent memory")
    found = {
        way: measure(ask, options.processes, options.threads, options.seconds)
        for way, ask in WAYS.items()
    }
    figures: dict[str, Any] = {
        way: {
            "requests": len(each["requests"]),
            "loads": len(each["loads"]),
            "p99_ms": percentile([s for _asked, s in each["requests"]], 0.99) * 1000,
        }
        for way, each in found.items()
    }
    figures["cold key"] = measure_cold_key(options.processes, options.threads)
    figures["killed leader"] = {"takeover_median_ms": measure_takeover()}
    for way in ("plain cache", "lease"):
        figures[f"re-fills, {way}"] = measure_refills(WAYS[way], 4)
    for way, each in figures.items():
        print(f"{way:16}", "  ".join(f"{name} {value:.5g}" for name, value in each.items()))
    print(f"The figures are {record('stampede', host, figures)}")
    draw(found, options.seconds, ROOT / "docs" / "images" / "stampede.svg")


if __name__ == "__main__":
    main()
