"""What a benchmark leaves behind: its figures, with the machine and the command that made them."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
BUILD = ROOT / "build" / "bench"


def build_native(program: str) -> Path:
    """Build the benchmarks of `native/bench` as a release, and return the path of one of them."""
    native = ROOT / "native"
    tools = ROOT / ".venv" / "bin"
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    for step in (
        ["cmake", "--preset", "release"],
        ["cmake", "--build", "--preset", "release", "--target", program],
    ):
        subprocess.run(step, cwd=native, env=environment, check=True, stdout=subprocess.DEVNULL)
    return ROOT / "build" / "native" / "release" / program


def machine(medium: str) -> dict[str, Any]:
    """Describe where the figures come from; *medium* says what memory the pool was in."""
    return {
        "when": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "medium": medium,
        "load_before": round(os.getloadavg()[0], 2),
    }


def record(name: str, host: dict[str, Any], figures: dict[str, Any]) -> Path:
    """Write `NAME.json` to the build folder and to the results that are kept; return the latter."""
    text = json.dumps({"machine": host, "figures": figures}, indent=2) + "\n"
    for folder in (BUILD, RESULTS):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(text)
    return RESULTS / f"{name}.json"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
