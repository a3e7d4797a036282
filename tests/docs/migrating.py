"""Run the examples of a page of `docs/migrating` under one of its two settings.

    python tests/docs/migrating.py PAGE before|after FOLDER

Blocks `before` and `after` are the settings. The examples of blocks `both` run under each, those of
`new` after the change only. Files and sockets of the page are taken to be in FOLDER. Prints what
failed.
"""

from __future__ import annotations

import doctest
import re
import sys
from pathlib import Path
from typing import Any, Final

import django
from django.conf import settings

PLACES: Final = ("/mnt/pmem0", "/run/redis", "/run/memcached", "/var/tmp")  # noqa: S108 - as a page has it


def blocks(page: str, kind: str) -> list[str]:
    """Return the blocks of a kind."""
    return re.findall(rf"^```python {kind}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


def configure(block: str, folder: str) -> None:
    """Set Django up as a block of the page says."""
    for place in PLACES:
        block = block.replace(place, folder)
    found: dict[str, Any] = {}
    exec(block, found)  # noqa: S102 - the page's own settings
    settings.configure(CACHES=found["CACHES"], SECRET_KEY="for this page only")  # noqa: S106
    django.setup()


def main() -> None:
    """Run the examples; exit with 1 when one failed."""
    path, phase, folder = sys.argv[1:]
    page = Path(path).read_text(encoding="utf-8")
    (block,) = blocks(page, phase)
    configure(block, folder)
    from django.core.cache import cache  # noqa: PLC0415 - needs settings

    cache.clear()
    examples = blocks(page, "both") + (blocks(page, "new") if phase == "after" else [])
    text = "\n".join(examples)
    test = doctest.DocTestParser().get_doctest(text, {"cache": cache}, path, path, 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(test)
    print(f"{runner.tries} examples, {runner.failures} failed")  # noqa: T201
    sys.exit(bool(runner.failures) or not runner.tries)


if __name__ == "__main__":
    main()
