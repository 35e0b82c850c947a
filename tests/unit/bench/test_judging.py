"""What became of a request, and whether its answer was right."""

from __future__ import annotations

from typing import Any

import pytest

from tenantgate.bench.judging import Judged, judge
from tenantgate.bench.load import Shot
from tenantgate.bench.workload import Ask


def ask(number: int = 0, text: str = "Why?", *, kind: str = "fresh", tenant: int = 0, group: str = "") -> Ask:
    return Ask(
        number=number,
        kind=kind,
        tenant=tenant,
        messages=(("user", text),),
        stream=False,
        group=group or f"{tenant}|{text}",
    )


def shot(of: Ask, **changes: Any) -> Shot:
    values: dict[str, Any] = {
        "target": "ours",
        "ask": of.number,
        "at_s": 0.0,
        "late_s": 0.0,
        "head_s": 0.01,
        "token_s": 0.01,
        "total_s": 0.02,
        "status": 200,
        "error": "",
        "headers": {},
        "digest": of.digest,
        "clear": False,
    }
    return Shot(**(values | changes))


HIT = {"x-cache-status": "Hit"}


def one(of: Ask, **changes: Any) -> Judged:
    return judge([of], [shot(of, **changes)])[0]


@pytest.mark.parametrize(
    ("changes", "outcome", "error"),
    [
        ({}, "pass", ""),
        ({"headers": {"x-cache-status": "Miss"}}, "pass", ""),
        ({"headers": HIT}, "hit", ""),
        ({"status": 400, "reason": "content_policy_violation", "digest": ""}, "blocked", ""),
        ({"status": 400, "reason": "invalid_request_error", "digest": ""}, "error", "status 400"),
        ({"status": 503, "digest": ""}, "error", "status 503"),
        ({"status": 0, "error": "timeout"}, "error", "timeout"),
        ({"error": "cut"}, "error", "cut"),
    ],
)
def test_outcomes(changes: dict[str, Any], outcome: str, error: str) -> None:
    judged = one(ask(), **changes)
    assert (judged.outcome, judged.error) == (outcome, error)


def test_a_stream_may_say_no_with_status_200() -> None:
    assert one(ask(), reason="content_policy_violation", error="", digest="").outcome == "blocked"


@pytest.mark.parametrize(
    ("kind", "wrong"), [("fresh", True), ("repeat", True), ("personal", False), ("long", False)]
)
def test_a_provider_that_got_another_text_is_wrong_unless_it_may_be_rewritten(kind: str, wrong: bool) -> None:
    assert one(ask(kind=kind), digest="0123456789").wrong is wrong


def test_a_hit_may_be_the_answer_to_another_wording() -> None:
    first, second = ask(0, "How?", group="g"), ask(1, "In what way?", group="g")
    judged = judge([first, second], [shot(first), shot(second, headers=HIT, digest=first.digest)])
    assert [j.wrong for j in judged] == [False, False]


def test_a_hit_may_be_the_answer_to_what_a_mask_made_of_the_question() -> None:
    first, second = ask(0, "I am jo@x.example", kind="personal"), ask(1, "I am jo@x.example", kind="repeat")
    shots = [shot(first, digest="aaaaaaaaaa"), shot(second, headers=HIT, digest="aaaaaaaaaa")]
    assert not judge([first, second], shots)[1].wrong


def test_the_answer_to_another_question_is_wrong() -> None:
    first, second = ask(0, "With breakfast?"), ask(1, "Without breakfast?")
    judged = judge([first, second], [shot(first), shot(second, headers=HIT, digest=first.digest)])[1]
    assert (judged.wrong, judged.foreign) == (True, False)


def test_the_answer_of_another_tenant_is_foreign() -> None:
    first, second = ask(0, "What is our revenue?"), ask(1, "What's our revenue?", tenant=1)
    judged = judge([first, second], [shot(first), shot(second, headers=HIT, digest=first.digest)])[1]
    assert (judged.wrong, judged.foreign) == (True, True)


def test_the_right_answer_to_what_only_another_tenant_has_asked_is_foreign() -> None:
    first, second = ask(0, "Why?"), ask(1, "Why?", tenant=1)
    judged = judge([first, second], [shot(first), shot(second, headers=HIT)])[1]
    assert (judged.wrong, judged.foreign) == (False, True)


def test_the_same_question_of_two_tenants_is_each_ones_own_once_asked() -> None:
    asks = [ask(0, "Why?"), ask(1, "Why?", tenant=1), ask(2, "Why?", tenant=1)]
    judged = judge(asks, [shot(asks[0]), shot(asks[1]), shot(asks[2], headers=HIT)])
    assert [(j.wrong, j.foreign) for j in judged] == [(False, False)] * 3


def test_shots_are_judged_in_the_order_of_the_requests() -> None:
    first, second = ask(0, "Mask me", kind="personal", group="g"), ask(1, "Mask me", kind="repeat", group="g")
    shots = [shot(second, headers=HIT, digest="bbbbbbbbbb"), shot(first, digest="bbbbbbbbbb")]
    assert [j.wrong for j in judge([first, second], shots)] == [False, False]
