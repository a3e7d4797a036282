"""The admin page of the pools: what it shows, to whom, and what its button does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.contrib.auth.models import Permission, User
from django.core.cache import cache, caches
from django.test import Client

from pmemcache.integrations.django.aliases import pool_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_django.fixtures import SettingsWrapper

PAGE = "/admin/pmemcache/pool/"
CLEAR = f"{PAGE}clear/default/"

pytestmark = pytest.mark.django_db


def staff(*permissions: str) -> Client:
    user = User.objects.create_user(f"staff-{'-'.join(permissions)}", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def text_of(client: Client) -> str:
    response = client.get(PAGE)
    assert response.status_code == 200
    return response.content.decode()


def test_page_shows_the_figures_of_the_pool(admin_client: Client) -> None:
    cache.set("city:7", "Lisbon")
    cache.set("city:8", "Porto")
    for _read in range(10):
        cache.get("city:7")
    for missing in range(5):
        cache.get(missing)

    text = text_of(admin_client)

    # 2 reads of the pool make it hot, and 8 are answered by the hot tier.
    assert 'aria-label="hot 53.3 %, warm 13.3 %, misses 33.3 %"' in text
    assert "<td><code>:1:city</code></td>" in text
    assert "<dt>Entries</dt><dd>3</dd>" in text  # that of the workers' report is one
    assert "<td><code>(pmemcache&#x27;s own)</code></td>" in text
    assert str(pool_of("default").request.path) in text


def test_page_counts_what_the_site_itself_looked_up_only(admin_client: Client) -> None:
    cache.set("city:7", "Lisbon")
    cache.get("city:7")
    for _look in range(3):
        text_of(admin_client)

    assert "<dt>Look-ups</dt><dd>1</dd>" in text_of(admin_client)


def test_page_says_so_when_a_pool_cannot_be_read(admin_client: Client, tmp_path: Path) -> None:
    (tmp_path / "site.pool").write_text("something else", encoding="utf-8")

    text = text_of(admin_client)

    assert "The pool cannot be read" in text
    assert (tmp_path / "site.pool").read_text(encoding="utf-8") == "something else"


def test_page_without_a_pmemcache_says_so(admin_client: Client, settings: SettingsWrapper) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
    assert "No entry of CACHES is a pmemcache" in text_of(admin_client)


def test_aliases_of_one_pool_are_shown_together(
    admin_client: Client, set_caches: Callable[..., None]
) -> None:
    set_caches(default={}, sessions={"KEY_PREFIX": "sessions"})
    caches["default"].set("one", 1)
    caches["sessions"].set("two", 2)

    text = text_of(admin_client)

    assert "<h2>default, sessions</h2>" in text
    assert "<code>sessions:1:two</code>" in text
    assert f"{PAGE}clear/sessions/" in text


def test_keys_are_escaped(admin_client: Client) -> None:
    cache.set("<script>alert(1)</script>", 1)
    assert "<script>alert" not in text_of(admin_client)


def test_page_is_listed_in_the_admin(admin_client: Client) -> None:
    assert PAGE in admin_client.get("/admin/").content.decode()


def test_page_is_for_staff_with_the_permission(client: Client) -> None:
    assert client.get(PAGE).status_code == 302
    assert staff().get(PAGE).status_code == 403
    assert "Clear default" not in text_of(staff("view_pool"))
    assert "Clear default" in text_of(staff("view_pool", "clear_pool"))


def test_button_clears_the_pool(admin_client: Client) -> None:
    cache.set("city:7", "Lisbon")

    response = admin_client.post(CLEAR, follow=True)

    assert response.redirect_chain == [(PAGE, 302)]
    assert "default was cleared" in response.content.decode()
    assert cache.get("city:7") is None


def test_nobody_clears_without_permission_or_by_a_link(
    client: Client, admin_client: Client
) -> None:
    cache.set("city:7", "Lisbon")

    assert client.post(CLEAR).status_code == 302  # to the login
    assert staff("view_pool").post(CLEAR).status_code == 403
    assert admin_client.get(CLEAR).status_code == 405
    assert cache.get("city:7") == "Lisbon"


def test_nobody_clears_without_the_csrf_token(admin_user: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    cache.set("city:7", "Lisbon")

    assert client.post(CLEAR).status_code == 403
    assert cache.get("city:7") == "Lisbon"

    client.get(PAGE)
    token = client.cookies["csrftoken"].value
    assert client.post(CLEAR, {"csrfmiddlewaretoken": token}).status_code == 302
    assert cache.get("city:7") is None


def test_unknown_alias_is_not_found(admin_client: Client) -> None:
    assert admin_client.post(f"{PAGE}clear/other/").status_code == 404
