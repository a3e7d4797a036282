"""What a type checker makes of users' code; checked by `make types`, never run."""

from __future__ import annotations

from decimal import Decimal

from typing_extensions import assert_type

import pmemcache

cache = pmemcache.TieredCache(None)


@pmemcache.cached
def price(city_id: int, currency: str = "EUR") -> Decimal:
    return Decimal(f"{city_id}.{len(currency)}")


@pmemcache.cached(cache=cache, ttl_seconds=60)
async def weather(city: str) -> str:
    return city


class Shop:
    @pmemcache.cached(cache=cache, key=lambda _self, city: city)
    def price(self, city: int) -> Decimal:
        return Decimal(city)

    @classmethod
    @pmemcache.cached(cache=cache)
    def named(cls, name: str) -> str:
        return f"{cls.__name__} {name}"

    @staticmethod
    @pmemcache.cached(cache=cache)
    def double(number: int) -> int:
        return 2 * number

    @property
    @pmemcache.cached(cache=cache, key=lambda _self: None)
    def size(self) -> int:
        return 1


async def use(shop: Shop) -> None:
    assert_type(price(7), Decimal)
    assert_type(price.refresh(7, currency="USD"), Decimal)
    assert_type(price.invalidate(7), bool)
    assert_type(price.cache_info().tiers, dict[str, int])
    assert_type(await weather("Rome"), str)
    assert_type(await weather.refresh("Rome"), str)
    assert_type(shop.price(7), Decimal)
    assert_type(Shop.price.invalidate(shop, 7), bool)
    assert_type(Shop.named("corner"), str)
    assert_type(Shop.double(7), int)
    assert_type(shop.size, int)
    price("7")  # type: ignore[arg-type]
