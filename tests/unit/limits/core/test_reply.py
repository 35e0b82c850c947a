"""Headers as Kong's rate-limiting and OpenAI have them, and the refusals."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest

from tenantgate.limits.core import reply
from tenantgate.limits.core.claims import Held
from tenantgate.limits.core.ledger import Claim, Refused, Reserved, Room
from tenantgate.limits.core.limit import RATE_LIMIT, Period, Subject
from tenantgate.limits.core.rules import Counted, Per, Rule, Window

NOW_MS = 1_800_000_000_000


class One(NamedTuple):
    """A rule with what is left of it."""

    held: Held
    room: Room


def one(rule: Rule, remaining: int, wait_s: float = 1.0, *, shadow: bool = False) -> One:
    claim = Claim(
        counter=rule.name, counted=rule.counted, most=rule.most, window=rule.window, fixed=1, shadow=shadow
    )
    left = Room(rule.most - remaining, 0, rule.most, NOW_MS + round(wait_s * 1000))
    return One(Held(rule.name, "", claim, source=rule), left)


def room(
    remaining: int,
    wait_s: float = 1.0,
    *,
    most: int = 10,
    period: Period = Period.MINUTE,
    subject: Subject = Subject.TENANT,
) -> One:
    """A limit on requests."""
    rule = Rule(
        name=f"{RATE_LIMIT}{subject}.{period.word}",
        counted=Counted.REQUESTS,
        most=most,
        window=Window(sliding_s=period.value),
        per=Per(subject.value),
    )
    return one(rule, remaining, wait_s)


def answer(rooms: tuple[One, ...], refused: Refused | None = None) -> tuple[list[Held], Reserved]:
    by = tuple(i for i, (held, left) in enumerate(rooms) if refused and left.used >= left.most)
    found = Reserved(refused=refused, by=by, max_tokens=0, rooms=tuple(r.room for r in rooms), now_ms=NOW_MS)
    return [r.held for r in rooms], found


def headers(*rooms: One, refused: Refused | None = None) -> dict[str, str]:
    return reply.headers(*answer(rooms, refused))


def refusal(*rooms: One, refused: Refused = Refused.EXHAUSTED) -> bytes:
    return reply.refusal(*answer(rooms, refused))


def test_one_limit() -> None:
    assert headers(room(9, 59.2)) == {
        "X-RateLimit-Limit-Minute": "10",
        "X-RateLimit-Remaining-Minute": "9",
        "RateLimit-Limit": "10",
        "RateLimit-Remaining": "9",
        "RateLimit-Reset": "60",
    }


def test_each_period_has_its_headers_and_the_fewest_requests_left_are_shown_without() -> None:
    rooms = [room(i + 3, i + 1, most=10 + i, period=period) for i, period in enumerate(Period)]
    found = headers(*rooms)
    assert [found[f"X-RateLimit-Limit-{p}"] for p in ("Second", "Minute", "Hour", "Day")] == [
        "10",
        "11",
        "12",
        "13",
    ]
    assert [found[f"X-RateLimit-Remaining-{p}"] for p in ("Second", "Minute", "Hour", "Day")] == list("3456")
    assert (found["RateLimit-Limit"], found["RateLimit-Remaining"], found["RateLimit-Reset"]) == (
        "10",
        "3",
        "1",
    )


@pytest.mark.parametrize(
    ("rooms", "shown"),
    [
        # As few left: the longer period, as in Kong.
        (
            [room(3, 1, period=Period.SECOND, most=4), room(3, 50, period=Period.HOUR, most=9)],
            ("9", "3", "50"),
        ),
        (
            [room(3, 0.9, period=Period.SECOND, most=4), room(3, 0.1, period=Period.HOUR, most=9)],
            ("9", "3", "1"),
        ),
        # Two of one period: the one with fewer left.
        ([room(5, 7, most=60), room(2, 9, most=20, subject=Subject.KEY)], ("20", "2", "9")),
        ([room(2, 7, most=60), room(5, 9, most=20, subject=Subject.KEY)], ("60", "2", "7")),
    ],
)
def test_the_most_restrictive_limit_is_shown(rooms: list[One], shown: tuple[str, str, str]) -> None:
    for order in (rooms, rooms[::-1]):
        found = headers(*order)
        assert tuple(found[f"RateLimit-{name}"] for name in ("Limit", "Remaining", "Reset")) == shown
        period = next(
            reply.window_word(r.held.claim.window).title() for r in rooms if str(r.room.most) == shown[0]
        )
        assert found[f"X-RateLimit-Limit-{period}"] == shown[0]
        assert found[f"X-RateLimit-Remaining-{period}"] == shown[1]
        assert "Retry-After" not in found


def test_a_refusal_names_the_limit_that_lasts_longest() -> None:
    rooms = (
        room(0, 0.4, period=Period.SECOND, most=1),
        room(0, 1800.002, most=500, period=Period.HOUR, subject=Subject.KEY),
        room(7, 86_000, most=900, period=Period.DAY),
    )
    found = headers(*rooms, refused=Refused.EXHAUSTED)
    assert (found["Retry-After"], found["RateLimit-Reset"], found["RateLimit-Limit"]) == (
        "1801",
        "1801",
        "500",
    )
    assert found["RateLimit-Remaining"] == "0"
    assert json.loads(refusal(*rooms)) == {
        "error": {
            "message": "Rate limit reached: 500 requests per hour for this API key. Try again in 1801 s.",
            "type": "requests",
            "param": None,
            "code": "rate_limit_exceeded",
        }
    }


@pytest.mark.parametrize(("wait_s", "shown"), [(0, "1"), (0.001, "1"), (1, "1"), (1.002, "2"), (59.9, "60")])
def test_seconds_are_rounded_up(wait_s: float, shown: str) -> None:
    assert headers(room(0, wait_s), refused=Refused.EXHAUSTED)["Retry-After"] == shown


@pytest.mark.parametrize(
    ("subject", "most", "message"),
    [
        (Subject.TENANT, 1, "1 request per minute for this account."),
        (Subject.MODEL, 2, "2 requests per minute for this model."),
        (Subject.KEY, 3, "3 requests per minute for this API key."),
    ],
)
def test_the_message_says_what_is_limited(subject: Subject, most: int, message: str) -> None:
    assert message in refusal(room(0, subject=subject, most=most)).decode()


# -- tokens and money ------------------------------------------------------------------------------------

TOKENS = Rule(
    name="tokens", counted=Counted.TOTAL_TOKENS, most=1000, window=Window(sliding_s=60), per=Per.END_USER
)
BUDGET = Rule(
    name="main", counted=Counted.COST, most=12_500_000_000, window=Window(unit="month"), budget=True
)


def test_limits_on_tokens_and_budgets_are_told_by_name() -> None:
    assert headers(one(TOKENS, 250, 30), one(BUDGET, 1_234_567, 86_400)) == {
        "X-AI-RateLimit-Limit-minute-tokens": "1000",
        "X-AI-RateLimit-Remaining-minute-tokens": "250",
        "X-AI-RateLimit-Reset-minute-tokens": "30",
        "X-AI-RateLimit-Limit-month-main": "12.5",
        "X-AI-RateLimit-Remaining-month-main": "0.001234567",
        "X-AI-RateLimit-Reset-month-main": "86400",
        "X-RateLimit-Limit-Tokens": "1000",
        "X-RateLimit-Remaining-Tokens": "250",
        "X-RateLimit-Reset-Tokens": "30s",
    }


@pytest.mark.parametrize(
    ("wait_s", "shown"), [(1, "1s"), (60, "1m0s"), (3600, "1h0m0s"), (90_061, "25h1m1s")]
)
def test_openai_writes_spans_of_time_in_its_own_way(wait_s: int, shown: str) -> None:
    assert headers(one(TOKENS, 1, wait_s))["X-RateLimit-Reset-Tokens"] == shown


def test_a_limit_in_shadow_mode_is_not_told() -> None:
    assert headers(one(BUDGET, 5, shadow=True)) == {}


def error(text: bytes) -> tuple[str, str, str]:
    found = json.loads(text)["error"]
    return found["code"], found["type"], found["message"]


def test_refusals_tell_budgets_from_rates_and_what_is_spent_from_what_is_held() -> None:
    spent = error(refusal(one(BUDGET, 0, 90)))
    assert spent[:2] == ("budget_exhausted", "insufficient_quota")
    assert "$12.5 per month for this account" in spent[2]
    held = error(refusal(one(BUDGET, 0, 86_400), refused=Refused.HELD))
    assert held[:2] == ("budget_held", "requests")
    assert 1 <= int(headers(one(BUDGET, 0, 86_400), refused=Refused.HELD)["Retry-After"]) <= 3
    tokens = error(refusal(one(TOKENS, 0, 7)))
    assert tokens[:2] == ("rate_limit_exceeded", "tokens")
    assert "1000 tokens per minute for this user" in tokens[2]
    assert error(reply.cache_only_refusal(BUDGET, 9))[0] == "budget_exhausted"
