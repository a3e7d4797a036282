"""An edited or deleted city is forgotten by the cache, whoever edits it: admin, shell or command.

`bulk_create` and `QuerySet.update` send no signals; what uses them forgets by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver

from places.caching import forget_after_commit
from places.models import City

if TYPE_CHECKING:
    from django.db.models.base import ModelBase


@receiver([post_save, post_delete], sender=City, dispatch_uid="places.forget")
def forget(sender: ModelBase, instance: City, **_: Any) -> None:  # noqa: ARG001 - Django's
    """Forget what shows the city, once the change is committed."""
    forget_after_commit(instance)
