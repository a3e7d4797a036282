"""A model without a table: what the admin lists, and what its permissions are about."""

from __future__ import annotations

from django.db import models


class Pool(models.Model):
    """The pools of the site, on one page of the admin."""

    class Meta:
        """No table, no rows: the figures come from the pools themselves."""

        managed = False
        default_permissions = ()
        permissions = (
            ("view_pool", "Can view the pools of the cache"),
            ("clear_pool", "Can clear the pools of the cache"),
        )
        verbose_name = "pool"
        verbose_name_plural = "pools"

    def __str__(self) -> str:
        """Name the kind; there are no rows to tell apart."""
        return "pool"
