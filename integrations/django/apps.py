"""What `INSTALLED_APPS` with `"pmemcache.integrations.django"` has more: checks, an admin page.

The cache works without it.
"""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import request_finished

from pmemcache.integrations.django.aliases import pools
from pmemcache.integrations.django.checks import check_caches, check_default_for_deployment
from pmemcache.integrations.django.workers import add_to_report


class PmemCacheConfig(AppConfig):
    """The app `pmemcache`."""

    name = "pmemcache.integrations.django"
    label = "pmemcache"
    verbose_name = "Cache"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the checks, and let each worker tell what it does."""
        checks.register(check_caches, checks.Tags.caches)
        checks.register(check_default_for_deployment, checks.Tags.caches, deploy=True)
        request_finished.connect(report, dispatch_uid="pmemcache.report")


def report(**_signal: Any) -> None:
    """Add what this process did to what the workers of each pool tell; costs a microsecond."""
    try:
        found = pools()
    except ImproperlyConfigured:  # whoever uses that cache is told
        return
    for shared in found:
        add_to_report(shared)
