"""What became of a request: what its provider may bill, by the usage that it named, its tries, and who answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from tenantgate.engine.core.tables import PackedLog
from tenantgate.engine.core.terms import provider_of
from tenantgate.limits.core.ends import MAYBE_BILLED, Billed, End
from tenantgate.llm.log_record import LogRecord
from tenantgate.llm.token_usage import TokenUsage
from tenantgate.policy.core.records import ModelPolicy, Target
from tenantgate.prices.core.cost import cost, prices_at, prices_for

__all__ = ["end_of", "items", "whole"]

_OK: Final = 200
_NO_SUCCESS: Final = 300
_GONE: Final = 499


def end_of(
    packed: PackedLog,
    model: ModelPolicy,
    state: Mapping[str, Any],
    *,
    started_ms: int,
    record: Callable[[], LogRecord],
) -> End:
    """The end of a request, in the order of what is known best.

    ==============================================  ====================================================
    end                                             billed
    ==============================================  ====================================================
    refused by a limit, or by ``cache_only``        nothing, no request either
    answered by a stage (guard, no target …)        nothing; a request, of none of its providers
    answered by the cache                           as each rule's ``cached`` says
    the provider named its usage                    that, also where a guard withheld the reply
    a stream broke off, by whomever                 the tokens seen, and what is held if that is more
    a whole reply without a usage                   Kong's count; of a stream what is held if that is more
    a reply without one, with a price a request     that price, and what is held if tokens cost, too
    the provider refused it (4xx, 5xx)              nothing
    502, 504, time-out, reset, client gone          uncertain: what is held
    the provider was never reached                  nothing
    earlier tries that may have done the work       what is held for one try, each
    ==============================================  ====================================================

    Args:
        packed: the request's end.
        model: that was to answer.
        state: what access left (`Admission.decided`).
        started_ms: when it was reserved, by which it is priced.
        record: gives Kong's log record, by a call to Kong.
    """
    match _text(state.get("end")):
        case "refused":
            return End(refused=True)
        case "free":
            return End(asked=frozenset())
        case "cached":
            prompt, completion, nano = [*(whole(n) for n in items(state.get("cached"))), 0, 0, 0][:3]
            return End(cached=Billed("", prompt, completion, nano))
    targets = {t.id: t for t in model.targets}
    first = targets.get(_text(state.get("target")), model.targets[0])
    uncertain = [
        provider_of(model, targets.get(t.target, first))
        for t in packed.tries[:-1]
        if t.outcome in MAYBE_BILLED
    ]
    target = targets.get(packed.tries[-1].target, first) if packed.tries else first
    provider = provider_of(model, target)
    tried = [targets.get(t.target, first) for t in packed.tries] or [target]
    asked = frozenset(provider_of(model, each) for each in tried)
    usage, prompt = packed.usage, whole(state.get("prompt"))
    if usage is None and _answered(packed):
        usage = _counted(record(), prompt, target)
    if usage is None:
        if _maybe_billed(packed):
            uncertain.append(provider)
        return End(uncertain=tuple(uncertain), asked=asked)
    guessed, seen_nano = 0, _nano(target, usage, started_ms)
    if usage.lower_bound and not usage.input:
        guessed, usage = prompt, replace(usage, input=prompt)
    nano = _nano(target, usage, started_ms)
    guessed_nano = max(0, nano - seen_nano)
    if target.prices is not None and (more := whole(state.get("pictures")) - 1) > 0:
        prices = prices_for(prices_at(target.prices, started_ms), usage.input)
        nano += more * prices.get("request", 0)
    billed = Billed(
        provider, usage.input, usage.output, nano, guessed_prompt=guessed, guessed_nano=guessed_nano
    )
    return End(billed=(billed,), uncertain=tuple(uncertain), cut=usage.lower_bound, asked=asked)


def _nano(target: Target, usage: TokenUsage, at_ms: int) -> int:
    return 0 if target.prices is None else cost(target.prices, usage, at_ms).nano


def _answered(packed: PackedLog) -> bool:
    """Whether the provider's whole answer came."""
    if packed.status == _GONE:
        return False
    if packed.tries:
        return packed.tries[-1].outcome == "ok"
    return _OK <= packed.provider_status < _NO_SUCCESS


def _maybe_billed(packed: PackedLog) -> bool:
    """Whether a provider may have done the work of a request of which no usage is known."""
    if packed.tries:
        outcome = packed.tries[-1].outcome
        return outcome == "ok" or outcome in MAYBE_BILLED
    if not packed.provider_status:
        return packed.sent
    return packed.provider_status < _NO_SUCCESS or f"http_{packed.provider_status}" in MAYBE_BILLED


def _counted(record: LogRecord, prompt: int, target: Target) -> TokenUsage | None:
    """The usage of a whole reply by Kong's count; nobody's where it has none."""
    if (tokens := record.tokens) is not None:
        # Of a whole reply it is the provider's own, of a stream a guess.
        return TokenUsage(input=tokens[0], output=tokens[1], lower_bound=record.is_stream)
    prices = target.prices
    if prices is None or not any("request" in period.prices for period in prices.periods):
        return None
    # Where tokens cost beside the request, the ones of the reply are missing.
    return TokenUsage(input=prompt, lower_bound=any(period.prices["output"] for period in prices.periods))


def whole(value: Any) -> int:
    """A number of Kong's as a whole one; 0 for anything else."""
    return int(value) if isinstance(value, int | float) else 0


def items(value: Any) -> list[Any]:
    """A list of Kong's; empty for anything else."""
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value or "")
