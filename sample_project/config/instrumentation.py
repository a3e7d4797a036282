"""What one request cost, told in its response headers.

`X-Cache-Hits` and `X-Cache-Misses` count the lookups made through `places.caching`;
`X-Db-Queries` the statements sent to the database; `X-Worker-Pid` names the process that
answered. The comparison of cache backends reads them; a few microseconds a request.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from django.db import connection
from places.caching import LookupCounts, lookup_counts

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse


class QueryCounter:
    """A database execute wrapper that counts statements."""

    def __init__(self) -> None:
        """Start at zero."""
        self.queries = 0

    def __call__(self, execute: Callable[..., Any], *args: Any) -> Any:
        """Count one statement and pass it on: *args* are SQL, parameters, many, context."""
        self.queries += 1
        return execute(*args)


class InstrumentationMiddleware:
    """Puts the counts of a request into the headers of its response."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        """Wrap *get_response*; the outermost place also sees the session being saved."""
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer *request* and add the four headers."""
        counts = LookupCounts()
        counter = QueryCounter()
        token = lookup_counts.set(counts)
        try:
            with connection.execute_wrapper(counter):
                response = self.get_response(request)
        finally:
            lookup_counts.reset(token)
        response["X-Cache-Hits"] = str(counts.hits)
        response["X-Cache-Misses"] = str(counts.misses)
        response["X-Db-Queries"] = str(counter.queries)
        response["X-Worker-Pid"] = str(os.getpid())
        return response
