"""Django's cache backend: `CACHES = {"default": {"BACKEND": "<this module>.PmemCache", ...}}`."""

from pmemcache.integrations.django.backend import PmemCache

__all__ = ["PmemCache"]
