"""`manage.py show_deploy`: the next release reads what the last one cached, or misses it."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

from compare.client import ask_all, errors
from compare.stage import Setting

import demonstrations
from demonstrations.demonstration import Demonstration

RELEASES = Path(demonstrations.__file__).with_name("releases")
CHANGES = {
    "stay": "a NamedTuple that got one more field",
    "rating": "a class that got another name",
    "review": "a class that moved to another module",
}
NOTE = (
    "What pmemcache cannot know: an object whose pickle still loads, such as a dataclass that got "
    "one more field, comes back as it was stored. For such a change give the alias another VERSION."
)


class Command(Demonstration):
    """A value that cannot be read is a miss, not an error page."""

    help = "Deploy a release with changed classes: no error pages, there and back."
    title = "Deploy with changed classes"

    def show(self, stack: contextlib.ExitStack) -> None:
        """Cache objects with one release, serve them with the next, and go back."""
        for kind, change in CHANGES.items():
            self.say(f"  {kind}: {change}")
        ours = Setting(cache="pmemcache", location=self.pool(stack), lifetime="restart", workers=2)
        redis = self.redis(stack, ours.cache_bytes)
        if redis is not None:
            location = f"unix://{redis.socket_path}"
            wrong = self._deploy("RedisCache", replace(ours, cache="redis", location=location))
            self.claim("on RedisCache a changed class is an error page", holds=wrong > 0)
        wrong = self._deploy("pmemcache", ours)
        self.claim("on pmemcache there is no error page, forwards and backwards", holds=wrong == 0)
        self.say(NOTE)

    def _deploy(self, name: str, setting: Setting) -> int:
        """Serve one release after the other on one cache; return the number of error pages."""
        wrong = 0
        for release in ("one", "two", "one"):
            with contextlib.ExitStack() as stack:
                server = self.served(stack, _with_release(setting, release))
                answers = ask_all(server, [f"/offers/{kind}/" for kind in CHANGES] * 4)
                wrong += errors(answers)
                expected = f"release {release}: ".encode()
                right = sum(answer.body.startswith(expected) for answer in answers)
                self.say(
                    f"{name}, release {release}: {len(answers)} pages, {right} right, "
                    f"{errors(answers)} error pages"
                )
        return wrong


def _with_release(setting: Setting, release: str) -> Setting:
    """Return the setting of a site with that release on its path."""
    more = {
        "DJANGO_SETTINGS_MODULE": "demonstrations.settings",
        "PYTHONPATH": str(RELEASES / release),
    }
    return replace(setting, more=more)
