"""The record keeps to its schema, and the schema in the documentation is the one of the code."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from audit_rig import body, journal_line, reply
from tenantgate.audit.core.chain import START, link, shed
from tenantgate.audit.core.content import RawContent
from tenantgate.audit.core.costs import PriceLists
from tenantgate.audit.core.journal import parse_line
from tenantgate.audit.core.record import Terms, asks_no_model, build, gap, schema
from tenantgate.audit.core.redaction import ContentState, Policy, absent, redact
from tenantgate.audit.core.trace import parse_traceparent, span_id, trace_of
from tenantgate.prices.core.price_list import PriceList, Prices
from tenantgate.tenant import TenantId

from support import ROOT

DOCS = ROOT / "docs"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
FLAT = Prices(prices={"input": 1_000_000_000, "output": 2_000_000_000})
PRICES = PriceLists(usual=PriceList(book="b 1", periods=(FLAT,)))
TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def problems(value: Any, rule: dict[str, Any], where: str = "$") -> list[str]:
    """The part of JSON schema that ours uses."""
    if "anyOf" in rule:
        return [] if any(not problems(value, r, where) for r in rule["anyOf"]) else [f"{where}: no match"]
    kinds = rule["type"] if isinstance(rule["type"], list) else [rule["type"]]
    if not any(
        isinstance(value, TYPES[k]) and not (isinstance(value, bool) and k != "boolean") for k in kinds
    ):
        return [f"{where}: {type(value).__name__}"]
    out = []
    wrong = (
        value not in rule.get("enum", [value]),
        value != rule.get("const", value),
        "pattern" in rule and not re.search(rule["pattern"], value),
        "minimum" in rule and value < rule["minimum"],
    )
    if any(wrong):
        out.append(f"{where}: {value!r}")
    if isinstance(value, list):
        out += [p for i, v in enumerate(value) for p in problems(v, rule["items"], f"{where}[{i}]")]
    if isinstance(value, dict):
        out += [f"{where}.{n}: missing" for n in rule.get("required", ()) if n not in value]
        more = rule.get("additionalProperties", True)
        for name, inner in value.items():
            known = rule.get("properties", {}).get(name, more)
            if known is False:
                out.append(f"{where}.{name}: unknown")
            elif isinstance(known, dict):
                out += problems(inner, known, f"{where}.{name}")
    return out


def record(redacted: Any, terms: Terms | None = None, **changes: Any) -> dict[str, Any]:
    line = parse_line(journal_line(1, **changes))
    assert line is not None
    built = build(line, redacted, terms or Terms(), identifier="a1")
    entry, _ = link(built, START, tenant=line.tenant, node="n", position=0)
    found: dict[str, Any] = json.loads(entry.record)
    return found


RAW = RawContent(body("mail jane.roe@example.org"), 10_000, reply("Yes."), 100, {"x-user": "u"})
RICH = redact(RAW, Policy(key=b"k"), names=None, salt="5a")
HASHED = redact(RAW, Policy("hashed", key=b"k"), names=None)


@pytest.mark.parametrize("redacted", [RICH, HASHED, *(absent(s) for s in ContentState)])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tenant": None, "response__status": 401, "ai": {}, "source": "kong"},
        {"ai__proxy__usage__cost": 0.5},
        {"tenantgate__traceparent": f"00-{TRACE}-{SPAN}-00", "route": None, "latencies": None},
    ],
)
@pytest.mark.parametrize("terms", [Terms(), Terms("hash", PRICES, b"k"), Terms("keep")])
def test_every_record_keeps_to_the_schema(redacted: Any, changes: dict[str, Any], terms: Terms) -> None:
    found = record(redacted, terms, **changes)
    assert problems(found, schema()) == []
    assert problems(json.loads(shed(json.dumps(found).encode())), schema()) == []


TRIES = [
    {
        "target": "a/m",
        "outcome": "timeout",
        "status": 0,
        "ms": 60_000,
        "address": "192.0.2.1:443",
        "host": "a.example",
    },
    {
        "target": "b/m",
        "outcome": "http_502",
        "status": 502,
        "ms": 9,
        "address": "192.0.2.2:443",
        "host": "b.example",
    },
    {"target": "c/m", "outcome": "refused", "status": 0, "ms": 0, "address": "", "host": "c.example"},
    {
        "target": "d/m#2",
        "outcome": "ok",
        "status": 200,
        "ms": 300,
        "address": "192.0.2.4:443",
        "host": "d.example",
    },
]


def test_a_request_that_was_tried_several_times() -> None:
    found = record(RICH, tenantgate__tries=TRIES, upstream_status="503, 503, 503, 200")
    assert problems(found, schema()) == []
    assert found["tries"] == [
        {"target": "a/m", "outcome": "timeout", "ms": 60_000, "uncertain": True}
        | {"address": "192.0.2.1:443", "host": "a.example"},
        {"target": "b/m", "outcome": "http_502", "status": 502, "ms": 9, "uncertain": True}
        | {"address": "192.0.2.2:443", "host": "b.example"},
        {"target": "c/m", "outcome": "refused", "ms": 0, "host": "c.example"},
        {"target": "d/m#2", "outcome": "ok", "status": 200, "ms": 300}
        | {"address": "192.0.2.4:443", "host": "d.example"},
    ]
    assert found["attempts"] == 3
    assert (found["response"]["upstream_status"], found["response"]["target"]) == ("502, 200", "d/m#2")


def test_nobody_answered_a_request_that_the_gateway_did() -> None:
    found = record(RICH, tenantgate__tries=TRIES[:1], source="kong", response__status=504)
    assert "target" not in found["response"]
    assert "tries" not in record(RICH)


def test_a_record_of_what_was_dropped_keeps_to_the_schema() -> None:
    told = gap(((1, 5), (9, 9)), tenant=TenantId("acme"), identifier="gap-1", now_ms=1_700_000_000_000)
    entry, _ = link(told, START, tenant=TenantId("acme"), node="n", position=0)
    found = json.loads(entry.record)
    assert problems(found, schema()) == []
    assert found["gap"]["records"] == 6
    assert problems({**found, "outcome": "answered"}, schema()) != []


def test_the_documented_schema_is_the_code_s() -> None:
    assert json.loads((DOCS / "audit-record.schema.json").read_text("utf-8")) == schema()


@pytest.mark.parametrize(
    ("terms", "cost", "expected"),
    [
        (Terms(), 0, None),
        (Terms(), 0.25, {"amount": 0.25, "source": "kong"}),
        (
            Terms(prices=PRICES),
            0.25,
            {
                "amount": 0.0002,
                "exact": "0.0002",
                "currency": "USD",
                "source": "prices",
                "book": "b 1",
                "certainty": "estimated",
            },
        ),
    ],
)
def test_what_it_cost(terms: Terms, cost: float, expected: Any) -> None:
    assert record(RICH, terms, ai__proxy__usage__cost=cost).get("cost") == expected


def test_what_is_kept_of_the_client_s_address() -> None:
    assert record(RICH, Terms("remove"))["client"] == {}
    assert record(RICH, Terms("keep"))["client"] == {"address": "203.0.113.9"}
    one, other = (record(RICH, Terms("hash", key=k))["client"]["address_hash"] for k in (b"1", b"2"))
    assert one != other


def test_the_record_says_by_which_key_and_for_which_end_user() -> None:
    asked = {"authenticated_entity__id": "key-1", "tenantgate__end_user": "jane@example.org"}
    found = record(RICH, Terms(end_user="hash", key=b"1"), **asked)
    other = record(RICH, Terms(end_user="hash", key=b"2"), **asked)
    assert found["key"] == {"id": "key-1"}
    assert "jane" not in json.dumps(found)
    assert len({found["end_user"]["hash"], other["end_user"]["hash"]}) == 2
    assert record(RICH, Terms(end_user="keep"), **asked)["end_user"] == {"id": "jane@example.org"}
    assert "end_user" not in record(RICH, Terms(), **asked)
    assert not {"key", "end_user"} & record(RICH, Terms(end_user="keep")).keys()
    assert problems(found, schema()) == []


@pytest.mark.parametrize("end_user", ["x" * 257, 3, None, {"id": "x"}, True])
def test_what_can_t_be_an_end_user_is_left_out(end_user: Any) -> None:
    assert "end_user" not in record(RICH, Terms(end_user="keep"), tenantgate__end_user=end_user)


@pytest.mark.parametrize(
    ("header", "parsed"),
    [
        (f"00-{TRACE}-{SPAN}-01", (TRACE, SPAN, True)),
        (f"00-{TRACE}-{SPAN}-00", (TRACE, SPAN, False)),
        (f"cc-{TRACE}-{SPAN}-01-more", (TRACE, SPAN, True)),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        ("", None),
        (None, None),
        ("jane.roe@example.org", None),
    ],
)
def test_traceparent_as_the_standard_has_it(header: str | None, parsed: Any) -> None:
    assert parse_traceparent(header) == parsed


def test_a_trace_is_continued_else_kong_s_else_begun() -> None:
    kong = "1" * 32
    assert trace_of(f"00-{TRACE}-{SPAN}-01", kong, "a").parent_id == SPAN
    assert (trace_of(None, kong, "a").trace_id, trace_of(None, kong, "a").parent_id) == (kong, None)
    begun = trace_of("nonsense", "0" * 32, "a")
    assert begun == trace_of(None, None, "a")
    assert (len(begun.trace_id), begun.span_id) == (32, span_id("a"))


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "answered"),
        ("guard", "blocked"),
        ("limit", "rate_limited"),
        ("arguments", "refused"),
        ("http_404", "upstream_error"),
        ("timeout", "upstream_error"),
    ],
)
def test_a_call_of_a_tool_says_what_became_of_it(error: str | None, outcome: str) -> None:
    note = {
        "method": "tools/call",
        "server": "api",
        "tool": "get_weather",
        **({"error": error} if error else {}),
    }
    found = record(RICH, ai={}, tenantgate={"mcp": json.dumps(note), "operation": "execute_tool"})
    assert problems(found, schema()) == []
    assert found["outcome"] == outcome
    assert found["gen_ai"]["operation"] == {"name": "execute_tool"}
    assert found["gen_ai"]["tool"] == {"name": "get_weather"}
    assert found["mcp"]["method"] == {"name": "tools/call"}
    assert "mcp" not in found["verdicts"]


def test_a_result_that_was_kept_is_an_answer_of_the_cache_with_content() -> None:
    note = {"mcp": '{"method": "tools/call", "server": "api", "tool": "t"}', "cache_status": "Hit"}
    given: dict[str, Any] = {"ai": {}, "source": "kong", "tries": [], "tenantgate": note}
    assert record(RICH, **given)["outcome"] == "cached"
    line = parse_line(journal_line(1, **given))
    assert line is not None
    assert not asks_no_model(line)


def test_a_list_of_tools_is_no_chat() -> None:
    note = '{"method": "tools/list", "server": "api"}'
    found = record(absent(ContentState.NONE), ai={}, source="kong", tries=[], tenantgate={"mcp": note})
    assert problems(found, schema()) == []
    assert "operation" not in found["gen_ai"]
