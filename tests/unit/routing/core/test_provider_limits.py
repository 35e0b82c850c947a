"""Headers of providers about limits, as they send them."""

from __future__ import annotations

import math

import pytest

from tenantgate.routing.core.provider_limits import Allowance, Limits, left, near, read_limits, retry_after_s

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z

OPENAI = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-limit-tokens": "150000",
    "x-ratelimit-remaining-requests": "59",
    "x-ratelimit-remaining-tokens": "149984",
    "x-ratelimit-reset-requests": "1s",
    "x-ratelimit-reset-tokens": "6m0s",
}
ANTHROPIC = {
    "anthropic-ratelimit-requests-limit": "50",
    "anthropic-ratelimit-requests-remaining": "49",
    "anthropic-ratelimit-requests-reset": "2026-01-01T00:00:02Z",
    "anthropic-ratelimit-tokens-limit": "90000",
    "anthropic-ratelimit-tokens-remaining": "90000",
    "anthropic-ratelimit-tokens-reset": "2026-01-01T00:00:00Z",
    "anthropic-ratelimit-output-tokens-limit": "10000",
    "anthropic-ratelimit-output-tokens-remaining": "100",
    "anthropic-ratelimit-output-tokens-reset": "2026-01-01T00:00:59Z",
}
AZURE = {"x-ratelimit-remaining-requests": "9", "x-ratelimit-remaining-tokens": "9650"}
GROQ = {
    "x-ratelimit-limit-requests": "14400",
    "x-ratelimit-remaining-requests": "14370",
    "x-ratelimit-reset-requests": "2m59.56s",
}


@pytest.mark.parametrize(
    ("headers", "requests", "tokens"),
    [
        (OPENAI, Allowance(59, 60, NOW, NOW + 1), Allowance(149984, 150000, NOW, NOW + 360)),
        (ANTHROPIC, Allowance(49, 50, NOW, NOW + 2), Allowance(100, 10000, NOW, NOW + 59)),
        (AZURE, Allowance(9, None, NOW, NOW + 60), Allowance(9650, None, NOW, NOW + 60)),
        (GROQ, Allowance(14370, 14400, NOW, pytest.approx(NOW + 179.56)), None),
        ({}, None, None),
    ],
    ids=["openai", "anthropic", "azure", "groq", "none"],
)
def test_limits(headers: dict[str, str], requests: Allowance | None, tokens: Allowance | None) -> None:
    assert read_limits(headers, NOW) == Limits(requests, tokens)


@pytest.mark.parametrize("remaining", ["", "-1", "nan", "inf", "many", "1e99", "9" * 40])
def test_what_is_no_number_says_nothing(remaining: str) -> None:
    assert read_limits({"x-ratelimit-remaining-requests": remaining}, NOW) == Limits()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20ms", 0.02),
        ("1h2m3s", 3723),
        ("59", 59),
        ("1767225630", 30),
        ("2026-01-01T00:00:30+00:00", 30),
        ("2020-01-01T00:00:00Z", 0),
        ("999h", 86_400),
        ("soon", 60),
        ("1s2", 60),
    ],
)
def test_resets(text: str, seconds: float) -> None:
    headers = {"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": text}
    requests = read_limits(headers, NOW).requests
    assert requests is not None
    assert requests.full_at - NOW == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 2026 00:00:30 GMT"}, 30),
        ({"retry-after": "Wed, 31 Dec 2025 00:00:30 GMT"}, 0),
        ({"retry-after": "later"}, None),
        ({"retry-after": "-3"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, NOW) == seconds


def test_a_limit_fills_up_until_it_is_whole() -> None:
    allowance = Allowance(20, 100, NOW, NOW + 80)
    assert [left(allowance, NOW + s) for s in (0, 40, 80, 200)] == [20, 60, 100, 100]
    assert [left(Allowance(5, None, NOW, NOW + 60), NOW + s) for s in (0, 59, 60)] == [5, 5, math.inf]


@pytest.mark.parametrize(
    ("allowance", "needed", "taken", "is_near"),
    [
        (None, 1, 1000, False),
        (Allowance(0, None, NOW, NOW + 60), 1, 0, True),
        (Allowance(1, None, NOW, NOW + 60), 1, 0, False),
        (Allowance(5, None, NOW, NOW + 60), 1, 5, True),
        (Allowance(3, 100, NOW, NOW + 60), 1, 0, False),
        (Allowance(2, 100, NOW, NOW + 60), 1, 0, True),
        (Allowance(900, 10_000, NOW, NOW + 60), 800, 0, True),
        (Allowance(900, 10_000, NOW - 60, NOW), 800, 0, False),
    ],
)
def test_near(allowance: Allowance | None, needed: float, taken: float, is_near: bool) -> None:
    assert near(allowance, needed=needed, taken=taken, now=NOW) is is_near
