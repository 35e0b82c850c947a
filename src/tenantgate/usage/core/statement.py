"""A tenant's statement: its usage of a month by day and model, tied to its audit chains, and signed.

The tenant can check it with the public key and its own records: that the signature is the gateway's, that each chain
leads without a break from the beginning that the statement names to the end, and that the sums are those of the
records. A statement holds names, whole numbers and decimal texts only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final

from tenantgate.errors import ConfigError
from tenantgate.llm.chat import canonical
from tenantgate.tenant import TenantId
from tenantgate.usage.core.amounts import decimal
from tenantgate.usage.core.entries import Certainty, Ledger, correction_of, correction_values, entries_of
from tenantgate.usage.core.sums import Totals, grouped, total

__all__ = ["Link", "check", "links_of", "month_of", "parts", "signed", "statement", "text_of"]

_VERSION: Final = 1
_ALGORITHM: Final = "Ed25519"
_BY: Final = ("day", "provider", "model")


@dataclass(frozen=True, slots=True)
class Link:
    """The place of a record in its chain; `hash` and `prev` as the record has them."""

    node: str
    seq: int
    prev: str
    hash: str
    time_ms: int


def month_of(text: str, zone: tzinfo) -> tuple[int, int]:
    """The beginning and the end of a month such as 2026-11 in a time zone, in Unix milliseconds; the end isn't in it.

    Raises:
        ConfigError: it is no month.
    """
    try:
        first = datetime.strptime(text, "%Y-%m").replace(tzinfo=zone)
    except ValueError:
        raise ConfigError(f"--month: {text[:20]!r} is no month such as 2026-11") from None
    following = (first.replace(day=1) + timedelta(days=32)).replace(day=1)
    return _unix_ms(first), _unix_ms(following)


def links_of(records: Iterable[Mapping[str, Any]]) -> list[Link]:
    """The places in chains of audit records; what stands in none is left out."""
    out = []
    for record in records:
        chain = record.get("chain")
        if not isinstance(chain, Mapping) or type(chain.get("seq")) is not int:
            continue
        try:
            moment = datetime.fromisoformat(str(record.get("time")))
        except ValueError:
            continue
        node, prev, digest = (str(chain.get(name, "")) for name in ("node", "prev", "hash"))
        out.append(Link(node, chain["seq"], prev, digest, _unix_ms(moment)))
    return out


def statement(
    tenant: TenantId,
    ledger: Ledger,
    links: Sequence[Link],
    *,
    month: str,
    zone: tzinfo,
    zone_name: str,
    issued: str,
) -> dict[str, Any]:
    """The statement of a tenant's month.

    Args:
        tenant: whose entries in `ledger` count; others' are left out.
        ledger: of the tenant's records and of corrections.
        links: of all the tenant's records that there are, also of other months.
        month: such as 2026-11, in `zone`, whose IANA name is `zone_name`.
        zone: the month's and the days' time zone.
        zone_name: of `zone`.
        issued: when, ISO 8601.
    """
    start, end = month_of(month, zone)
    chosen = [e for e in ledger.entries() if e.tenant == tenant and start <= e.time_ms < end]
    sums = grouped(chosen, _BY, zone)
    return {
        "version": _VERSION,
        "tenant": str(tenant),
        "month": month,
        "timezone": zone_name,
        "issued": issued,
        "lines": [{**dict(zip(_BY, key, strict=True)), **_values(sums[key])} for key in sums],
        "totals": _values(total(sums)),
        "corrections": [correction_values(e) for e in chosen if e.kind == "correction"],
        "chains": _chains(links, start, end),
    }


def _values(sums: Totals) -> dict[str, Any]:
    """A sum as JSON: counts that are zero aren't there, amounts are exact texts by currency."""
    counts = {
        "requests": sums.requests,
        "cached": sums.cached,
        "tries": sums.tries,
        **sums.tokens,
        "uncertain": sums.uncertain,
        "unpriced": sums.unpriced,
        "corrections": sums.corrections,
    }
    out: dict[str, Any] = {name: count for name, count in counts.items() if count}
    out["cost"] = {currency: decimal(sums.cost(currency)) for currency in sums.currencies}
    of_others = {
        certainty.value: {c: decimal(amount) for c in sums.currencies if (amount := sums.cost(c, certainty))}
        for certainty in (Certainty.ESTIMATED, Certainty.LOWER_BOUND, Certainty.UNCERTAIN)
    }
    if of_which := {name: amounts for name, amounts in of_others.items() if amounts}:
        out["cost_of_which"] = of_which
    return out


def _chains(links: Iterable[Link], start: int, end: int) -> list[dict[str, Any]]:
    """Of each unbroken run of a chain the part from the month's first record to its last one.

    Records stand in a chain in the order in which requests ended, so that at its ends a run may hold some of the months
    beside. A run ends where records were dropped, and where a node began anew.
    """
    by_prev = {(link.node, link.prev): link for link in links if link.prev}
    known = {(link.node, link.hash): link for link in links}
    firsts = [link for link in known.values() if (link.node, link.prev) not in known]
    out = []
    for first in firsts:
        run, link = [first], by_prev.get((first.node, first.hash))
        while link is not None and len(run) <= len(
            known
        ):  # hashes that nobody has checked may lead in a circle
            run.append(link)
            link = by_prev.get((link.node, link.hash))
        inside = [i for i, one in enumerate(run) if start <= one.time_ms < end]
        if inside:
            part = run[inside[0] : inside[-1] + 1]
            out.append(
                {
                    "node": first.node,
                    "from": {"seq": part[0].seq, "prev": part[0].prev},
                    "to": {"seq": part[-1].seq, "hash": part[-1].hash},
                    "records": len(part),
                }
            )
    return sorted(out, key=lambda chain: (chain["node"], chain["from"]["seq"], chain["to"]["hash"]))


# -- checking ------------------------------------------------------------------------------------------------


def signed(values: Mapping[str, Any], sign: Callable[[bytes], bytes], key_id: str) -> dict[str, Any]:
    """The statement with its signature: of its canonical JSON, all but the signature itself."""
    signature = sign(canonical(values)).hex()
    return {**values, "signature": {"algorithm": _ALGORITHM, "key": key_id, "value": signature}}


def parts(raw: bytes) -> tuple[dict[str, Any], bytes, bytes]:
    """A signed statement without its signature, the bytes that were signed, and the signature.

    Raises:
        ConfigError: it is no signed statement.
    """
    try:
        found = json.loads(raw, object_pairs_hook=_once)
        signature = found.pop("signature")
        value = bytes.fromhex(signature["value"])
        if signature["algorithm"] != _ALGORITHM or found["version"] != _VERSION:
            raise ConfigError("the statement is of another version than this program's")
        return found, canonical(found), value
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ConfigError("is no signed statement") from None


def _once(members: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object without a member that is there twice: readers may take the first; the signature is of the last one."""
    found = dict(members)
    if len(found) < len(members):
        raise ValueError
    return found


def check(values: Mapping[str, Any], records: Iterable[Mapping[str, Any]], zone: tzinfo) -> list[str]:
    """What of a statement isn't borne out by the tenant's records; empty if all of it is.

    `records` are whole: that none of them is altered was checked by their chains.
    """
    tenant = TenantId(str(values.get("tenant")))
    mine = [record for record in records if record.get("tenant") == str(tenant)]
    ledger = Ledger()
    for record in mine:
        for entry in entries_of(record):
            ledger.add(entry)
    for correction in values.get("corrections") or ():
        ledger.add(correction_of(correction))
    problems = [f"two different records have the id {identifier}" for identifier in sorted(ledger.conflicts)]
    links = {(link.node, link.hash): link for link in links_of(mine)}
    for chain in values.get("chains") or ():
        problems += _chain_problems(chain, links)
    again = statement(
        tenant,
        ledger,
        list(links.values()),
        month=str(values.get("month")),
        zone=zone,
        zone_name=str(values.get("timezone")),
        issued=str(values.get("issued")),
    )
    problems += _line_problems(values, again)
    problems += [
        f"the records have a chain of node {chain['node']}, numbers {chain['from']['seq']} to {chain['to']['seq']}, "
        "that the statement doesn't name"
        for chain in again["chains"]
        if chain not in (values.get("chains") or ())
    ]
    for name in ("totals", "corrections"):
        if canonical(values.get(name)) != canonical(again[name]):
            problems.append(f"{name}: aren't those of the records")
    return problems


def _chain_problems(chain: Mapping[str, Any], links: Mapping[tuple[str, str], Link]) -> list[str]:
    node, first, last = str(chain["node"]), chain["from"], chain["to"]
    where = f"node {node}, numbers {first['seq']} to {last['seq']}"
    link = links.get((node, str(last["hash"])))
    if link is None:
        return [f"{where}: the last record isn't among yours"]
    count = 1
    while link.prev != first["prev"] or link.seq != first["seq"]:
        before = links.get((node, link.prev))
        if before is None or before.seq != link.seq - 1 or before.seq < first["seq"]:
            return [f"{where}: number {link.seq - 1} isn't among your records"]
        link, count = before, count + 1
    return [] if count == chain["records"] else [f"{where}: {count} records and not {chain['records']}"]


def _line_problems(values: Mapping[str, Any], again: Mapping[str, Any]) -> list[str]:
    told, found = (
        {tuple(str(line.get(n)) for n in _BY): line for line in v["lines"]} for v in (values, again)
    )
    out = []
    if len(told) != len(values["lines"]):
        out.append("lines: one of them is there twice")
    for key in sorted(told.keys() | found.keys()):
        if key not in told or key not in found or canonical(told[key]) != canonical(found[key]):
            day, provider, model = key
            told_cost, found_cost = (_money(lines.get(key)) for lines in (told, found))
            out.append(f"{day} {provider}/{model}: the statement says {told_cost}, the records {found_cost}")
    return out


def _money(line: Mapping[str, Any] | None) -> str:
    if line is None:
        return "nothing"
    cost = ", ".join(f"{amount} {currency}" for currency, amount in sorted(line["cost"].items()))
    return f"{line.get('requests', 0)} requests, {cost or 'no cost'}"


# -- for people ----------------------------------------------------------------------------------------------


def text_of(values: Mapping[str, Any], key_id: str) -> str:
    """The statement as a text, for people; the signature is that of the JSON."""
    rows: list[tuple[str, ...]] = [
        ("Day", "Provider", "Model", "Requests", "Cached", "Input", "Output", "Uncertain", "Cost")
    ]
    rows += [
        (line["day"], line["provider"] or "-", line["model"] or "-", *_columns(line))
        for line in values["lines"]
    ]
    rows.append(("Total", "", "", *_columns(values["totals"])))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    table = [
        "  ".join(
            text.ljust(w) if i < 3 else text.rjust(w)
            for i, (text, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    chains = [
        f"  node {c['node']}: numbers {c['from']['seq']} to {c['to']['seq']}, last hash {c['to']['hash']}"
        for c in values["chains"]
    ]
    return "\n".join(
        [
            f"Statement of usage: {values['tenant']}, {values['month']} ({values['timezone']})",
            f"Issued {values['issued']}, signed by key {key_id}",
            "",
            *(line.rstrip() for line in table),
            "",
            "Uncertain: tries that the provider may bill, whose cost isn't known.",
            f"Corrections: {len(values['corrections'])}",
            "Audit chains:",
            *(chains or ["  none"]),
            "",
        ]
    )


def _columns(sums: Mapping[str, Any]) -> tuple[str, ...]:
    names = ("requests", "cached", "input_tokens", "output_tokens", "uncertain")
    cost = ", ".join(f"{amount} {currency}" for currency, amount in sorted(sums["cost"].items()))
    return (*(str(sums.get(name, 0)) for name in names), cost or "-")


def _unix_ms(moment: datetime) -> int:
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - datetime.fromtimestamp(0, UTC)
    return since // timedelta(milliseconds=1)
