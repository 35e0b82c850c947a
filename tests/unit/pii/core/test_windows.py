"""A long text finds what a short one does, wherever it stands, and no call of an engine gets much of it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.bench.hostile import TEXTS
from tenantgate.checkpoints import PIECE, checked_by
from tenantgate.guard.config import RuleConfig
from tenantgate.guard.core.detectors import Detector, detector
from tenantgate.pii.core import Finding, find_personal, find_secrets
from tenantgate.pii.core.windows import in_windows
from tenantgate.time_left import OutOfTimeError, limited

PROSE = TEXTS["prose"](3 * PIECE)
PRIVATE_KEY = "-----BEGIN PRIVATE KEY-----\n" + "QUJDREVGR0hJSktMTU5P\n" * 800 + "-----END PRIVATE KEY-----"
SECRETS = (
    "jane.roe@example.com",
    "4111 1111 1111 1111",
    "DE89 3704 0044 0532 0130 00",
    "+49 30 901820",
    "AKIAIOSFODNN7EXAMPLE",
    "password: xK9!mQ2z",
    "ghp_" + "a1B2" * 9,
    PRIVATE_KEY,
)


def both(text: str) -> tuple[Finding, ...]:
    return (*find_personal(text), *find_secrets(text))


def everything() -> tuple[Detector, ...]:
    return in_windows(find_personal), in_windows(find_secrets)


@given(st.sampled_from(SECRETS), st.integers(-700, 700), st.integers(0, 2))
def test_law_what_a_text_holds_is_found_wherever_a_window_ends(secret: str, offset: int, piece: int) -> None:
    at = max(0, piece * PIECE + offset)
    text = f"{PROSE[:at]} {secret} {PROSE[at:]}"
    start, end = at + 1, at + 1 + len(secret)
    found = [f for find in everything() for f in find(text)]
    assert any(f.start <= start + 10 and f.end >= end - 1 for f in found)
    assert all(start <= f.start < end or f in (*find_personal(PROSE), *find_secrets(PROSE)) for f in found)


@pytest.mark.parametrize("name", TEXTS)
def test_no_call_gets_much_more_than_a_piece_and_all_calls_few_times_the_text(name: str) -> None:
    lengths: list[int] = []

    def find(text: str) -> tuple[Finding, ...]:
        lengths.append(len(text))
        return find_secrets(text) if len(lengths) < 3 else ()

    size = 20 * PIECE
    in_windows(find)(TEXTS[name](size))
    assert max(lengths) <= 3 * PIECE
    assert sum(lengths) <= 2 * size


def test_what_always_goes_on_costs_a_few_times_the_text() -> None:
    lengths: list[int] = []

    def find(text: str) -> tuple[Finding, ...]:
        lengths.append(len(text))
        return (Finding(0, len(text), "ALL"),)

    size = 50 * PIECE
    in_windows(find)("x" * size)
    assert sum(lengths) <= 4 * size


@pytest.mark.parametrize("what", ["personal_data", "secrets"])
@pytest.mark.parametrize("name", ["prose", "ligatures", "a.", "base64"])
def test_detectors_ask_the_deadline_and_stop_at_a_checkpoint(what: str, name: str) -> None:
    class Stopped(BaseException):
        pass

    asked: list[int] = []

    def check() -> None:
        asked.append(1)
        if len(asked) == 5:
            raise Stopped

    find = detector(RuleConfig(name="r", detector=what), parts=None)  # type: ignore[arg-type]
    text = TEXTS[name](10 * PIECE)
    with checked_by(check), pytest.raises(Stopped):
        find(text)
    with limited(-1), pytest.raises(OutOfTimeError):
        find(text)


def test_a_short_text_is_searched_at_once() -> None:
    calls: list[str] = []

    def find(text: str) -> tuple[Finding, ...]:
        calls.append(text)
        return tuple(Finding(m.start(), m.end(), "X") for m in re.finditer("x", text))

    assert in_windows(find)("axbx") == (Finding(1, 2, "X"), Finding(3, 4, "X"))
    assert calls == ["axbx"]
