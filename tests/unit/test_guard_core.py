from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest

from tenantgate.cache.testing import HashingEmbedder
from tenantgate.errors import ConfigError
from tenantgate.fields import parse
from tenantgate.guard.answers import blocked
from tenantgate.guard.config import DEFAULT_RULES, GuardConfig, RuleConfig, check
from tenantgate.guard.detectors import as_it_reads
from tenantgate.guard.exemptions import Exemption, State, approve, in_force, read
from tenantgate.guard.passages import of_message, of_request, rewrite
from tenantgate.guard.replies import decompress, text_of
from tenantgate.guard.replies import parse as parse_reply
from tenantgate.guard.topics import Topics
from tenantgate.guard.verdict import Action, judge
from tenantgate.pii import Finding, find_personal

BODY: dict[str, Any] = {
    "model": "gpt-x",
    "user": "u-1",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "QUJD" * 99}}]},
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
            "Be brief.\nLook:\njane@example.com\nsent to jane@example.com\nthanks\nu-1",
        ),
    ],
)
def test_a_target_reads_parts_tool_messages_and_arguments(target: str, text: str) -> None:
    assert of_request(BODY, target).text == text


def test_rewriting_keeps_everything_else_and_the_arguments_json() -> None:
    passage = of_request(BODY, "concatenate_all_content")
    at = passage.text.index("jane@")
    findings = [Finding(at, at + 16, "EMAIL_ADDRESS")]
    new = rewrite(BODY, passage.changed(findings, lambda text, _f: text.replace("jane@example.com", "[E]")))
    arguments = new["messages"][2]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == {"to": "[E]"}
    assert new["messages"][3] is BODY["messages"][3]
    assert BODY["messages"][2]["tool_calls"][0]["function"]["arguments"].startswith('{"to": "jane')


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": "HIDDEN"},
        {"id": "HIDDEN", "model": "m"},
        {"data": "HIDDEN"},
        {"a": [{"type": {"format": "HIDDEN"}}]},
        {"arguments": '["HIDDEN"]'},
        {"the HIDDEN": 1},
    ],
)
def test_arguments_have_no_words_of_the_protocol(arguments: dict[str, Any]) -> None:
    body = _calling(json.dumps(arguments))
    passage = of_request(body, "concatenate_all_content")
    at = passage.text.index("HIDDEN")
    new = rewrite(
        body, passage.changed([Finding(at, at + 6, "X")], lambda text, _f: text.replace("HIDDEN", "[X]"))
    )
    call = new["messages"][0]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(call) == json.loads(json.dumps(arguments).replace("HIDDEN", "[X]"))


def test_long_numbers_are_read_in_arguments_and_as_content() -> None:
    body = _calling('{"card": 4111111111111111, "page": 12, "flag": true, "rate": 123456.7}')
    body["messages"].append({"role": "user", "content": 4111111111111111})
    body |= {"seed": 4111111111111111, "tools": [{"parameters": {"maximum": 4111111111111111}}]}
    assert of_request(body, "concatenate_all_content").text == "4111111111111111\n4111111111111111"


@pytest.mark.parametrize(
    "extra",
    [
        {"messages": [{"role": "user", "name": "HIDDEN", "content": ""}]},
        {"messages": [{"role": "user", "content": [{"source": {"type": "text", "data": "my HIDDEN text"}}]}]},
        {"messages": [{"role": "user", "content": [{"source": {"data": "HIDDEN" + "A" * 99}}]}]},
        {"messages": [{"role": "user", "content": [{"image_url": {"url": "data:text/plain,HIDDEN"}}]}]},
        {"stop": ["HIDDEN"]},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "description": "HIDDEN"}}},
    ],
)
def test_all_that_the_application_may_write_is_read(extra: dict[str, Any]) -> None:
    assert "HIDDEN" in of_request({"messages": [], **extra}, "concatenate_all_content").text


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,", "data:text/plain;charset=utf-8;base64,"])
def test_bytes_are_not_read(prefix: str) -> None:
    body = {"messages": [{"content": [{"image_url": {"url": prefix + "QUJD" * 100}}]}]}
    assert not of_request(body, "concatenate_all_content").text


def _calling(arguments: str) -> dict[str, Any]:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return {"messages": [{"role": "assistant", "content": None, "tool_calls": [call]}]}


def test_a_finding_over_two_texts_is_changed_in_both() -> None:
    passage = of_message([{"text": "4111 1111"}, {"text": "1111 1111"}])
    changed = passage.changed(
        [Finding(0, len(passage.text), "X")], lambda text, f: f"{f[0].start}-{f[0].end}"
    )
    assert changed == {(0, "text"): "0-9", (1, "text"): "0-9"}


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
        check(parse(GuardConfig, {"rules": [{"name": "mine", **rule}]}).rules)
    assert "rules.mine" in str(error.value)


def test_two_rules_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="two rules"):
        check([RULES["alert"], RULES["alert"]])


def test_a_new_tenant_is_only_watched() -> None:
    config = parse(GuardConfig, {})
    assert config.effective == DEFAULT_RULES
    assert not config.enforces
    check(DEFAULT_RULES)


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
    inner = text_of(reply.body)
    passage = of_message(inner)
    assert text in passage.text
    found = passage.text.index(text)
    changed = passage.changed([Finding(found, found + len(text), "E")], lambda t, _f: t.replace(text, "[E]"))
    body = {**reply.body, **rewrite(inner, changed)}
    made = reply.rewritten(body, identifier="i", created=1)
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
