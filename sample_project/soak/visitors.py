"""The load: visitors who read pages, edit cities and keep favourites, as fast as they are answered.

A request whose connection ends without an answer, because its worker was killed, is sent again as a
reverse proxy would send it, unless it was an edit. Everything else that is not the right answer is
a fault.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from compare.http_client import BadResponseError, Response, exchange

from soak.rule import OK, shows_favourite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compare.workload import City

    from soak.rule import Rule

STUCK_SECONDS = 30.0
MOST_TRIES = 5
REDIRECT = 302
EDIT_SHARE = 0.04
FAVOURITE_SHARE = 0.03
_TOKEN = re.compile(rb'name="csrfmiddlewaretoken" value="([^"]+)"')
OTHER_SHARE = 0.05
"""Of the requests; so every worker soon has made all that it makes once for each kind of page."""
OTHER_PATHS = ("/", "/countries/", "/search/?q=munich", "/world.svg", "/about/")


def addresses(cities: Sequence[City]) -> list[str]:
    """Return every address that is read, each once."""
    paths = [path.format(city.geonameid) for city in cities for path in _CITY_PATHS]
    countries = dict.fromkeys(f"/country/{city.country}/" for city in cities)
    return [*paths, *countries, *OTHER_PATHS]


_CITY_PATHS = ("/city/{}/", "/api/city/{}/", "/api/city/{}/nearby/")


@dataclass
class Tally:
    """What all visitors of one stage saw."""

    requests: int = 0
    edits: int = 0
    favourites: int = 0
    forgotten_favourites: int = 0
    stale: int = 0
    cut: int = 0
    faults: list[str] = field(default_factory=list)
    requests_per_worker: dict[str, int] = field(default_factory=dict)


class Visitors:
    """Sends requests over a number of connections for a while."""

    def __init__(self, socket_path: str, rule: Rule, cities: Sequence[City], *, seed: int) -> None:
        self.tally = Tally()
        self._socket_path = socket_path
        self._rule = rule
        self._cities = cities
        self._paths = addresses(cities)
        self._sources = random.Random(seed)

    async def run(self, connections: int, seconds: float) -> None:
        """Send requests over so many *connections* at once; each finishes its last one."""
        deadline = time.monotonic() + seconds
        await asyncio.gather(
            *(
                self._visitor(random.Random(self._sources.random()), deadline)
                for _one in range(connections)
            )
        )

    async def _visitor(self, source: random.Random, deadline: float) -> None:
        favourites = _Favourites()
        while time.monotonic() < deadline:
            kind = source.random()
            city = source.choice(self._cities)
            if kind < EDIT_SHARE:
                await self._edit(city)
            elif kind < EDIT_SHARE + FAVOURITE_SHARE:
                await self._add_favourite(city, favourites)
            elif kind < EDIT_SHARE + FAVOURITE_SHARE + OTHER_SHARE:
                await self._read(source.choice(OTHER_PATHS), favourites)
            else:
                await self._read(source.choice(self._paths), favourites)

    async def _read(self, path: str, favourites: _Favourites) -> Response | None:
        floor = self._rule.ledger.floor(_city_of(path))
        # The home page lists the favourites: it is learnt and asked for as somebody who has none.
        cookies = favourites.headers() if path.startswith("/city/") else {}
        response = await self._ask("GET", path, headers=cookies)
        if response is None:
            return None
        if fault := self._rule.fault(path, response):
            self._note_fault(fault)
        self.tally.stale += self._rule.stale(response, floor)
        city_id = _city_of(path)
        if shows_favourite(response.body) and city_id not in favourites.cities:
            self._note_fault(f"{path} shows a favourite that its visitor never chose")
        if city_id in favourites.cities and path.startswith("/city/"):
            self.tally.forgotten_favourites += not shows_favourite(response.body)
        return response

    async def _edit(self, city: City) -> None:
        response = await self._ask("POST", f"/api/city/{city.geonameid}/revision/")
        if response is None:
            return
        self.tally.edits += 1
        if response.status == OK:
            self._rule.ledger.acknowledge(city.geonameid, json.loads(response.body)["revision"])
        else:
            self._note_fault(f"an edit is answered with status {response.status}")

    async def _add_favourite(self, city: City, favourites: _Favourites) -> None:
        """Press the button of a city's page, with the cookies of the visitor."""
        page = await self._read(f"/city/{city.geonameid}/", favourites)
        token = None if page is None else _TOKEN.search(page.body)
        if page is None or token is None:
            return
        favourites.keep_cookies(page)
        # From now on the page may show it, even if the answer gets lost.
        favourites.cities.add(city.geonameid)
        form = {"action": "add", "csrfmiddlewaretoken": token[1].decode()}
        response = await self._ask(
            "POST",
            f"/city/{city.geonameid}/favourite/",
            headers={
                **favourites.headers(),
                "Content-Type": "application/x-www-form-urlencoded",
            },
            body=urlencode(form).encode(),
        )
        if response is None:
            return
        self.tally.favourites += 1
        favourites.keep_cookies(response)
        if response.status != REDIRECT:
            self._note_fault(f"a new favourite is answered with status {response.status}")

    async def _ask(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> Response | None:
        """Return the answer; `None` when there is none that can be judged."""
        self.tally.requests += 1
        for _try in range(MOST_TRIES if method == "GET" else 1):
            asked = exchange(self._socket_path, method, path, headers=headers or {}, body=body)
            try:
                response = await asyncio.wait_for(asked, STUCK_SECONDS)
            except asyncio.TimeoutError:
                self._note_fault(f"{path} was not answered in {STUCK_SECONDS:g} s")
                return None
            except (BadResponseError, ConnectionResetError, BrokenPipeError):
                self.tally.cut += 1
                continue
            except OSError as error:
                self._note_fault(f"{path}: {error!r}")
                return None
            worker = response.headers.get("x-worker-pid", "none")
            counts = self.tally.requests_per_worker
            counts[worker] = counts.get(worker, 0) + 1
            return response
        if method == "GET":
            self._note_fault(f"{path} was cut {MOST_TRIES} times in a row")
        return None

    def _note_fault(self, fault: str) -> None:
        self.tally.faults.append(fault)


@dataclass
class _Favourites:
    """What one visitor has chosen, and the cookies that prove it."""

    cities: set[int] = field(default_factory=set)
    cookies: dict[str, str] = field(default_factory=dict)

    def keep_cookies(self, response: Response) -> None:
        for line in response.cookies:
            for name, morsel in SimpleCookie(line).items():
                self.cookies[name] = morsel.value

    def headers(self) -> dict[str, str]:
        if not self.cookies:
            return {}
        return {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}


def _city_of(path: str) -> int:
    """Return the city that a page is about, 0 for none."""
    return int(next(filter(str.isdigit, path.split("/")), 0))
