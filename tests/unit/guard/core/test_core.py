from __future__ import annotations

import base64
import gzip
import json
import zlib
from typing import Any

import pytest

from tenantgate.cache.core.testing import HashingEmbedder
from tenantgate.errors import ConfigError
from tenantgate.fields import check, parse
from tenantgate.guard.config import DEFAULT_RULES, GuardConfig, RuleConfig
from tenantgate.guard.core.answers import blocked
from tenantgate.guard.core.detectors import as_it_reads
from tenantgate.guard.core.exemptions import Exemption, State, approve, in_force, read
from tenantgate.guard.core.passages import Passage, UnreadableError, of_reply, of_request, rewrite
from tenantgate.guard.core.replies import decompress
from tenantgate.guard.core.replies import parse as parse_reply
from tenantgate.guard.core.topics import Topics
from tenantgate.guard.core.verdict import Action, judge
from tenantgate.pii.core import Finding, Placeholders, find_personal, masking

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9).decode()
BODY: dict[str, Any] = {
    "model": "gpt-x",
    "user": "u-1",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64," + PNG}}]},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "mail", "arguments": '{"to": "jane\\u0040example.com"}'}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "sent to jane@example.com"},
        {"role": "user", "content": "thanks"},
    ],
}  # fmt: skip


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
        {"messages": [{"role": "user", "content": [{"file": {"file_data": "these are HIDDEN words " * 20}}]}]},
        {"messages": [{"role": "user", "content": [{"image_url": {"url": "data:text/plain,HIDDEN"}}]}]},
        {"messages": [{"role": "user", "content": [{"image_url": {"url": "https://x.example/?q=HIDDEN"}}]}]},
        {"messages": [{"role": "user", "content": [{"image_url": "https://x.example/?q=HIDDEN"}]}]},
        {"messages": [{"role": "user", "content": [{"image_url": {"url": "see my HIDDEN words " * 20}}]}]},
        {"messages": [{"role": "user", "content": [{"image_url": {"detail": "HIDDEN"}}]}]},
        {"messages": [{"role": "user", "content": {"HIDDEN": 1}}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "HIDDEN"}]}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "HIDDEN", "arguments": "{}"}}]}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"custom": {"name": "x", "input": "HIDDEN"}}]}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": {"name": "HIDDEN"}}}]}]},
        {"messages": "HIDDEN"},
        {"model": "HIDDEN"},
        {"stop": ["HIDDEN"]},
        {"HIDDEN": None},
        {"seed": "HIDDEN"},
        {"metadata": {"name": "HIDDEN", "id": {"type": "x"}}},
        {"metadata": {"type": {"HIDDEN": {}}}},
        {"documents": [{"id": "HIDDEN"}]},
        {"tool_choice": {"type": "function", "function": {"name": "HIDDEN"}}},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"HIDDEN": {}}}}}]},
        {"tools": [{"function": {"parameters": {"properties": {"type": {"type": "HIDDEN"}}}}}]},
        {"tools": [{"function": {"parameters": {"properties": {"name": {"default": {"id": "HIDDEN"}}}}}}]},
        {"tools": [{"function": {"parameters": {"properties": {"x": {"enum": ["a", "HIDDEN"]}}}}}]},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "description": "HIDDEN"}}},
        {"logit_bias": {"HIDDEN": 1}},
        {"stream_options": {"include_usage": "HIDDEN"}},
    ],
)  # fmt: skip
def test_all_that_a_request_may_hold_is_read_and_can_be_changed(extra: dict[str, Any]) -> None:
    body = {"messages": [], **extra}
    passage = of_request(body, "concatenate_all_content")
    assert "HIDDEN" in passage.text
    new = changed(body, passage)
    assert "[X]" in json.dumps(new)
    assert json.dumps(new).count("HIDDEN") == json.dumps(body).count("HIDDEN") - 1


def test_words_and_identifiers_of_the_api_say_nothing() -> None:
    body = {
        "model": "gpt-4o-mini", "temperature": 0.5, "seed": 1234567, "tool_choice": "auto", "service_tier": "auto",
        "tools": [{"type": "function", "function": {"name": "mail", "parameters": {
            "type": "object", "properties": {"to": {"type": "string"}}, "required": ["to"]}}}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]},
                     {"role": "tool", "tool_call_id": "call_1", "content": "done"}],
    }  # fmt: skip
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
    [b"my card is 4111 1111 1111 1111 " * 20, b"\x89PNG\r\n\x1a\n" + b"my card is 4111 1111 1111 1111 " * 20,
     b"%PDF-1.4\n" + b"my card is 4111 1111 1111 1111 " * 20],
)  # fmt: skip
def test_a_text_is_no_file_whatever_it_says(raw: bytes) -> None:
    part = {"file": {"file_data": "data:application/pdf;base64," + base64.b64encode(raw).decode()}}
    passage = of_request({"messages": [{"role": "user", "content": [part]}]}, "concatenate_all_content")
    assert as_it_reads(find_personal)(passage.text)


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


@pytest.mark.parametrize("char", ["\0", "\b", "\x1b", "\x7f", "\xad", "\u200b", "\ufeff"])
def test_what_shows_as_nothing_hides_nothing(char: str) -> None:
    (found,) = as_it_reads(find_personal)(f"mail jane@exam{char}ple.com now")
    assert (found.start, found.end) == (5, 22)


RULES = {mode: RuleConfig(name=mode, detector="secrets", mode=mode) for mode in ("alert", "mask", "block")}
STRONG, WEAK = Finding(0, 4, "TOKEN", 0.9), Finding(5, 9, "TOKEN", 0.3)


def exemption(**changes: Any) -> Exemption:
    values = {"id": "x1", "rule": "block", "reason": "why", "by": "ann", "created": 1000.0, "until": 2000.0}
    return Exemption(**{**values, **changes})


@pytest.mark.parametrize(
    ("modes", "action"),
    [
        ((), Action.PASS),
        (("alert",), Action.ALERT),
        (("alert", "mask"), Action.MASK),
        (("mask", "block", "alert"), Action.BLOCK),
    ],
)
def test_the_hardest_rule_decides(modes: tuple[str, ...], action: Action) -> None:
    decision = judge([RULES[m] for m in modes], {m: [STRONG] for m in modes})
    assert decision.action is action
    assert set(decision.verdict().get("rules", {})) == set(modes)


def test_weak_findings_do_not_count() -> None:
    assert judge([RULES["block"]], {"block": [WEAK]}).action is Action.PASS


def test_an_exemption_lets_a_rule_s_findings_pass_and_shows() -> None:
    decision = judge([RULES["block"]], {"block": [STRONG]}, [exemption()])
    assert decision.action is Action.PASS
    assert decision.hits[0].exemptions == ("x1",)
    assert decision.verdict()["rules"]["block"]["exempted"] == 1


def test_an_exemption_for_one_hash_leaves_the_other_findings() -> None:
    other = Finding(20, 24, "TOKEN", 0.9)
    decision = judge([RULES["block"]], {"block": [STRONG, other]}, [exemption(fingerprint="f0")],
                     lambda _rule, finding: f"f{finding.start}")  # fmt: skip
    assert decision.action is Action.BLOCK
    assert decision.hits[0].findings == (other,)


def test_a_verdict_holds_no_place_and_no_text() -> None:
    verdict = judge([RULES["block"]], {"block": [STRONG]}).verdict()
    assert verdict == {
        "action": "block",
        "rules": {"block": {"mode": "block", "kinds": {"TOKEN": 1}, "score": 0.9}},
    }


def test_exemptions_end_by_themselves_and_need_a_second_person_where_asked() -> None:
    asked = exemption(state=State.REQUESTED)
    assert in_force([asked], 1500) == ()
    with pytest.raises(ConfigError, match="second person"):
        approve(asked, " Ann ")
    granted = approve(asked, "bob")
    assert in_force([granted], 1500, approval=True) == (granted,)
    assert in_force([granted], 2000, approval=True) == ()
    assert in_force([exemption()], 1500, approval=True) == ()
    assert read(granted.to_json()) == granted


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"state": "active"}', "\ud800", '{"state":"x"}'])
def test_a_damaged_exemption_is_none(text: str) -> None:
    assert read(text) is None


@pytest.mark.parametrize(
    "changes", [{"reason": " "}, {"by": ""}, {"until": 999.0}, {"until": 1000.0 + 400 * 86_400}]
)
def test_an_exemption_needs_a_reason_a_name_and_an_end(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        exemption(**changes)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"detector": "injection", "mode": "mask"}, "masked"),
        ({"detector": "denied_topics"}, "examples"),
        ({"detector": "patterns"}, "expressions"),
        ({"detector": "secrets", "target": "reply", "mode": "block"}, "tenant-response-guardrails"),
        ({"detector": "personal_data", "kinds": ["SHOE_SIZE"]}, "SHOE_SIZE"),
        ({"detector": "injection", "kinds": ["TOKEN"]}, "no kinds"),
    ],
)
def test_rules_that_make_no_sense_are_refused_by_name(rule: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        parse(GuardConfig, {"rules": [{"name": "mine", **rule}]})
    assert "rules.mine" in str(error.value)


def test_two_rules_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="two rules"):
        check(GuardConfig(rules=(RULES["alert"], RULES["alert"])))


def test_a_new_tenant_is_only_watched() -> None:
    config = parse(GuardConfig, {})
    assert config.effective == DEFAULT_RULES
    assert not config.enforces


def test_a_refusal_says_nothing_of_rules_unless_asked() -> None:
    decision = judge([RULES["block"]], {"block": [STRONG]})
    body = blocked("content_policy_violation", request_id="r-1", decision=decision)
    error = json.loads(body)["error"]
    assert (error["code"], error["request_id"]) == ("content_policy_violation", "r-1")
    assert b"TOKEN" not in body
    body = blocked("content_policy_violation", request_id=None, decision=decision, show_reason=True)
    assert json.loads(body)["error"]["rules"] == {"block": ["TOKEN"]}


def test_a_refusal_says_no_foreign_id_back() -> None:
    assert b"request_id" not in blocked("content_policy_violation", request_id="<b>\n")


def chunk(**delta: Any) -> str:
    return (
        "data: "
        + json.dumps({"model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        + "\n\n"
    )


@pytest.mark.parametrize(
    ("raw", "kind", "text"),
    [
        (chunk(content="jane@exa") + chunk(content="mple.com") + "data: [DONE]\n\n", "text/event-stream", "jane@example.com"),
        (('data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"jane@"}}\r\n\r\n'
          'data: {"delta":{"text":"example.com"}}\r\n\r\n'), "text/event-stream; charset=utf-8", "jane@example.com"),
        ('{"content":[{"type":"text","text":"jane@example.com"}],"stop_reason":"end_turn","id":"x"}', "application/json",
         "jane@example.com"),
        ('{"id":"x","choices":[{"message":{"role":"assistant","content":"jane@example.com"}}]}', "application/json",
         "jane@example.com"),
        ('{"candidates":[{"content":{"parts":[{"text":"jane@example.com"}]},"finishReason":"STOP"}]}', None, "jane@example.com"),
    ],
)  # fmt: skip
def test_replies_of_any_provider_are_read_and_rewritten_in_openai_s_shape(
    raw: str, kind: str | None, text: str
) -> None:
    reply = parse_reply(raw.encode(), kind)
    assert reply is not None
    edits, count = reply.passage().rewritten(lambda t: hide(t, text, "[E]"))
    assert count == 1
    made = reply.changed(edits).written(identifier="i", created=1)
    assert made is not None
    assert b"[E]" in made[0]
    assert b"jane" not in made[0]
    assert made[1].startswith("text/event-stream" if reply.events else "application/json")
    assert b'"choices"' in made[0]


def test_compressed_replies_are_read_up_to_a_bound() -> None:
    assert decompress(gzip.compress(b"hello"), "gzip", 100) == b"hello"
    assert decompress(zlib.compress(b"hello"), "deflate", 100) == b"hello"
    assert decompress(gzip.compress(b"a" * 1000), "gzip", 100) is None
    assert decompress(b"rubbish", "gzip", 100) is None
    assert decompress(b"hello", "br", 100) is None
    assert decompress(b"hello", None, 100) == b"hello"


def test_topics_by_example() -> None:
    topics = Topics(("gambling and betting", "casino games"), HashingEmbedder())
    best = max(f.score for f in topics.denied("tell me of casino games"))
    assert best > max((f.score for f in topics.denied("how do I bake bread")), default=0)
    (finding,) = topics.allowed("how do I bake bread")
    assert finding.score > 0.5
    assert topics.allowed("  ") == ()


def test_a_long_text_is_sampled_to_its_end() -> None:
    topics = Topics(("casino",), HashingEmbedder())
    found = topics.denied("word " * 4000 + "casino")
    assert len(found) == 8
    assert found[-1].end == 4000 * 5 + 6
