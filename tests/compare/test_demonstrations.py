from __future__ import annotations

import io
import random
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from demonstrations import demonstration
from demonstrations.demonstration import Demonstration
from demonstrations.management.commands.show_kill import is_right, page_of
from django.core.management.base import CommandError

if TYPE_CHECKING:
    import contextlib
    from pathlib import Path

HAS_REDIS = shutil.which("redis-server") is not None

# What each has to tell, whatever the figures are.
STORIES = {
    "show_kill": r"In 2 s \d+ workers were killed by SIGKILL",
    "show_restart": r"pmemcache: .* after the restart 120 hits, 0 misses, 0 queries",
    "show_deploy": r"pmemcache, release two: 12 pages, 12 right, 0 error pages",
    "show_stampede": r"a function with @pmemcache.cached: 1 queries",
    "show_edit": r"worker \d+: revision 1   \(stale\)(?s:.*)pmemcache, one for all",
    "show_redis_stopped": r"pmemcache: 24 pages asked for, 0 answered with an error page",
}


@pytest.mark.slow
@pytest.mark.xdist_group("beside the soak")
@pytest.mark.parametrize("name", STORIES)
def test_demonstration_shows_what_it_promises_and_leaves_nothing_behind(
    name: str, run_python: Any, tmp_path: Path
) -> None:
    options = ["--seconds", "2"] if name == "show_kill" else []
    done = run_python(
        "manage.py", name, "--no-color", *options, seconds=580, SAMPLE_POOL_DIRECTORY=str(tmp_path)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(STORIES[name], done.stdout), done.stdout
    assert "✓" in done.stdout
    assert "✗" not in done.stdout
    if name in {"show_deploy", "show_redis_stopped"}:
        peer = "RedisCache" if HAS_REDIS else "redis-server is not installed"
        assert peer in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_broken_promise_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Demonstration):
        title = "Nothing holds"

        def show(self, _stack: contextlib.ExitStack) -> None:
            self.claim("water is wet", holds=True)
            self.claim("the earth is flat", holds=False)
            self.say("and so on")

    monkeypatch.setattr(demonstration, "call_command", lambda *_, **__: None)
    told = io.StringIO()
    with pytest.raises(CommandError, match="Not as promised: the earth is flat"):
        Broken(stdout=told, no_color=True).handle()
    assert told.getvalue().splitlines() == [
        *("Nothing holds", "  ✓ water is wet", "  ✗ the earth is flat", "and so on")
    ]


def test_page_is_told_from_another_and_from_half_of_one() -> None:
    source = random.Random(3)
    page, other = page_of(7, source), page_of(7, source)
    assert is_right(7, page)
    assert not is_right(8, page)
    assert not is_right(7, page[:-3])
    assert not is_right(7, page + other[2:])
    assert not is_right(7, b"7;")
