"""Run a module of this package as its own process and talk JSON lines with it.

The parent writes one JSON document to the child's standard input. The child answers with any
number of `{"progress": N}` lines and one `{"result": ...}` line. Measuring in a child keeps the
parent's progress display and garbage out of the figures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SITE_DIRECTORY = Path(__file__).resolve().parent.parent
"""The Django project: the working directory of every process that is started."""


class TaskError(RuntimeError):
    """A child process ended without a result; the message carries what it printed."""


def run_task(
    module: str,
    argument: Mapping[str, Any],
    *,
    environment: Mapping[str, str] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Any:
    """Run `python -m MODULE` with *argument* and return its result.

    Args:
        environment: Variables added to this process's own.
        on_progress: Called with the count that the child reports.

    Raises:
        TaskError: The child ended without a result.
    """
    with subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=SITE_DIRECTORY,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            return _converse(child, module, argument, on_progress)
        except BaseException as error:
            child.kill()
            if isinstance(error, BrokenPipeError):
                message = f"{module} ended before it read its task"
                raise TaskError(message) from error
            raise


def _converse(
    child: subprocess.Popen[str],
    module: str,
    argument: Mapping[str, Any],
    on_progress: Callable[[int], None] | None,
) -> Any:
    child_input, child_output = cast("IO[str]", child.stdin), cast("IO[str]", child.stdout)
    child_input.write(json.dumps(argument))
    child_input.close()
    unexpected: list[str] = []
    for line in child_output:
        if not line.startswith("{"):
            unexpected.append(line)
            continue
        answer = json.loads(line)
        if "result" in answer:
            return answer["result"]
        if on_progress is not None:
            on_progress(answer["progress"])
    status = child.wait()
    printed = "".join(unexpected).strip()
    message = f"{module} ended with status {status}: {printed}"
    raise TaskError(message)


def read_argument() -> Any:
    """Return what the parent passed; for use in the child."""
    return json.load(sys.stdin)


def report_progress(count: int) -> None:
    """Tell the parent how much is done; for use in the child."""
    _send({"progress": count})


def report_result(result: object) -> None:
    """Hand the result to the parent; for use in the child, once."""
    _send({"result": result})


def _send(answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
