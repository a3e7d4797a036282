"""Start and stop what serves: gunicorn with the site, and a Redis of our own.

Every server listens on a Unix socket in a fresh directory, so nothing collides with what else
runs on the host, and every one is gone when its `with` block ends, whatever ended it.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from compare.tasks import SITE_DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

START_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 5.0
POLL_SECONDS = 0.05
LARGE_BYTES = 256 << 20
"""A Memcached with so much memory is told to take values of 64 MiB; its default is 1 MiB."""


class ServerError(RuntimeError):
    """A server did not start; the message carries the end of its log."""


class _RefusedError(Exception):
    """The server answers, but not as it should: waiting longer will not help."""


@dataclass
class Server:
    """A running server: the command that started it, its process and its Unix socket."""

    command: list[str]
    process: subprocess.Popen[bytes]
    socket_path: str
    log: IO[bytes] = field(repr=False)

    def log_tail(self) -> str:
        """Return the last lines that the server wrote."""
        self.log.seek(0)
        return self.log.read().decode(errors="replace")[-3000:]


@contextlib.contextmanager
def scratch_directory(parent: Path | None = None) -> Iterator[Path]:
    """Yield a fresh directory of mode 0700 in *parent* and remove it with all it holds."""
    path = Path(tempfile.mkdtemp(prefix="compare-", dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def redis_command(socket_path: str, *, budget_bytes: int) -> list[str]:
    """Return the command of a Redis that is a pure cache of *budget_bytes*."""
    executable = shutil.which("redis-server") or "redis-server"
    return [
        *(executable, "--port", "0", "--unixsocket", socket_path),
        *("--maxmemory", str(budget_bytes), "--maxmemory-policy", "allkeys-lru"),
        *("--save", "", "--appendonly", "no", "--daemonize", "no"),
    ]


@contextlib.contextmanager
def redis(directory: Path, *, budget_bytes: int) -> Iterator[Server]:
    """Run a Redis of our own in *directory* and yield it when it answers.

    Raises:
        ServerError: It did not start.
    """
    socket_path = str(directory / "redis.sock")
    command = redis_command(socket_path, budget_bytes=budget_bytes)
    with redis_like(command, socket_path, directory=directory) as server:
        yield server


@contextlib.contextmanager
def redis_like(command: Sequence[str], socket_path: str, *, directory: Path) -> Iterator[Server]:
    """Run a *command* that listens and answers as Redis does, and yield it when it answers.

    Raises:
        ServerError: It did not start.
    """
    with _running(command, socket_path, directory=directory, environment={}) as server:
        _wait_until(server, _redis_answers)
        yield server


def memcached_command(socket_path: str, *, budget_bytes: int) -> list[str]:
    """Return the command of a Memcached of *budget_bytes*; a large one takes large values."""
    executable = shutil.which("memcached") or "memcached"
    mebibytes = max(1, budget_bytes >> 20)
    largest = "64m" if budget_bytes >= LARGE_BYTES else "1m"
    if mebibytes == 1:
        largest = "512k"  # half of all is the most that it agrees to
    command = [executable, "-s", socket_path, "-m", str(mebibytes), "-I", largest, "-c", "1024"]
    return [*command, "-u", "root"] if os.geteuid() == 0 else command


@contextlib.contextmanager
def memcached(directory: Path, *, budget_bytes: int) -> Iterator[Server]:
    """Run a Memcached of our own in *directory* and yield it when it answers.

    Raises:
        ServerError: It did not start.
    """
    socket_path = str(directory / "memcached.sock")
    command = memcached_command(socket_path, budget_bytes=budget_bytes)
    with _running(command, socket_path, directory=directory, environment={}) as server:
        _wait_until(server, _memcached_answers)
        yield server


@dataclass(frozen=True, kw_only=True)
class WorkerKind:
    """A way of gunicorn to serve the site: its workers, and which of the two entry points."""

    name: str
    application: str = "config.wsgi:application"
    worker_class: str = "sync"
    threads: int = 1


SYNC = WorkerKind(name="sync")
GTHREAD = WorkerKind(name="gthread", worker_class="gthread", threads=4)
ASGI = WorkerKind(
    name="asgi",
    application="config.asgi:application",
    worker_class="uvicorn_worker.UvicornWorker",
)


def site_command(
    socket_path: str, *, workers: int, kind: WorkerKind = SYNC, max_requests: int = 0
) -> list[str]:
    """Return the gunicorn command that serves the site.

    Args:
        max_requests: After how many requests, more or less a quarter, a worker makes way for a new
            one; 0: never.
    """
    command = [
        *(sys.executable, "-m", "gunicorn", kind.application),
        *("--bind", f"unix:{socket_path}", "--workers", str(workers)),
        *("--worker-class", kind.worker_class),
        *("--timeout", "120", "--log-level", "warning"),
        # In the home directory, and closed for a moment whenever a worker is made.
        "--no-control-socket",
    ]
    if kind.threads > 1:
        command += ["--threads", str(kind.threads)]
    if max_requests:
        command += ["--max-requests", str(max_requests)]
        command += ["--max-requests-jitter", str(max_requests // 4)]
    return command


@contextlib.contextmanager
def site(
    directory: Path,
    *,
    workers: int,
    environment: Mapping[str, str],
    kind: WorkerKind = SYNC,
    max_requests: int = 0,
) -> Iterator[Server]:
    """Serve the site with gunicorn and yield it when a page was answered.

    Args:
        directory: For the socket and the log.
        environment: The site's variables, added to this process's own.
        kind, max_requests: As for `site_command`.

    Raises:
        ServerError: It did not start, or its first page is an error.
    """
    socket_path = str(directory / "site.sock")
    command = site_command(socket_path, workers=workers, kind=kind, max_requests=max_requests)
    with _running(
        command, socket_path, directory=SITE_DIRECTORY, environment=environment
    ) as server:
        _wait_until(server, _site_answers)
        yield server


@contextlib.contextmanager
def _running(
    command: Sequence[str], socket_path: str, *, directory: Path, environment: Mapping[str, str]
) -> Iterator[Server]:
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            command,
            cwd=directory,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield Server(list(command), process, socket_path, log)
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the server to end, then kill what is left of its process group."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _wait_until(server: Server, answers: Callable[[str], None]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    problem = "no answer"
    while time.monotonic() < deadline:
        status = server.process.poll()
        if status is not None:
            problem = f"ended with status {status}"
            break
        try:
            answers(server.socket_path)
        except OSError as error:
            problem = str(error)
            time.sleep(POLL_SECONDS)
        except _RefusedError as error:
            problem = str(error)
            break
        else:
            return
    message = f"{' '.join(server.command)}\ndid not start: {problem}\n{server.log_tail()}"
    raise ServerError(message)


def _redis_answers(socket_path: str) -> None:
    _expect(socket_path, b"PING\r\n", b"+PONG\r\n")


def _memcached_answers(socket_path: str) -> None:
    _expect(socket_path, b"version\r\n", b"VERSION ")


def _expect(socket_path: str, question: bytes, beginning: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        connection.connect(socket_path)
        connection.sendall(question)
        answer = connection.recv(64)
    if not answer.startswith(beginning):
        raise _RefusedError(answer.decode(errors="replace"))


class _UnixConnection(http.client.HTTPConnection):
    """An HTTP connection over a Unix socket."""

    def __init__(self, socket_path: str) -> None:
        super().__init__("localhost", timeout=START_TIMEOUT_SECONDS)
        self._socket_path = socket_path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._socket_path)


def _site_answers(socket_path: str) -> None:
    with contextlib.closing(_UnixConnection(socket_path)) as connection:
        connection.request("GET", "/country/FR/")
        response = connection.getresponse()
        body = response.read()
    if response.status != http.HTTPStatus.OK:
        message = f"/country/FR/ is answered with status {response.status}: {body[:300]!r}"
        raise _RefusedError(message)
