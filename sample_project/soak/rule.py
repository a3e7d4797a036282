"""What every page has to be: the same bytes as those of a site that has no cache.

The rule is learnt from such a site, one digest for each address. Three things differ from answer to
answer and are taken out before the digest: the token against forged forms, the button that shows
whether the city is the visitor's favourite, and the revision, which every edit of a city makes
another. Revision and favourite are judged by themselves.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from compare.staleness import RevisionLedger, is_stale

if TYPE_CHECKING:
    from compare.http_client import Response

OK = 200
_VARYING = re.compile(
    rb'(name="csrfmiddlewaretoken" value="|revision |"revision": )[A-Za-z0-9]+(?=["\s,}])'
)
_FAVOURITE = re.compile(
    rb'<button class="favourite(?: is-on)?" name="action" value="(?:add|remove)">[^<]*</button>'
)


def digest(body: bytes) -> str:
    """Return the digest of a page without what differs from answer to answer."""
    return hashlib.sha256(_FAVOURITE.sub(b"", _VARYING.sub(rb"\1", body))).hexdigest()


def shows_favourite(body: bytes) -> bool:
    """Whether the page says that its city is one of the visitor's favourites."""
    return b'class="favourite is-on"' in body


class Rule:
    """The digests of all addresses, and what is wrong with an answer."""

    def __init__(self) -> None:
        self.ledger = RevisionLedger()
        self._digests: dict[str, str] = {}

    def forget_edits(self) -> None:
        """Begin anew with a database in which no city was edited."""
        self.ledger = RevisionLedger()

    def learn(self, path: str, body: bytes) -> None:
        """Note what *path* has to answer."""
        self._digests[path] = digest(body)

    def fault(self, path: str, response: Response) -> str | None:
        """Return what is wrong with the answer of *path*, `None` when it is right."""
        if response.status != OK:
            return f"{path} is answered with status {response.status}"
        if digest(response.body) != self._digests[path]:
            return f"{path} shows something else than the site without a cache"
        return None

    def stale(self, response: Response, floor: int) -> bool:
        """Whether an answer is older than an edit that was answered before it was asked for.

        Args:
            floor: The revision that the ledger gave when the request was sent.
        """
        revision = response.headers.get("x-revision")
        return revision is not None and is_stale(int(revision), floor)
