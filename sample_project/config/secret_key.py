"""The SECRET_KEY of a site that nobody configured: made once per build folder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from django.core.management.utils import get_random_secret_key

if TYPE_CHECKING:
    from pathlib import Path


def secret_key(path: Path) -> str:
    """Return the key kept in *path*, making it on first use.

    Worker processes that start together agree on one key: each writes its own proposal, and the
    hard link that arrives first wins. The file is readable by its owner only.
    """
    if not path.exists():
        proposal = path.with_name(f"{path.name}.{os.getpid()}")
        proposal.touch(mode=0o600)
        proposal.write_text(get_random_secret_key(), encoding="ascii")
        try:
            path.hardlink_to(proposal)
        except FileExistsError:
            pass  # Another worker was first; its key is the one everybody uses.
        finally:
            proposal.unlink()
    return path.read_text(encoding="ascii")
