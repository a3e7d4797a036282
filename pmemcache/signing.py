"""Signatures for pools whose files others might write: what was not signed is not read.

A signature covers the key, the tag and the payload, so that no entry can be moved to another key.
It is a keyed BLAKE2b of 16 bytes (RFC 7693).
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from pmemcache.errors import ConfigurationError

__all__ = ["SIGNATURE_BYTES", "Signer"]

SIGNATURE_BYTES: Final = 16
_SECRET_MIN_BYTES: Final = 16
_SECRET_MAX_BYTES: Final = 64


class Signer:
    """Signs with the first secret and accepts the signatures of all.

    To rotate, put the new secret in front and take the old one away once its entries have expired.

    Args:
        secrets: Each of 16 to 64 random bytes, the same in all processes.

    Raises:
        ConfigurationError: There is no secret, or one is no bytes, too short or too long.
    """

    def __init__(self, *secrets: bytes) -> None:
        given: tuple[object, ...] = secrets
        usable = [len(secret) if isinstance(secret, bytes) else 0 for secret in given]
        if not usable or min(usable) < _SECRET_MIN_BYTES or max(usable) > _SECRET_MAX_BYTES:
            message = "give one secret or more, each of 16 to 64 random bytes"
            raise ConfigurationError(message)
        self._secrets = secrets

    def sign(self, key: bytes, payload: bytes, tag: int) -> bytes:
        """Return *payload* with its signature in front."""
        return _signature(self._secrets[0], key, payload, tag) + payload

    def verify(self, key: bytes, signed: bytes, tag: int) -> bytes | None:
        """Return the payload, or None when no secret of ours signed it for this key and tag."""
        given, payload = signed[:SIGNATURE_BYTES], signed[SIGNATURE_BYTES:]
        for secret in self._secrets:
            if hmac.compare_digest(_signature(secret, key, payload, tag), given):
                return payload
        return None


def _signature(secret: bytes, key: bytes, payload: bytes, tag: int) -> bytes:
    mac = hashlib.blake2b(key=secret, digest_size=SIGNATURE_BYTES)
    mac.update(b"%d:%d:" % (tag, len(key)))
    mac.update(key)
    mac.update(payload)
    return mac.digest()
