"""Estimates of prompts: the plain one is near, the upper one is hardly ever exceeded, and both are cheap."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantgate.compress.token_counts import token_counter
from tenantgate.limits.core.estimate import COUNTED, FACTORS, factor_of, prompt_of

COUNT = token_counter("o200k_base").count
TEXTS = st.text(max_size=400) | st.text("ab 中é😀\n", max_size=400)


def chat(*contents: Any, **members: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": c} for c in contents], **members}


@settings(max_examples=60)
@given(st.lists(TEXTS, min_size=1, max_size=4), st.sampled_from(sorted(FACTORS.values())))
def test_the_upper_estimate_is_above_the_count_and_below_the_bytes(texts: list[str], factor: float) -> None:
    found = prompt_of(chat(*texts), COUNT, factor=factor)
    counted = sum(map(COUNT, texts))
    room = 100 + 20 * len(texts)
    assert counted <= found.worst <= sum(len(t.encode("utf-8", "surrogatepass")) + 1 for t in texts) + room
    assert found.expected <= found.worst
    assert abs(found.expected - counted) <= room


@settings(max_examples=30)
@given(st.lists(TEXTS, min_size=2, max_size=4))
def test_more_text_never_has_fewer_tokens(texts: list[str]) -> None:
    few, many = (prompt_of(chat(*t), COUNT, factor=1.5) for t in (texts[:-1], texts))
    assert many.worst > few.worst - 8  # where two texts meet a token may span both


def test_text_beyond_what_is_counted_is_taken_by_its_bytes() -> None:
    calls: list[int] = []

    def count(text: str) -> int:
        calls.append(len(text))
        return len(text) // 4

    found = prompt_of(chat("x" * (4 << 20)), count)
    assert sum(calls) == COUNTED
    assert max(calls) <= 8192
    assert found.worst >= (4 << 20) - COUNTED
    assert found.expected == pytest.approx(1 << 20, rel=0.01)


PART = "x" * 400_000


@pytest.mark.parametrize(
    ("part", "least", "most"),
    [
        ({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}, 1600, 10_000),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64," + PART}}, 1600, 10_000),
        ({"type": "input_audio", "input_audio": {"data": PART, "format": "mp3"}}, 300_000 // 100, 50_000),
        ({"type": "file", "file": {"file_data": PART}}, 100_000, 400_000),
        ({"type": "file", "file": {"file_id": "file-1"}}, 100_000, 300_000),
        ({"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}}, 100_000, 300_000),
        ({"type": "video_url", "text": "x", "video_url": {"url": "https://a.example"}}, 100_000, 300_000),
        ({"type": "of-tomorrow", "id": "x"}, 100_000, 300_000),
        ({"type": "refusal", "refusal": "no"}, 1, 100),
        ({"type": "text", "text": "hello"}, 1, 100),
    ],
)
def test_what_is_no_text(part: dict[str, Any], least: int, most: int) -> None:
    found = prompt_of(chat([part]), COUNT)
    assert least <= found.worst <= most
    assert found.expected <= found.worst
    assert found.audio == (part["type"] == "input_audio")


@pytest.mark.parametrize("name", ["reasoning", "reasoning_details", "thinking_blocks", "prefix_of_tomorrow"])
def test_all_of_a_message_counts(name: str) -> None:
    value: Any = "word " * 5000
    message = {"role": "assistant", "content": "x", name: [{"text": value}] if name.endswith("s") else value}
    assert prompt_of({"messages": [message]}, COUNT).worst > 5000


@pytest.mark.parametrize("name", ["documents", "guided_json", "chat_template", "tools", "prediction"])
def test_all_of_a_body_counts(name: str) -> None:
    assert prompt_of(chat("x", **{name: [{"text": "word " * 5000}]}), COUNT).worst > 5000
    assert prompt_of(chat("x", metadata={"a": "word " * 5000}), COUNT).worst < 100


def test_a_spoken_reply_of_which_the_id_is_sent_counts() -> None:
    message = {"role": "assistant", "audio": {"id": "audio_1"}}
    found = prompt_of({"messages": [message]}, COUNT)
    assert found.worst > 16_000
    assert found.audio


def test_a_small_models_images_count_for_more() -> None:
    image = chat([{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}])
    assert prompt_of(image, COUNT, model="gpt-4o-mini").worst > 45_000


def test_tools_calls_and_formats_are_part_of_the_prompt() -> None:
    schema = {"type": "object", "properties": {f"name{i}": {"type": "string"} for i in range(50)}}
    plain = prompt_of(chat("hi"), COUNT)
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    for members in (
        {"tools": [tool]},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}},
    ):
        found = prompt_of(chat("hi", **members), COUNT)
        assert found.expected >= plain.expected + COUNT(json.dumps(schema)) // 2
    call = {
        "role": "assistant",
        "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}" * 500}}],
    }
    assert prompt_of({"messages": [call]}, COUNT).expected > 200


def test_token_ids_count_themselves() -> None:
    body = {"messages": [{"role": "user", "content": []}], "input": [[1, 2, 3], [4]]}
    assert prompt_of(body, COUNT).expected == prompt_of({**body, "input": []}, COUNT).expected + 4


def test_a_context_window_bounds_both() -> None:
    found = prompt_of(chat("word " * 10_000), COUNT, factor=1.8, context_window=8000)
    assert (found.expected, found.worst) == (8000, 8000)


@pytest.mark.parametrize(
    ("provider", "model", "family"),
    [
        ("openai", "gpt-4o-mini", "openai"),
        ("azure", "gpt-4.1", "openai"),
        ("openai", "gpt-3.5-turbo", "other"),
        ("openai", "llama-3.3-70b", "other"),
        ("anthropic", "claude-sonnet-4-5", "anthropic"),
        ("bedrock", "eu.anthropic.claude-sonnet-4", "anthropic"),
        ("gemini", "gemini-2.5-flash", "gemini"),
        ("mistral", "mistral-small", "mistral"),
    ],
)
def test_families(provider: str, model: str, family: str) -> None:
    assert factor_of(provider, model) == FACTORS[family]
