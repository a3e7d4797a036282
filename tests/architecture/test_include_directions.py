"""The engine's files include one way: from the cache down to the base, never sideways or back.

A file belongs to the module that its name begins with (`pool_geometry.c` to `pool`). A file of a
module that has no layer yet fails the test: whoever adds one says where it belongs.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

NATIVE = Path(__file__).resolve().parents[2] / "native"
SOURCES = NATIVE / "src"
BUILD = NATIVE / "CMakeLists.txt"

# From the bottom up. A module includes the layers below its own and its own files.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"base", "bit", "layout", "clock", "copy", "count", "hash", "status", "fault"}),
    frozenset({"ghost", "lock", "pool", "queue"}),
    frozenset({"alloc", "index", "evict", "expiry", "lease"}),
    frozenset({"shard"}),
    frozenset({"cache"}),
)
# Modules of these layers also use each other, without a circle.
NEIGHBOURLY = (0, 1)
# Reads every structure to check it, and is called by the cache.
CHECK = "check"
PUBLIC_HEADERS = {"pmemcache.h", "pmemcache_stats.def"}

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def module_of(file_name: str) -> str:
    return Path(file_name).stem.split("_", maxsplit=1)[0]


def layer_of(module: str) -> int | None:
    return next((number for number, layer in enumerate(LAYERS) if module in layer), None)


def is_allowed(includer: str, included: str) -> bool:
    """Whether module *includer* may include a header of module *included*."""
    if includer in {included, CHECK}:
        return True
    if included == CHECK:
        return includer == "cache"
    upper, lower = layer_of(includer), layer_of(included)
    if upper is None or lower is None:
        return False
    return lower < upper or (lower == upper and upper in NEIGHBOURLY)


def includes_in(folder: Path) -> set[tuple[str, str]]:
    """Return (file, header) for each quoted include of the engine's own headers."""
    return {
        (path.name, header)
        for path in folder.glob("*.[ch]")
        for header in INCLUDE.findall(path.read_text(encoding="utf-8"))
        if header not in PUBLIC_HEADERS
    }


def find_violations(folder: Path) -> list[str]:
    names = {path.name for path in folder.glob("*.[ch]")}
    unplaced = [
        f"{name}: module {module_of(name)} has no layer"
        for name in names
        if module_of(name) != CHECK and layer_of(module_of(name)) is None
    ]
    wrong = [
        f"{name} includes {header}"
        for name, header in includes_in(folder)
        if not is_allowed(module_of(name), module_of(header))
    ]
    return sorted(unplaced + wrong + find_circles(folder))


def find_circles(folder: Path) -> list[str]:
    """Return the headers that, through others, include themselves."""
    below: dict[str, set[str]] = {}
    for name, header in includes_in(folder):
        below.setdefault(name, set()).add(header)

    def reach(name: str, seen: frozenset[str]) -> frozenset[str]:
        for header in below.get(name, set()) - seen:
            seen = reach(header, seen | {header})
        return seen

    return [f"{name} includes itself" for name in below if name in reach(name, frozenset())]


def test_engine_includes_point_one_way() -> None:
    assert list(SOURCES.glob("*.c"))
    assert find_violations(SOURCES) == []


def test_build_lists_every_source_of_the_engine() -> None:
    listed = re.findall(r"^  src/(\w+\.c)\b", BUILD.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in SOURCES.glob("*.c"))


@pytest.mark.parametrize(
    ("file_name", "text", "violation"),
    [
        ("base.h", '#include "shard.h"', "base.h includes shard.h"),
        ("alloc.c", '#  include "index.h"', "alloc.c includes index.h"),
        ("shard.c", '#include "check.h"', "shard.c includes check.h"),
        ("lock.h", '#include "lock.h"', "lock.h includes itself"),
        ("novel.c", "", "novel.c: module novel has no layer"),
    ],
)
def test_planted_include_is_found(
    tmp_path: Path, file_name: str, text: str, violation: str
) -> None:
    (tmp_path / file_name).write_text(text, encoding="utf-8")
    assert find_violations(tmp_path) == [violation]


@pytest.mark.parametrize(
    ("file_name", "text"),
    [
        ("cache.c", '#include "check.h"'),
        ("check.c", '#include "cache.h"\n#include "alloc.h"'),
        ("evict_lru.c", '#include "evict.h"\n#include "pmemcache.h"'),
        ("pool_geometry.c", '#include "hash.h"\n#include <sys/mman.h>'),
    ],
)
def test_right_include_is_accepted(tmp_path: Path, file_name: str, text: str) -> None:
    (tmp_path / file_name).write_text(text, encoding="utf-8")
    assert find_violations(tmp_path) == []
