"""`@cached` on every kind of function."""

from __future__ import annotations

import asyncio
import datetime as dt
import decimal
import enum
import fractions
import functools
import gc
import linecache
import math
import os
import pickle
import subprocess
import sys
import threading
import time
import uuid
import weakref
from dataclasses import dataclass
from decimal import Decimal
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest

import pmemcache
from pmemcache.keys import canonical, digest, pool_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_one_entry_however_it_is_called(cache: pmemcache.TieredCache) -> None:
    calls = []

    @pmemcache.cached(cache=cache)
    def price(city_id: int, currency: str = "EUR") -> Decimal:
        calls.append((city_id, currency))
        return Decimal(city_id)

    assert price(7) == price(city_id=7) == price(7, "EUR") == price(currency="EUR", city_id=7)
    assert price(7, "USD") == 7
    assert calls == [(7, "EUR"), (7, "USD")]
    assert price.cache_info() == (3, 2, None, 2)
    assert price.cache_key(7) == price.cache_key(city_id=7, currency="EUR")
    assert price.cache_parameters() == {"maxsize": None, "typed": False}
    assert price.__wrapped__(8) == 8


def test_wrong_calls_raise_the_function_own_error(cache: pmemcache.TieredCache) -> None:
    @pmemcache.cached(cache=cache)
    def function(number: int) -> int:
        return number

    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'number'"):
        function()  # type: ignore[call-arg]


def test_invalidate_refresh_and_clear(cache: pmemcache.TieredCache) -> None:
    numbers = iter(range(100))

    @pmemcache.cached(cache=cache)
    def function(_argument: str) -> int:
        return next(numbers)

    @pmemcache.cached(cache=cache)
    def other() -> str:
        return "other"

    other()
    assert [function("a"), function("a"), function("b")] == [0, 0, 1]
    assert function.invalidate("a")
    assert not function.invalidate("a")
    assert [function("a"), function("b")] == [2, 1]
    assert function.refresh("b") == 3
    assert function("b") == 3
    function.cache_clear()
    assert function.cache_info() == (0, 0, None, 0)
    assert function("a") == 4
    assert other.cache_info().currsize == 1


def test_cache_info_counts_entries_per_tier(cache: pmemcache.TieredCache) -> None:
    @pmemcache.cached(cache=cache)
    def function(number: int) -> int:
        return number

    for _round in range(3):
        function(1)
    function(2)
    info = function.cache_info()
    assert info == (2, 2, None, 2)
    assert info.tiers == {"hot": 2, "warm": 2}


def test_maxsize_keeps_the_most_recently_used(cache: pmemcache.TieredCache) -> None:
    calls = []

    @pmemcache.cached(cache=cache, maxsize=2)
    def function(number: int) -> int:
        calls.append(number)
        return number

    for number in (1, 2, 1, 3, 1, 2):
        function(number)
    assert calls == [1, 2, 3, 2]
    assert function.cache_info() == (2, 4, 2, 2)


def test_size_is_of_what_is_remembered(cache: pmemcache.TieredCache, clock: Any) -> None:
    function = pmemcache.cached(
        cache=cache, maxsize=10, ttl_seconds=50, unless=lambda result: result > 3
    )(number_itself)
    for number in range(6):
        function(number)
    assert function.cache_info().currsize == 4
    clock.advance(cache, 60)
    assert function.cache_info().currsize == 0


def test_maxsize_counts_what_a_coroutine_function_refreshed(cache: pmemcache.TieredCache) -> None:
    @pmemcache.cached(cache=cache, maxsize=2)
    async def function(number: int) -> int:
        return number

    async def main() -> None:
        for number in range(4):
            assert await function.refresh(number) == number

    asyncio.run(main())
    assert function.cache_info() == (0, 4, 2, 2)


def test_call_is_answered_though_the_least_used_result_stays(
    cache: pmemcache.TieredCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(_key: Any) -> bool:
        message = "planted"
        raise pmemcache.LockTimeoutError(message)

    function = pmemcache.cached(cache=cache, maxsize=1)(number_itself)
    with monkeypatch.context() as patch:
        patch.setattr(cache.pool, "delete", locked)
        assert [function(number) for number in range(4)] == [0, 1, 2, 3]
    assert function.cache_info().currsize == 4
    function.cache_clear()
    assert [function(number) for number in range(4)] == [0, 1, 2, 3]
    assert function.cache_info().currsize == 1


def test_ttl_of_the_result_and_unless(cache: pmemcache.TieredCache, clock: Any) -> None:
    calls = []

    @pmemcache.cached(cache=cache, ttl_seconds=lambda result: result, unless=lambda n: n == 13)
    def function(number: int) -> int:
        calls.append(number)
        return number

    for number in (10, 100, 13, 13):
        function(number)
    clock.advance(cache, 50)
    for number in (10, 100):
        function(number)
    assert calls == [10, 100, 13, 13, 10]


def test_tags_of_the_arguments(cache: pmemcache.TieredCache) -> None:
    calls = []

    @pmemcache.cached(cache=cache, tags=lambda city: (f"city:{city}",))
    def function(city: int) -> int:
        calls.append(city)
        return city

    function(7), function(8)
    cache.drop_tag("city:7")
    function(7), function(8)
    assert calls == [7, 8, 7]


def test_every_result_has_tags_that_can_be_read_once(cache: pmemcache.TieredCache) -> None:
    function = pmemcache.cached(cache=cache, tags=iter(["numbers"]))(abs)
    function(1), function(2)
    cache.drop_tag("numbers")
    assert function.cache_info().currsize == 0


def test_typed_tells_equal_numbers_apart(cache: pmemcache.TieredCache) -> None:
    @pmemcache.cached(cache=cache, typed=True)
    def function(number: float) -> str:
        return repr(number)

    assert [function(1), function(1.0), function(True)] == ["1", "1.0", "True"]


def test_threads_share_one_computation(cache: pmemcache.TieredCache) -> None:
    calls = []

    @pmemcache.cached(cache=cache)
    def function(number: int) -> int:
        calls.append(number)
        time.sleep(0.1)
        return number

    threads = [threading.Thread(target=function, args=(1,)) for _thread in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [1]
    assert function.cache_info()[:2] == (5, 1)


def test_errors_are_raised_and_not_remembered(cache: pmemcache.TieredCache) -> None:
    @pmemcache.cached(cache=cache)
    def function(text: str) -> str:
        return text[5]

    for _call in range(2):
        with pytest.raises(IndexError) as raised:
            function("short")
        assert raised.value.__context__ is None
    assert function.cache_info() == (0, 2, None, 0)


class Shop:
    def __init__(self, number: int) -> None:
        self.number = number

    def by_key(self, city: int) -> tuple[int, int]:
        return self.number, city

    def __cache_key__(self) -> int:
        return self.number


def test_method_by_cache_key_does_not_keep_self_alive(cache: pmemcache.TieredCache) -> None:
    calls = []

    def price(self: Shop, city: int) -> tuple[int, int]:
        calls.append(city)
        return self.number, city

    function = pmemcache.cached(cache=cache)(price)
    shop = Shop(1)
    assert function(shop, 7) == function(Shop(1), 7) == (1, 7)
    assert function(Shop(2), 7) == (2, 7)
    assert calls == [7, 7]
    gone = weakref.ref(shop)
    del shop
    gc.collect()
    assert gone() is None


def test_methods_of_all_kinds(cache: pmemcache.TieredCache) -> None:
    class Plain:
        @pmemcache.cached(cache=cache, key=lambda self, x: x)  # noqa: ARG005
        def method(self, x: int) -> str:
            return f"method {x}"

        @staticmethod
        @pmemcache.cached(cache=cache)
        def static(x: int) -> str:
            return f"static {x}"

        @pmemcache.cached(cache=cache)
        @staticmethod
        def outside(x: int) -> str:
            return f"outside {x}"

    for _round in range(2):
        assert Plain().method(1) == "method 1"
        assert Plain().static(1) == Plain.static(x=1) == "static 1"
        assert Plain.outside(1) == "outside 1"
    assert Plain.method.cache_info() == (1, 1, None, 1)


class Base:
    @classmethod
    def make(cls, x: int) -> str:
        return f"{cls.__name__} {x}"


class Derived(Base):
    pass


def test_classmethod_is_known_by_its_class(cache: pmemcache.TieredCache) -> None:
    function = pmemcache.cached(cache=cache)(Base.__dict__["make"])
    Base.cached_make = function  # type: ignore[attr-defined]
    assert Base.cached_make(1) == "Base 1"  # type: ignore[attr-defined]
    assert Derived.cached_make(1) == "Derived 1"  # type: ignore[attr-defined]


def test_self_without_a_name_is_refused_by_name(cache: pmemcache.TieredCache) -> None:
    class Plain:
        @pmemcache.cached(cache=cache)
        def method(self) -> int:
            return 1

    with pytest.raises(pmemcache.KeyEncodingError, match=r"'self'.*key="):
        Plain().method()


def test_coroutine_functions(cache: pmemcache.TieredCache) -> None:
    calls = []

    @pmemcache.cached(cache=cache)
    async def function(number: int) -> int:
        calls.append(number)
        await asyncio.sleep(0.05)
        return number

    async def main() -> list[int]:
        return await asyncio.gather(*(function(n % 2) for n in range(6)))

    assert asyncio.run(main()) == [0, 1] * 3
    assert sorted(calls) == [0, 1]
    assert function.cache_info()[:2] == (4, 2)
    assert asyncio.run(function.refresh(1)) == 1  # type: ignore[arg-type]
    assert len(calls) == 3


def test_object_that_is_called_as_a_coroutine_function(cache: pmemcache.TieredCache) -> None:
    class Doubler:
        async def __call__(self, number: int) -> int:
            return 2 * number

    double = pmemcache.cached(cache=cache)(Doubler())
    assert [asyncio.run(double(4)) for _call in range(2)] == [8, 8]
    assert double.cache_info()[:2] == (1, 1)


def test_cached_function_can_be_cached_once_more(
    cache: pmemcache.TieredCache, make_cache: Callable[..., pmemcache.TieredCache]
) -> None:
    far = pmemcache.cached(cache=make_cache(), name="far")(number_itself)
    near = pmemcache.cached(cache=cache)(far)
    assert [near(4) for _call in range(2)] == [4, 4]
    assert (near.cache_info()[:2], far.cache_info()[:2]) == ((1, 1), (0, 1))
    again = pmemcache.cached(cache=cache)(far)
    assert again.cache_key(4) == near.cache_key(4)


def test_what_is_no_cache_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"not PosixPath: give TieredCache\("):
        pmemcache.cached(cache=tmp_path)(number_itself)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"ttl_seconds": "60"}, "ttl_seconds must be"),
        ({"ttl_seconds": dt.timedelta(1)}, "ttl_seconds must be"),
        ({"grace_seconds": -1}, "grace_seconds must be"),
        ({"maxsize": "128"}, "maxsize='128'"),
        ({"maxsize": 1.5}, "maxsize=1.5"),
        ({"key": "x"}, "key='x'"),
        ({"unless": [None]}, "unless="),
        ({"name": 5}, "name=5"),
        ({"load": 5}, "LoadPolicy"),
        ({"tags": "city"}, "write"),
    ],
)
def test_impossible_options_are_refused_where_they_are_written(
    options: dict[str, Any], reason: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=reason):
        pmemcache.cached(**options)


def test_what_is_no_cache_is_refused_at_the_first_call() -> None:
    function: Any = pmemcache.cached(cache=dict)(number_itself)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"returned no TieredCache, but \{\}"):
        function(1)


def test_generators_are_refused() -> None:
    with pytest.raises(TypeError, match="read only once"):

        @pmemcache.cached
        def generator() -> Any:
            yield 1

    with pytest.raises(TypeError, match="read only once"):

        @pmemcache.cached
        async def async_generator() -> Any:
            yield 1

    with pytest.raises(TypeError, match="decorates functions"):
        pmemcache.cached(7)  # type: ignore[call-overload]


def test_functions_of_one_name_do_not_share_results(cache: pmemcache.TieredCache) -> None:
    def make(offset: int) -> Callable[[int], int]:
        @pmemcache.cached(cache=cache)
        def add(number: int) -> int:
            return number + offset

        return add

    assert [make(1)(1), make(2)(1)] == [2, 3]
    doubled = pmemcache.cached(cache=cache)(lambda x: 2 * x)
    tripled = pmemcache.cached(cache=cache)(lambda x: 3 * x)
    assert [doubled(1), tripled(1)] == [2, 3]


OF_ONE_NAME = """
import functools
import multiprocessing
import sys
import pmemcache

cache = pmemcache.TieredCache({path!r}, policy="hot=1MiB,warm=16MiB")

@functools.singledispatch
def kind(_number): ...

@kind.register
@pmemcache.cached(cache=cache)
def _(_number: int): return "int"

@kind.register
@pmemcache.cached(cache=cache)
def _(_number: float): return "float"

handlers = []
for pair in (min, max):
    @handlers.append
    @pmemcache.cached(cache=cache)
    def handler(*numbers, choose=pair): return choose(numbers)

@pmemcache.cached(cache=cache)
def program(): return {program!r}

def tell(pipe): pipe.send(program.cache_key())

if __name__ == {main!r}:
    print(kind(1), kind(1.0), handlers[0](1, 2), handlers[1](1, 2))
    print(kind.dispatch(float).cache_key(1.0))
if __name__ == "__main__":
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=tell, args=(there,))
    child.start()
    print(here.recv() == program.cache_key())
    child.join()
    print(program())
"""


def test_functions_of_one_name_at_the_top_do_not_share_results(
    cache_of_its_own: Path, tmp_path: Path
) -> None:
    source = OF_ONE_NAME.format(path=str(cache_of_its_own), program="", main="kinds")
    (tmp_path / "kinds.py").write_text(source, encoding="utf-8")
    run = [sys.executable, "-c", "import kinds"]
    told = [subprocess.check_output(run, text=True, cwd=tmp_path) for _ in range(2)]
    assert told[0].splitlines()[0] == "int float 1 2"
    assert told[0] == told[1]


def test_programs_of_one_function_name_do_not_share_results(
    cache_of_its_own: Path, tmp_path: Path
) -> None:
    """Also where `multiprocessing` starts them once more, under another name of the module."""
    for number in (1, 2):
        program = tmp_path / f"program{number}.py"
        program.write_text(
            OF_ONE_NAME.format(path=str(cache_of_its_own), program=program.name, main="__main__"),
            encoding="utf-8",
        )
        told = subprocess.check_output([sys.executable, str(program)], text=True).splitlines()
        assert told[0] == "int float 1 2"
        assert told[2:] == ["True", program.name]


@pytest.fixture
def cache_of_its_own(make_cache: Any, tmp_path: Path) -> Path:
    """Return the path of a pool that stays until the end of the test."""
    make_cache(tmp_path / "functions.pool")
    return tmp_path / "functions.pool"


def test_default_without_a_form_is_not_shared_by_functions_of_one_code(
    cache: pmemcache.TieredCache,
) -> None:
    def make(step: Callable[[int], int]) -> list[Callable[[int], int]]:
        @pmemcache.cached(cache=cache)
        def positional(number: int, step: Any = step) -> Any:
            return step(number)

        @pmemcache.cached(cache=cache)
        def by_keyword(number: int, *, step: Any = step) -> Any:
            return step(number)

        return [positional, by_keyword]

    added, timed = make(lambda x: x + 1), make(lambda x: x * 100)
    assert [function(1) for function in (*added, *timed)] == [2, 2, 100, 100]


def times(factor: int, by: Callable[[int], int] | None = None) -> Callable[..., Any]:
    """Return a decorator, which uses `functools.wraps` as decorators do."""

    def decorate(function: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(function)
        def wrapper(*arguments: Any) -> int:
            return factor * (by or int)(function(*arguments))

        return wrapper

    return decorate


def negated(function: Callable[..., int]) -> Callable[..., int]:
    @functools.wraps(function)
    def wrapper(*arguments: Any) -> int:
        return -function(*arguments)

    return wrapper


def test_wrappers_of_one_function_do_not_share_results(cache: pmemcache.TieredCache) -> None:
    cached = pmemcache.cached(cache=cache)
    ways = [
        number_itself,
        times(2)(number_itself),
        times(3)(number_itself),
        times(3, by=abs)(number_itself),
        times(3, by=number_itself)(number_itself),
        negated(number_itself),
        negated(times(2)(number_itself)),
        times(2)(negated(number_itself)),
    ]
    # Each twice: the first computes, the second finds.
    assert [cached(way)(-5) for _round in range(2) for way in ways] == [
        *(-5, -10, -15, 15, -15, 5, 10, 10)
    ] * 2
    assert len({cached(way).cache_key(-5) for way in ways}) == len(ways)


class Scale:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    def times(self, number: int) -> int:
        return self.factor * number

    @negated
    def less(self, number: int) -> int:
        return self.factor * number


@dataclass(frozen=True)
class NamedScale(Scale):
    factor: int


def test_methods_of_different_objects_do_not_share_results(cache: pmemcache.TieredCache) -> None:
    cached = pmemcache.cached(cache=cache)
    ways = [
        way for kind in (Scale, NamedScale) for n in (2, 3) for way in (kind(n).times, kind(n).less)
    ]
    functions = [cached(way) for way in ways]
    assert [each(5) for each in functions] == [10, -10, 15, -15] * 2
    assert len({each.cache_key(5) for each in functions}) == len(ways)
    assert cached(NamedScale(2).times).cache_key(5) == functions[4].cache_key(5)


def test_classes_within_functions_do_not_share_results(cache: pmemcache.TieredCache) -> None:
    def made(kind: type) -> Any:
        class Made:
            def __new__(cls, number: int) -> Any:
                return kind(number)

        return pmemcache.cached(cache=cache)(Made)

    assert made(int)(5) == 5
    assert made(str)(5) == "5"


def test_wrapper_that_passes_more_arguments_on(cache: pmemcache.TieredCache) -> None:
    def with_rate(function: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> int:
            return function(10, *args, **kwargs)

        return wrapper

    @pmemcache.cached(cache=cache)
    @with_rate
    def price(rate: int, number: int) -> int:
        return rate * number

    assert [price(2), price(3), price(2), price(number=2)] == [20, 30, 20, 20]
    assert price.cache_info()[:2] == (1, 3)
    with pytest.raises(TypeError, match="number"):
        price()


class Multiplier:
    """A wrapper that is no function."""

    def __init__(self, function: Callable[[int], int], factor: Any) -> None:
        functools.update_wrapper(self, function)
        self.factor = factor

    def __call__(self, number: int) -> int:
        return int(self.factor) * self.__wrapped__(number)


def plus(amount: Any) -> Callable[[int], int]:
    return lambda number: number + amount


def by_default(factor: Any) -> Callable[..., Any]:
    def wrapper(number: int, by: Any = factor) -> int:
        return int(by) * number_itself(number)

    return functools.update_wrapper(wrapper, number_itself)


@pytest.mark.parametrize(
    "wrapped_with",
    [
        lambda value: Multiplier(number_itself, value),
        lambda value: times(2, by=plus(value))(number_itself),
        by_default,
    ],
    ids=["object", "function that has captured", "default"],
)
def test_what_wrappers_have_captured_tells_them_apart_or_is_refused(
    cache: pmemcache.TieredCache, wrapped_with: Callable[[Any], Callable[[int], int]]
) -> None:
    class Number:
        """Has no form that lasts."""

        def __int__(self) -> int:
            return 1

        __radd__ = __int__

    two, three = (pmemcache.cached(cache=cache)(wrapped_with(value)) for value in (2, 3))
    assert two(5) != three(5)
    assert two.cache_key(5) == pmemcache.cached(cache=cache)(wrapped_with(2)).cache_key(5)
    with pytest.raises(pmemcache.ConfigurationError, match=r"has captured.*name="):
        pmemcache.cached(cache=cache)(wrapped_with(Number()))
    assert pmemcache.cached(cache=cache, name="named")(wrapped_with(Number())).cache_key(5)


def number_itself(number: int) -> int:
    return number


def test_version_and_name_are_part_of_the_key(cache: pmemcache.TieredCache) -> None:
    def function() -> None: ...

    keys = {
        pmemcache.cached(cache=cache, name="f", version=version)(function).cache_key()
        for version in ("", 1, 2, "source")
    }
    assert len(keys) == 4
    assert all(key.startswith("f") for key in keys)


def test_version_follows_the_source(cache: pmemcache.TieredCache, tmp_path: Path) -> None:
    def key_of(source: str) -> str:
        path = tmp_path / "module.py"
        path.write_text(source, encoding="utf-8")
        linecache.checkcache()
        namespace: dict[str, Any] = {}
        exec(compile(source, path, "exec"), namespace)  # noqa: S102 - a module that changes
        name: str = pmemcache.cached(cache=cache, name="f", version="source")(
            namespace["function"]
        ).cache_key()
        return name

    first = key_of("def function():\n    return 1\n")
    assert key_of("def function():\n    return 1\n") == first
    assert key_of("def function():\n    return 2\n") != first


def test_default_that_has_no_form_needs_none(cache: pmemcache.TieredCache) -> None:
    unset = object()

    @pmemcache.cached(cache=cache, name="f")
    def function(number: object = unset) -> bool:
        return number is unset

    assert function() is function() is True
    with pytest.raises(pmemcache.KeyEncodingError, match="'number'"):
        function(object())


class Colour(enum.Enum):
    RED = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass(frozen=True)
class Point:
    x: int
    y: float


class Meta:
    label_lower = "shop.city"


class Row:
    """What a Django model instance looks like."""

    _meta = Meta()

    def __init__(self, pk: int | None) -> None:
        self.pk = pk


ARGUMENTS: list[Any] = [
    None,
    0,
    2**100,
    0.1,
    float("nan"),
    float("inf"),
    Decimal("1E+400"),
    Decimal("1E+401"),
    fractions.Fraction(10**400, 3),
    10**5000,
    10**5000 + 1,
    1j,
    "text",
    "",
    "\ud800",
    b"text",
    (),
    (1, ("a", None)),
    frozenset({"a", "b", "c"}),
    dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc),
    dt.datetime(2024, 1, 1),  # noqa: DTZ001 - a naive one
    dt.date(2024, 1, 1),
    dt.time(1),
    dt.timedelta(1, 2, 3),
    uuid.UUID(int=5),
    range(3),
    PurePosixPath("/a"),
    dt.timezone.utc,
    dt.timezone(dt.timedelta(hours=1), "home"),
    dt.timezone(dt.timedelta(hours=2), "home"),
    Colour.RED,
    Access(0),
    Access.READ,
    Access.READ | Access.WRITE,
    Point(1, 2.5),
    Row(7),
    Shop(7),
    Shop,
]


def test_different_values_have_different_forms() -> None:
    forms = [canonical(value) for value in ARGUMENTS]
    assert len(set(forms)) == len(forms)


@pytest.mark.parametrize(
    "equal",
    [
        (1, 1.0, True, Decimal(1), fractions.Fraction(1), 1 + 0j),
        (0.5, Decimal("0.5"), fractions.Fraction(1, 2), decimal.Decimal("0.50")),
        (0, -0.0, False),
        (1e300, Decimal(int(1e300))),
        (10**5000, Decimal(10**5000), fractions.Fraction(10**5000)),
        (0, Decimal("0E-100000")),
        (Decimal("NaN"), Decimal("sNaN"), math.nan),
    ],
)
def test_equal_numbers_have_one_form(equal: tuple[Any, ...]) -> None:
    assert len({canonical(value) for value in equal}) == 1


@pytest.mark.parametrize("kind", ["int64", "uint8", "float32", "float64", "longdouble"])
def test_numbers_of_numpy_are_those_that_they_equal(kind: str) -> None:
    numpy = pytest.importorskip("numpy")
    number = getattr(numpy, kind)
    assert canonical(number(7)) == canonical(7)
    if "int" not in kind:
        exact = fractions.Fraction(*map(int, number("0.1").as_integer_ratio()))
        assert canonical(number("0.1")) == canonical(exact)
        assert canonical(number("inf")) == canonical(math.inf)
        assert canonical(number("nan")) == canonical(math.nan)


@pytest.mark.parametrize(
    "value",
    [[], {}, set(), object(), lambda: 0, Row(None), (1, []), Decimal("1E+100000000")],
)
def test_what_has_no_lasting_form_is_refused(value: Any) -> None:
    with pytest.raises(pmemcache.KeyEncodingError):
        canonical(value)


PROGRAM = """
import sys, pmemcache
sys.path.insert(0, {folder!r})
import prices
print(prices.price.cache_key(7, currency="EUR", flags=frozenset("abcdef"), at=(1.0, None)))
print(prices.price(7))
print(prices.within().cache_key("a"))
print(prices.wrapped.cache_key(7))
"""
MODULE = """
import functools
import os
import pmemcache

@pmemcache.cached
def price(city_id, currency="EUR", **more):
    return os.getpid()

def within():
    @pmemcache.cached
    def is_vowel(letter):
        return letter in {"a", "e", "i", "o", "u"}
    return is_vowel

def retry(times, errors=frozenset({"EAGAIN", "EINTR", "EIO"}), pause=lambda: 0):
    def decorate(function):
        @functools.wraps(function)
        def wrapper(*arguments):
            return function(*arguments) if times and errors and pause else None
        return wrapper
    return decorate

@pmemcache.cached
@retry(3)
def wrapped(city_id):
    return city_id
"""


def test_keys_and_results_are_the_same_in_every_process(tmp_path: Path) -> None:
    (tmp_path / "prices.py").write_text(MODULE, encoding="utf-8")
    program = PROGRAM.format(folder=str(tmp_path))
    environment = os.environ | {
        "PMEMCACHE_PATH": str(tmp_path / "p"),
        "PMEMCACHE_POLICY": "warm=8MiB",
    }
    with pmemcache.TieredCache(tmp_path / "p", policy="warm=8MiB"):
        answers = [
            subprocess.run(
                [sys.executable, "-c", program],
                env=environment | {"PYTHONHASHSEED": seed},
                capture_output=True,
                check=True,
                text=True,
            ).stdout
            for seed in ("1", "2")
        ]
    assert answers[0] == answers[1]


UNCONFIGURED = """
import sys
import pmemcache.config
pmemcache.config._SHARED_MEMORY = {shared!r}
sys.path.insert(0, {folder!r})
import prices
print(prices.price(7), flush=True)
sys.stdin.read()
"""


def test_without_configuration_all_processes_share_a_pool_in_shared_memory(tmp_path: Path) -> None:
    (tmp_path / "prices.py").write_text(MODULE, encoding="utf-8")
    shared = tmp_path / "shm"
    shared.mkdir()
    program = UNCONFIGURED.format(shared=str(shared), folder=str(tmp_path))
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PMEMCACHE_")
    }
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, env=environment, text=True, **pipes) as first:
        assert first.stdout is not None
        answer = first.stdout.readline()
        assert int(answer) == first.pid
        second = subprocess.run(
            command, env=environment, text=True, input="", capture_output=True, check=True
        )
        assert second.stdout == answer
        (directory,) = shared.iterdir()
        assert directory.stat().st_mode & 0o777 == 0o700
        (pool,) = directory.glob("*.pool")
        assert 16 << 20 <= pool.stat().st_size <= 1 << 30
        first.communicate("")


def test_keys_are_the_same_in_every_version_of_python() -> None:
    """These digests were written down once; every Python that runs this finds them again."""
    together = digest(b"\0".join(canonical(value) for value in KEPT), b"test").hex()
    assert together == "a21e0bb95d61f9b414296c055cf19e8c"
    assert pool_key((7, "EUR")).hex() == "ff00706d633a6b3ab1225ed013052946a0617642ba3d70ad"


KEPT = [value for value in ARGUMENTS if not isinstance(value, (Shop, type, Point, enum.Enum))]


def test_default_cache_that_cannot_be_opened_computes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_args: Any, **_options: Any) -> Any:
        message = "planted"
        raise pmemcache.NoSpaceError(message)

    monkeypatch.setattr(pmemcache.TieredCache, "__init__", fail)
    monkeypatch.setattr(pmemcache.decorator, "_DEFAULT", pmemcache.decorator._DefaultCache())
    calls = []

    @pmemcache.cached
    def price(city_id: int) -> int:
        calls.append(city_id)
        return city_id

    assert [price(7), price(7)] == [7, 7]
    assert calls == [7, 7]
    assert len(caplog.records) == 1


@pmemcache.cached
def at_the_top() -> None: ...


def test_cached_function_can_be_pickled_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or _this_module())
    assert pickle.loads(pickle.dumps(at_the_top)) is at_the_top


def _this_module() -> Any:
    return type("Module", (), {"at_the_top": at_the_top})
