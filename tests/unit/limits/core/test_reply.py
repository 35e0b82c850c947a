"""Headers as Kong's rate-limiting has them, and the refusal."""

from __future__ import annotations

import json

import pytest

from tenantgate.limits.core.limit import Limit, Period, Subject
from tenantgate.limits.core.reply import headers, refusal
from tenantgate.limits.core.window import Decision, Room


def room(
    remaining: int,
    wait_s: float = 1.0,
    *,
    most: int = 10,
    period: Period = Period.MINUTE,
    subject: Subject = Subject.TENANT,
) -> Room:
    return Room(Limit(subject, period, most), remaining, round(wait_s * 1e6))


def test_one_limit() -> None:
    assert headers(Decision(True, (room(9, 59.2),))) == {
        "X-RateLimit-Limit-Minute": "10",
        "X-RateLimit-Remaining-Minute": "9",
        "RateLimit-Limit": "10",
        "RateLimit-Remaining": "9",
        "RateLimit-Reset": "60",
    }


def test_each_period_has_its_headers_and_the_fewest_requests_left_are_shown_without() -> None:
    rooms = [room(i + 3, i + 1, most=10 + i, period=period) for i, period in enumerate(Period)]
    found = headers(Decision(True, tuple(rooms)))
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
def test_the_most_restrictive_limit_is_shown(rooms: list[Room], shown: tuple[str, str, str]) -> None:
    for order in (rooms, rooms[::-1]):
        found = headers(Decision(True, tuple(order)))
        assert tuple(found[f"RateLimit-{name}"] for name in ("Limit", "Remaining", "Reset")) == shown
        period = next(r.limit.period.word.title() for r in rooms if str(r.limit.most) == shown[0])
        assert found[f"X-RateLimit-Limit-{period}"] == shown[0]
        assert found[f"X-RateLimit-Remaining-{period}"] == shown[1]
        assert "Retry-After" not in found


def test_a_refusal_names_the_limit_that_lasts_longest() -> None:
    decision = Decision(
        False,
        (
            room(0, 0.4, period=Period.SECOND, most=1),
            room(0, 1800.001, most=500, period=Period.HOUR, subject=Subject.KEY),
            room(7, 86_000, most=900, period=Period.DAY),
        ),
    )
    found = headers(decision)
    assert (found["Retry-After"], found["RateLimit-Reset"], found["RateLimit-Limit"]) == (
        "1801",
        "1801",
        "500",
    )
    assert found["RateLimit-Remaining"] == "0"
    assert json.loads(refusal(decision)) == {
        "error": {
            "message": "Rate limit reached: 500 requests per hour for this API key. Try again in 1801 s.",
            "type": "requests",
            "param": None,
            "code": "rate_limit_exceeded",
        }
    }


@pytest.mark.parametrize(
    ("wait_s", "shown"), [(0, "1"), (0.000001, "1"), (1, "1"), (1.000001, "2"), (59.9, "60")]
)
def test_seconds_are_rounded_up(wait_s: float, shown: str) -> None:
    assert headers(Decision(False, (room(0, wait_s),)))["Retry-After"] == shown


@pytest.mark.parametrize(
    ("subject", "most", "message"),
    [
        (Subject.TENANT, 1, "1 request per minute for this account."),
        (Subject.MODEL, 2, "2 requests per minute for this model."),
        (Subject.KEY, 3, "3 requests per minute for this API key."),
    ],
)
def test_the_message_says_what_is_limited(subject: Subject, most: int, message: str) -> None:
    assert message in refusal(Decision(False, (room(0, subject=subject, most=most),))).decode()
