"""`manage.py show_redis_stopped`: what a site does when the server of its cache ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compare.client import ask_all, errors
from compare.stage import Setting

from demonstrations.demonstration import Demonstration

if TYPE_CHECKING:
    import contextlib

PAGES = 24


class Command(Demonstration):
    """There is no server to stop."""

    help = "Stop Redis: its site answers with errors, that of pmemcache serves on."
    title = "Redis is stopped"

    def show(self, stack: contextlib.ExitStack) -> None:
        """Serve the site twice, on Redis and on pmemcache, then stop Redis."""
        paths = [f"/city/{city.geonameid}/" for city in self.cities(PAGES)]
        ours = Setting(cache="pmemcache", location=self.pool(stack))
        sites = {"pmemcache": self.served(stack, ours)}
        redis = self.redis(stack, ours.cache_bytes)
        if redis is not None:
            location = f"unix://{redis.socket_path}"
            sites["RedisCache"] = self.served(stack, Setting(cache="redis", location=location))
        for name, server in sites.items():
            wrong = errors(ask_all(server, paths))
            self.say(f"{name}: {PAGES} pages read, {wrong} errors")
        if redis is not None:
            redis.process.terminate()
            redis.process.wait()
            self.say("Redis was stopped. The same pages again:")
        found = {name: errors(ask_all(server, paths)) for name, server in sites.items()}
        for name, wrong in found.items():
            self.say(f"{name}: {PAGES} pages asked for, {wrong} answered with an error page")
        self.claim("the site on pmemcache serves on", holds=found["pmemcache"] == 0)
        if redis is not None:
            self.claim("the site on RedisCache does not", holds=found["RedisCache"] > 0)
