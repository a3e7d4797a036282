"""`Codec`: everything that happens to a value between the caller and the pool.

A value is serialized, compressed where that helps, put into an envelope where there is something to
say, and signed where there is a secret. The tag says all of it, so every entry reads well whatever
the settings of its writer were:

    ====  ==============================================
    bits  meaning
    ====  ==============================================
    0-4   the form of the payload, see `serializers`
    0x20  signed: `signing.SIGNATURE_BYTES` in front
    0x40  in an envelope, see `envelope`
    0x80  compressed, see `compression`
    ====  ==============================================
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from pmemcache.compression import Compression, decompress
from pmemcache.envelope import Envelope
from pmemcache.errors import ConfigurationError
from pmemcache.serializers import (
    PICKLE,
    PLAIN,
    TAG_PICKLE,
    DecodeError,
    decode,
    encode,
    serializer_of,
)
from pmemcache.signing import Signer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pmemcache.serializers import Serializer

__all__ = ["ENVELOPED", "PLAIN_TAGS", "Codec"]

SIGNED: Final = 0x20
ENVELOPED: Final = 0x40
COMPRESSED: Final = 0x80
_FORM: Final = 0x1F
PLAIN_TAGS: Final = SIGNED
"""A tag below this is a form and nothing else."""


class Codec:
    """Turns values into payloads and tags, and back.

    Args:
        serializer: For values without a raw form.
        compression: None: payloads stay as they are.
        signer: None: nothing is signed, and signed entries are not read. Else only those of its
            secrets are.
        readers: Serializers of a user's own that only read, for a pool with mixed values.

    Raises:
        ConfigurationError: One of them is something else.
    """

    def __init__(
        self,
        serializer: str | Serializer = "pickle",
        *,
        compression: Compression | None = None,
        signer: Signer | None = None,
        readers: Iterable[Serializer] = (),
    ) -> None:
        for name, given, kind in (
            ("compression", compression, Compression),
            ("signer", signer, Signer),
        ):
            if not (given is None or isinstance(given, kind)):
                # Not the value: it may be a secret.
                message = f"{name} is a {type(given).__name__}: give a pmemcache.{kind.__name__}"
                raise ConfigurationError(message)
        self._serializer = serializer_of(serializer)
        self._compression = compression
        self._signer = signer
        own = [self._serializer, *map(serializer_of, readers)]
        self._loads = {reader.tag: reader.loads for reader in own}

    @property
    def is_plain(self) -> bool:
        """Whether a tag below `PLAIN_TAGS` says all about a payload."""
        return self._signer is None

    @property
    def pickles(self) -> bool:
        """Whether values may be pickled, so that the pool is trusted with pickles."""
        return self._serializer is PICKLE or self._serializer is PLAIN

    @staticmethod
    def is_faithful(tag: int) -> bool:
        """Whether what is decoded is the very value that was encoded, types and all."""
        return tag & _FORM <= TAG_PICKLE

    def encode(
        self, key: bytes | str, value: Any, envelope: Envelope | None = None
    ) -> tuple[bytes, int]:
        """Return the payload and the tag to store for *value*.

        Raises:
            Exception: Whatever the serializer raises for a value that it cannot serialize.
        """
        payload, tag = encode(value, self._serializer)
        if self._compression is not None:
            compressed = self._compression.compress(payload)
            if compressed is not None:
                payload, tag = compressed, tag | COMPRESSED
        if envelope is not None:
            payload, tag = envelope.seal(payload), tag | ENVELOPED
        if self._signer is not None:
            tag |= SIGNED
            payload = self._signer.sign(_key_bytes(key), payload, tag)
        return payload, tag

    def unwrap(self, key: bytes | str, payload: bytes, tag: int) -> tuple[Envelope | None, bytes]:
        """Return the envelope of a stored entry, or None, and what `decode` reads its value from.

        Raises:
            DecodeError: The signature is missing or wrong, or the envelope is none.
        """
        if self._signer is not None:
            payload = self._verified(self._signer, key, payload, tag)
        elif tag & SIGNED:
            message = "the entry is signed, and this cache has no secret to check it with"
            raise DecodeError(message)
        if not tag & ENVELOPED:
            return None, payload
        try:
            return Envelope.unseal(payload)
        except (ValueError, struct.error) as error:
            message = f"the envelope of an entry with tag {tag} cannot be read: {error}"
            raise DecodeError(message) from error

    def decode(self, payload: bytes, tag: int) -> Any:
        """Return the value of an unwrapped payload.

        Raises:
            DecodeError: It cannot be read.
        """
        if tag & COMPRESSED:
            try:
                payload = decompress(payload)
            except Exception as error:  # each algorithm has its own errors
                message = f"an entry with tag {tag} cannot be decompressed: {error!r}"
                raise DecodeError(message) from error
        form = tag & _FORM
        loads = self._loads.get(form)
        if loads is None:
            return decode(payload, form)
        try:
            return loads(payload)
        except Exception as error:  # unpickling runs any code and raises anything
            message = f"an entry with tag {tag} cannot be read: {error!r}"
            raise DecodeError(message) from error

    def _verified(self, signer: Signer, key: bytes | str, payload: bytes, tag: int) -> bytes:
        verified = signer.verify(_key_bytes(key), payload, tag) if tag & SIGNED else None
        if verified is None:
            message = "the entry is not signed by a secret of this cache"
            raise DecodeError(message)
        return verified


def _key_bytes(key: bytes | str) -> bytes:
    return key.encode() if isinstance(key, str) else key
