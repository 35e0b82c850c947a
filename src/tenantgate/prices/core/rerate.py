"""Past usage by other prices: corrections of audit records, which are never edited. Pure.

A correction is the difference between what a record's usage costs now and all that was charged for it before, the
corrections included: applying the same prices twice gives none the second time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from tenantgate.llm.token_usage import TokenUsage
from tenantgate.llm.usage import token_count
from tenantgate.prices.core.cost import cost, dollars
from tenantgate.prices.core.price_list import PriceList

__all__ = ["CURRENCY", "charged", "corrected", "correction", "usage_of"]

CURRENCY: Final = "USD"
_KIND: Final = "correction"
_MARK: Final = ":rerate:"
_DIGITS: Final = 15
_MOST: Final = 10**30


def usage_of(record: Mapping[str, Any]) -> TokenUsage | None:
    """The usage in an audit record; None where no provider has told or been asked for any."""
    used = _part(_part(record, "gen_ai"), "usage")
    if not used or "gap" in record or "event" in record or record.get("outcome") == "cached":
        return None
    return TokenUsage(
        input=_count(used, "input_tokens"),
        output=_count(used, "output_tokens"),
        cache_read=_count(_part(used, "cache_read"), "input_tokens"),
        cache_write=_count(_part(used, "cache_creation"), "input_tokens"),
        cache_write_1h=_count(_part(used, "cache_creation_1h"), "input_tokens"),
        reasoning=_count(_part(used, "reasoning"), "output_tokens"),
        audio_input=_count(_part(used, "audio"), "input_tokens"),
        audio_output=_count(_part(used, "audio"), "output_tokens"),
        estimated=used.get("estimated") is True,
        lower_bound=used.get("lower_bound") is True,
    )


def charged(record: Mapping[str, Any]) -> int | None:
    """What a record or a correction says that was charged, in femto-dollars; None where it says nothing."""
    found = _part(record, "cost")
    exact, amount = found.get("exact"), found.get("amount")
    try:
        if isinstance(exact, str) and len(exact) < 60:
            return _femto(Decimal(exact))
        if isinstance(amount, int | float) and not isinstance(amount, bool):
            return _femto(Decimal(repr(amount)))
    except (InvalidOperation, OverflowError, ValueError):
        pass
    return None


def corrected(values: Mapping[str, Any]) -> tuple[str, int] | None:
    """The record's id and the femto-dollars of a correction that `correction` has made; None for anything else."""
    identifier, amount = values.get("id"), charged(values)
    if values.get("kind") != _KIND or not isinstance(identifier, str) or _MARK not in identifier:
        return None
    return None if amount is None else (identifier.partition(_MARK)[0], amount)


def correction(
    record: Mapping[str, Any], price_list: PriceList, *, provider: str, model: str, before: int
) -> dict[str, Any] | None:
    """The correction of a record by these prices; None where nothing changes, or nothing was used.

    Args:
        record: of the audit log.
        price_list: of the target that answered.
        provider: of that target, as tenants.yaml calls it.
        model: its name there.
        before: femto-dollars of earlier corrections.
    """
    usage, at_ms = usage_of(record), _milliseconds(record)
    if usage is None or at_ms is None:
        return None
    known = charged(record)
    found = cost(price_list, usage, at_ms)
    difference = found.femto - (known or 0) - before
    if not difference:
        return None
    old, new = dollars((known or 0) + before), found.exact
    mark = hashlib.sha256(f"{old} {new} {price_list.book}".encode()).hexdigest()[:12]
    return {
        "kind": _KIND,
        "id": f"{record['id']}{_MARK}{mark}",
        "tenant": record["tenant"],
        "time": record["time"],
        "request": record["id"],
        "model": model,
        "provider": provider,
        "certainty": found.certainty.value,
        "reason": f"rerated by {price_list.book}: {old if known is not None or before else 'unknown'} to {new}",
        "cost": {
            "exact": dollars(difference),
            "currency": CURRENCY,
            "source": "prices",
            "book": price_list.book,
        },
    }


def _femto(amount: Decimal) -> int:
    if not amount.is_finite() or abs(amount) > _MOST:
        raise ValueError("no amount of money")
    return int(amount.scaleb(_DIGITS).to_integral_value())


def _milliseconds(record: Mapping[str, Any]) -> int | None:
    try:
        moment = datetime.fromisoformat(str(record.get("time")))
    except ValueError:
        return None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _part(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    return found if isinstance(found, Mapping) else {}


def _count(values: Mapping[str, Any], name: str) -> int:
    return token_count(values.get(name)) or 0
