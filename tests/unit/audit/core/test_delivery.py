"""Pauses, a batch's key, and records as spans."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.audit.core.delivery import LONGEST_PAUSE_S, batch_key, pause_s, span
from tenantgate.audit.core.ports import Queued
from tenantgate.audit.core.record import gap
from tenantgate.tenant import TenantId

ACME = TenantId("acme")


def queued(*ids: str, record: bytes = b"{}") -> list[Queued]:
    return [Queued(str(n), ACME, identifier, record) for n, identifier in enumerate(ids)]


@given(failures=st.integers(1, 10_000), draw=st.floats(0, 1), asked_s=st.none() | st.floats(0, 1e12))
def test_a_pause_has_a_bound_and_is_no_shorter_than_asked(
    failures: int, draw: float, asked_s: float | None
) -> None:
    pause = pause_s(failures, draw, asked_s=asked_s)
    assert 0 <= pause <= max(LONGEST_PAUSE_S, 3600)
    assert pause >= min(asked_s or 0, 3600)


def test_the_jitter_is_full_and_the_bound_doubles() -> None:
    assert [pause_s(n, 0.0) for n in (1, 5, 50)] == [0, 0, 0]
    bounds = [pause_s(n, 1.0) for n in range(1, 6)]
    assert [b / a for a, b in pairwise(bounds)] == [2, 2, 2, 2]


def test_a_key_is_that_of_the_records_and_their_order() -> None:
    assert batch_key(queued("a", "b")) == batch_key(queued("a", "b"))
    others = [queued("b", "a"), queued("a"), queued("ab"), queued("a", "b", "c"), queued("a\nb")[:0]]
    assert len({batch_key(batch) for batch in ([*others, queued("a", "b")])}) == len(others) + 1
    assert batch_key(queued("\udcff"))


RECORD: dict[str, Any] = {
    "id": "r",
    "tenant": "acme",
    "time": "2026-01-01T00:00:00.250Z",
    "outcome": "answered",
    "response": {"status": 200},
    "latencies": {"request": 1500.5},
    "consumer": None,
    "trace": {"trace_id": "a" * 32, "span_id": "b" * 16},
    "cost": {"amount": 0.25, "source": "prices"},
    "gen_ai": {
        "operation": {"name": "chat"},
        "provider": {"name": "openai"},
        "request": {"model": "m"},
        "response": {"finish_reasons": ["stop"]},
        "usage": {"input_tokens": 7, "output_tokens": 0},
    },
    "content": {"state": "off"},
}


def attributes(record: dict[str, Any]) -> dict[str, Any]:
    return {a["key"]: a["value"] for a in span(record)["attributes"]}


def test_a_span_has_the_requests_time_and_name() -> None:
    made = span(RECORD)
    assert made["name"] == "chat m"
    start, end = int(made["startTimeUnixNano"]), int(made["endTimeUnixNano"])
    assert (round(start / 1e6), round((end - start) / 1e3)) == (1_767_225_600_250, 1_500_500)
    assert "parentSpanId" not in made


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gen_ai.operation.name", {"stringValue": "chat"}),
        ("gen_ai.provider.name", {"stringValue": "openai"}),
        ("gen_ai.request.model", {"stringValue": "m"}),
        ("gen_ai.response.finish_reasons", {"arrayValue": {"values": [{"stringValue": "stop"}]}}),
        ("gen_ai.usage.input_tokens", {"intValue": "7"}),
        ("gen_ai.usage.output_tokens", {"intValue": "0"}),
        ("http.response.status_code", {"intValue": "200"}),
    ],
)
def test_a_span_has_the_attributes_of_the_conventions(name: str, value: dict[str, Any]) -> None:
    assert attributes(RECORD)[name] == value


@pytest.mark.parametrize(("status", "code"), [(200, 1), (404, 2), (500, 2), (0, 2)])
def test_a_span_says_whether_it_went_well(status: int, code: int) -> None:
    assert span({**RECORD, "response": {"status": status}})["status"]["code"] == code


def test_a_span_of_a_record_without_a_model_or_a_trace_can_be_written() -> None:
    bare = {"time": "2026-01-01T00:00:00Z", "tenant": "acme", "outcome": "unauthorized"}
    assert json.dumps(span(bare))
    assert span(bare)["name"] == "chat"


PROMPT = {
    "role": "user",
    "parts": [{"type": "text", "content": "write to [EMAIL_ADDRESS_1] \u2026"}, {"type": "text"}],
}
REPLY = {"role": "assistant", "parts": [{"type": "text", "content": "Done."}], "finish_reason": "stop"}


def with_content(state: str, **content: Any) -> dict[str, Any]:
    return {**RECORD, "content": {"state": state, "redactions": {"EMAIL_ADDRESS": 1}, **content}}


def test_prompt_and_reply_are_the_conventions_messages() -> None:
    kept = with_content(
        "kept", input_messages=[PROMPT], output_messages=[REPLY, {"role": "assistant", "parts": []}]
    )
    found = attributes(kept)
    assert json.loads(found["gen_ai.input.messages"]["stringValue"]) == [
        {**PROMPT, "parts": [PROMPT["parts"][0], {"type": "text", "content": ""}]}
    ]
    assert json.loads(found["gen_ai.output.messages"]["stringValue"]) == [
        REPLY,
        {"role": "assistant", "parts": [], "finish_reason": "unknown"},
    ]
    assert found["tenantgate.content.redactions.EMAIL_ADDRESS"] == {"intValue": "1"}
    assert json.dumps(span(kept)).count("EMAIL_ADDRESS_1") == 1


@pytest.mark.parametrize("state", ["hashed", "off", "shed", "redaction_failed"])
def test_no_messages_without_text(state: str) -> None:
    messages = {"input_messages": [{"role": "user", "parts": [{"type": "text", "content_hash": "5d41"}]}]}
    found = attributes(with_content(state, **(messages if state == "hashed" else {})))
    assert not [
        name
        for name in found
        if name.startswith(("gen_ai.input", "gen_ai.output", "langfuse.observation.in"))
    ]
    assert ("tenantgate.content.input_messages" in found) == (state == "hashed")


def test_langfuse_is_told_what_it_takes_from_no_other_attribute() -> None:
    ai = {**RECORD["gen_ai"], "server": {"time_to_first_token": 0.25}}
    found = {
        n: v["stringValue"]
        for n, v in attributes({**RECORD, "gen_ai": ai}).items()
        if n.startswith("langfuse.")
    }
    assert found == {
        "langfuse.observation.metadata.tenant": "acme",
        "langfuse.observation.usage_details": '{"input": 7, "output": 0}',
        "langfuse.observation.cost_details": '{"total": 0.25}',
        "langfuse.observation.completion_start_time": "2026-01-01T00:00:00.500+00:00",
    }


def test_no_attribute_is_given_twice_and_none_is_nested() -> None:
    made = span({**RECORD, "verdicts": {"guardrails": {"rules": [{"name": "pii"}], "numbers": [1, 2]}}})
    names = [a["key"] for a in made["attributes"]]
    assert len(names) == len(set(names))
    assert not [name for name in names if "trace" in name]
    assert attributes(RECORD | {"verdicts": {"g": {"rules": [{"name": "pii"}]}}})[
        "tenantgate.verdicts.g.rules"
    ] == {"stringValue": '[{"name": "pii"}]'}


def test_a_record_of_what_was_dropped_is_a_span_of_its_own() -> None:
    made = span(gap(((3, 9),), tenant=ACME, identifier="gap-1", now_ms=1_700_000_000_000))
    assert (made["name"], made["kind"], made["status"]["code"]) == ("records dropped", 1, 0)
    assert len(made["traceId"]) == 32
    found = {a["key"]: a["value"] for a in made["attributes"]}
    assert found["tenantgate.gap.numbers"] == {"stringValue": '[{"from": 3, "to": 9}]'}
