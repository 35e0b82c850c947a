"""What a model of tenants.yaml costs: its own prices, the operator's for that model, or the book's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tenantgate.prices import book
from tenantgate.prices.config import GENAI_PRICES, PriceOverride, PriceTier, Pricing, moment_ms, nano
from tenantgate.prices.core.price_list import KINDS, PriceList, Prices, Tier

__all__ = ["FILE", "Asked", "PriceBook", "Unpriced"]

FILE = "tenants.yaml"
"""The book of prices that the file gives."""

Unpriced = book.Unpriced


@dataclass(frozen=True, slots=True)
class Asked:
    """A model at a provider whose price is asked for, as tenants.yaml has it."""

    provider: str
    model: str
    address: str | None = None
    """``upstream_url``."""
    input_cost: float | None = None
    """With `output_cost` the model's own prices in the file, which hold always."""
    output_cost: float | None = None


class PriceBook:
    """The prices of one tenants.yaml. Equal models get the same object."""

    def __init__(self, config: Pricing) -> None:
        self._config = config
        self._overrides: dict[tuple[str, str], list[PriceOverride]] = {}
        for one in config.overrides:
            self._overrides.setdefault((one.provider, one.model), []).append(one)
        self._known: dict[Asked, PriceList | Unpriced] = {}

    def find(self, asked: Asked) -> PriceList:
        """The model's prices.

        Raises:
            Unpriced: they aren't known; says why.
        """
        found = self._known.get(asked)
        if found is None:
            try:
                found = self._found(asked)
            except Unpriced as reason:
                found = reason
            self._known[asked] = found
        if isinstance(found, Unpriced):
            raise Unpriced(*found.args)
        return found

    def counted(self, asked: Asked) -> PriceList:
        """The model's prices where something counts what it costs: `find`, or the dearest where the file says so.

        Raises:
            Unpriced: they aren't known, and the file doesn't say so.
        """
        try:
            return self.find(asked)
        except Unpriced:
            if self._config.unknown != "dearest":
                raise
            return self._dearest(asked)

    def book_entry(self, asked: Asked) -> book.Entry | None:
        """The book's entry of a model, whatever the file's own prices; None where there is none."""
        if self._config.book != GENAI_PRICES:
            return None
        try:
            return book.find(asked.provider, asked.model, asked.address)
        except Unpriced:
            return None

    def _found(self, asked: Asked) -> PriceList:
        if asked.input_cost is not None and asked.output_cost is not None:
            flat = {"input": nano(asked.input_cost), "output": nano(asked.output_cost)}
            return PriceList(book=FILE, periods=(Prices(prices=flat),))
        own = self._overrides.get((asked.provider, asked.model), ())
        periods = sorted((_period(one) for one in own), key=lambda p: p.valid_from_ms)
        if periods and not periods[0].valid_from_ms:
            return PriceList(book=FILE, periods=tuple(periods))
        if self._config.book != GENAI_PRICES:
            if not periods:
                raise Unpriced("gateway.prices.overrides doesn't have it")
            # Before the first day of a price nobody has another one.
            return PriceList(book=FILE, periods=tuple(periods))
        try:
            entry = book.find(asked.provider, asked.model, asked.address)
        except Unpriced:
            if not periods:
                raise
            return PriceList(book=FILE, periods=tuple(periods))
        if not periods:
            return entry.prices
        return PriceList(book=f"{entry.prices.book}+{FILE}", periods=(*entry.prices.periods, *periods))

    def _dearest(self, asked: Asked) -> PriceList:
        if self._config.book == GENAI_PRICES:
            found = book.dearest(asked.provider)
            return PriceList(book=f"{book.version()}, the dearest", periods=(found,))
        periods = [_period(one) for one in self._config.overrides]
        if not periods:
            raise Unpriced("there is no price at all: book is none, and there are no overrides")
        return PriceList(book=f"{FILE}, the dearest", periods=(book.highest(periods),))


def _period(one: PriceOverride) -> Prices:
    return Prices(
        valid_from_ms=0 if one.valid_from is None else moment_ms(one.valid_from),
        prices=_amounts(one),
        tiers=_tiers(one.tiers),
    )


def _tiers(given: Sequence[PriceTier]) -> tuple[Tier, ...]:
    return tuple(Tier(above=tier.above, prices=_amounts(tier)) for tier in given)


def _amounts(given: PriceOverride | PriceTier) -> dict[str, int]:
    values = ((kind, getattr(given, kind, None)) for kind in KINDS)
    return {kind: nano(value) for kind, value in values if value is not None}
