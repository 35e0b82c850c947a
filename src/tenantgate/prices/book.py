"""The book of prices of the package genai-prices, as price lists.

The package is imported when the first price is asked for: it takes a third of a second, and brings pydantic and an HTTP
client. Only what compiles tenants.yaml, and the commands about prices, need it; the engine has prices in its policies.
Nothing is fetched: the book is that of the installed version.
Source: https://github.com/pydantic/genai-prices
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Any, Final

from tenantgate.prices.config import GENAI_PRICES
from tenantgate.prices.core.price_list import NANO_PER_DOLLAR, PriceList, Prices, Tier

if TYPE_CHECKING:
    from genai_prices.types import ConditionalPrice, ModelInfo, ModelPrice, Provider

__all__ = ["Entry", "Unpriced", "dearest", "entries", "find", "highest", "version"]

_KINDS: Final = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "audio_input",
    "output_audio_mtok": "audio_output",
    "output_reasoning_mtok": "reasoning",
}
_OUTPUTS: Final = ("audio_output", "output", "reasoning")
_REQUESTS: Final = "requests_kcount"
_NOT_TOKENS: Final = "searches_kcount"
"""Ends of prices of tools that a provider runs: no part of a reply's tokens, and not counted (docs/prices.md)."""
_WITH_AUDIO: Final = "cache_audio_read_mtok"
"""Cached audio: no usage tells it, and all audio is charged as audio, which is dearer."""

_PROVIDERS: Final = {
    "openai": "openai",
    "azure": "azure",
    "anthropic": "anthropic",
    "gemini": "google",
    "vertex": "google",
    "bedrock": "aws",
    "cohere": "cohere",
    "mistral": "mistral",
    "groq": "groq",
}
"""The book's names of the providers of tenants.yaml. What vllm and ollama cost is nobody's price; the price at Hugging
Face is that of the provider behind it."""
_BY_ADDRESS: Final = "openai-compatible"
_HUGGING_FACE: Final = "huggingface"


class Unpriced(Exception):  # noqa: N818 - an answer, not a fault
    """Why the book has no price for a model."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A model in the book."""

    provider: str
    model: str
    """The book's id, which may be another name than the one that was asked for."""
    prices: PriceList


@functools.cache
def version() -> str:
    """The book's name and version: ``genai-prices 0.2.3``."""
    from importlib.metadata import version

    return f"{GENAI_PRICES} {version('genai-prices')}"


def find(provider: str, model: str, address: str | None = None) -> Entry:
    """The entry of a model.

    Args:
        provider: as tenants.yaml calls it.
        model: the model's name there.
        address: the URL that is asked, for ``openai-compatible``.

    Raises:
        Unpriced: there is none, or one that can't be applied; says why.
    """
    return _find(provider, model, address if provider == _BY_ADDRESS else None)


@functools.lru_cache(maxsize=10_000)
def _cached(provider: str, model: str, address: str | None) -> Entry | str:
    try:
        return _looked_up(provider, model, address)
    except Unpriced as reason:
        return str(reason)


def _find(provider: str, model: str, address: str | None) -> Entry:
    found = _cached(provider, model, address)
    if isinstance(found, str):
        raise Unpriced(found)
    return found


def _looked_up(provider: str, model: str, address: str | None) -> Entry:
    name, ref = _book_name(provider, model)
    if name is None and address is None:
        raise Unpriced(f"the book has no prices of {provider}")
    from genai_prices.data_snapshot import get_snapshot

    try:
        of, info = get_snapshot().find_provider_model(ref, None, name, address if name is None else None)
    except LookupError:
        raise Unpriced("the book doesn't have it") from None
    return Entry(of.id, info.id, _price_list(info))


def _book_name(provider: str, model: str) -> tuple[str | None, str]:
    if provider == _HUGGING_FACE:
        # https://huggingface.co/docs/inference-providers: the suffix chooses the provider; without one any may answer.
        name, colon, suffix = model.rpartition(":")
        return (f"huggingface_{suffix}", name) if colon else (None, model)
    if provider == "vertex":
        model = model.removeprefix("google/")
    return _PROVIDERS.get(provider), model


@functools.cache
def entries() -> Sequence[tuple[Provider, ModelInfo, PriceList | Unpriced]]:
    """All of the book's models."""
    return tuple(_entries())


def _entries() -> Iterator[tuple[Provider, ModelInfo, PriceList | Unpriced]]:
    from genai_prices.data_snapshot import get_snapshot

    for provider in get_snapshot().providers:
        for info in provider.models:
            try:
                yield provider, info, _price_list(info)
            except Unpriced as reason:
                yield provider, info, reason


@functools.lru_cache(maxsize=100)
def dearest(provider: str) -> Prices:
    """The highest prices of the provider's models, at any time; where the book has none, of all providers'.

    A kind that is cheaper than its side, such as cached tokens, is as dear as that: the model may not have it.
    """
    name, known = _PROVIDERS.get(provider), frozenset(_PROVIDERS.values())
    lists = [p for of, _, p in entries() if isinstance(p, PriceList) and of.id in ({name} if name else known)]
    return highest(period for one in lists for period in one.periods)


def highest(periods: Iterable[Prices]) -> Prices:
    """The highest price of each kind that is dearer than its side."""
    found: dict[str, int] = {}
    for period in periods:
        for prices in (period.prices, *(tier.prices for tier in period.tiers)):
            for kind, price in prices.items():
                found[kind] = max(price, found.get(kind, 0))
    sides = {k: found["output" if k in _OUTPUTS else "input"] for k in found}
    return Prices(
        prices={k: p for k, p in found.items() if k in ("input", "output", "request") or p > sides[k]}
    )


def _price_list(info: ModelInfo) -> PriceList:
    from genai_prices.types import ModelPrice

    given = info.prices
    periods = (Prices(**_rates(given)),) if isinstance(given, ModelPrice) else tuple(map(_period, given))
    if not periods:
        raise Unpriced("the book has no price for it")
    return PriceList(book=version(), periods=periods)


def _period(one: ConditionalPrice) -> Prices:
    from genai_prices.types import StartDateConstraint, TimeOfDateConstraint

    rates = _rates(one.prices)
    match one.constraint:
        case None:
            return Prices(**rates)
        case StartDateConstraint(start_date=day):
            start = datetime.combine(day, time(), UTC)
            return Prices(valid_from_ms=round(start.timestamp()) * 1000, **rates)
        case TimeOfDateConstraint(start_time=start, end_time=end):
            return Prices(daily_s=(_second(start), _second(end)), **rates)
    raise Unpriced("its price depends on what this version doesn't know")


def _second(moment: time) -> int:
    """Second of the day in UTC."""
    if moment.microsecond or (moment.tzinfo is not None and moment.utcoffset()):
        raise Unpriced("its price depends on times of another zone")
    return moment.hour * 3600 + moment.minute * 60 + moment.second


def _rates(given: ModelPrice) -> dict[str, Any]:
    from genai_prices.types import TieredPrices

    prices: dict[str, int] = {}
    tiers: dict[int, dict[str, int]] = {}
    others: dict[str, Decimal] = {}
    for name, value in vars(given).items():
        if value is None or name.endswith(_NOT_TOKENS):
            continue
        steps = [(t.start, t.price) for t in value.tiers] if isinstance(value, TieredPrices) else []
        base = value.base if isinstance(value, TieredPrices) else value
        kind = _KINDS.get(name)
        if name == _REQUESTS and not steps:
            prices["request"] = _nano(base / 1000)
        elif kind is not None:
            prices[kind] = _nano(base)
            for above, price in steps:
                tiers.setdefault(above, {})[kind] = _nano(price)
        else:
            others[name] = max([base, *(price for _, price in steps)])
    if "input" not in prices:
        raise Unpriced("the book has no price of its tokens")
    # Models that make vectors have no price of a reply, which they don't give. If there were one, it wouldn't be free.
    prices.setdefault("output", prices["input"])
    _check_others(others, prices)
    return {"prices": prices, "tiers": tuple(Tier(above=a, prices=p) for a, p in sorted(tiers.items()))}


def _check_others(others: Mapping[str, Decimal], prices: Mapping[str, int]) -> None:
    """Refuse prices of what no usage tells, such as pictures, unless these are cheaper than what they count as."""
    for name, price in others.items():
        if not name.endswith("_mtok"):
            raise Unpriced(f"it has a price of {_words(name)}, which usage doesn't tell")
        if name == _WITH_AUDIO and "audio_input" in prices:
            continue
        side = "output" if name.startswith("output") else "input"
        usual = prices.get("cache_read", prices[side]) if name.startswith("cache") else prices[side]
        if _nano(price) > usual:
            raise Unpriced(f"it has a higher price of {_words(name)}, which usage doesn't tell")


def _words(name: str) -> str:
    return name.removesuffix("_mtok").replace("_", " ")


def _nano(dollars: Decimal) -> int:
    """Nano-dollars, rounded up: some prices in the book are quotients of other units."""
    return int((dollars * NANO_PER_DOLLAR).to_integral_value(ROUND_CEILING))
