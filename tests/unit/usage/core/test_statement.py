from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from datetime import UTC
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.audit.core.chain import verify
from tenantgate.errors import ConfigError
from tenantgate.tenant import TenantId
from tenantgate.usage.core.entries import Ledger
from tenantgate.usage.core.statement import check, links_of, month_of, parts, signed, statement, text_of
from tenantgate.usage.keys import is_signed_by
from usage_rig import FEW, chained, loaded, record, records

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
BERLIN = ZoneInfo("Europe/Berlin")


def issued(
    lines: Sequence[bytes], month: str = "2026-10", more: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    ledger = Ledger()
    for line in [*lines, *(json.dumps(one).encode() for one in more)]:
        ledger.add_record(line)
    return statement(
        TenantId("acme"),
        ledger,
        links_of(one for one in loaded(lines) if one["tenant"] == "acme"),
        month=month,
        zone=BERLIN,
        zone_name="Europe/Berlin",
        issued="2026-12-01T00:00:00Z",
    )


def faults(values: dict[str, Any], lines: Sequence[bytes]) -> list[str]:
    found = [str(fault) for fault in verify(lines).faults]
    return found + check(values, loaded(lines), BERLIN)


def kept(text: bytes) -> bool:
    """Whether a signed text is still the signature's."""
    try:
        _, whole, signature = parts(text)
    except ConfigError:
        return False
    return is_signed_by(KEY.public_key(), signature, whole)


@FEW
@given(records(most=15), st.randoms())
def test_a_statement_is_borne_out_by_the_records_in_any_order(
    found: list[dict[str, Any]], random: Any
) -> None:
    lines = chained(found)
    values = issued(lines)
    mixed = list(lines)
    random.shuffle(mixed)
    assert issued(mixed) == values
    assert faults(values, [one for one in mixed if json.loads(one)["tenant"] == "acme"]) == []


@FEW
@given(records(("acme",), most=8).filter(bool), st.data())
def test_whatever_is_changed_in_a_record_is_found(found: list[dict[str, Any]], data: st.DataObject) -> None:
    lines = chained(found)
    values = issued(lines)
    if not values["chains"]:
        return
    number = data.draw(
        st.integers(values["chains"][0]["from"]["seq"] - 1, values["chains"][-1]["to"]["seq"] - 1)
    )
    way = data.draw(st.sampled_from(("cost", "tokens", "time", "gone", "model", "tenant")))
    altered = json.loads(lines[number])
    if way == "cost":
        altered["cost"] = {"exact": "77777", "currency": "USD"}
    elif way == "tokens":
        altered["gen_ai"]["usage"] = {"input_tokens": 10**9}
    elif way == "time":
        altered["time"] = "2026-10-26T00:00:00.123Z"
    elif way == "tenant":
        altered["tenant"] = "bravo"
    elif way == "model":
        altered["gen_ai"]["request"]["model"] = "another"
    changed = [
        *lines[:number],
        *([] if way == "gone" else [json.dumps(altered).encode()]),
        *lines[number + 1 :],
    ]
    assert faults(values, changed)


@given(st.data())
def test_whatever_is_changed_in_a_statement_breaks_its_signature(data: st.DataObject) -> None:
    values = issued(chained(record(n, time="2026-10-26T10:00:00Z") for n in range(3)))
    raw = json.dumps(signed(values, KEY.sign, "k")).encode()
    assert kept(raw)
    at = data.draw(st.integers(0, len(raw) - 1))
    changed = raw[:at] + bytes([raw[at] ^ data.draw(st.integers(1, 127))]) + raw[at + 1 :]
    try:
        same = parts(changed)[1:] == parts(raw)[1:]  # as where only white space or the key's name is another
    except ConfigError:
        same = False
    assert kept(changed) is same


def test_no_member_of_a_statement_is_there_twice() -> None:
    raw = json.dumps(signed(issued(chained([record(1, time="2026-10-26T10:00:00Z")])), KEY.sign, "k"))
    forged = raw.replace('"totals": {', '"totals": {"requests": 7, ', 1)
    assert json.loads(forged) == json.loads(raw)
    assert not kept(forged.encode())


def test_hashes_that_lead_in_a_circle_are_followed_to_an_end() -> None:
    lines = chained(record(n, time="2026-10-26T10:00:00Z") for n in range(3))
    values, found = issued(lines), loaded(lines)
    found[2]["chain"]["hash"] = found[0]["chain"]["hash"]
    assert check(values, found, BERLIN)


@pytest.mark.parametrize(
    "path",
    [
        ("lines", 0, "requests"),
        ("lines", 0, "cost", "USD"),
        ("totals", "input_tokens"),
        ("chains", 0, "records"),
    ],
)
def test_a_statement_that_is_signed_but_wrong_is_found(path: tuple[Any, ...]) -> None:
    lines = chained(record(n, time="2026-10-26T10:00:00Z") for n in range(3))
    values = copy.deepcopy(issued(lines))
    *steps, last = path
    node: Any = values
    for step in steps:
        node = node[step]
    node[last] = "9" if isinstance(node[last], str) else node[last] + 1
    assert faults(values, lines)


def test_a_chain_that_is_kept_back_is_found() -> None:
    lines = chained([record(1, time="2026-10-26T10:00:00Z")])
    other = chained([record(2, time="2026-10-26T10:00:00Z")], node="n2")
    assert faults(issued([*lines, *other]), [*lines, *other]) == []
    assert any("n2" in fault for fault in faults(issued(lines), [*lines, *other]))
    assert any("n2" in fault for fault in faults(issued([*lines, *other]), lines))


def test_records_stand_in_the_order_of_their_ends_so_a_month_s_ends_may_hold_the_next() -> None:
    times = ["2026-09-30T21:59:59Z", "2026-09-30T22:00:01Z", "2026-09-30T21:59:58Z", "2026-10-31T22:59:59Z"]
    lines = chained(record(n, time=one) for n, one in enumerate([*times, "2026-11-01T00:00:00Z"]))
    values = issued(lines)
    assert (values["totals"]["requests"], values["chains"][0]["records"]) == (2, 3)
    assert faults(values, lines[1:4]) == []


def test_a_node_that_began_anew_has_two_chains() -> None:
    first = chained(record(n, time="2026-10-26T10:00:00Z") for n in range(2))
    second = chained(record(n, time="2026-10-27T10:00:00Z") for n in range(2, 5))
    values = issued([*first, *second])
    assert {(c["from"]["seq"], c["to"]["seq"]) for c in values["chains"]} == {(1, 2), (1, 3)}
    assert check(values, loaded([*first, *second]), BERLIN) == []


def test_corrections_are_in_the_statement_whole() -> None:
    lines = chained([record(1, time="2026-10-26T10:00:00Z")])
    correction = {
        "kind": "correction",
        "id": "c1",
        "tenant": "acme",
        "time": "2026-10-26T10:00:00.000Z",
        "model": "gpt-4o",
        "certainty": "exact",
        "cost": {"exact": "-0.0000234", "currency": "USD"},
    }
    values = issued(lines, more=[correction])
    assert values["totals"]["cost"] == {"USD": "0.0001"}
    assert values["corrections"] == [correction]
    assert faults(values, lines) == []
    assert "0.0001 USD" in text_of(values, "key")


@pytest.mark.parametrize(
    ("month", "zone", "hours"),
    [
        ("2026-10", BERLIN, 31 * 24 + 1),
        ("2026-03", BERLIN, 31 * 24 - 1),
        ("2024-02", UTC, 29 * 24),
        ("2026-12", UTC, 31 * 24),
    ],
)
def test_months_are_as_long_as_the_calendar_has_them(month: str, zone: Any, hours: int) -> None:
    start, end = month_of(month, zone)
    assert (end - start) == hours * 3_600_000


@pytest.mark.parametrize("text", ["2026-13", "11", "2026-11-01", ""])
def test_what_is_no_month(text: str) -> None:
    with pytest.raises(ConfigError, match="--month"):
        month_of(text, UTC)
