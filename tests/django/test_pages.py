"""Pages and fragments that belong to something, and what is invalidated on commit."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.http import HttpResponse
from django.template import Context, Template, TemplateSyntaxError, engines
from django.template.response import TemplateResponse
from django.test import RequestFactory

from pmemcache.errors import LockTimeoutError
from pmemcache.integrations.django.pages import cache_page

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from django.http import HttpRequest
    from pytest_django.fixtures import SettingsWrapper

BACKEND = "pmemcache.integrations.django.PmemCache"
DUMMY = {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}
LOCMEM = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}


@pytest.fixture(autouse=True)
def entry(location: Path, settings: SettingsWrapper) -> dict[str, Any]:
    entry = {"BACKEND": BACKEND, "LOCATION": str(location)}
    settings.CACHES = {"default": entry}
    return entry


# Pages


class Site:
    """A view that counts how often it was asked."""

    def __init__(self, **options: Any) -> None:
        self.calls = 0
        self.during: Callable[[], None] = lambda: None
        options.setdefault("tags", lambda _request, city: (f"city:{city}", "cities"))
        self.view = cache_page(60, **options)(self._view)

    def _view(self, _request: HttpRequest, city: int) -> HttpResponse:
        self.calls += 1
        self.during()
        return HttpResponse(f"{city}: {self.calls}")

    def get(self, city: int, **headers: str) -> str:
        request = RequestFactory().get(f"/city/{city}", headers=headers)
        return self.view(request, city).content.decode()


def test_page_is_kept_until_one_of_its_tags_is_invalidated() -> None:
    site = Site()
    assert [site.get(7), site.get(7), site.get(8)] == ["7: 1", "7: 1", "8: 2"]

    caches["default"].invalidate("city:7")
    assert [site.get(7), site.get(8)] == ["7: 3", "8: 2"]
    caches["default"].invalidate("cities")
    assert [site.get(7), site.get(8)] == ["7: 4", "8: 5"]


def test_page_made_before_its_tag_was_invalidated_is_not_served() -> None:
    site = Site()
    site.during = lambda: caches["default"].invalidate("city:7")
    assert site.get(7) == "7: 1"
    site.during = lambda: None

    assert [site.get(7), site.get(7)] == ["7: 2", "7: 2"]


def test_page_made_while_the_tags_cannot_be_read_is_not_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_tags: Any) -> Any:
        message = "locked"
        raise LockTimeoutError(message)

    site = Site()
    with monkeypatch.context() as patch:
        patch.setattr(caches["default"]._shared.cache(), "generations", fail)
        assert site.get(7) == "7: 1"
    assert [site.get(7), site.get(7)] == ["7: 2", "7: 2"]


def test_page_varies_and_has_the_headers_of_djangos() -> None:
    @cache_page(60, tags=("t",), key_prefix="x")
    def view(_request: HttpRequest) -> HttpResponse:
        return HttpResponse("page", headers={"Vary": "Accept-Language"})

    request = RequestFactory().get("/")
    assert view(request)["Cache-Control"] == "max-age=60"
    assert caches["default"].keys("views.decorators.cache.cache_page.x.*")


def test_page_rendered_later_is_stored_too() -> None:
    calls: list[int] = []

    @cache_page(60, tags=("t",))
    def view(request: HttpRequest) -> TemplateResponse:
        calls.append(1)
        page = engines["django"].from_string("page {{ n }}")
        return TemplateResponse(request, page, {"n": len(calls)})

    def get() -> bytes:
        response = view(RequestFactory().get("/"))
        return bytes((response.render() if hasattr(response, "render") else response).content)

    assert [get(), get()] == [b"page 1", b"page 1"]
    caches["default"].invalidate("t")
    assert get() == b"page 2"


def test_async_view_is_cached() -> None:
    calls: list[int] = []

    @cache_page(60, tags=("t",))
    async def view(_request: HttpRequest) -> HttpResponse:
        calls.append(1)
        return HttpResponse(str(len(calls)))

    def get() -> bytes:
        return bytes(asyncio.run(view(RequestFactory().get("/"))).content)

    assert inspect.iscoroutinefunction(view)
    assert [get(), get()] == [b"1", b"1"]
    caches["default"].invalidate("t")
    assert get() == b"2"


def test_dummy_cache_caches_no_page_and_others_are_refused(settings: SettingsWrapper) -> None:
    settings.CACHES = {"default": DUMMY, "other": LOCMEM}

    site, other = Site(), Site(cache="other")
    assert [site.get(7), site.get(7)] == ["7: 1", "7: 2"]
    with pytest.raises(ImproperlyConfigured, match="'other' is a LocMemCache, which knows no tags"):
        other.get(7)


def test_one_str_is_no_list_of_tags() -> None:
    """Each of its letters would be a tag, and no page would ever be invalidated."""
    with pytest.raises(TypeError, match=r"write \('city',\)"):
        cache_page(60, tags="city")(lambda _request: HttpResponse())
    with pytest.raises(TypeError, match=r"write \('city:7',\)"):
        Site(tags=lambda _request, city: f"city:{city}").get(7)
    with pytest.raises(TypeError, match=r"write \['cities'\]"):
        caches["default"].invalidate_on_commit(keys="cities")


def test_every_page_has_tags_that_can_be_read_once() -> None:
    site = Site(tags=iter(["cities"]))
    assert [site.get(7), site.get(8)] == ["7: 1", "8: 2"]
    caches["default"].invalidate("cities")
    assert [site.get(7), site.get(8)] == ["7: 3", "8: 4"]


# Fragments

FRAGMENT = '{% load pmemcache %}{% cached 60 "city" n tags=tags %}{{ count }}{% endcached %}'


def _counting() -> Callable[[], int]:
    calls: list[int] = []

    def count() -> int:
        calls.append(1)
        return len(calls)

    return count


@pytest.mark.parametrize("tags", [["city:7", "cities"], "city:7 cities", ("city:7",)], ids=str)
def test_fragment_is_kept_until_one_of_its_tags_is_invalidated(tags: Any) -> None:
    template, count = Template(FRAGMENT), _counting()

    def render(n: int) -> str:
        return template.render(Context({"count": count, "n": n, "tags": tags}))

    assert [render(7), render(7), render(8)] == ["1", "1", "2"]
    caches["default"].invalidate("city:7")
    assert [render(7), render(7)] == ["3", "3"]


def test_fragment_without_tags_and_in_another_alias(
    settings: SettingsWrapper, entry: dict[str, Any]
) -> None:
    settings.CACHES = {"default": DUMMY, "template_fragments": entry, "off": DUMMY}
    count = _counting()
    source = "{% load pmemcache %}{% cached None name %}{{ count }}<b>{% endcached %}"
    for _ in range(2):
        assert Template(source).render(Context({"count": count, "name": "x"})) == "1<b>"
    source = (
        '{% load pmemcache %}{% cached 60 "x" tags="t" using="off" %}{{ count }}{% endcached %}'
    )
    assert [Template(source).render(Context({"count": count})) for _ in range(2)] == ["2", "3"]


def test_fragment_rendered_before_its_tag_was_invalidated_is_no_hit() -> None:
    calls: list[int] = []

    def count() -> int:
        calls.append(1)
        if len(calls) == 1:
            caches["default"].invalidate("t")
        return len(calls)

    context = {"count": count, "n": 7, "tags": "t"}
    assert [Template(FRAGMENT).render(Context(context)) for _ in range(3)] == ["1", "2", "2"]


@pytest.mark.parametrize(
    "tag",
    [
        "{% cached %}",
        "{% cached 60 %}",
        '{% cached 60 "x" tags="a" more %}',
        '{% cached 60 "x" tags="a" tags="b" %}',
        '{% cached "soon" "x" %}',
        '{% cached 60 "x" using="nowhere" %}',
    ],
)
def test_tag_written_wrongly_says_how(tag: str) -> None:
    with pytest.raises(TemplateSyntaxError, match="cached"):
        Template(f"{{% load pmemcache %}}{tag}{{% endcached %}}").render(Context())


# On commit


@pytest.mark.django_db(transaction=True)
def test_tags_and_keys_are_invalidated_on_commit() -> None:
    cache = caches["default"]
    cache.set("page", 1, tags=("city:7",))
    cache.set_many({"a": 1, "b": 1})
    with transaction.atomic():
        cache.invalidate_on_commit("city:7", keys=["a", "b"])
        assert cache.get_many(["page", "a", "b"]) == {"page": 1, "a": 1, "b": 1}
    assert cache.get_many(["page", "a", "b"]) == {}

    cache.set("page", 1, tags=("city:7",))
    cache.set("v2", 1, version=2)
    cache.invalidate_on_commit("city:7", keys=["v2"], version=2, using="default")
    assert cache.get("page") is None  # at once where there is no transaction
    assert cache.get("v2", version=2) is None


@pytest.mark.django_db(transaction=True)
def test_nothing_is_invalidated_on_rollback() -> None:
    cache = caches["default"]
    cache.set("page", 1, tags=("city:7",))
    with transaction.atomic():
        cache.invalidate_on_commit("city:7")
        transaction.set_rollback(True)

    assert cache.get("page") == 1
