"""`{% cached %}`: Django's `{% cache %}` for fragments that belong to something.

    {% load pmemcache %}
    {% cached 300 "city" city.id tags=city.cache_tags %} ... {% endcached %}

`caches["default"].invalidate("city:7")` then makes every fragment with this tag a miss.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from django.core.cache import caches
from django.core.cache.utils import make_template_fragment_key
from django.template import Library, Node, TemplateSyntaxError
from django.template.base import token_kwargs

from pmemcache.integrations.django.tagging import tagged_cache

if TYPE_CHECKING:
    from django.template import Context, NodeList
    from django.template.base import FilterExpression, Parser, Token

register = Library()

_USAGE = (
    '{% cached TIMEOUT NAME ... tags=... using="alias" %}: timeout, name, what it varies on, and '
    "then tags and using, if any"
)


class CachedNode(Node):
    """A fragment, rendered when the cache has it not."""

    def __init__(
        self,
        nodelist: NodeList,
        arguments: list[FilterExpression],
        options: dict[str, FilterExpression],
    ) -> None:
        self.nodelist = nodelist
        self.arguments = arguments
        self.options = options

    def render(self, context: Context) -> str:
        """Return the fragment, from the cache or rendered once for all who ask."""
        timeout, name, *varies = (argument.resolve(context) for argument in self.arguments)
        cache = tagged_cache(self._alias(context))
        rendered: str = cache.get_or_set(
            make_template_fragment_key(str(name), varies),
            functools.partial(self.nodelist.render, context),
            _seconds(timeout),
            tags=self._tags(context),
        )
        return rendered

    def _alias(self, context: Context) -> str:
        given = self.options.get("using")
        if given is None:
            return "template_fragments" if "template_fragments" in caches else "default"
        alias = str(given.resolve(context))
        if alias not in caches:
            message = f"CACHES has no alias {alias!r}, which {{% cached %}} is to use"
            raise TemplateSyntaxError(message)
        return alias

    def _tags(self, context: Context) -> tuple[str, ...]:
        given = self.options.get("tags")
        tags: Any = () if given is None else given.resolve(context)
        return tuple(tags.split()) if isinstance(tags, str) else tuple(map(str, tags or ()))


def _seconds(timeout: Any) -> int | None:
    try:
        return None if timeout is None else int(timeout)
    except (TypeError, ValueError):
        message = f"{{% cached %}} got the timeout {timeout!r}: give a number of seconds, or None"
        raise TemplateSyntaxError(message) from None


@register.tag("cached")
def cached(parser: Parser, token: Token) -> CachedNode:
    """Cache a fragment: `{% cached 300 "city" city.id tags="city:7 cities" %}`.

    Args:
        parser: The template's.
        token: Timeout in seconds (None: for ever), name, what the fragment varies on; `tags`, a
            list, or a str with spaces between them; `using`, an alias of `CACHES`.
    """
    bits = token.split_contents()[1:]
    plain = [bit for bit in bits if not bit.startswith(("tags=", "using="))]
    options = token_kwargs(bits[len(plain) :], parser)
    if len(plain) < 2 or bits[: len(plain)] != plain or len(options) + len(plain) != len(bits):  # noqa: PLR2004 - timeout and name
        raise TemplateSyntaxError(_USAGE)
    nodelist = parser.parse(("endcached",))
    parser.delete_first_token()
    return CachedNode(nodelist, [parser.compile_filter(bit) for bit in plain], options)
