"""Turn values into the bytes and the tag byte of an entry, and back.

The tag says how to read the payload, so a value can be read whatever serializer its writer chose:

    ===  ==========================================================
    tag  payload
    ===  ==========================================================
    0    `bytes`, as they are
    1    `str`, in UTF-8
    2    `int`, in decimal ASCII: the form that `Pool.incr` counts in
    3    pickle
    4    JSON
    5    MessagePack
    6    plain data, or a pickle: see `plain`
    8    and up to 31: a user's own, see `Serializer`
    ===  ==========================================================

A tag is at most 31. The bits above say what was done to the payload afterwards, see `codec`.

Tags 0 to 2 are for exactly these types. A subclass (`bool`, `IntEnum`, `SafeString`) has more to it
than its digits or characters, so it goes through the serializer.

One law: only the payload of an int reads as a decimal integer. A `str` or `bytes` of digits goes
through pickle, so `Pool.incr` needs no look at the tag to refuse them.
"""

from __future__ import annotations

import importlib
import json
import pickle
from typing import TYPE_CHECKING, Any, Final, Protocol

from pmemcache.errors import ConfigurationError, PmemCacheError
from pmemcache.plain import PlainSerializer

if TYPE_CHECKING:
    from collections.abc import Callable

TAG_BYTES: Final = 0
TAG_STR: Final = 1
TAG_INT: Final = 2
TAG_PICKLE: Final = 3
TAG_JSON: Final = 4
TAG_MSGPACK: Final = 5
TAG_USER_FIRST: Final = 8
TAG_USER_LAST: Final = 31

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1
# More than the engine reads as an integer, leading zeros included.
_COUNTABLE_MAX_CHARACTERS: Final = 32


class DecodeError(PmemCacheError):
    """A payload could not be turned into a value: damaged, or written by other code than this."""


class Serializer(Protocol):
    """Serializes the values that have no raw form.

    A user's own has a tag from 8 to 31, the same in all processes for ever.
    """

    @property
    def tag(self) -> int:
        """The byte stored with every payload of this serializer."""

    def dumps(self, value: Any, /) -> bytes:
        """Return the payload of *value*; raise whatever fits when it has none."""

    def loads(self, payload: bytes, /) -> Any:
        """Return the value of *payload*."""


class PickleSerializer:
    """Any Python object that can be pickled, in the newest protocol of this interpreter.

    Reading a pickle runs code that its writer chose: trust a pool as far as the processes that may
    write to it, which are those of its own user.
    """

    tag: Final = TAG_PICKLE

    def dumps(self, value: Any, /) -> bytes:
        """Return the pickle of *value*."""
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)

    def loads(self, payload: bytes, /) -> Any:
        """Return the object that *payload* is the pickle of."""
        return pickle.loads(payload)  # noqa: S301 - the class documents whom it trusts


class JsonSerializer:
    """What JSON can say: a tuple comes back as a list, and the keys of a dict as strings."""

    tag: Final = TAG_JSON

    def dumps(self, value: Any, /) -> bytes:
        """Return *value* in compact JSON, in UTF-8."""
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()

    def loads(self, payload: bytes, /) -> Any:
        """Return the value that *payload* writes down."""
        return json.loads(payload)


class MsgpackSerializer:
    """What MessagePack can say; a tuple comes back as a list. Needs the extra `msgpack`."""

    tag: Final = TAG_MSGPACK

    def dumps(self, value: Any, /) -> bytes:
        """Return *value* in MessagePack."""
        packed: bytes = _msgpack().packb(value)
        return packed

    def loads(self, payload: bytes, /) -> Any:
        """Return the value that *payload* packs."""
        return _msgpack().unpackb(payload, strict_map_key=False)


def _msgpack() -> Any:
    try:
        return importlib.import_module("msgpack")
    except ImportError as error:
        message = "MessagePack is not installed: pip install pmemcache[msgpack]"
        raise ConfigurationError(message) from error


PICKLE: Final = PickleSerializer()
JSON: Final = JsonSerializer()
MSGPACK: Final = MsgpackSerializer()
PLAIN: Final = PlainSerializer()

_NAMED: Final[dict[str, Serializer]] = {
    "pickle": PICKLE,
    "json": JSON,
    "msgpack": MSGPACK,
    "plain": PLAIN,
}


def serializer_of(given: str | Serializer) -> Serializer:
    """Return the serializer that is meant: "pickle", "plain", "json", "msgpack", or a user's own.

    Raises:
        ConfigurationError: There is none of that name, its extra is not installed, or a user's own
            is none, or has a tag that is not from 8 to 31.
    """
    if isinstance(given, str):
        if given not in _NAMED:
            message = f"serializer={given!r} does not exist: choose one of {', '.join(_NAMED)}"
            raise ConfigurationError(message)
        if given == "msgpack":
            _msgpack()
        return _NAMED[given]
    if not all(hasattr(given, name) for name in ("tag", "dumps", "loads")):
        message = (
            f"serializer={given!r} is none: choose one of {', '.join(_NAMED)}, or give an object "
            "with tag, dumps and loads"
        )
        raise ConfigurationError(message)
    if given not in _NAMED.values() and not TAG_USER_FIRST <= given.tag <= TAG_USER_LAST:
        message = f"the tag of {type(given).__name__} is {given.tag}: choose one from 8 to 31"
        raise ConfigurationError(message)
    return given


# Indexed by tag. Built-in callables where there is one: a read costs one look-up and one call.
_DECODERS: Final[tuple[Callable[[bytes], Any], ...]] = (
    bytes,
    bytes.decode,
    int,
    pickle.loads,
    json.loads,
    MSGPACK.loads,
    PLAIN.loads,
)


def encode(value: Any, serializer: Serializer = PICKLE) -> tuple[bytes, int]:
    """Return the payload of *value* and its tag.

    Args:
        value: Anything *serializer* can serialize, or a `bytes`, `str` or `int`.
        serializer: For the values that have no raw form.

    Raises:
        Exception: Whatever *serializer* raises for a value that it cannot serialize.
    """
    kind = type(value)
    if kind is int and INT64_MIN <= value <= INT64_MAX:
        return b"%d" % value, TAG_INT
    if kind is str or kind is bytes:
        if not _looks_like_int(value):
            if kind is bytes:
                return value, TAG_BYTES
            try:
                return value.encode(), TAG_STR
            except UnicodeEncodeError:  # a lone surrogate has no UTF-8
                pass
        serializer = PICKLE
    return serializer.dumps(value), serializer.tag


def _looks_like_int(text: str | bytes) -> bool:
    """Whether *text* could be read as a 64-bit integer; errs only towards yes."""
    return len(text) <= _COUNTABLE_MAX_CHARACTERS and (text.isdigit() or text[1:].isdigit())


def decode(payload: bytes, tag: int) -> Any:
    """Return the value whose payload and tag `encode` gave.

    Raises:
        DecodeError: *tag* is unknown to this version, or *payload* is not what *tag* says.
    """
    try:
        decoder = _DECODERS[tag]
    except IndexError:
        message = f"the entry has tag {tag}, which this version of pmemcache cannot read"
        raise DecodeError(message) from None
    try:
        return decoder(payload)
    except Exception as error:  # unpickling runs any code and raises anything
        message = f"the {len(payload)} bytes of an entry with tag {tag} cannot be read: {error!r}"
        raise DecodeError(message) from error
