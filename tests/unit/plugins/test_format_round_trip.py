"""Requests of the Messages API go to Anthropic as chats, and its replies back: nothing is lost on either way."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lua_rig import exchange, state
from tenantgate.devhost import lua, mock_demands
from tenantgate.llm.formats import Format, Translated, to_chat
from tenantgate.paths import plugins_dir

TARGET, CLIENT = "kong.plugins.tenantgate-target.formats.anthropic", "kong.plugins.tenantgate-format.messages"
LUA = state({"untrusted_lua_sandbox_requires": f"{TARGET},{CLIENT}"}, f"{plugins_dir()}/?.lua;;")
CODE = LUA.compile(
    f"""
    local s, target, client = kong.ctx.shared, require("{TARGET}"), require("{CLIENT}")
    local counts = {{}}
    local function note(usage)
      for name, value in pairs(usage or {{}}) do
        counts[name] = value
      end
      return counts
    end
    local about = {{
      id = "x", model = "m", request = {{thinking = {{type = "enabled"}}}},
      counted = function() return {{}} end, stop_reason = function() end,
    }}
    if s.request then
      return {{body = target.request(s.request, {{name = "claude"}})}}
    elseif s.stream then
      local chunks = target.stream({{name = "claude"}}, true, note):feed(s.stream)
      return {{text = client.stream(about)("data: " .. table.concat(chunks, "\\n\\ndata: ") .. "\\n\\n", true)}}
    end
    return {{text = client.whole(target.reply(s.reply, {{name = "claude"}}, note), about)}}
    """,
    "round-trip",
)
CACHED = {"cache_control": {"type": "ephemeral"}}
CONTENT = [
    {"type": "thinking", "thinking": "hm", "signature": "s1"},
    {"type": "redacted_thinking", "data": "x"},
    {"type": "text", "text": "Let me “look”."},
    {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo", "days": [1, 2]}},
    {"type": "tool_use", "id": "toolu_2", "name": "clock", "input": {}},
]
USAGE = {
    "input_tokens": 5,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 7,
    "output_tokens": 9,
}


def run(**shared: Any) -> Any:
    return LUA.run(exchange(shared=shared), "test", CODE)


def test_a_request_comes_to_anthropic_as_it_was() -> None:
    request = {
        "model": "claude",
        "max_tokens": 2048,
        "stream": True,
        "system": [{"type": "text", "text": "S"}, {"type": "text", "text": "T", **CACHED}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi", **CACHED}]},
            {"role": "assistant", "content": CONTENT},
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "toolu_1",
                        "content": [{"type": "text", "text": "sunny", **CACHED}],
                    },
                    {"type": "tool_result", "tool_use_id": "toolu_2"},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "aGk="},
                    },
                    {"type": "text", "text": "And?"},
                ],
            },
        ],
        "tools": [
            {"name": "weather", "description": "d", "input_schema": {"type": "object"}, **CACHED},
            {"name": "clock", "description": "d", "input_schema": {"type": "object"}},
        ],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "output_config": {"effort": "low"},
        "stop_sequences": ["END"],
        "top_p": 0.9,
    }
    chat = to_chat(Format.MESSAGES, json.dumps(request).encode(), native=True)
    assert isinstance(chat, Translated)
    found = json.loads(lua.encode(LUA.values.to_python(run(request=chat.body)[b"body"])))
    assert mock_demands.anthropic(found, {"anthropic-version": "2023-06-01", "x-api-key": "k"}) is None
    assert found == request


@pytest.mark.parametrize("reason", ["tool_use", "max_tokens", "refusal"])
def test_a_reply_comes_back_as_it_was(reason: str) -> None:
    reply = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-1",
        "content": CONTENT,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": USAGE,
    }
    assert json.loads(run(reply=json.dumps(reply))[b"text"]) == reply


def test_a_stream_comes_back_as_it_was() -> None:
    sent: list[dict[str, Any]] = [
        {
            "type": "message_start",
            "message": {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "claude-1",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {**USAGE, "output_tokens": 1},
            },
        }
    ]
    deltas: list[Any] = [
        [{"type": "thinking_delta", "thinking": "hm"}, {"type": "signature_delta", "signature": "s1"}],
        [],
        [{"type": "text_delta", "text": "Let me "}, {"type": "text_delta", "text": "“look”."}],
        [
            {"type": "input_json_delta", "partial_json": '{"city":'},
            {"type": "input_json_delta", "partial_json": "1}"},
        ],
        [],
    ]
    empty = {"thinking": "", "signature": "", "text": "", "input": {}}
    for i, (block, parts) in enumerate(zip(CONTENT, deltas, strict=True)):
        start = {k: empty.get(k, v) for k, v in block.items()}
        sent.append({"type": "content_block_start", "index": i, "content_block": start})
        sent += [{"type": "content_block_delta", "index": i, "delta": part} for part in parts]
        sent.append({"type": "content_block_stop", "index": i})
    delta = {"stop_reason": "tool_use", "stop_sequence": None}
    sent += [{"type": "message_delta", "delta": delta, "usage": USAGE}, {"type": "message_stop"}]
    raw = "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in sent)
    back = run(stream=raw)[b"text"].decode().split("\n\n")[:-1]
    found = [json.loads(block.partition("\ndata: ")[2]) for block in back]
    sent[0]["message"]["usage"] = dict.fromkeys(USAGE, 0)  # known at the end only, as a chat tells it
    assert found == sent
