"""The package's modules import one way, and nothing in it imports a framework.

A module without a layer fails the test: whoever adds one says where it belongs. Imports under
`TYPE_CHECKING` count like all others.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

# From the bottom up. A module imports the layers below its own.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"_engine", "_short"}),
    frozenset({"errors", "types", "config"}),
    frozenset(
        {
            "compression",
            "envelope",
            "faults",
            "immutability",
            "plain",
            "signing",
            "sizes",
            "stampede",
        }
    ),
    frozenset({"keys", "notes", "serializers", "stats"}),
    frozenset({"binding", "codec", "naming"}),
    frozenset({"pool", "policy"}),
    frozenset({"hot", "warm"}),
    frozenset({"copies"}),
    frozenset({"hot_only"}),
    frozenset({"loaders"}),
    frozenset({"awaited"}),
    frozenset({"tiered"}),
    frozenset({"decorator"}),
    frozenset({"doctor", "trial"}),
    frozenset({"cli"}),
    frozenset({"__init__", "__main__"}),
    frozenset({"integrations"}),
)
# Modules of this layer also import each other.
NEIGHBOURLY = 1
EXTENSIONS = {"_engine", "_short"}
# Run-time dependencies, those of extras that a module of the core asks for when it is used, and
# what only type checkers import (the packaging tests show that it is not needed).
THIRD_PARTY = {"cachetools", "cffi", "msgpack", "typing_extensions"}


def layer_of(module: str) -> int | None:
    return next((number for number, layer in enumerate(LAYERS) if module in layer), None)


def names_imported(tree: ast.AST) -> set[str]:
    """Return the full dotted names that a module imports, `from a import b` as `a.b`."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update(f"{'.' * node.level}{node.module}.{alias.name}" for alias in node.names)
    return names


def is_allowed(importer: str, name: str) -> bool:
    """Whether module *importer* of the package may import the dotted *name*."""
    top, *rest = name.split(".")
    if top != "pmemcache":
        return top in sys.stdlib_module_names or top in THIRD_PARTY or importer == "integrations"
    target = rest[0] if rest and layer_of(rest[0]) is not None else "__init__"
    if target == importer:
        return True
    if target in EXTENSIONS:
        return importer == "binding" or (importer, target) == ("plain", "_short")
    upper, lower = layer_of(importer), layer_of(target)
    if upper is None or lower is None:
        return False
    return lower < upper or (lower == upper == NEIGHBOURLY)


def find_violations(package: Path, integrations: Path) -> list[str]:
    files = [(path.relative_to(package), path) for path in package.rglob("*.py")]
    files += [
        (Path("integrations") / path.relative_to(integrations), path)
        for path in integrations.rglob("*.py")
    ]
    violations = []
    for relative, path in files:
        module = relative.parts[0].removesuffix(".py")
        if layer_of(module) is None:
            violations.append(f"{relative}: module {module} has no layer")
        violations += [
            f"{relative} imports {name}"
            for name in names_imported(ast.parse(path.read_text(encoding="utf-8")))
            if not is_allowed(module, name)
        ]
    return sorted(violations)


def test_package_imports_point_one_way() -> None:
    assert (REPOSITORY / "pmemcache" / "pool.py").is_file()
    assert find_violations(REPOSITORY / "pmemcache", REPOSITORY / "integrations") == []


@pytest.mark.parametrize(
    ("file_name", "text", "violation"),
    [
        ("errors.py", "from pmemcache.pool import Pool", "imports pmemcache.pool.Pool"),
        ("errors.py", "from pmemcache import pool", "imports pmemcache.pool"),
        ("keys.py", "import pmemcache.stats", "imports pmemcache.stats"),
        ("pool.py", "import pmemcache", "imports pmemcache"),
        ("pool.py", "def f():\n    import django.core.cache", "imports django.core.cache"),
        ("pool.py", "from pmemcache import _engine", "imports pmemcache._engine"),
        (
            "tiered.py",
            "import pmemcache.integrations.django",
            "imports pmemcache.integrations.django",
        ),
        ("novel.py", "", "module novel has no layer"),
    ],
)
def test_planted_import_is_found(tmp_path: Path, file_name: str, text: str, violation: str) -> None:
    (tmp_path / file_name).write_text(text, encoding="utf-8")
    (found,) = find_violations(tmp_path, tmp_path / "none")
    assert found.startswith(file_name)
    assert found.endswith(violation)


@pytest.mark.parametrize(
    ("file_name", "text"),
    [
        ("config.py", "import os\nfrom pmemcache.errors import PmemCacheError"),
        ("binding.py", "from pmemcache import _engine, _short"),
        ("serializers.py", "import msgpack"),
        ("__init__.py", "from pmemcache.pool import Pool"),
    ],
)
def test_right_import_is_accepted(tmp_path: Path, file_name: str, text: str) -> None:
    (tmp_path / file_name).write_text(text, encoding="utf-8")
    assert find_violations(tmp_path, tmp_path / "none") == []


def test_integrations_import_their_framework_and_the_package(tmp_path: Path) -> None:
    integrations = tmp_path / "integrations"
    integrations.mkdir()
    (integrations / "django.py").write_text(
        "import django\nimport pmemcache.pool\n", encoding="utf-8"
    )
    assert find_violations(tmp_path / "none", integrations) == []
