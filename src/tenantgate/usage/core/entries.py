"""Entries of usage: what one try of one request used and cost, or a correction of it.

One audit record gives an entry for each try at a provider, and one for a request that came to none. The request and the
tokens count in the last of them. A try whose provider may have done the work unseen is an entry with an unknown cost,
marked as uncertain: unknown is never zero.

Corrections are entries of their own, with amounts that may be negative. Nothing that was counted is ever changed.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tenantgate.errors import ConfigError
from tenantgate.tenant import TenantId
from tenantgate.usage.core.amounts import amount_of, decimal

__all__ = [
    "TOKENS",
    "Certainty",
    "Cost",
    "Entry",
    "Kind",
    "Ledger",
    "correction_of",
    "correction_values",
    "cost_values",
    "entries_of",
    "time_text",
]

TOKENS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
"""Kinds of tokens. The last three are parts of the first two."""

_CURRENCY: Final = "USD"
"""Of costs that tell no currency: prices in tenants.yaml are in dollars."""
_MAYBE_BILLED: Final = (502, 504)
"""Statuses of the gateway's own after which a provider that was asked directly may have done the work."""
_FROM_CACHE: Final = ("hit", "coalesced", "stale")
_PROVIDERS: Final = {
    "gcp.gemini": "gemini",
    "gcp.vertex_ai": "vertex",
    "azure.ai.openai": "azure",
    "aws.bedrock": "bedrock",
    "mistral_ai": "mistral",
}
"""Providers that OpenTelemetry's conventions, and so records, call by another name than tenants.yaml."""
_CORRECTION: Final = "correction"
_LATEST_MS: Final = 253_402_300_799_999  # the end of the year 9999


class Kind(enum.StrEnum):
    """A kind of entry."""

    USAGE = "usage"
    CORRECTION = "correction"


class Certainty(enum.StrEnum):
    """How sure an amount is."""

    EXACT = "exact"  # by the provider's own count
    ESTIMATED = "estimated"  # the provider has told no count
    LOWER_BOUND = "lower_bound"  # the reply broke off: the provider may bill more
    UNCERTAIN = "uncertain"  # sent, and nobody knows what became of it


@dataclass(frozen=True, slots=True)
class Cost:
    """An amount of money.

    Attributes:
        femto: in 10⁻¹⁵ of the currency's unit; negative only in corrections.
        currency: ISO 4217.
        source: where the price is from, such as prices or kong; empty where unknown.
        book: the price book and its version; empty where unknown.
    """

    femto: int
    currency: str = _CURRENCY
    source: str = ""
    book: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What one try used and cost, or a correction.

    Attributes:
        id: unique over all tenants and nodes: the record's id, a colon, and the number of the try.
        kind: usage, or correction.
        tenant: whose it is.
        time_ms: when the request came, Unix milliseconds.
        request: id of the record; of a correction, the id that it corrects, or empty.
        attempt: number of the try, from 1; 0 where no provider was asked.
        final: whether it is the request's last one, which stands for the request.
        node: of the record's chain, and `seq` the number in it; empty and 0 where unknown.
        key: Kong's id of the client's credential.
        model: that was asked for.
        response_model: that answered, by the provider's word.
        end_user: hash or text, as the record has it.
        outcome: of the request, or of a try that isn't the last one.
        cached: whether the answer came from the cache.
        tokens: by kind of `TOKENS`; a kind that nobody has counted is missing.
        cost: None where it isn't known.
        certainty: of tokens and cost; None where there is nothing to be sure of, as no provider was asked.
        reason: of a correction.
    """

    id: str
    kind: Kind = Kind.USAGE
    tenant: TenantId
    time_ms: int
    request: str = ""
    attempt: int = 0
    final: bool = True
    node: str = ""
    seq: int = 0
    key: str = ""
    model: str = ""
    response_model: str = ""
    provider: str = ""
    end_user: str = ""
    outcome: str = ""
    cached: bool = False
    tokens: Mapping[str, int] = field(default_factory=dict)
    cost: Cost | None = None
    certainty: Certainty | None = None
    reason: str = ""

    @property
    def uncertain(self) -> bool:
        """Whether the provider may bill what nobody has counted."""
        return self.certainty is Certainty.UNCERTAIN

    @property
    def unpriced(self) -> bool:
        """Whether tokens were used whose cost isn't known."""
        return self.cost is None and any(self.tokens.values()) and not self.cached


# -- out of records ------------------------------------------------------------------------------------------


def entries_of(record: Mapping[str, Any]) -> tuple[Entry, ...]:
    """The entries of an audit record or a correction; none for what tells of dropped records, or of an event.

    Raises:
        ConfigError: it is neither; the message names the field.
    """
    if record.get("kind") == _CORRECTION:
        return (correction_of(record),)
    if "gap" in record or "event" in record:
        return ()
    base = _base(record)
    found = record.get("tries")
    tries = [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []
    return (*_earlier(base, tries), _last(record, base, tries))


def _base(record: Mapping[str, Any]) -> Entry:
    """What all entries of a record have in common."""
    ai, chain, who = _part(record, "gen_ai"), _part(record, "chain"), _part(record, "end_user")
    identifier, tenant = _required(record)
    seq, provider = chain.get("seq"), _text(_part(ai, "provider"), "name")
    return Entry(
        id=identifier,
        request=identifier,
        tenant=tenant,
        time_ms=_milliseconds(record),
        node=_text(chain, "node"),
        seq=seq if type(seq) is int and seq > 0 else 0,
        key=_text(_part(record, "key"), "id"),
        model=_text(_part(ai, "request"), "model"),
        response_model=_text(_part(ai, "response"), "model"),
        provider=_PROVIDERS.get(provider, provider),
        end_user=_text(who, "id") or _text(who, "hash"),
        outcome=_text(record, "outcome"),
    )


def _earlier(base: Entry, tries: list[Mapping[str, Any]]) -> Iterator[Entry]:
    for number, one in enumerate(tries[:-1], 1):
        provider, model = _target(one)
        yield replace(
            base,
            id=f"{base.request}:{number}",
            attempt=number,
            final=False,
            outcome=_text(one, "outcome"),
            provider=provider or base.provider,
            model=model or base.model,
            response_model="",
            certainty=Certainty.UNCERTAIN if one.get("uncertain") is True else None,
        )


def _last(record: Mapping[str, Any], base: Entry, tries: list[Mapping[str, Any]]) -> Entry:
    response, used = _part(record, "response"), _part(_part(record, "gen_ai"), "usage")
    asked = bool(tries) or (record.get("attempts") or 0) > 0 or response.get("source") == "upstream"
    cached = base.outcome == "cached" or (
        response.get("source") != "upstream" and _text(response, "cache_status").lower() in _FROM_CACHE
    )
    attempt = len(tries) or int(asked and not cached)
    provider, model = _target(tries[-1]) if tries else ("", "")
    tokens, cost = _tokens(used), _cost(record)
    return replace(
        base,
        id=f"{base.request}:{attempt}",
        attempt=attempt,
        provider=provider or base.provider,
        model=model or base.model,
        cached=cached,
        tokens=tokens,
        cost=cost,
        certainty=_certainty(record, used, tries, attempt),
    )


def _certainty(
    record: Mapping[str, Any], used: Mapping[str, Any], tries: list[Mapping[str, Any]], attempt: int
) -> Certainty | None:
    """How sure the last try's amounts are."""
    told = _text(_part(record, "cost"), "certainty")
    if told in set(Certainty):
        return Certainty(told)
    if used:
        if used.get("lower_bound") is True:
            return Certainty.LOWER_BOUND
        return Certainty.ESTIMATED if used.get("estimated") is True else Certainty.EXACT
    if not attempt:
        return None
    if tries:
        return Certainty.UNCERTAIN if tries[-1].get("uncertain") is True else None
    gone = record.get("outcome") == "client_gone"
    failed = (
        record.get("outcome") == "upstream_error" and _part(record, "response").get("status") in _MAYBE_BILLED
    )
    return Certainty.UNCERTAIN if gone or failed else None


def _target(one: Mapping[str, Any]) -> tuple[str, str]:
    """Provider and model of a try, whose target is ``provider/model``, with ``#2`` for a second credential."""
    provider, _, model = _text(one, "target").partition("/")
    name, mark, number = model.rpartition("#")
    return (provider, name if mark and number.isdecimal() else model) if model else ("", "")


def _tokens(used: Mapping[str, Any]) -> dict[str, int]:
    found = {
        "input_tokens": used.get("input_tokens"),
        "output_tokens": used.get("output_tokens"),
        "cache_read_tokens": _part(used, "cache_read").get("input_tokens"),
        "cache_write_tokens": _part(used, "cache_creation").get("input_tokens"),
        "reasoning_tokens": _part(used, "reasoning").get("output_tokens"),
    }
    return {name: count for name, count in found.items() if type(count) is int}


def _cost(record: Mapping[str, Any]) -> Cost | None:
    """A record's cost: `exact` where it is there, else the number that records had before."""
    found = record.get("cost")
    if not isinstance(found, Mapping):
        return None
    exact, amount = found.get("exact"), found.get("amount")
    if isinstance(exact, str):
        text = exact
    elif isinstance(amount, int | float) and not isinstance(amount, bool):
        text = repr(amount)
    else:
        return None
    try:
        femto = amount_of(text)
    except ConfigError as error:
        raise ConfigError(f"cost: {error}") from None
    return Cost(femto, _text(found, "currency") or _CURRENCY, _text(found, "source"), _text(found, "book"))


def _required(record: Mapping[str, Any]) -> tuple[str, TenantId]:
    identifier, tenant = _text(record, "id"), _text(record, "tenant")
    if not identifier or not tenant:
        raise ConfigError(
            f"{'tenant' if identifier else 'id'}: is missing, so this is no record of the audit log"
        )
    return identifier, TenantId(tenant)


def _milliseconds(record: Mapping[str, Any]) -> int:
    try:
        moment = datetime.fromisoformat(_text(record, "time"))
    except ValueError:
        raise ConfigError("time: is missing, or no time such as 2026-01-31T18:00:00.000Z") from None
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - datetime.fromtimestamp(0, UTC)
    milliseconds = since // timedelta(milliseconds=1)
    if not 0 <= milliseconds <= _LATEST_MS:
        raise ConfigError("time: is before 1970")
    return milliseconds


def _part(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _text(value: Mapping[str, Any], name: str) -> str:
    found = value.get(name)
    return found if isinstance(found, str) else ""


# -- corrections ---------------------------------------------------------------------------------------------


def correction_of(values: Mapping[str, Any]) -> Entry:
    """The correction that a JSON object holds, as `correction_values` writes it.

    Raises:
        ConfigError: it is none; the message names the field.
    """
    identifier, tenant = _required(values)
    told, certainty = _part(values, "usage"), _text(values, "certainty")
    for name, count in told.items():
        if name not in TOKENS or type(count) is not int:
            raise ConfigError(f"usage.{str(name)[:40]}: is no count of tokens")
    return Entry(
        id=identifier,
        kind=Kind.CORRECTION,
        tenant=tenant,
        time_ms=_milliseconds(values),
        request=_text(values, "request"),
        key=_text(values, "key"),
        model=_text(values, "model"),
        provider=_text(values, "provider"),
        end_user=_text(values, "end_user"),
        outcome=_CORRECTION,
        tokens=dict(told),
        cost=_cost(values),
        certainty=Certainty(certainty) if certainty in set(Certainty) else Certainty.EXACT,
        reason=_text(values, "reason"),
    )


def correction_values(entry: Entry) -> dict[str, Any]:
    """A correction as a JSON object; what isn't known is left out."""
    cost = entry.cost
    texts = {
        "kind": _CORRECTION,
        "id": entry.id,
        "tenant": str(entry.tenant),
        "time": time_text(entry.time_ms),
        "request": entry.request,
        "key": entry.key,
        "model": entry.model,
        "provider": entry.provider,
        "end_user": entry.end_user,
        "certainty": entry.certainty,
        "reason": entry.reason,
    }
    out: dict[str, Any] = {name: str(text) for name, text in texts.items() if text}
    if entry.tokens:
        out["usage"] = dict(entry.tokens)
    if cost is not None:
        out["cost"] = cost_values(cost)
    return out


def cost_values(cost: Cost) -> dict[str, str]:
    """A cost as a JSON object, the amount as an exact text."""
    more = {"source": cost.source, "book": cost.book}
    return {
        "exact": decimal(cost.femto),
        "currency": cost.currency,
        **{name: text for name, text in more.items() if text},
    }


def time_text(milliseconds: int) -> str:
    """A time in UTC, as records have it."""
    moment = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=milliseconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# -- many of them --------------------------------------------------------------------------------------------


class Ledger:
    """Entries, each id once, whatever their order and however often they come.

    Attributes:
        conflicts: ids under which different entries came. The same one of them is kept in any order, but which of them
            is true nobody can say here.
        unreadable: number of lines that held no record.
    """

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self.conflicts: set[str] = set()
        self.unreadable = 0

    def add(self, entry: Entry) -> None:
        """Take an entry in."""
        known = self._entries.setdefault(entry.id, entry)
        if known is not entry and known != entry:
            self.conflicts.add(entry.id)
            self._entries[entry.id] = min(known, entry, key=_spelling)

    def add_record(self, raw: bytes) -> None:
        """Take in the entries of a record as it stands in a file."""
        try:
            record = json.loads(raw)
            if not isinstance(record, dict):
                raise ConfigError("is no object")  # noqa: TRY301
            found = entries_of(record)
        except (ValueError, RecursionError, ConfigError):
            self.unreadable += 1
            return
        for entry in found:
            self.add(entry)

    def entries(self) -> list[Entry]:
        """All of them, by time, then by id."""
        return sorted(self._entries.values(), key=lambda entry: (entry.time_ms, entry.id))


def _spelling(entry: Entry) -> str:
    return repr((replace(entry, tokens={}), sorted(entry.tokens.items())))
