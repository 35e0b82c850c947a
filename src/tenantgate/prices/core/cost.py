"""What a usage costs by a price list, and the most that a request can cost. Pure and exact: whole femto-dollars."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tenantgate.llm.token_usage import TokenUsage
from tenantgate.prices.core.price_list import FEMTO_PER_NANO, PriceList, Prices

__all__ = ["Cost", "CostCertainty", "Worst", "cost", "dollars", "prices_at", "prices_for", "worst"]

_DAY_S: Final = 86_400
_FEMTO_DIGITS: Final = 15


class CostCertainty(enum.StrEnum):
    """How sure a cost is."""

    EXACT = "exact"  # the provider's own count
    ESTIMATED = "estimated"  # the provider has told no count
    LOWER_BOUND = "lower_bound"  # the reply broke off: the provider may bill more
    UNCERTAIN = "uncertain"  # sent, and nobody knows what became of it


@dataclass(frozen=True, slots=True)
class Cost:
    """What a usage costs."""

    femto: int
    """In femto-dollars (10⁻¹⁵ $); 0 or more."""
    certainty: CostCertainty

    @property
    def nano(self) -> int:
        """In nano-dollars, rounded half to even."""
        whole, rest = divmod(self.femto, FEMTO_PER_NANO)
        half = FEMTO_PER_NANO // 2
        return whole + (rest > half or (rest == half and whole % 2 == 1))

    @property
    def exact(self) -> str:
        """In dollars, all digits, such as 0.0001234."""
        return dollars(self.femto)


@dataclass(frozen=True, slots=True)
class Worst:
    """Prices by which no reply to a prompt costs more, in nano-dollars."""

    fixed: int
    """Of the prompt and the request, rounded up."""
    per_million: int
    """Of a million tokens of the reply."""


def dollars(femto: int) -> str:
    """Femto-dollars as an exact decimal text in dollars, such as 0.0001234; negative for a correction downwards."""
    sign, digits = ("-" if femto < 0 else ""), str(abs(femto)).rjust(_FEMTO_DIGITS + 1, "0")
    whole, part = digits[:-_FEMTO_DIGITS], digits[-_FEMTO_DIGITS:].rstrip("0")
    return f"{sign}{whole}.{part}" if part else f"{sign}{whole}"


def cost(price_list: PriceList, usage: TokenUsage, at_ms: int) -> Cost:
    """What a usage costs of a request that began at the Unix time `at_ms`."""
    prices = prices_for(prices_at(price_list, at_ms), usage.input)
    hour = min(usage.cache_write_1h, usage.cache_write)
    prompt = {
        "cache_read": usage.cache_read,
        "cache_write": usage.cache_write - hour,
        "cache_write_1h": hour,
        "audio_input": usage.audio_input,
    }
    reply = {"reasoning": usage.reasoning, "audio_output": usage.audio_output}
    amount = prices.get("request", 0) * FEMTO_PER_NANO
    amount += _side(prices, "input", usage.input, prompt) + _side(prices, "output", usage.output, reply)
    certainty = CostCertainty.EXACT
    if usage.lower_bound:
        certainty = CostCertainty.LOWER_BOUND
    elif usage.estimated:
        certainty = CostCertainty.ESTIMATED
    return Cost(amount, certainty)


def worst(
    price_list: PriceList, prompt_tokens: int, at_ms: int, *, caches: bool = True, audio: bool = True
) -> Worst:
    """Prices of which no usage with at most so many tokens of the prompt costs more.

    Args:
        price_list: of the target.
        prompt_tokens: most tokens of the prompt.
        at_ms: Unix time of the request.
        caches: whether the provider may write the prompt to its cache, which may cost more than reading it.
        audio: whether prompt or reply may hold audio.
    """
    period = prices_at(price_list, at_ms)
    inputs, outputs = ["input", "cache_read"], ["output", "reasoning"]
    if caches:
        inputs += ["cache_write", "cache_write_1h"]
    if audio:
        inputs.append("audio_input")
        outputs.append("audio_output")
    steps = list(_reachable(period, prompt_tokens))
    prompt = (
        prompt_tokens * _dearest(steps, inputs) + max(p.get("request", 0) for p in steps) * FEMTO_PER_NANO
    )
    return Worst(-(-prompt // FEMTO_PER_NANO), _dearest(steps, outputs))


def prices_at(price_list: PriceList, at_ms: int) -> Prices:
    """The prices that hold at a Unix time in ms."""
    second = at_ms // 1000 % _DAY_S
    for period in reversed(price_list.periods):
        if period.valid_from_ms <= at_ms and (period.daily_s is None or _within(second, *period.daily_s)):
            return period
    return price_list.periods[0]


def prices_for(period: Prices, prompt_tokens: int) -> Mapping[str, int]:
    """The prices of a request whose prompt has so many tokens, by kind."""
    found = dict(period.prices)
    for tier in period.tiers:
        if prompt_tokens > tier.above:
            found |= tier.prices
    return found


def _within(second: int, start: int, end: int) -> bool:
    return start <= second < end if start <= end else second >= start or second < end


def _reachable(period: Prices, prompt_tokens: int) -> Iterator[Mapping[str, int]]:
    """The prices below each tier that a prompt of at most so many tokens may reach, and of these tiers."""
    yield period.prices
    for tier in period.tiers:
        if prompt_tokens > tier.above:
            yield prices_for(period, tier.above + 1)


def _dearest(steps: Sequence[Mapping[str, int]], kinds: Sequence[str]) -> int:
    return max(price for prices in steps for kind in kinds if (price := prices.get(kind)) is not None)


def _side(prices: Mapping[str, int], plain: str, tokens: int, parts: Mapping[str, int]) -> int:
    """Femto-dollars of the tokens of one side, of which `parts` have prices of their own.

    Counts that are more than there are, as those of cached audio, which is both, are cut: the dearest count first.
    """
    left, amount = tokens, 0
    priced = [(price, count) for kind, count in parts.items() if (price := _price(prices, kind)) is not None]
    for price, count in sorted(priced, reverse=True):
        taken = min(count, left)
        left -= taken
        amount += taken * price
    return amount + left * prices[plain]


def _price(prices: Mapping[str, int], kind: str) -> int | None:
    found = prices.get(kind)
    return prices.get("cache_write") if found is None and kind == "cache_write_1h" else found
