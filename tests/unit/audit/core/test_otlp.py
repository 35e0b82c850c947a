"""Records as spans, log records and metrics of OTLP."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.audit.core import gen_ai
from tenantgate.audit.core.gen_ai import CONVENTIONS, VERSIONS
from tenantgate.audit.core.otlp import View, log_record, metrics, spans
from tenantgate.audit.core.record import gap
from tenantgate.tenant import TenantId

ACME = TenantId("acme")
VIEW = View()


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


def span(record: dict[str, Any], view: View = VIEW) -> dict[str, Any]:
    return spans(record, view)[0]


def named(made: dict[str, Any]) -> dict[str, Any]:
    return {a["key"]: a["value"] for a in made["attributes"]}


def attributes(record: dict[str, Any], view: View = VIEW) -> dict[str, Any]:
    return named(span(record, view))


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
        "langfuse.observation.type": "generation",
        "langfuse.observation.model.name": "m",
        "langfuse.observation.metadata.tenant": "acme",
        "langfuse.trace.name": "chat m",
        "langfuse.trace.metadata.tenant": "acme",
        "langfuse.observation.usage_details": '{"input": 7, "output": 0}',
        "langfuse.observation.cost_details": '{"total": 0.25}',
        "langfuse.observation.completion_start_time": "2026-01-01T00:00:00.500+00:00",
    }


def test_no_attribute_is_given_twice_and_none_is_nested() -> None:
    made = span({**RECORD, "verdicts": {"guardrails": {"rules": [{"name": "pii"}], "numbers": [1, 2]}}})
    names = [a["key"] for a in made["attributes"]]
    assert len(names) == len(set(names))
    assert not [name for name in names if name.startswith("tenantgate.trace")]
    assert attributes(RECORD | {"verdicts": {"g": {"rules": [{"name": "pii"}]}}})[
        "tenantgate.verdicts.g.rules"
    ] == {"stringValue": '[{"name": "pii"}]'}


def test_a_record_of_what_was_dropped_is_a_span_of_its_own() -> None:
    made = span(gap(((3, 9),), tenant=ACME, identifier="gap-1", now_ms=1_700_000_000_000))
    assert (made["name"], made["kind"], made["status"]["code"]) == ("records dropped", 1, 0)
    assert len(made["traceId"]) == 32
    found = {a["key"]: a["value"] for a in made["attributes"]}
    assert found["tenantgate.gap.numbers"] == {"stringValue": '[{"from": 3, "to": 9}]'}


def kept(state: str = "kept") -> dict[str, Any]:
    return with_content(state, input_messages=[PROMPT], output_messages=[REPLY])


FULL: dict[str, Any] = {
    **kept(),
    "trace": {"trace_id": "a" * 32, "span_id": "b" * 16, "parent_id": "c" * 16},
    "end_user": {"hash": "5d41"},
    "gen_ai": {
        "operation": {"name": "chat"},
        "provider": {"name": "openai"},
        "request": {
            "model": "m",
            "temperature": 0.5,
            "top_p": 0.9,
            "max_tokens": 9,
            "seed": 1,
            "stream": True,
            "frequency_penalty": 0.1,
            "presence_penalty": 0.2,
            "choice.count": 2,
            "tools": 3,
        },
        "response": {"model": "m-1", "finish_reasons": ["stop"]},
        "usage": {
            "input_tokens": 90,
            "output_tokens": 30,
            "estimated": True,
            "cache_read": {"input_tokens": 40},
            "cache_creation": {"input_tokens": 20},
            "cache_creation_1h": {"input_tokens": 5},
            "reasoning": {"output_tokens": 10},
            "audio": {"input_tokens": 1, "output_tokens": 2},
        },
        "server": {"time_to_first_token": 0.25},
    },
    "tries": [
        {
            "target": "t1",
            "outcome": "http_500",
            "ms": 100,
            "status": 500,
            "host": "one.example",
            "address": "10.0.0.1:443",
        },
        {
            "target": "t2",
            "outcome": "ok",
            "ms": 200,
            "status": 200,
            "host": "two.example:8443",
            "address": "10.0.0.2:8443",
        },
    ],
}
ALWAYS = {
    "gen_ai.operation.name",
    "gen_ai.request.model",
    "gen_ai.request.temperature",
    "gen_ai.request.top_p",
    "gen_ai.request.max_tokens",
    "gen_ai.request.seed",
    "gen_ai.request.frequency_penalty",
    "gen_ai.request.presence_penalty",
    "gen_ai.request.choice.count",
    "gen_ai.response.model",
    "gen_ai.response.finish_reasons",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
}
SINCE_1_41 = {
    *ALWAYS,
    "gen_ai.provider.name",
    "gen_ai.request.stream",
    "gen_ai.response.time_to_first_chunk",
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.audio.input_tokens",
    "gen_ai.usage.audio.output_tokens",
    "gen_ai.input.messages",
    "gen_ai.output.messages",
}
# Written by hand from the conventions' tables: whoever changes a name changes it here, too.
GOLDEN = {
    "1.36": {*ALWAYS, "gen_ai.system"},
    "1.41": {*SINCE_1_41, "gen_ai.usage.cache_creation.input_tokens"},
    "latest": {*SINCE_1_41, "gen_ai.usage.cache_write.input_tokens"},
}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_conventions_names_are_those_of_the_version_and_no_other(version: str) -> None:
    found = {n for n in attributes(FULL, View(version)) if n.startswith("gen_ai.")}
    assert found == GOLDEN[version]
    assert set(CONVENTIONS) == set(GOLDEN)


def test_what_the_conventions_have_no_name_for_is_tenantgates() -> None:
    found = attributes(FULL, View("1.36"))
    assert found["tenantgate.gen_ai.usage.cache_read.input_tokens"] == {"intValue": "40"}
    assert found["tenantgate.gen_ai.request.tools"] == {"intValue": "3"}
    assert {n.partition(".")[0] for n in found} == {"gen_ai", "tenantgate", "http", "server", "langfuse"}


def test_tries_are_children_of_the_requests_span_one_after_another() -> None:
    request, first, second = spans(FULL, VIEW)
    assert request["parentSpanId"] == "c" * 16
    assert {s["traceId"] for s in (request, first, second)} == {"a" * 32}
    assert first["parentSpanId"] == second["parentSpanId"] == request["spanId"]
    assert len({s["spanId"] for s in (request, first, second)}) == 3
    assert first["startTimeUnixNano"] == request["startTimeUnixNano"]
    assert second["startTimeUnixNano"] == first["endTimeUnixNano"]
    assert [s["status"]["code"] for s in (request, first, second)] == [1, 2, 1]
    assert named(first)["error.type"] == {"stringValue": "http_500"}
    assert (named(first)["server.address"], named(first)["server.port"]) == (
        {"stringValue": "one.example"},
        {"intValue": "443"},
    )
    assert named(request)["server.address"] == {"stringValue": "two.example"}
    assert spans(FULL, VIEW) == spans(json.loads(json.dumps(FULL)), VIEW)


OF_USAGE = ("usage", "cost")


@given(
    version=st.sampled_from(VERSIONS),
    usage=st.booleans(),
    counted=st.booleans(),
    priced=st.booleans(),
    tries=st.integers(0, 4),
)
def test_usage_and_cost_are_on_one_span_or_on_none(
    version: str, usage: bool, counted: bool, priced: bool, tries: int
) -> None:
    ai = {name: value for name, value in FULL["gen_ai"].items() if name != "usage" or counted}
    record = {**FULL, "gen_ai": ai, "tries": [FULL["tries"][0]] * tries}
    if not priced:
        del record["cost"]
    made = spans(record, View(version, usage=usage))
    with_usage = [s for s in made if any(word in name for name in named(s) for word in OF_USAGE)]
    assert len(with_usage) == (1 if usage and (counted or priced) else 0)
    assert len(made) == (1 + tries if tries > 1 else 1)


@given(state=st.sampled_from(["kept", "hashed", "off", "shed"]), version=st.sampled_from(VERSIONS))
def test_without_content_nothing_of_it_is_sent(state: str, version: str) -> None:
    headers = {"x-team": "EMAIL_ADDRESS_1"}
    record = kept(state)
    record["content"]["headers"] = headers
    view = View(version, content=False)
    for text in (json.dumps(spans(record, view)), json.dumps(log_record(record, view))):
        assert "EMAIL_ADDRESS_1" not in text
        assert "Done." not in text


def test_an_older_version_has_no_messages_but_langfuses() -> None:
    found = attributes(FULL, View("1.36"))
    assert json.loads(found["langfuse.observation.input"]["stringValue"])[0]["role"] == "user"
    assert "langfuse.observation.input" not in attributes(FULL)


def test_a_trace_that_the_client_began_keeps_its_name() -> None:
    assert "langfuse.trace.name" not in attributes(FULL)
    assert attributes(FULL)["langfuse.user.id"] == {"stringValue": "5d41"}


@pytest.mark.parametrize(
    ("record", "name", "kind"),
    [
        (
            {"gen_ai": {"operation": {"name": "embeddings"}, "request": {"model": "e"}}},
            "embeddings e",
            "embedding",
        ),
        (
            {"gen_ai": {"tool": {"name": "find"}}, "mcp": {"method": {"name": "tools/call"}}},
            "execute_tool find",
            "tool",
        ),
        ({"gen_ai": {}, "mcp": {"method": {"name": "tools/list"}}}, "tools/list", "span"),
    ],
)
def test_a_span_is_named_for_its_operation(record: dict[str, Any], name: str, kind: str) -> None:
    made = span({**RECORD, **record})
    assert made["name"] == name
    assert named(made)["langfuse.observation.type"] == {"stringValue": kind}


@pytest.mark.parametrize(
    ("status", "severity"), [(200, "INFO"), (404, "WARN"), (429, "WARN"), (500, "ERROR"), (0, "WARN")]
)
def test_a_log_record_is_in_its_trace(status: int, severity: str) -> None:
    record = {**FULL, "response": {"status": status}}
    made = log_record(record, VIEW)
    assert (made["traceId"], made["spanId"], made["severityText"]) == ("a" * 32, "b" * 16, severity)
    assert made["timeUnixNano"] == span(record)["endTimeUnixNano"]
    assert made["eventName"] == "gen_ai.client.inference.operation.details"
    assert "eventName" not in log_record(record, View("1.36"))
    assert made["body"]["stringValue"].startswith("chat m answered")
    assert ("error.type" in named(made)) == (status != 200)
    assert not [name for name in named(made) if name.startswith("langfuse.")]


def points(records: list[dict[str, Any]], view: View = VIEW) -> dict[str, list[dict[str, Any]]]:
    return {m["name"]: m["histogram"]["dataPoints"] for m in metrics(records, view)}


@given(
    tokens=st.lists(st.tuples(st.integers(0, 10**8), st.integers(0, 10**5)), min_size=1, max_size=20),
    version=st.sampled_from(VERSIONS),
)
def test_a_batchs_metrics_have_all_of_it(tokens: list[tuple[int, int]], version: str) -> None:
    batch = []
    for read, written in tokens:
        usage = {"input_tokens": read, "output_tokens": written}
        batch.append({**FULL, "gen_ai": {**FULL["gen_ai"], "usage": usage}})
    found = points([*batch, gap(((3, 9),), tenant=ACME, identifier="g", now_ms=1)], View(version))
    assert set(found) == {gen_ai.TOKEN_USAGE, gen_ai.OPERATION_DURATION, gen_ai.TIME_TO_FIRST_TOKEN}
    by_type = {named(p)["gen_ai.token.type"]["stringValue"]: p for p in found[gen_ai.TOKEN_USAGE]}
    for side, kind in enumerate(("input", "output")):
        point = by_type[kind]
        assert point["sum"] == sum(pair[side] for pair in tokens)
        assert int(point["count"]) == len(tokens) == sum(map(int, point["bucketCounts"]))
        assert len(point["bucketCounts"]) == len(point["explicitBounds"]) + 1
    (duration,) = found[gen_ai.OPERATION_DURATION]
    provider = "gen_ai.system" if version == "1.36" else "gen_ai.provider.name"
    assert named(duration)[provider] == {"stringValue": "openai"}
    assert named(duration)["tenantgate.tenant"] == {"stringValue": "acme"}


def test_metrics_without_usage_have_no_tokens_and_tell_errors_apart() -> None:
    failed = {**FULL, "response": {"status": 503}}
    found = points([FULL, failed], View(usage=False))
    assert gen_ai.TOKEN_USAGE not in found
    assert [named(p).get("error.type") for p in found[gen_ai.OPERATION_DURATION]] == [
        {"stringValue": "503"},
        None,
    ]
    assert metrics([], VIEW) == []
