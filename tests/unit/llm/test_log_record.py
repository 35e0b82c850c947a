"""Kong's log record: what each member is read as, and that no odd record raises."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.llm.log_record import LogRecord

RECORD: dict[str, Any] = {
    "request": {
        "id": "0123456789abcdef0123456789abcdef",
        "method": "POST",
        "size": 300,
        "headers": {"host": "h", "x-team": ["a", "b"], "x-empty": ""},
    },
    "response": {
        "status": 200,
        "size": 900,
        "headers": {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": ["private", "no-store"],
        },
    },
    "latencies": {"kong": 2, "proxy": -1, "request": 13.25, "receive": 1, "session": 4},
    "tries": [{"ip": "127.0.0.1", "port": 9}, {"ip": "127.0.0.1", "port": 9}],
    "route": {"id": "route-1", "name": "llm.openai.gpt-4o.acme"},
    "consumer": {"id": "c-1", "custom_id": "acme", "username": "tenant_acme"},
    "authenticated_entity": {"id": "key-1"},
    "client_ip": "203.0.113.9",
    "started_at": 1_700_000_000_123.7,
    "source": "upstream",
    "upstream_status": "502, 200",
    "correlation_id": "corr",
    "trace_id": {"w3c": "f" * 32, "datadog": "1"},
    "ai": {
        "proxy": {
            "meta": {
                "provider_name": "openai",
                "request_model": "gpt-4o",
                "response_model": "gpt-4o-x",
                "llm_time_to_first_token": 41.5,
            },
            "usage": {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 151, "cost": 0.25},
            "payload": {"request": "{}", "response": '{"choices":[]}'},
        }
    },
    "tenantgate": {"guardrails": '{"action":"pass"}', "cache_status": "Miss"},
}

MEMBERS: dict[str, Any] = {
    "request_id": "0123456789abcdef0123456789abcdef",
    "correlation_id": "corr",
    "trace_id": "f" * 32,
    "started_ms": 1_700_000_000_123,
    "method": "POST",
    "request_size": 300,
    "client_ip": "203.0.113.9",
    "consumer_id": "c-1",
    "consumer_name": "tenant_acme",
    "consumer_custom_id": "acme",
    "credential_id": "key-1",
    "route_id": "route-1",
    "route_name": "llm.openai.gpt-4o.acme",
    "status": 200,
    "response_size": 900,
    "is_stream": True,
    "source": "upstream",
    "upstream_status": "502, 200",
    "attempts": 2,
    "latencies_ms": {"kong": 2, "proxy": -1, "request": 13.25, "receive": 1},
    "reply": '{"choices":[]}',
    "provider": "openai",
    "request_model": "gpt-4o",
    "response_model": "gpt-4o-x",
    "time_to_first_token_ms": 41.5,
    "tokens": (100, 50, 151),
    "cost": 0.25,
    "notes": {"guardrails": '{"action":"pass"}', "cache_status": "Miss"},
}

ABSENT: dict[str, Any] = {
    name: type(value)() if isinstance(value, str | dict) else None for name, value in MEMBERS.items()
} | {"is_stream": False, "attempts": 0, "reply": None}


def members(record: LogRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in MEMBERS}


def changed(path: str, value: Any) -> LogRecord:
    """The record with one member changed; `path` is dotted, its steps joined by ``/``."""
    record = json.loads(json.dumps(RECORD))
    *steps, last = path.split("/")
    node = record
    for step in steps:
        node = node[step]
    node[last] = value
    return LogRecord(record)


def test_the_table_has_all_members() -> None:
    found = {name for name, value in vars(LogRecord).items() if isinstance(value, property)}
    assert found == set(MEMBERS)


@pytest.mark.parametrize("name", MEMBERS)
def test_each_member_is_read(name: str) -> None:
    assert getattr(LogRecord(RECORD), name) == MEMBERS[name]


@pytest.mark.parametrize("name", MEMBERS)
def test_a_record_without_it_has_it_absent(name: str) -> None:
    assert getattr(LogRecord({}), name) == ABSENT[name]


@pytest.mark.parametrize(
    ("path", "value", "name", "read"),
    [
        ("trace_id", "e" * 32, "trace_id", "e" * 32),
        ("trace_id", {"datadog": "1"}, "trace_id", ""),
        ("response/status", 200.0, "status", 200),
        ("response/status", 200.5, "status", None),
        ("response/status", "200", "status", None),
        ("response/status", True, "status", None),
        ("response/size", 10**400, "response_size", None),
        ("response/size", math.inf, "response_size", None),
        ("response/size", math.nan, "response_size", None),
        ("response/size", -1e300, "response_size", None),
        ("response/headers", [], "is_stream", False),
        ("response/headers/content-type", "application/json", "is_stream", False),
        ("response/headers/content-type", ["a/b", "text/event-stream"], "is_stream", True),
        ("response/headers/content-type", 3, "is_stream", False),
        ("upstream_status", 502, "upstream_status", "502"),
        ("upstream_status", "", "upstream_status", ""),
        ("upstream_status", True, "upstream_status", ""),
        ("tries", {}, "attempts", 0),
        (
            "latencies",
            {"kong": "2", "proxy": None, "request": True, "receive": 0},
            "latencies_ms",
            {"receive": 0},
        ),
        ("latencies", [], "latencies_ms", {}),
        ("ai/proxy/meta/provider_name", "UNSPECIFIED", "provider", ""),
        ("ai/proxy/meta/request_model", "UNSPECIFIED", "request_model", ""),
        ("ai/proxy/meta/response_model", 3, "response_model", ""),
        ("ai/proxy/payload/response", {"choices": []}, "reply", {"choices": []}),
        ("ai/proxy/payload/response", "", "reply", ""),
        ("ai/proxy/payload/response", ["x"], "reply", ["x"]),
        ("ai/proxy/payload/response", 3, "reply", None),
        ("ai/proxy/payload", "x", "reply", None),
        ("ai", [], "reply", None),
        ("ai/proxy/usage", {"prompt_tokens": 0, "completion_tokens": 0}, "tokens", None),
        ("ai/proxy/usage", {"prompt_tokens": 3}, "tokens", (3, 0, 3)),
        ("ai/proxy/usage", {"total_tokens": 3}, "tokens", (0, 0, 3)),
        ("ai/proxy/usage", {"prompt_tokens": "3", "completion_tokens": True}, "tokens", None),
        ("ai/proxy/usage", [], "cost", None),
        ("ai/proxy/usage/cost", 0, "cost", None),
        ("tenantgate", "x", "notes", {}),
    ],
)
def test_what_is_of_another_type_is_absent(path: str, value: Any, name: str, read: Any) -> None:
    assert getattr(changed(path, value), name) == read


@pytest.mark.parametrize(
    ("name", "values"), [("host", ("h",)), ("x-team", ("a", "b")), ("x-empty", ("",)), ("x-other", ())]
)
def test_a_header_has_all_its_values(name: str, values: tuple[str, ...]) -> None:
    assert LogRecord(RECORD).request_header(name) == values


def test_values_of_a_header_that_are_no_texts_are_left_out() -> None:
    assert changed("response/headers/cache-control", [None, "a", 1]).response_header("cache-control") == (
        "a",
    )
    assert changed("response/headers/cache-control", {}).response_header("cache-control") == ()


@pytest.mark.parametrize("value", [None, [], "x", {}, {"request": []}, {"response": {}}])
def test_what_isnt_of_a_request_is_no_record(value: Any) -> None:
    assert LogRecord.of(value) is None


def test_a_record_of_a_request_is_one() -> None:
    assert LogRecord.of({"request": {}}) == LogRecord({"request": {}})


def test_a_record_shows_nothing_of_itself() -> None:
    assert repr(LogRecord(RECORD)) == "LogRecord()"


NAMES = sorted(
    {
        name
        for part in (RECORD, *RECORD.values(), RECORD["ai"]["proxy"], *RECORD["ai"]["proxy"].values())
        if isinstance(part, dict)
        for name in part
    }
)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=10,
)
PATHS = ["ai/proxy/" + part for part in RECORD["ai"]["proxy"]] + ["ai/proxy", *RECORD]


@given(st.sampled_from(PATHS), ANY)
def test_an_odd_part_changes_only_what_it_holds(path: str, value: Any) -> None:
    """No record raises; all that is read is of its type, and what lies elsewhere is read as before."""
    read = members(changed(path, value))
    for name, found in read.items():
        assert type(found) is type(MEMBERS[name]) or found == ABSENT[name] or name in UNIONS, name
    others = set(MEMBERS) - set(HELD[path.split("/", maxsplit=1)[0]])
    assert {name: read[name] for name in others} == {name: MEMBERS[name] for name in others}


UNIONS = {"reply", "cost", "time_to_first_token_ms"}
HELD = {
    "request": ["request_id", "method", "request_size"],
    "response": ["status", "response_size", "is_stream"],
    "latencies": ["latencies_ms"],
    "tries": ["attempts"],
    "route": ["route_id", "route_name"],
    "authenticated_entity": ["credential_id"],
    "consumer": ["consumer_id", "consumer_name", "consumer_custom_id"],
    "client_ip": ["client_ip"],
    "started_at": ["started_ms"],
    "source": ["source"],
    "upstream_status": ["upstream_status"],
    "correlation_id": ["correlation_id"],
    "trace_id": ["trace_id"],
    "tenantgate": ["notes"],
    "ai": [
        "provider",
        "request_model",
        "response_model",
        "time_to_first_token_ms",
        "tokens",
        "cost",
        "reply",
    ],
}
