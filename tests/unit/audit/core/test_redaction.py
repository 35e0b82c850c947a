"""Redaction: nothing gets on that a detector finds, whatever is cut, and whatever fails."""

from __future__ import annotations

import html
import json
import urllib.parse
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_rig import body
from tenantgate.audit.core.content import RawContent
from tenantgate.audit.core.redaction import MARGIN, ContentState, OvertimeError, Policy, redact, tenant_key
from tenantgate.pii.core import Finding
from tenantgate.tenant import TenantId

MAIL = "jane.roe@example.org"


def prompt(text: str, policy: Policy | None = None, **more: Any) -> dict[str, Any]:
    raw = body(text)
    return dict(redact(RawContent(raw, len(raw)), policy or Policy(key=b"k"), names=None, **more).content)


def text_of(content: dict[str, Any]) -> str:
    return "".join(p.get("content", "") for m in content["input_messages"] for p in m["parts"])


@pytest.mark.parametrize(
    ("redaction", "text"),
    [
        ("placeholder", "[EMAIL_ADDRESS_1] and [EMAIL_ADDRESS_1] and [EMAIL_ADDRESS_2]"),
        ("remove", " and  and "),
    ],
)
def test_what_stands_in_its_place(redaction: str, text: str) -> None:
    policy = Policy(redaction=redaction, key=b"k")
    assert text_of(prompt(f"{MAIL} and {MAIL} and b@example.org", policy)) == text


def test_a_hash_joins_equal_values_however_they_are_written() -> None:
    policy = Policy(redaction="hash", key=tenant_key("a secret of the operator", TenantId("acme")))
    one = text_of(prompt("card 4111 1111 1111 1111", policy))
    assert one == text_of(prompt("card 4111-1111-1111-1111", policy))
    assert "[CREDIT_CARD:" in one
    other = Policy(redaction="hash", key=tenant_key("a secret of the operator", TenantId("bravo")))
    assert one != text_of(prompt("card 4111 1111 1111 1111", other))


def test_a_placeholder_that_stands_in_the_text_is_nobody_s() -> None:
    assert text_of(prompt(f"[EMAIL_ADDRESS_1] {MAIL}")) == "[EMAIL_ADDRESS_1] [EMAIL_ADDRESS_2]"


@given(st.integers(0, 60), st.integers(MARGIN, MARGIN + 60), st.booleans())
def test_no_cut_leaves_half_of_what_is_personal(before: int, after: int, cut: bool) -> None:
    text = "x " * before + MAIL + " y" * after
    raw = body(text)
    size = len(raw) + 10 if cut else len(raw)
    content = redact(RawContent(raw, size), Policy(max_bytes=60, key=b"k"), names=None).content
    kept = text_of(dict(content))
    assert "jane" not in kept
    assert "roe" not in kept
    assert len(kept) <= 60
    assert content["prompt_truncated"] is True


def test_before_a_cut_nothing_is_kept_that_may_go_on_behind_it() -> None:
    raw = body("x " * 3000 + "my card is 4111 1111 11")[:-20]
    content = redact(RawContent(raw, 99_999), Policy(key=b"k"), names=None).content
    assert "4111" not in text_of(dict(content))


class _Raising:
    def __init__(self, error: BaseException) -> None:
        self._error = error

    def find(self, text: str, kinds: frozenset[str]) -> tuple[Finding, ...]:
        raise self._error


@pytest.mark.parametrize(
    ("names", "content"),
    [
        (None, {"state": "redaction_failed", "reason": "names_unavailable"}),
        (_Raising(OvertimeError()), {"state": "redaction_failed", "reason": "timeout"}),
        (_Raising(ValueError(MAIL)), {"state": "redaction_failed", "reason": "error", "error": "ValueError"}),
        (
            _Raising(RecursionError()),
            {"state": "redaction_failed", "reason": "error", "error": "RecursionError"},
        ),
    ],
)
def test_what_fails_leaves_nothing(names: Any, content: dict[str, Any]) -> None:
    raw = body(f"I am {MAIL}")
    found = redact(RawContent(raw, len(raw), headers={"x": "y"}), Policy(names=True, key=b"k"), names=names)
    assert found.content == content


def test_out_of_time_leaves_nothing() -> None:
    assert prompt("text", in_time=lambda: False) == {"state": "redaction_failed", "reason": "timeout"}


def test_all_that_a_message_can_hold_is_redacted() -> None:
    messages = [
        {"role": "user", "name": MAIL, "content": [{"type": "text", "text": MAIL}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": MAIL, "function": {"name": MAIL, "arguments": json.dumps({MAIL: [MAIL]})}}],
        },
        {"role": "tool", "tool_call_id": MAIL, "content": json.dumps({"x": MAIL})},
        {"role": MAIL, "content": "x", "function_call": {"name": MAIL}},
    ]
    raw = json.dumps({"messages": messages, "user": MAIL, "metadata": {"m": MAIL}, "stop": MAIL}).encode()
    answer = json.dumps(
        {"choices": [{"finish_reason": MAIL, "message": {"content": MAIL, "refusal": MAIL}}]}
    ).encode()
    for policy in (Policy(key=b"k"), Policy("hashed", key=b"k"), Policy(redaction="remove"), Policy("off")):
        found = redact(RawContent(raw, len(raw), answer, len(answer), {"x-user": MAIL}), policy, names=None)
        assert "jane" not in json.dumps([found.content, found.settings])
        assert found.content["state"] != ContentState.REDACTION_FAILED


KEY = "ghp_" + "aB3" * 12
ESCAPED = json.dumps(
    {"content": f"x\n{KEY}\n4111111111111111\n{MAIL}\nDE89370400440532013000", "n": 4111111111111111}
)


@pytest.mark.parametrize(
    "text",
    [
        ESCAPED,
        f"Result: {ESCAPED}",
        json.dumps(json.dumps(json.dumps(ESCAPED))),
        ESCAPED[:-1],
        "x" * 9 + ESCAPED[3:],
        urllib.parse.quote(f"{KEY} 4111111111111111 {MAIL}"),
        html.escape(ESCAPED).replace("@", "&#64;"),
        f"log: {KEY}\\n{MAIL.replace('@', '=40')}",
    ],
)
@pytest.mark.parametrize("redaction", ["placeholder", "hash", "remove"])
def test_escapes_hide_nothing(text: str, redaction: str) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": text}}
    messages = [
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": text},
        {"role": "user", "name": text, "content": [{"type": "text", "text": text}]},
    ]
    raw = json.dumps({"messages": messages}).encode()
    answer = json.dumps({"choices": [{"message": {"content": text, "refusal": text}}]}).encode()
    policy = Policy(redaction=redaction, key=b"k")
    found = redact(RawContent(raw, len(raw), answer, len(answer), {"x": text}), policy, names=None)
    assert found.content["state"] == ContentState.KEPT
    written = json.dumps(found.content)
    for value in ("jane", "aB3aB3", "111111", "3704004405"):
        assert value not in written
    parts = found.content["input_messages"][1]["parts"]
    if text is ESCAPED:
        assert json.loads(parts[0]["response"]).keys() == {"content", "n"}


@given(st.binary(max_size=300), st.integers(0, 600))
def test_no_bytes_raise(raw: bytes, size: int) -> None:
    for policy in (Policy(key=b"k"), Policy("hashed", key=b"k")):
        state = redact(RawContent(raw, size, raw, size), policy, names=None).content["state"]
        assert state in ("unreadable", "kept", "hashed")
