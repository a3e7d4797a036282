"""`manage.py pmemcache stat | check | clear | warm`: the pools of `CACHES`, by alias."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from django.conf import settings
from django.core.cache import InvalidCacheBackendError, caches
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.utils.module_loading import import_string

from pmemcache.cli import stat_text
from pmemcache.integrations.django.aliases import pool_of, pools
from pmemcache.integrations.django.figures import figures_of
from pmemcache.integrations.django.sharing import FAILURES

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from pmemcache.integrations.django.sharing import SharedPool


class Command(BaseCommand):
    """Look at the pools of the site, check, clear and fill them."""

    help = "Look at the pools of CACHES, check, clear or warm them."
    # A cache that is set up wrongly must not keep this command from saying so itself.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the four commands."""
        commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
        stat = commands.add_parser("stat", help="print the statistics of the pools")
        stat.add_argument(
            "--json", action="store_true", dest="as_json", help="print one JSON object"
        )
        check = commands.add_parser("check", help="check every invariant, name the broken ones")
        clear = commands.add_parser("clear", help="remove every entry of the aliases")
        warm = commands.add_parser("warm", help="call what fills the caches")
        warm.add_argument(
            "functions",
            nargs="*",
            metavar="FUNCTION",
            help="dotted path of a function without arguments, such as places.overview.overview; "
            "default: those of the setting PMEMCACHE_WARM",
        )
        for command in (stat, check, clear):
            command.add_argument(
                "--cache",
                action="append",
                metavar="ALIAS",
                help="an alias of CACHES, may be repeated; default: all that are a pmemcache",
            )

    def handle(self, *_args: Any, command: str, **options: Any) -> None:
        """Run one of the four commands.

        Raises:
            CommandError: Wrong usage, a pool with broken invariants, or one that does not open.
        """
        run: Callable[..., None] = getattr(self, f"_{command}")
        try:
            run(**options)
        except (InvalidCacheBackendError, ImproperlyConfigured, *FAILURES) as error:
            raise CommandError(str(error)) from error

    def _stat(self, *, cache: list[str] | None, as_json: bool, **_: Any) -> None:
        chosen = _chosen(cache)
        if as_json:
            self.stdout.write(_as_json(chosen))
            return
        for shared, aliases in chosen.items():
            figures = figures_of(shared)
            self.stdout.write(self.style.MIGRATE_HEADING(f"{', '.join(aliases)}: {figures.path}"))
            self.stdout.write(stat_text(shared.pool()))
            self.stdout.write(f"{'hot_ratio':<18}{figures.hot_ratio:.4f}")
            for name, count in figures.report.totals.items():
                self.stdout.write(f"{name:<18}{count:,}")

    def _check(self, *, cache: list[str] | None, **_: Any) -> None:
        broken = 0
        for shared, aliases in _chosen(cache).items():
            lines = shared.pool().check()
            broken += len(lines)
            for line in lines or ["sound"]:
                self.stdout.write(f"{', '.join(aliases)}: {line}")
        if broken:
            message = f"{broken} broken invariants"
            raise CommandError(message)

    def _clear(self, *, cache: list[str] | None, **_: Any) -> None:
        for aliases in _chosen(cache).values():
            for alias in aliases:
                caches[alias].clear()
                self.stdout.write(f"{alias}: cleared")

    def _warm(self, *, functions: list[str], **_: Any) -> None:
        names = functions or list(getattr(settings, "PMEMCACHE_WARM", ()))
        if not names:
            message = "name the functions to call, here or in the setting PMEMCACHE_WARM"
            raise CommandError(message)
        called = [_function(name) for name in names]
        for shared, aliases in pools().items():
            _refuse_to_warm_in_vain(shared, aliases)
        before = _entries()
        for name, function in zip(names, called, strict=True):
            started = time.perf_counter()
            _exhaust(function())
            self.stdout.write(f"{name}: {time.perf_counter() - started:.2f} s")
        self.stdout.write(f"{_entries() - before:,} entries more than before")


def _chosen(aliases: list[str] | None) -> Mapping[SharedPool, list[str]]:
    if not aliases:
        return pools()
    chosen: dict[SharedPool, list[str]] = {}
    for alias in aliases:
        chosen.setdefault(pool_of(alias), []).append(alias)
    return chosen


def _as_json(chosen: Mapping[SharedPool, list[str]]) -> str:
    return json.dumps(
        [{"aliases": aliases, **figures_of(shared).as_dict()} for shared, aliases in chosen.items()]
    )


def _function(name: str) -> Callable[[], Any]:
    try:
        function: Any = import_string(name)
    except ImportError as error:
        message = f"{name} cannot be imported: {error}"
        raise CommandError(message) from error
    if callable(function):
        return cast("Callable[[], Any]", function)
    message = f"{name} is a {type(function).__name__}, not a function"
    raise CommandError(message)


def _exhaust(result: Any) -> None:
    """Run a generator to its end, so that a function can warm entry by entry."""
    if isinstance(result, Iterable) and not isinstance(result, str | bytes):
        for _each in result:
            pass


def _refuse_to_warm_in_vain(shared: SharedPool, aliases: list[str]) -> None:
    """Refuse a pool that would end with this command.

    Raises:
        CommandError: It is volatile, and no worker has it open.
    """
    pool = shared.pool()
    if pool.options.lifetime == "volatile" and pool.stats().attached <= 1:
        message = (
            f"the pool of {', '.join(aliases)} ends with the last process that has it open, and "
            'that is this command: start the workers first, or set OPTIONS["lifetime"] to "restart"'
        )
        raise CommandError(message)


def _entries() -> int:
    return sum(shared.pool().stats().entries for shared in pools())
