"""`python -m compare`: measure the sample site on every cache and write the report."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from compare import report as reports
from compare.backends import BACKENDS, SHORT_BACKENDS, BackendUnavailableError
from compare.comparison import Comparison
from compare.findings import caveats, headline
from compare.plan import FULL, MIB, QUICK, SHORT, Plan
from compare.servers import ServerError
from compare.site import SiteError
from compare.tables import call_table, site_table, to_rich
from compare.tasks import SITE_DIRECTORY, TaskError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

DEFAULT_DATABASE = SITE_DIRECTORY.parent / "build" / "sample" / "places.sqlite3"

MINUTES = {"quick": 1, "short": 6, "full": 40}


class ConsoleNarrator:
    """Tells a terminal what is being done; shows a bar on steps that take time."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, text: str) -> None:
        """Print one line."""
        self._console.print(text, highlight=False)

    @contextlib.contextmanager
    def step(self, text: str, *, total: float | None) -> Iterator[Callable[[float], None]]:
        """Show a bar while the step runs; in a log, where bars are useless, a line."""
        if not self._console.is_terminal:
            self.say(f"{text} ...")
            yield lambda _: None
            return
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task(text, total=total)
            yield lambda done: bar.update(task, completed=done)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if not options.pool_directory.is_dir():
        parser.error(f"--pool-directory: {options.pool_directory} is not a directory")
    console = Console(width=None if sys.stdout.isatty() else 150)
    narrator = ConsoleNarrator(console)
    signal.signal(signal.SIGTERM, _leave)
    form = "quick" if options.quick else "full" if options.full else "short"
    plan = _plan(options, form)
    try:
        load_places(options.database, narrator.say)
        _introduce(plan, form, narrator)
        comparison = Comparison(
            plan=plan,
            database=options.database.resolve(),
            pool_parent=options.pool_directory,
            narrator=narrator,
            chosen=options.backends or _default_backends(options),
        )
        result = comparison.run(
            command=shlex.join(["python", "-m", "compare", *(arguments or sys.argv[1:])]),
            form=form,
        )
    except (BackendUnavailableError, ServerError, SiteError, TaskError) as error:
        console.print(f"[bold red]Error:[/] {type(error).__name__}")
        console.print(str(error), markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("Stopped; every server was ended.")
        return 130
    console.print()
    for table in (site_table(result), call_table(result)):
        console.print(to_rich(table))
    for caveat in caveats(result):
        narrator.say(f"- {caveat}")
    console.print(f"\n[bold]{headline(result)}[/]\n", highlight=False)
    for path in reports.write(result, options.output):
        narrator.say(f"Wrote {path}")
    return 1 if result["lost"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m compare", description=__doc__)
    add = parser.add_argument
    add("--output", type=Path, default=Path("../build/demo"), help="directory for the report")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true", help="about a minute, to see that it works")
    length.add_argument(
        "--full", action="store_true", help="every backend and point, five times: about 40 minutes"
    )
    add(
        "--backends",
        nargs="+",
        choices=[backend.key for backend in BACKENDS],
        help="those to compare; default: six, with --full all",
    )
    add("--rate", type=float, help="requests/s of the open loop; default: found by measuring")
    add("--cache-mib", type=float, help="budget of each cache in MiB")
    add("--seed", type=int, help="of the request sequence")
    add(
        "--pool-directory",
        type=Path,
        default=Path("/dev/shm"),  # noqa: S108 - a private directory is made in it
        help="where pmemcache keeps its pool: persistent memory, tmpfs or any file system",
    )
    add(
        "--database",
        type=Path,
        default=Path(os.environ.get("SAMPLE_DB") or DEFAULT_DATABASE),
        help="the site's SQLite file; loaded when missing",
    )
    return parser


def _default_backends(options: argparse.Namespace) -> list[str]:
    return [backend.key for backend in (BACKENDS if options.full else SHORT_BACKENDS)]


def _plan(options: argparse.Namespace, form: str) -> Plan:
    plan = {"quick": QUICK, "short": SHORT, "full": FULL}[form]
    if options.rate is not None:
        plan = replace(plan, rate=options.rate)
    if options.cache_mib is not None:
        plan = replace(plan, cache_bytes=round(options.cache_mib * MIB))
    if options.seed is not None:
        plan = replace(plan, seed=options.seed)
    return plan


def _introduce(plan: Plan, form: str, narrator: ConsoleNarrator) -> None:
    narrator.say(
        f"Serving the sample site with {plan.workers} gunicorn workers on each cache, "
        f"{plan.cache_bytes / MIB:g} MiB each: at a fixed rate, as fast as it goes, then single "
        f"cache calls and ten figures. About {MINUTES[form]} minutes on a machine that does "
        "nothing else."
    )


def load_places(database: Path, say: Callable[[str], None]) -> None:
    """Fill the site's database; quick when everything is there already.

    Raises:
        TaskError: It could not be filled.
    """
    say(f"The site's data: {database}")
    command = [sys.executable, "manage.py", "load_places"]
    variables = {"SAMPLE_DB": str(database.resolve()), "SAMPLE_CACHE": "none"}
    done = subprocess.run(command, cwd=SITE_DIRECTORY, env={**os.environ, **variables}, check=False)
    if done.returncode:
        message = f"{shlex.join(command)} failed with status {done.returncode}"
        raise TaskError(message)


def _leave(_signal: int, _frame: object) -> None:
    """Turn SIGTERM into an exception, so that every server is ended on the way out."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
