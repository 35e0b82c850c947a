"""What a request cost, as its record has it: by the prices of the target that answered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from tenantgate.audit.config import AuditConfig
from tenantgate.audit.core.journal import JournalLine
from tenantgate.errors import ConfigError
from tenantgate.llm.token_usage import TokenUsage
from tenantgate.policy.core.records import read_price_list
from tenantgate.prices.config import nano
from tenantgate.prices.core.cost import CostCertainty, cost
from tenantgate.prices.core.price_list import PriceList, Prices

__all__ = ["CURRENCY", "PriceLists", "cost_of", "cost_schema", "price_lists"]

CURRENCY: Final = "USD"
_SETTINGS: Final = "settings"
"""The book of prices that the audit log's own settings give."""


@dataclass(frozen=True, slots=True)
class PriceLists:
    """Prices of the targets that may have answered."""

    by_target: Mapping[str, PriceList] = field(default_factory=dict)
    usual: PriceList | None = None
    """Of all targets, in place of their own."""

    def of(self, line: JournalLine) -> PriceList | None:
        """Those of the target that answered; None where they aren't known."""
        if self.usual is not None:
            return self.usual
        if line.tries:
            return self.by_target.get(line.tries[-1].target)
        return next(iter(self.by_target.values())) if len(self.by_target) == 1 else None


def price_lists(config: AuditConfig) -> PriceLists:
    """The prices in the settings of a route.

    Raises:
        ConfigError: one of them can't be read.
    """
    usual = None
    if config.input_cost is not None and config.output_cost is not None:
        flat = {"input": nano(config.input_cost), "output": nano(config.output_cost)}
        usual = PriceList(book=_SETTINGS, periods=(Prices(prices=flat),))
    return PriceLists({target: _read(text, target) for target, text in config.prices.items()}, usual)


def _read(text: str, target: str) -> PriceList:
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        raise ConfigError(f"prices.{target}: isn't JSON") from None
    return read_price_list(tree, f"prices.{target}")


def cost_of(line: JournalLine, prices: PriceLists) -> dict[str, Any] | None:
    """The ``cost`` of a request's record; None where nothing was used, or nobody knows what it costs."""
    usage = line.usage
    if usage is None and line.tokens is not None:
        # Kong's count is the provider's, or a guess; its log doesn't say which.
        usage = TokenUsage(input=line.tokens[0], output=line.tokens[1], estimated=True)
    price_list = prices.of(line)
    if usage is None or price_list is None:
        return None if line.cost is None else {"amount": round(line.cost, 9), "source": "kong"}
    found = cost(price_list, usage, line.started_ms)
    certainty = found.certainty
    if any(t.uncertain for t in line.tries[:-1]):  # another target may bill it, too
        certainty = CostCertainty.LOWER_BOUND
    return {
        "amount": round(float(Decimal(found.exact)), 9),
        "exact": found.exact,
        "currency": CURRENCY,
        "source": "prices",
        "book": price_list.book,
        "certainty": certainty.value,
    }


def cost_schema() -> dict[str, Any]:
    """The JSON schema of ``cost``."""
    return {
        "type": "object",
        "description": "What the tokens cost.",
        "properties": {
            "amount": {"type": "number", "description": "Rounded to nine digits behind the point."},
            "exact": {
                "type": "string",
                "description": "The same in dollars, as a decimal number with all of its digits.",
                "pattern": r"^[0-9]+(\.[0-9]*[1-9])?$",
            },
            "currency": {"type": "string", "description": "Of the prices.", "const": CURRENCY},
            "source": {
                "type": "string",
                "description": "prices: those of the target that answered, or of the audit log's settings; kong: "
                "ai-proxy's.",
                "enum": ["prices", "kong"],
            },
            "book": {
                "type": "string",
                "description": "Where the prices are from, with the book's version: genai-prices 0.2.3, tenants.yaml, "
                "both joined by +, or settings.",
            },
            "certainty": {
                "type": "string",
                "description": "exact: the provider's count; estimated: the provider told none; lower_bound: the reply "
                "broke off, or an earlier try may be billed, too; uncertain: nobody knows.",
                "enum": [*CostCertainty],
            },
        },
        "required": ["amount", "source"],
        "additionalProperties": False,
    }
