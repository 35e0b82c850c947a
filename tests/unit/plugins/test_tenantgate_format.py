"""tenantgate-format on the embedded Lua: replies and errors in the formats of the request's path."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lua_rig import Log, exchange, plugin
from tenantgate.devhost import kong_conf, lua_plugins
from tenantgate.devhost.exchange import Exchange, Phase
from tenantgate.devhost.lua_plugins import LuaPlugin
from tenantgate.devhost.lua_state import LuaState
from tenantgate.devhost.stock_schemas import SCHEMAS
from tenantgate.paths import plugins_dir

CONF = plugin("tenantgate-format", correlation_header="X-Request-ID", only_unrouted=False)
ID = "0" * 32
MESSAGES, RESPONSES = "/v1/messages", "/v1/responses"
USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 60},
    "completion_tokens_details": {"reasoning_tokens": 7},
}


@cache
def load() -> LuaPlugin:
    path = f"{plugins_dir()}/?.lua;;"
    conf = kong_conf.parse(f"plugins = bundled, tenantgate-format\nlua_package_path = {path}\n")
    (found,) = lua_plugins.load(conf, SCHEMAS, LuaState(Log(), conf.settings, path))
    return found


def run(
    pieces: Sequence[bytes],
    *,
    path: str = MESSAGES,
    status: int = 200,
    kind: str = "application/json",
    request: Mapping[str, Any] | None = None,
    shared: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> tuple[Exchange, bytes]:
    """What a client gets for a reply in these pieces."""
    body = json.dumps({"model": "asked", **(request or {})}).encode()
    held = {"tenantgate_request": {"body": body}, **(shared or {})}
    x = exchange(uri=path, args="", shared=held, status=status)
    x.ctx["ai_llm_metrics"] = dict(metrics or {})
    x.out["Content-Type"], x.out["Content-Length"], x.out["X-Request-ID"] = kind, "5", "the-id"
    x.phase = Phase.HEADER_FILTER
    load().header_filter(x, CONF)
    x.phase = Phase.BODY_FILTER
    out = [load().body_filter(x, CONF, piece, last=False) for piece in pieces]
    return x, b"".join([*out, load().body_filter(x, CONF, b"", last=True)])


def whole(message: Mapping[str, Any], *, reason: str = "stop", path: str = MESSAGES, **more: Any) -> Any:
    """A completion with this message, translated."""
    reply = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "m-1",
        "choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}],
        "usage": USAGE,
    }
    _, body = run([json.dumps(reply).encode()], path=path, **more)
    return json.loads(body)


REPLY: Any = {
    "id": "chatcmpl-1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
}


def sse(*chunks: Any, done: bool = True) -> bytes:
    events = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return "".join([*events, *(["data: [DONE]\n\n"] if done else [])]).encode()


def chunk(reason: str | None = None, **delta: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return {"id": "chatcmpl-1", "created": 1700000000, "model": "m-1", "choices": [choice]}


def call(index: int, arguments: str, **more: Any) -> dict[str, Any]:
    name = {"name": more.pop("name")} if "name" in more else {}
    return {"tool_calls": [{"index": index, **more, "function": {**name, "arguments": arguments}}]}


def events(raw: bytes) -> list[dict[str, Any]]:
    """The events of a stream, each of which bears its type as its name, too."""
    found = []
    for block in raw.decode().split("\n\n")[:-1]:
        name, data = block.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def stream(*chunks: Any, path: str = MESSAGES, done: bool = True, **more: Any) -> list[dict[str, Any]]:
    return events(run([sse(*chunks, done=done)], path=path, kind="text/event-stream", **more)[1])


# -- Messages, whole ----------------------------------------------------------------------------------------


def test_a_whole_message() -> None:
    assert whole({"content": "Hello"}) == {
        "id": "msg_chatcmpl-1",
        "type": "message",
        "role": "assistant",
        "model": "m-1",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 40,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 60,
            "output_tokens": 20,
        },
    }


@pytest.mark.parametrize(
    ("reason", "message", "stop"),
    [
        ("stop", {"content": "x"}, "end_turn"),
        ("length", {"content": "x"}, "max_tokens"),
        ("tool_calls", {"content": None, "tool_calls": [{"id": "c", "function": {"name": "f"}}]}, "tool_use"),
        ("stop", {"content": None, "tool_calls": [{"id": "c", "function": {"name": "f"}}]}, "tool_use"),
        ("length", {"content": None, "tool_calls": [{"id": "c", "function": {"name": "f"}}]}, "max_tokens"),
        ("content_filter", {"content": "x"}, "refusal"),
        ("stop", {"content": None, "refusal": "No."}, "refusal"),
        ("end_turn", {"content": "x"}, "end_turn"),
        ("stop_sequence", {"content": "x"}, "stop_sequence"),
        ("MAX_TOKENS", {"content": "x"}, "max_tokens"),
        ("something", {"content": "x"}, "end_turn"),
    ],
)
def test_reasons_of_the_end(reason: str, message: dict[str, Any], stop: str) -> None:
    assert whole(message, reason=reason)["stop_reason"] == stop


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ('{"a": 12345678901234567890, "b": []}', {"a": 12345678901234567890, "b": []}),
        ("", {}),
        ("{}", {}),
        ('{"cut": "of', {"arguments": '{"cut": "of'}),
        ("[1]", {"arguments": "[1]"}),
    ],
)
def test_a_tools_input(arguments: str, given: Any) -> None:
    calls = [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": arguments}}]
    made = whole({"content": "Let me look.", "tool_calls": calls}, reason="tool_calls")
    assert made["content"] == [
        {"type": "text", "text": "Let me look."},
        {"type": "tool_use", "id": "call_1", "name": "f", "input": given},
    ]


@pytest.mark.parametrize(
    ("thinking", "blocks"),
    [
        (None, 1),
        ({"type": "disabled"}, 1),
        ({"type": "enabled", "budget_tokens": 5}, 2),
        ({"type": "adaptive"}, 2),
    ],
)
def test_thoughts_are_for_those_who_ask(thinking: Any, blocks: int) -> None:
    made = whole({"content": "x", "reasoning_content": "hm"}, request={"thinking": thinking})
    assert len(made["content"]) == blocks
    if blocks == 2:
        assert made["content"][0] == {"type": "thinking", "thinking": "hm", "signature": ""}


def test_counts_of_ai_proxy_where_the_provider_gives_none() -> None:
    metrics = {"llm_prompt_tokens_count": 5, "llm_completion_tokens_count": 6}
    found = stream(chunk(content="x"), chunk("stop"), metrics=metrics)[-2]["usage"]
    assert (found["input_tokens"], found["output_tokens"]) == (5, 6)


@pytest.mark.parametrize(
    "body", [b"", b"no", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{"message": 1}]}']
)
@pytest.mark.parametrize("path", [MESSAGES, RESPONSES])
def test_what_is_no_reply_is_an_error(body: bytes, path: str) -> None:
    found = json.loads(run([body], path=path)[1])["error"]
    assert found["message"] == "The reply of the provider could not be read."


# -- Messages, streamed -------------------------------------------------------------------------------------


def test_a_streamed_message() -> None:
    found = stream(
        chunk(role="assistant", content=""),
        chunk(content="Hel"),
        chunk(content="lo"),
        chunk("stop"),
        {**chunk(), "choices": [], "usage": USAGE},
    )
    zero = {
        "input_tokens": 0,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 0,
    }
    assert found == [
        {
            "type": "message_start",
            "message": {
                "id": "msg_chatcmpl-1",
                "type": "message",
                "role": "assistant",
                "model": "m-1",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": zero,
            },
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {**zero, "input_tokens": 40, "cache_read_input_tokens": 60, "output_tokens": 20},
        },
        {"type": "message_stop"},
    ]


def blocks(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The content that a client puts together, which sees one block at a time, in order."""
    made: list[dict[str, Any]] = []
    open_block = False
    for event in found:
        match event["type"]:
            case "content_block_start":
                assert not open_block
                assert event["index"] == len(made)
                open_block = True
                made.append({**event["content_block"], "json": ""})
            case "content_block_delta":
                assert open_block
                assert event["index"] == len(made) - 1
                delta = event["delta"]
                name = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "json"}[
                    delta["type"]
                ]
                made[-1][name] += delta.get("text", delta.get("thinking", delta.get("partial_json")))
            case "content_block_stop":
                assert open_block
                open_block = False
                if (text := made[-1].pop("json")) or made[-1]["type"] == "tool_use":
                    made[-1]["input"] = json.loads(text or "{}")
    assert not open_block
    return made


def test_calls_that_alternate_come_one_after_the_other() -> None:
    found = stream(
        chunk(reasoning_content="hm"),
        chunk(content="Both."),
        chunk(**call(0, "", id="a", name="f")),
        chunk(**call(1, "", id="b", name="g")),
        chunk(**call(0, '{"x":')),
        chunk(**call(1, '{"y":')),
        chunk(content="Late."),
        chunk(**call(0, "1}")),
        chunk(**call(1, "2}")),
        chunk("tool_calls"),
        request={"thinking": {"type": "enabled"}},
    )
    assert blocks(found) == [
        {"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "text", "text": "Both."},
        {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
        {"type": "tool_use", "id": "b", "name": "g", "input": {"y": 2}},
        {"type": "text", "text": "Late."},
    ]
    assert found[-2]["delta"]["stop_reason"] == "tool_use"


def test_thoughts_of_anthropics_keep_their_signatures() -> None:
    request = {"thinking": {"type": "enabled"}}
    redacted = {"type": "redacted_thinking", "data": "x"}
    found = stream(
        chunk(reasoning_content="hm"),
        chunk(reasoning_signature="s1"),
        chunk(thinking_blocks=[redacted]),
        chunk(reasoning_content="ah"),
        chunk(reasoning_signature="s2"),
        chunk(content="A"),
        chunk("stop"),
        request=request,
    )
    signed = [e for e in found if e.get("delta", {}).get("type") == "signature_delta"]
    assert [(e["index"], e["delta"]["signature"]) for e in signed] == [(0, "s1"), (2, "s2")]
    others = [e for e in found if e not in signed]
    thought = {"type": "thinking", "thinking": "hm", "signature": ""}
    assert blocks(others) == [thought, redacted, {**thought, "thinking": "ah"}, {"type": "text", "text": "A"}]
    own = [{"type": "thinking", "thinking": "hm", "signature": "s1"}, redacted]
    message = {"content": "A", "reasoning_content": "hm", "thinking_blocks": own}
    assert whole(message, request=request)["content"] == [*own, {"type": "text", "text": "A"}]
    assert whole(message)["content"] == [{"type": "text", "text": "A"}]


def test_a_call_without_arguments() -> None:
    found = stream(chunk(**call(0, "", id="a", name="f")), chunk("tool_calls"))
    assert blocks(found) == [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]


@pytest.mark.parametrize("path", [MESSAGES, RESPONSES])
@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ([chunk(content="Hel")], "The reply broke off before its end."),
        ([], "The reply broke off before its end."),
        ([chunk(content="Hel"), {"error": {"message": "overloaded"}}, chunk(content="x")], "overloaded"),
        ([{"error": True, "message": "empty or unsupported transformer response"}], "empty or unsupported"),
    ],
)
def test_a_stream_that_fails_ends_with_an_error(path: str, chunks: list[Any], message: str) -> None:
    found = stream(*chunks, path=path, done=False)
    (error,) = [event for event in found if event["type"] == "error"]
    assert message in (error["error"]["message"] if path == MESSAGES else error["message"])
    assert found[-1]["type"] == ("error" if path == MESSAGES else "response.failed")


def test_the_reason_that_kongs_driver_drops() -> None:
    found = stream(chunk(content="x"), shared={"tenantgate_finish_reason": "max_tokens"})
    assert found[-2]["delta"]["stop_reason"] == "max_tokens"


def test_an_end_without_a_done() -> None:
    assert stream(chunk(content="x"), chunk("stop"), done=False)[-1] == {"type": "message_stop"}


# -- Responses ------------------------------------------------------------------------------------------------


def test_a_whole_response() -> None:
    request = {
        "input": "Hi",
        "instructions": "Be brief.",
        "temperature": 0.5,
        "parallel_tool_calls": False,
        "metadata": {"a": "b"},
        "tools": [{"type": "function", "name": "f", "parameters": {"required": []}}],
        "max_output_tokens": 9,
        "top_p": None,
    }
    made = whole({"content": "Hello"}, path=RESPONSES, request=request)
    assert made["output"] == [
        {
            "id": f"msg_{ID}",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}],
        }
    ]
    assert made["usage"] == {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 0},
        "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 7},
        "total_tokens": 120,
    }
    assert (made["id"], made["status"], made["created_at"]) == ("resp_chatcmpl-1", "completed", 1700000000)
    echoed = {k: v for k, v in request.items() if k not in ("input", "top_p")}
    assert {name: made[name] for name in echoed} == echoed
    assert (made["top_p"], made["store"], made["previous_response_id"], made["error"]) == (
        1,
        False,
        None,
        None,
    )


def test_a_response_with_calls_a_refusal_and_thoughts() -> None:
    calls = [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}]
    message = {"content": None, "refusal": "No.", "reasoning": "hm", "tool_calls": calls}
    made = whole(message, path=RESPONSES, request={"reasoning": {"summary": "auto"}})
    thought, said, called = made["output"]
    assert thought["summary"] == [{"type": "summary_text", "text": "hm"}]
    assert said["content"] == [{"type": "refusal", "refusal": "No."}]
    assert (called["type"], called["call_id"], called["name"], called["arguments"], called["status"]) == (
        "function_call",
        "call_1",
        "f",
        '{"a": 1}',
        "completed",
    )
    assert len(whole(message, path=RESPONSES)["output"]) == 2


@pytest.mark.parametrize(
    ("reason", "status", "details"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("max_tokens", "incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "incomplete", {"reason": "content_filter"}),
    ],
)
def test_how_a_response_ends(reason: str, status: str, details: Any) -> None:
    made = whole({"content": "x"}, reason=reason, path=RESPONSES)
    assert (made["status"], made["incomplete_details"]) == (status, details)
    last = stream(chunk(content="x"), chunk(reason), path=RESPONSES)[-1]
    assert last["type"] == f"response.{status}"
    assert (last["response"]["status"], last["response"]["incomplete_details"]) == (status, details)


def test_a_streamed_response() -> None:
    found = stream(
        chunk(role="assistant", content=""),
        chunk(content="Hel"),
        chunk(content="lo"),
        chunk(**call(0, '{"x":', id="a", name="f")),
        chunk(**call(1, "", id="b", name="g")),
        chunk(**call(0, "1}")),
        chunk("tool_calls"),
        {**chunk(), "choices": [], "usage": USAGE},
        path=RESPONSES,
    )
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    assert [event["type"].removeprefix("response.") for event in found] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert found[0]["response"]["status"] == "in_progress"
    assert (found[6]["text"], found[7]["part"]["text"]) == ("Hello", "Hello")
    last = found[-1]["response"]
    assert last["output"] == [e["item"] for e in found if e["type"] == "response.output_item.done"]
    assert [item.get("arguments") for item in last["output"]] == [None, '{"x":1}', "{}"]
    assert len({item["id"] for item in last["output"]}) == 3
    assert last["usage"]["total_tokens"] == 120


def test_thoughts_and_a_refusal_in_a_stream() -> None:
    found = stream(
        chunk(reasoning_content="h"),
        chunk(reasoning_content="m"),
        chunk(content="A"),
        chunk(refusal="No."),
        chunk("stop"),
        path=RESPONSES,
        request={"reasoning": {"summary": "auto"}},
    )
    thought, said = found[-1]["response"]["output"]
    assert thought["summary"] == [{"type": "summary_text", "text": "hm"}]
    assert [part["type"] for part in said["content"]] == ["output_text", "refusal"]
    assert {e["type"] for e in found if "reasoning" in e["type"]} == {
        f"response.reasoning_summary_{of}"
        for of in ("part.added", "text.delta", "text.done", "part.done")
    }  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
def test_calls_of_a_namespaces_tools_go_back_there(stream: bool) -> None:
    tools = [
        {"type": "function", "name": "agents__open"},
        {"type": "namespace", "name": "agents", "tools": [{"type": "function", "name": "close"}]},
    ]
    names = ("agents__close", "agents__open")
    calls = [{"index": i, "id": n, "function": {"name": n, "arguments": "{}"}} for i, n in enumerate(names)]
    if stream:
        chunk = {"choices": [{"delta": {"tool_calls": calls}, "finish_reason": "tool_calls"}]}
        raw, kind = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n", "text/event-stream"
    else:
        message = {"role": "assistant", "tool_calls": calls}
        raw, kind = (
            json.dumps({"choices": [{"message": message, "finish_reason": "tool_calls"}]}),
            "application/json",
        )
    body = run([raw.encode()], path=RESPONSES, kind=kind, request={"tools": tools})[1]
    output = (events(body)[-1]["response"] if stream else json.loads(body))["output"]
    assert [(o["name"], o.get("namespace")) for o in output] == [("close", "agents"), ("agents__open", None)]


# -- errors ---------------------------------------------------------------------------------------------------

OPENAI = {
    "error": {"message": "No.", "type": "invalid_request_error", "param": "model", "code": "model_not_found"}
}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (415, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_an_error_of_the_gateway_in_anthropics_shape(status: int, kind: str) -> None:
    x, body = run([json.dumps(OPENAI).encode()], status=status)
    assert json.loads(body) == {
        "type": "error",
        "error": {"type": kind, "message": "No.", "param": "model", "code": "model_not_found"},
        "request_id": "the-id",
    }
    assert x.out["request-id"] == "the-id"
    assert "Content-Length" not in x.out


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "Overloaded"),
        ([{"error": {"code": 400, "message": "Not valid.", "status": "INVALID_ARGUMENT"}}], "Not valid."),
        ({"error": "model not found"}, "model not found"),
        ({"message": "no"}, "no"),
        ({"error": {"message": 5}}, "The request failed."),
        ("text", "The request failed."),
    ],
)  # fmt: skip
def test_errors_of_providers(body: Any, message: str) -> None:
    raw = json.dumps(body).encode()
    anthropic = json.loads(run([raw], status=500)[1])
    assert anthropic["error"]["message"] == message
    own = isinstance(body, dict) and body.get("type") == "error"
    assert anthropic["error"]["type"] == ("overloaded_error" if own else "api_error")
    openai = json.loads(run([raw], status=500, path=RESPONSES)[1])["error"]
    assert openai["message"] == message
    assert {"type", "param", "code"} <= openai.keys()


def test_sdks_are_told_in_their_words_that_no_conversation_is_kept() -> None:
    body = {"error": {"message": "No.", "param": "thread"}}
    found = json.loads(run([json.dumps(body).encode()], status=400)[1])["error"]
    assert found["details"] == {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}


@pytest.mark.parametrize(
    ("decision", "status", "kind", "body", "kept"),
    [
        ({"keep_items": True}, 200, "text/event-stream", sse(chunk("stop", content="Hello")), ["message"]),
        (
            {"keep_items": True},
            200,
            "text/event-stream",
            sse(chunk(content="x"), chunk("tool_calls", **call(0, "{}", id="c", name="f"))),
            ["message", "function_call"],
        ),
        ({"keep_items": True}, 200, "text/event-stream", sse(chunk(content="x"), done=False), None),
        ({"keep_items": True}, 200, "text/event-stream", sse(chunk(content="x"), {"error": {}}), None),
        ({"keep_items": True}, 200, "text/event-stream", sse(chunk("stop")), None),
        ({"keep_items": True}, 200, "text/event-stream", sse(chunk("stop", content="x" * 262_144)), None),
        ({"keep_items": True}, 200, "application/json", json.dumps(REPLY).encode(), ["message"]),
        ({"keep_items": True}, 400, "application/json", json.dumps(REPLY).encode(), None),
        ({}, 200, "application/json", json.dumps(REPLY).encode(), None),
        (None, 200, "application/json", json.dumps(REPLY).encode(), None),
    ],
)
def test_the_items_of_a_whole_response_are_left_for_the_log_phase(
    decision: Any, status: int, kind: str, body: bytes, kept: list[str] | None
) -> None:
    shared = {} if decision is None else {"tenantgate_decision": decision}
    x, sent = run([body], path=RESPONSES, status=status, kind=kind, shared=shared)
    found = x.shared.get("tenantgate_items")
    assert (found is None) is (kept is None)
    if found is not None:
        items = json.loads(found)
        assert [item["type"] for item in items] == kept
        given = json.loads(sent) if kind == "application/json" else events(sent)[-1]["response"]
        assert items == given["output"]  # to the letter what the client has got


def test_an_error_of_openais_stays_as_it_is_for_responses() -> None:
    assert json.loads(run([json.dumps(OPENAI).encode()], status=404, path=RESPONSES)[1]) == OPENAI


# -- what isn't touched ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v1/chat/completions", 200), ("/v1/messagesx", 500), ("/v1/messages/count_tokens", 200)],
)
def test_other_replies_stay_as_they_are(path: str, status: int) -> None:
    x, body = run([b'{"input', b'_tokens":1}'], path=path, status=status)
    assert body == b'{"input_tokens":1}'
    assert x.out["Content-Length"] == "5"


# -- laws -----------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
DELTAS = st.lists(
    TEXT.map(lambda t: {"content": t})
    | TEXT.map(lambda t: {"reasoning": t})
    | st.tuples(st.integers(0, 2), st.sampled_from(["1", " ", "2"])).map(
        lambda c: call(c[0], c[1], id=f"c{c[0]}", name="f")
    ),
    max_size=8,
)


@given(
    DELTAS, st.lists(st.integers(1, 40), max_size=12), st.sampled_from([MESSAGES, RESPONSES]), st.booleans()
)
def test_how_a_stream_is_cut_makes_no_difference(
    deltas: list[Any], cuts: list[int], path: str, done: bool
) -> None:
    raw = sse(*(chunk(**delta) for delta in deltas), chunk("stop"), done=done)
    if not done:
        raw = raw.replace(b"\n", b"\r\n")
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(raw[at : at + cut])
        at += cut
    request = {"thinking": {"type": "enabled"}, "reasoning": {"summary": "auto"}}
    _, one = run([raw], path=path, kind="text/event-stream", request=request)
    _, many = run([*pieces, raw[at:]], path=path, kind="text/event-stream", request=request)
    assert events(one) == events(many)


@given(DELTAS)
def test_nothing_of_a_stream_is_lost(deltas: list[Any]) -> None:
    texts = {name: "".join(d.get(name, "") for d in deltas) for name in ("content", "reasoning")}
    arguments: dict[int, str] = {}
    for delta in deltas:
        for one in delta.get("tool_calls", ()):
            arguments[one["index"]] = arguments.get(one["index"], "") + one["function"]["arguments"]
    raw = sse(*(chunk(**delta) for delta in deltas), chunk("stop"))
    request = {"thinking": {"type": "enabled"}, "reasoning": {"summary": "auto"}}
    found = events(run([raw], kind="text/event-stream", request=request)[1])
    told = [e["delta"] for e in found if e["type"] == "content_block_delta"]
    assert "".join(d.get("text", "") for d in told) == texts["content"]
    assert "".join(d.get("thinking", "") for d in told) == texts["reasoning"]
    assert "".join(d.get("partial_json", "") for d in told) == "".join(arguments.values())
    output = events(run([raw], path=RESPONSES, kind="text/event-stream", request=request)[1])[-1]["response"][
        "output"
    ]
    assert (
        "".join(p["text"] for i in output if i["type"] == "message" for p in i["content"]) == texts["content"]
    )
    called = [i["arguments"] for i in output if i["type"] == "function_call"]
    assert called == list(arguments.values())


@given(TEXT.filter(bool), st.sampled_from([MESSAGES, RESPONSES]))
def test_every_text_survives(text: str, path: str) -> None:
    made = whole({"content": text}, path=path)
    assert (made["content"] if path == MESSAGES else made["output"][0]["content"])[0]["text"] == text
