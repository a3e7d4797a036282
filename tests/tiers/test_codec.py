"""Payloads say how they are to be read, so a pool with mixed values reads well."""

from __future__ import annotations

import logging
import pickle
from typing import Any

import pytest

import pmemcache
from pmemcache.codec import Codec
from pmemcache.envelope import Envelope
from pmemcache.serializers import MSGPACK, DecodeError

Make = Any
SECRET, NEWER = b"s" * 16, b"n" * 32


class Reversed:
    """A serializer of a user's own, for text."""

    tag = 9

    def dumps(self, value: Any, /) -> bytes:
        return repr(value).encode()[::-1]

    def loads(self, payload: bytes, /) -> Any:
        return eval(payload[::-1])  # noqa: S307 - the test's own text


VALUES: list[Any] = [b"raw", "text", 7, None, True, 1.5, [1, "two"], {"k": [None]}, "z" * 5000]


@pytest.mark.parametrize("serializer", ["pickle", "json", "msgpack", Reversed()])
@pytest.mark.parametrize(
    "compression",
    [None, *(pmemcache.Compression(each, threshold_bytes=100) for each in ("zlib", "zstd", "lz4"))],
)
@pytest.mark.parametrize("signer", [None, pmemcache.Signer(SECRET)])
@pytest.mark.parametrize("envelope", [None, Envelope(((b"t" * 16, b"g" * 8),), 5, 1.5)])
def test_value_comes_back(serializer: Any, compression: Any, signer: Any, envelope: Any) -> None:
    codec = Codec(serializer, compression=compression, signer=signer)
    for value in VALUES:
        payload, tag = codec.encode("key", value, envelope)
        found, body = codec.unwrap("key", payload, tag)
        assert found == envelope
        assert codec.decode(body, tag) == value


def test_changing_the_serializer_loses_nothing(make_cache: Make) -> None:
    writers = [
        make_cache(),
        *(
            make_cache(None, serializer=serializer, compression=compression)
            for serializer in ("json", "msgpack")
            for compression in (None, pmemcache.Compression(threshold_bytes=0))
        ),
    ]
    reader = make_cache()
    for number, writer in enumerate(writers):
        writer.set("key", {"n": number})
        payload, tag = writer.pool.get_tagged("key")
        reader.pool.put(str(number), payload, tag=tag)
    assert [reader.get(str(number)) for number in range(5)] == [{"n": n} for n in range(5)]


def test_own_serializer_is_read_where_it_is_known(make_cache: Make) -> None:
    writer = make_cache(serializer=Reversed())
    assert make_cache(writer.pool, readers=[Reversed()]).set("other", 1)
    writer.set("key", [1])
    assert make_cache(writer.pool, readers=[Reversed()]).get("key") == [1]
    assert make_cache(writer.pool).get("key") is None


@pytest.mark.parametrize("tag", [3, 7, 32])
def test_own_serializer_needs_a_tag_of_its_own(tag: int) -> None:
    serializer = Reversed()
    serializer.tag = tag
    with pytest.raises(pmemcache.ConfigurationError, match="8 to 31"):
        Codec(serializer)


def test_what_is_no_serializer_compression_or_signer_is_refused() -> None:
    with pytest.raises(pmemcache.ConfigurationError, match="choose one of pickle"):
        Codec(pickle)  # type: ignore[arg-type]
    with pytest.raises(pmemcache.ConfigurationError, match=r"give a pmemcache\.Compression"):
        Codec(compression="zlib")  # type: ignore[arg-type]
    with pytest.raises(pmemcache.ConfigurationError, match=r"give a pmemcache\.Signer") as refused:
        Codec(signer=b"secret" * 4)  # type: ignore[arg-type]
    assert "secret" not in str(refused.value)
    with pytest.raises(pmemcache.ConfigurationError, match="threshold_bytes"):
        pmemcache.Compression("zlib", threshold_bytes="1KiB")  # type: ignore[arg-type]


def test_unknown_names_are_refused() -> None:
    with pytest.raises(pmemcache.ConfigurationError, match="pickle, json, msgpack"):
        Codec("yaml")
    with pytest.raises(pmemcache.ConfigurationError, match="zlib"):
        pmemcache.Compression("gzip")  # type: ignore[arg-type]


def test_compression_is_used_where_it_helps() -> None:
    codec = Codec(compression=pmemcache.Compression(threshold_bytes=100))
    large, tag = codec.encode("key", "z" * 5000)
    assert len(large) < 200
    assert tag & 0x80
    _small, tag = codec.encode("key", "z" * 50)
    assert not tag & 0x80
    noise = bytes(hash((n, "x")) & 0xFF for n in range(200))
    assert codec.encode("key", noise)[1] in {0, 0x80}


def test_ints_stay_countable(make_cache: Make) -> None:
    cache = make_cache(serializer=MSGPACK, compression=pmemcache.Compression(threshold_bytes=0))
    cache.set("n", 5)
    assert cache.pool.get("n") == b"5"
    assert cache.incr("n") == 6


def test_signed_ints_are_counted_too(make_cache: Make) -> None:
    cache = make_cache(signer=pmemcache.Signer(SECRET))
    cache.set("n", 5)
    assert cache.incr("n") == 6
    assert cache.get("n") == 6


def test_only_signed_entries_are_read(make_cache: Make) -> None:
    cache = make_cache(signer=pmemcache.Signer(SECRET))
    cache.pool.put("forged", pickle.dumps([1]), tag=3)
    assert cache.get("forged") is None
    cache.set("a", [1])
    payload, tag = cache.pool.get_tagged("a")
    cache.pool.put("b", payload, tag=tag)
    assert cache.get("b") is None
    cache.pool.put("a", payload, tag=tag ^ 1)
    assert cache.get("a") is None
    assert make_cache().pool.put("x", payload, tag=tag)


def test_secrets_rotate(make_cache: Make) -> None:
    old = make_cache(signer=pmemcache.Signer(SECRET))
    rotating = make_cache(old.pool, signer=pmemcache.Signer(NEWER, SECRET))
    new = make_cache(old.pool, signer=pmemcache.Signer(NEWER))
    old.set("old", 1)
    rotating.set("new", 2)
    assert rotating.get("old") == 1
    assert new.get("new") == 2
    assert new.get("old") is None


def test_secret_of_wrong_length_is_refused() -> None:
    for secrets in ((), (b"short",), (b"x" * 65,), ("x" * 20,), (20,)):
        with pytest.raises(pmemcache.ConfigurationError):
            pmemcache.Signer(*secrets)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("payload", "tag"),
    [
        (b"", 3),
        (b"cno_module\nName\n.", 3),
        (b"x", 30),
        (b"x", 0x80),
        (b"\x09x", 0x83),
        (b"", 0x40),
    ],
)
def test_what_cannot_be_decoded_is_a_miss_counted_and_removed(
    make_cache: Make, caplog: pytest.LogCaptureFixture, payload: bytes, tag: int
) -> None:
    cache = make_cache()
    with caplog.at_level(logging.WARNING, "pmemcache"):
        for _round in range(3):
            cache.pool.put("key", payload, tag=tag)
            assert cache.get("key", "default") == "default"
            assert not cache.pool.exists("key")
    assert cache.stats().undecodable == 3
    assert len(caplog.records) == 1


def test_class_that_moved_is_a_miss(make_cache: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = make_cache()
    moved = type("Moved", (), {"__module__": __name__})
    monkeypatch.setitem(globals(), "Moved", moved)
    monkeypatch.setitem(__import__("sys").modules, __name__, type("M", (), {"Moved": moved}))
    cache.set("key", moved())
    assert isinstance(cache.get("key"), moved)
    monkeypatch.setitem(__import__("sys").modules, __name__, type("M", (), {}))
    assert cache.get("key") is None


def test_undecodable_entry_that_changed_is_left_alone(make_cache: Make) -> None:
    cache = make_cache()
    cache.pool.put("key", b"", tag=3)
    version = cache.pool.get_versioned("key")[3]
    cache.set("key", "new")
    cache._warm.undecodable("key", version, DecodeError("old"))
    assert cache.get("key") == "new"


@pytest.mark.parametrize("algorithm", ["zstd", "lz4"])
def test_missing_extra_is_named(algorithm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("zstandard", "lz4.frame"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(pmemcache.ConfigurationError, match=rf"pmemcache\[{algorithm}\]"):
        pmemcache.Compression(algorithm)
