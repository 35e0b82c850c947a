"""Prices as operators write them in tenants.yaml: the book, and their own prices over it, in dollars."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from tenantgate.fields import COUNT_MAX, config_class, field
from tenantgate.prices.core.price_list import KINDS, NANO_PER_DOLLAR

__all__ = ["GENAI_PRICES", "PriceOverride", "PriceTier", "Pricing", "moment_ms", "nano"]

GENAI_PRICES: Final = "genai-prices"
_MOST: Final = (0, 1_000_000)
_DATE: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?Z)?$"


def _price(tokens: str, default: Any = None) -> Any:
    return field(f"Dollars for a million tokens {tokens}", default=default, between=_MOST)


@config_class
class PriceTier:
    """Prices of a request with a long prompt."""

    above: int = field(
        "The prices hold for the whole request where its prompt has more tokens than this.",
        between=(1, COUNT_MAX),
        unit="tokens",
    )
    input: float | None = _price("of the prompt. Default: as below.")
    output: float | None = _price("of the reply. Default: as below.")
    cache_read: float | None = _price("that the provider's prompt cache had. Default: as below.")
    cache_write: float | None = _price("that the provider's prompt cache took in. Default: as below.")
    cache_write_1h: float | None = _price("that it took in for an hour. Default: as below.")
    audio_input: float | None = _price("of audio in the prompt. Default: as below.")
    audio_output: float | None = _price("of audio in the reply. Default: as below.")
    reasoning: float | None = _price("of reasoning. Default: as below.")

    def problems(self) -> Iterator[tuple[str, str]]:
        """Prices are whole nano-dollars."""
        yield from _too_fine(self)


@config_class
class PriceOverride:
    """A model's prices in place of the book's: all of them, from a day on."""

    provider: str = field("Provider of the model, as in the tenants' models.", len_min=1, len_max=64)
    model: str = field("Name of the model at its provider, as in the tenants' models.", len_min=1)
    valid_from: str | None = field(
        "Day or moment in UTC from which the prices hold, such as 2026-01-01 or 2026-01-01T12:00Z. Default: always.",
        default=None,
        match=_DATE,
    )
    input: float = field("Dollars for a million tokens of the prompt.", between=_MOST)
    output: float = field(
        "Dollars for a million tokens of the reply, those of reasoning included.", between=_MOST
    )
    cache_read: float | None = _price("that the provider's prompt cache had. Default: as input.")
    cache_write: float | None = _price("that the provider's prompt cache took in. Default: as input.")
    cache_write_1h: float | None = _price("that it took in for an hour. Default: as cache_write.")
    audio_input: float | None = _price("of audio in the prompt. Default: as input.")
    audio_output: float | None = _price("of audio in the reply. Default: as output.")
    reasoning: float | None = _price("of reasoning. Default: as output.")
    request: float | None = field(
        "Dollars for each request, whatever its tokens.", default=None, between=_MOST
    )
    tiers: tuple[PriceTier, ...] = field(
        "Prices of requests with long prompts, by rising `above`.", default=(), len_max=10
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """Prices are whole nano-dollars, days are days, and tiers rise."""
        yield from _too_fine(self)
        if self.valid_from is not None:
            try:
                moment_ms(self.valid_from)
            except ValueError:
                yield "valid_from", f"{self.valid_from} is no day or moment"
        for i, (low, high) in enumerate(zip(self.tiers, self.tiers[1:], strict=False), 1):
            if high.above <= low.above:
                yield f"tiers[{i}].above", f"{high.above} isn't more than that of tiers[{i - 1}], {low.above}"


@config_class
class Pricing:
    """What tokens cost."""

    book: str = field(
        "Book of prices that holds where this file says nothing else: genai-prices, of the version that is installed "
        "where this file is compiled; or none.",
        default=GENAI_PRICES,
        one_of=(GENAI_PRICES, "none"),
    )
    unknown: str = field(
        "Models without a known price that a budget or a limit on cost counts: refuse, an error in this file; or "
        "dearest, the highest price of their provider's models, or where it has none, of all.",
        default="refuse",
        one_of=("refuse", "dearest"),
    )
    overrides: tuple[PriceOverride, ...] = field(
        "Prices of your own, in place of the book's.", default=(), len_max=10_000
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """A model has one price at a time."""
        seen: dict[tuple[str, str, str | None], int] = {}
        for i, one in enumerate(self.overrides):
            key = one.provider, one.model, one.valid_from
            if (first := seen.setdefault(key, i)) != i:
                yield f"overrides[{i}]", f"is overrides[{first}] already: same provider, model and valid_from"


def moment_ms(text: str) -> int:
    """A day or moment in UTC as Unix time in ms.

    Raises:
        ValueError: there is no such day or time.
    """
    found = datetime.fromisoformat(text)
    return round(found.replace(tzinfo=found.tzinfo or UTC).timestamp()) * 1000


def nano(dollars: float) -> int:
    """Nano-dollars of what an operator has written: of the decimal number, not of the double nearest to it."""
    return int(Decimal(repr(dollars)) * NANO_PER_DOLLAR)


def _too_fine(config: PriceTier | PriceOverride) -> Iterator[tuple[str, str]]:
    for kind in KINDS:
        value = getattr(config, kind, None)
        if value is not None and Decimal(repr(value)) * NANO_PER_DOLLAR % 1:
            yield kind, f"{value} has more than nine digits behind the point"
