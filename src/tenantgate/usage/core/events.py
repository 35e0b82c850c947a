"""Usage as events for billing systems: the requests that a batch of audit records becomes. Pure.

The same records give the same bytes, so that a batch that is sent again is the same batch. What isn't known is left
out, never zero; amounts are exact decimal texts.

* ``cloudevents``: a batch of CloudEvents 1.0 (https://github.com/cloudevents/spec, JSON format) with an event for each
  try, and for each run of a chain a watermark that says up to which number all is there.
* ``openmeter``: CloudEvents with flat data, which meters read by JSONPath (https://openmeter.io/docs/metering/events).
* ``lago``: at most 100 events a request (https://docs.getlago.com/api-reference/events/batch).
* ``stripe``: one meter event a request, as a form (https://docs.stripe.com/api/billing/meter-event/create): whole
  numbers, the cost in nano-dollars; 35 days old at most, and an identifier that holds for a day.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final
from urllib.parse import quote, urlencode

from tenantgate.llm.chat import canonical
from tenantgate.usage.core.amounts import FEMTO
from tenantgate.usage.core.entries import Entry, Kind, cost_values, entries_of, time_text

__all__ = ["FORMATS", "Billing", "Post", "cloudevents", "posts"]

_BATCH: Final = "application/cloudevents-batch+json"
_USAGE_TYPE: Final = "tenantgate.usage.v1"
_CORRECTION_TYPE: Final = "tenantgate.correction.v1"
_WATERMARK_TYPE: Final = "tenantgate.watermark.v1"
_LAGO_MOST: Final = 100
_STRIPE_TEXT: Final = 100
_STRIPE_MEASURES: Final = ("input_tokens", "output_tokens")
_NANO: Final = FEMTO // 10**9
_ANSWERED: Final = ("answered", "cached", "ok")
_SEQUENCE_DIGITS: Final = 20  # the same length for all, so that they are in order as texts, too


@dataclass(frozen=True, slots=True)
class Billing:
    """What a billing system calls things.

    Attributes:
        meter: type of OpenMeter's events, code of Lago's, and beginning of the names of Stripe's.
        customers: the system's name of a tenant's customer or subscription; without one, the tenant's id.
    """

    meter: str = "llm_usage"
    customers: Mapping[str, str] = field(default_factory=dict)

    def customer(self, entry: Entry) -> str:
        """Whose an entry is there."""
        return self.customers.get(str(entry.tenant), str(entry.tenant))


@dataclass(frozen=True, slots=True)
class Post:
    """One HTTP request.

    Attributes:
        key: for ``Idempotency-Key``, the same for the same body.
    """

    body: bytes
    content_type: str
    key: str


def posts(form: str, records: Sequence[Mapping[str, Any]], billing: Billing) -> list[Post]:
    """The requests that audit records become in a format of `FORMATS`, in their order; none where nothing is to tell.

    Raises:
        ConfigError: a record is none of the audit log.
    """
    return list(FORMATS[form](records, billing))


# -- CloudEvents ---------------------------------------------------------------------------------------------


def cloudevents(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Events of the tries of records, and after each run of a chain the watermark of it."""
    out: list[dict[str, Any]] = []
    runs: dict[tuple[str, str], dict[str, Any]] = {}
    for record in records:
        out += [_event(entry) for entry in entries_of(record)]
        chain = record.get("chain")
        if not isinstance(chain, Mapping):
            continue  # a correction stands in no chain
        key, seq = (str(record.get("tenant")), str(chain.get("node"))), int(chain.get("seq") or 0)
        run = runs.get(key)
        if run is not None and run["to"] + 1 == seq:
            run |= {"to": seq, "hash": chain.get("hash")}
            continue
        if run is not None:
            out.append(_watermark(run))
        runs[key] = {
            "tenant": key[0],
            "node": key[1],
            "from": seq,
            "prev": chain.get("prev"),
            "to": seq,
            "hash": chain.get("hash"),
        }
    return [*out, *map(_watermark, runs.values())]


def _event(entry: Entry) -> dict[str, Any]:
    corrects = entry.kind is Kind.CORRECTION
    out = _envelope(
        entry.id, entry.node, _CORRECTION_TYPE if corrects else _USAGE_TYPE, str(entry.tenant), entry.seq
    )
    texts = {
        "request": entry.request,
        "outcome": entry.outcome,
        "key": entry.key,
        "provider": entry.provider,
        "model": entry.model,
        "response_model": entry.response_model,
        "end_user": entry.end_user,
        "certainty": entry.certainty,
        "reason": entry.reason,
    }
    data: dict[str, Any] = {name: str(text) for name, text in texts.items() if text}
    if not corrects:
        status = "success" if entry.outcome in _ANSWERED else "error"
        data |= {"attempt": entry.attempt, "final": entry.final, "status": status, "cached": entry.cached}
    if entry.tokens:
        data["usage"] = dict(entry.tokens)
    if entry.cost is not None:
        data["cost"] = cost_values(entry.cost)
    return {**out, "time": time_text(entry.time_ms), "data": data}


def _watermark(run: Mapping[str, Any]) -> dict[str, Any]:
    """Says that all records of a chain in these numbers were told. ``prev`` is the ``hash`` of the run before."""
    out = _envelope(str(run["hash"]), run["node"], _WATERMARK_TYPE, run["tenant"], run["to"])
    return {**out, "data": {name: run[name] for name in ("from", "to", "prev", "hash")}}


def _envelope(identifier: str, node: str, kind: str, subject: str, seq: int) -> dict[str, Any]:
    out = {
        "specversion": "1.0",
        "id": identifier,
        "source": f"/tenantgate/nodes/{quote(node, safe='')}" if node else "/tenantgate",
        "type": kind,
        "subject": subject,
        "datacontenttype": "application/json",
    }
    return {**out, "node": node, "sequence": str(seq).rjust(_SEQUENCE_DIGITS, "0")} if node and seq else out


def _cloudevents_posts(records: Sequence[Mapping[str, Any]], _billing: Billing) -> Iterator[Post]:
    if events := cloudevents(records):
        yield _post(events, _BATCH)


# -- billing systems -----------------------------------------------------------------------------------------


def _openmeter_posts(records: Sequence[Mapping[str, Any]], billing: Billing) -> Iterator[Post]:
    events = []
    for entry in _billed(records):
        out = _envelope(entry.id, entry.node, billing.meter, billing.customer(entry), 0)
        events.append({**out, "time": time_text(entry.time_ms), "data": _flat(entry)})
    if events:
        yield _post(events, _BATCH)


def _lago_posts(records: Sequence[Mapping[str, Any]], billing: Billing) -> Iterator[Post]:
    events = [
        {
            "transaction_id": entry.id,
            "external_subscription_id": billing.customer(entry),
            "code": billing.meter,
            "timestamp": f"{entry.time_ms // 1000}.{entry.time_ms % 1000:03}",
            "properties": _flat(entry),
        }
        for entry in _billed(records)
    ]
    for start in range(0, len(events), _LAGO_MOST):
        yield _post({"events": events[start : start + _LAGO_MOST]}, "application/json")


def _stripe_posts(records: Sequence[Mapping[str, Any]], billing: Billing) -> Iterator[Post]:
    for entry in _billed(records):
        values = {name: entry.tokens[name] for name in _STRIPE_MEASURES if name in entry.tokens}
        if entry.cost is not None:
            values["cost"] = round(Fraction(entry.cost.femto, _NANO))
        for name, value in values.items():
            identifier = f"{entry.id}:{name}"
            if len(identifier) > _STRIPE_TEXT:
                identifier = hashlib.sha256(identifier.encode()).hexdigest()
            fields = {
                "event_name": f"{billing.meter}_{name}",
                "identifier": identifier,
                "timestamp": str(entry.time_ms // 1000),
                "payload[stripe_customer_id]": billing.customer(entry),
                "payload[value]": str(value),
            }
            yield Post(urlencode(fields).encode("ascii"), "application/x-www-form-urlencoded", identifier)


def _billed(records: Iterable[Mapping[str, Any]]) -> Iterator[Entry]:
    """Entries that have something to bill, or stand for a request that was answered."""
    for record in records:
        for entry in entries_of(record):
            if entry.tokens or entry.cost is not None or (entry.final and entry.outcome in _ANSWERED):
                yield entry


def _flat(entry: Entry) -> dict[str, Any]:
    texts = {
        "request": entry.request,
        "key": entry.key,
        "provider": entry.provider,
        "model": entry.model,
        "end_user": entry.end_user,
        "certainty": entry.certainty,
    }
    out: dict[str, Any] = {name: str(text) for name, text in texts.items() if text}
    out |= {"kind": str(entry.kind), "cached": entry.cached, **entry.tokens}
    if entry.cost is not None:
        out |= {"cost": cost_values(entry.cost)["exact"], "currency": entry.cost.currency}
    return out


def _post(value: Any, content_type: str) -> Post:
    body = canonical(value)
    return Post(body, content_type, hashlib.sha256(body).hexdigest())


FORMATS: Final = {
    "cloudevents": _cloudevents_posts,
    "openmeter": _openmeter_posts,
    "lago": _lago_posts,
    "stripe": _stripe_posts,
}
"""Formats by name."""
