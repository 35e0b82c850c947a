"""Texts of requests and replies: all are read, and what is changed goes back to its place."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tenantgate.guard.core.detectors import as_it_reads
from tenantgate.guard.core.passages import Passage, UnreadableError, of_reply, of_request, rewrite
from tenantgate.pii.core import Placeholders, find_personal, masking

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9).decode()


BODY: dict[str, Any] = {
    "model": "gpt-x",
    "user": "u-1",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look:"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64," + PNG}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "mail", "arguments": '{"to": "jane\\u0040example.com"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "sent to jane@example.com"},
        {"role": "user", "content": "thanks"},
    ],
}


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("last_message", "thanks"),
        ("concatenate_user_content", "Look:\nsent to jane@example.com\nthanks"),
        (
            "concatenate_all_content",
            'Be brief.\nLook:\n{"to": "jane\\u0040example.com"}\nsent to jane@example.com\nthanks\nu-1',
        ),
    ],
)
def test_a_target_reads_parts_tool_messages_and_arguments(target: str, text: str) -> None:
    passage = of_request(BODY, target)
    assert passage.text[: passage.prose] == text


def hide(text: str, word: str = "HIDDEN", by: str = "[X]") -> list[tuple[int, int, str]]:
    at = text.find(word)
    return [] if at < 0 else [(at, at + len(word), by)]


def changed(value: Any, passage: Passage, word: str = "HIDDEN", by: str = "[X]") -> Any:
    edits, count = passage.rewritten(lambda text: hide(text, word, by))
    assert count
    return rewrite(value, edits)


def test_rewriting_keeps_everything_else() -> None:
    new = changed(BODY, of_request(BODY, "concatenate_all_content"), "sent to", "[E]")
    assert new["messages"][3]["content"] == "[E] jane@example.com"
    assert new["messages"][2] is BODY["messages"][2]
    assert BODY["messages"][3]["content"] == "sent to jane@example.com"


@pytest.mark.parametrize(
    "extra",
    [
        {"messages": [{"role": "user", "name": "HIDDEN one", "content": ""}]},
        {"messages": [{"role": "HIDDEN", "content": ""}]},
        {"messages": [{"role": ["HIDDEN"], "content": ""}]},
        {"messages": [{"role": "tool", "tool_call_id": "HIDDEN", "content": ""}]},
        {"messages": [{"role": "user", "content": [{"type": "HIDDEN", "text": ""}]}]},
        {"messages": [{"role": "user", "content": [{"source": {"type": "text", "data": "my HIDDEN text"}}]}]},
        {"messages": [{"role": "user", "content": [{"source": {"data": "HIDDEN" + "A" * 299}}]}]},
        {
            "messages": [
                {"role": "user", "content": [{"file": {"file_data": "these are HIDDEN words " * 20}}]}
            ]
        },
        {"messages": [{"role": "user", "content": [{"image_url": {"url": "data:text/plain,HIDDEN"}}]}]},
        {"messages": [{"role": "user", "content": [{"image_url": {"url": "https://x.example/?q=HIDDEN"}}]}]},
        {"messages": [{"role": "user", "content": [{"image_url": "https://x.example/?q=HIDDEN"}]}]},
        {"messages": [{"role": "user", "content": [{"image_url": {"url": "see my HIDDEN words " * 20}}]}]},
        {"messages": [{"role": "user", "content": [{"image_url": {"detail": "HIDDEN"}}]}]},
        {"messages": [{"role": "user", "content": {"HIDDEN": 1}}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "HIDDEN"}]}]},
        {
            "messages": [
                {"role": "assistant", "tool_calls": [{"function": {"name": "HIDDEN", "arguments": "{}"}}]}
            ]
        },
        {"messages": [{"role": "assistant", "tool_calls": [{"custom": {"name": "x", "input": "HIDDEN"}}]}]},
        {
            "messages": [
                {"role": "assistant", "tool_calls": [{"function": {"arguments": {"name": "HIDDEN"}}}]}
            ]
        },
        {"messages": "HIDDEN"},
        {"model": "HIDDEN"},
        {"stop": ["HIDDEN"]},
        {"HIDDEN": None},
        {"seed": "HIDDEN"},
        {"metadata": {"name": "HIDDEN", "id": {"type": "x"}}},
        {"metadata": {"type": {"HIDDEN": {}}}},
        {"documents": [{"id": "HIDDEN"}]},
        {"tool_choice": {"type": "function", "function": {"name": "HIDDEN"}}},
        {
            "tools": [
                {"type": "function", "function": {"name": "f", "parameters": {"properties": {"HIDDEN": {}}}}}
            ]
        },
        {"tools": [{"function": {"parameters": {"properties": {"type": {"type": "HIDDEN"}}}}}]},
        {"tools": [{"function": {"parameters": {"properties": {"name": {"default": {"id": "HIDDEN"}}}}}}]},
        {"tools": [{"function": {"parameters": {"properties": {"x": {"enum": ["a", "HIDDEN"]}}}}}]},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "description": "HIDDEN"}}},
        {"logit_bias": {"HIDDEN": 1}},
        {"stream_options": {"include_usage": "HIDDEN"}},
    ],
)
def test_all_that_a_request_may_hold_is_read_and_can_be_changed(extra: dict[str, Any]) -> None:
    body = {"messages": [], **extra}
    passage = of_request(body, "concatenate_all_content")
    assert "HIDDEN" in passage.text
    new = changed(body, passage)
    assert "[X]" in json.dumps(new)
    assert json.dumps(new).count("HIDDEN") == json.dumps(body).count("HIDDEN") - 1


def test_words_and_identifiers_of_the_api_say_nothing() -> None:
    body = {
        "model": "gpt-4o-mini",
        "temperature": 0.5,
        "seed": 1234567,
        "tool_choice": "auto",
        "service_tier": "auto",
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "mail",
                    "parameters": {
                        "type": "object",
                        "properties": {"to": {"type": "string"}},
                        "required": ["to"],
                    },
                },
            }
        ],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "done"},
        ],
    }
    passage = of_request(body, "concatenate_all_content")
    assert passage.text[: passage.prose].split() == ["Hi", "done", "to"]
    assert passage.text[passage.prose :].split() == ["call_1", "gpt-4o-mini", "mail", "to"]


def test_a_key_stands_before_its_value() -> None:
    body = {"messages": [], "metadata": {"password": "hunter22!", "inner": {"born": 19800102}}}
    passage = of_request(body, "concatenate_all_content")
    assert passage.text == "metadata\npassword: hunter22!\ninner\nborn: 19800102".removeprefix("metadata\n")


def test_long_numbers_are_read_wherever_they_stand() -> None:
    body = _calling('{"card": 4111111111111111}')
    body["messages"].append({"role": "user", "content": 4111111111111111})
    body |= {
        "seed": 4111111111111112,
        "n": 3,
        "tools": [{"parameters": {"maximum": 4111111111111113}}],
        "x": [1.5, 2e15],
    }
    text = of_request(body, "concatenate_all_content").text
    for number in ("4111111111111111", "4111111111111112", "4111111111111113", "2000000000000000.0"):
        assert number in text
    assert rewrite(body, {("seed",): [(0, 16, "[X]")]})["seed"] == "[X]"


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
@pytest.mark.parametrize(
    "head", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"%PDF-1.7\n", b"ID3\4", b"RIFF1234WAVE"]
)
def test_files_are_not_read(prefix: str, head: bytes) -> None:
    url = prefix + base64.b64encode(head + bytes(range(256)) * 4).decode()
    body = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}
    assert not of_request(body, "concatenate_all_content").text
    body = {
        "messages": [
            {
                "role": "user",
                "content": f"![a](data:image/png;base64,{url.removeprefix(prefix)}) HIDDEN" + "." * 999,
            }
        ]
    }
    passage = of_request(body, "concatenate_all_content")
    assert passage.text.startswith("![a](data:image/png;base64,) HIDDEN")
    new = changed(body, passage)
    assert new["messages"][0]["content"] == body["messages"][0]["content"].replace("HIDDEN", "[X]")


@pytest.mark.parametrize(
    "raw",
    [
        b"my card is 4111 1111 1111 1111 " * 20,
        b"\x89PNG\r\n\x1a\n" + b"my card is 4111 1111 1111 1111 " * 20,
        b"%PDF-1.4\n" + b"my card is 4111 1111 1111 1111 " * 20,
    ],
)
def test_a_text_is_no_file_whatever_it_says(raw: bytes) -> None:
    part = {"file": {"file_data": "data:application/pdf;base64," + base64.b64encode(raw).decode()}}
    passage = of_request({"messages": [{"role": "user", "content": [part]}]}, "concatenate_all_content")
    assert as_it_reads(find_personal)(passage.text)


@pytest.mark.parametrize("blank", ["\n", "\r\n", " ", "\n\n", "\t"])
@pytest.mark.parametrize("width", [1, 3, 8, 16, 76])
@pytest.mark.parametrize("head", ["", "data:text/plain;base64,"])
def test_blanks_in_base64_hide_no_text_of_a_file(head: str, width: int, blank: str) -> None:
    whole = base64.b64encode(b"my card is 4111 1111 1111 1111, so take it").decode()
    data = head + blank.join(whole[i : i + width] for i in range(0, len(whole), width))
    part = {"file": {"file_data": data}}
    passage = of_request({"messages": [{"role": "user", "content": [part]}]}, "last_message")
    assert as_it_reads(find_personal)(passage.text)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_a_file_is_text_in_any_form_of_unicode(encoding: str) -> None:
    data = base64.b64encode("my card is 4111 1111 1111 1111, so take it".encode(encoding)).decode()
    part = {"file": {"file_data": "data:text/csv;base64," + data}}
    passage = of_request({"messages": [{"role": "user", "content": [part]}]}, "last_message")
    assert as_it_reads(find_personal)(passage.text)


def test_an_image_in_lines_is_read_as_no_text_of_its_own() -> None:
    whole = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(range(128, 256)) * 8).decode()
    body = {
        "messages": [{"role": "user", "content": [{"image_url": {"url": whole[:40] + "\n" + whole[40:]}}]}]
    }
    passage = of_request(body, "last_message")
    assert passage.text == body["messages"][0]["content"][0]["image_url"]["url"]  # type: ignore[index]


def _calling(arguments: str) -> dict[str, Any]:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return {"messages": [{"role": "assistant", "content": None, "tool_calls": [call]}]}


def test_a_value_over_several_parts_is_found_once_and_changed_as_one() -> None:
    parts = [{"type": "text", "text": t} for t in ("card 4111 1111 ", "1111 ", "1111 and mail a@example.com")]
    body = {"messages": [{"role": "user", "content": parts}]}
    passage = of_request(body, "last_message")
    found = passage.settled(find_personal(passage.text))
    assert sorted(f.kind for f in found) == ["CREDIT_CARD", "EMAIL_ADDRESS"]
    placeholders = Placeholders()
    edits = passage.edits(found, lambda text, inside: masking(text, inside, placeholders))
    texts = [p["text"] for p in rewrite(body, edits)["messages"][0]["content"]]
    assert texts == ["card [CREDIT_CARD_1]", "", " and mail a@example.com"] or "a@example.com" not in texts[2]
    assert placeholders.originals["[CREDIT_CARD_1]"] == "4111 1111 1111 1111"


def test_what_is_nested_too_deeply_is_not_read() -> None:
    value: Any = "x"
    for _ in range(200):
        value = [value]
    with pytest.raises(UnreadableError):
        of_reply({"choices": value})
