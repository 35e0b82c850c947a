"""Four times the text costs about four times the steps, for every stage and every family of costly texts.

Steps are lines of Python that run; what an engine does within one call is bounded by `tenantgate.pii.core.windows`,
and by expressions that can't go back.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from tenantgate.audit.core.content import RawContent
from tenantgate.audit.core.redaction import Policy, redact
from tenantgate.bench.hostile import BODIES, TEXTS, request
from tenantgate.cache.core.text_parts import read as read_wording
from tenantgate.guard.core.passages import of_message
from tenantgate.llm import chat
from tenantgate.pii.core import find_personal, find_secrets, normalise
from tenantgate.pii.core.windows import in_windows

SMALL = 1000
TIMES = 4
MOST = 6.0  # times the steps; sixteen would be quadratic

Stage = Callable[[bytes], object]


def of_text(run: Callable[[str], object]) -> Stage:
    return lambda body: run(str(json.loads(body)["messages"][-1]["content"]))


def of_body(run: Callable[[Any], object]) -> Stage:
    def stage(body: bytes) -> object:
        parsed = chat.parse_request(body)
        return run(parsed.body) if isinstance(parsed, chat.ChatRequest) else None

    return stage


TEXT_STAGES: dict[str, Stage] = {
    "normalise": of_text(normalise),
    "personal_data": of_text(in_windows(find_personal)),
    "secrets": of_text(in_windows(find_secrets)),
    "wording": of_text(read_wording),
    "audit redaction": lambda body: redact(RawContent(body, len(body)), Policy(key=b"k"), names=None),
}
BODY_STAGES: dict[str, Stage] = {
    "reading": chat.parse_request,
    "passages": of_body(of_message),
    "audit redaction": TEXT_STAGES["audit redaction"],
}


def steps(stage: Stage, body: bytes) -> int:
    """Lines of Python that `stage` runs."""
    count = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        stage(body)
    finally:
        sys.settrace(before)
    return count


def is_linear(stage: Stage, body: Callable[[int], bytes], small: int = SMALL) -> None:
    few, many = (steps(stage, body(size)) for size in (small, small * TIMES))
    assert many <= few * MOST + 1000


@pytest.mark.parametrize("name", TEXT_STAGES)
@pytest.mark.parametrize("family", TEXTS)
def test_texts_cost_in_proportion(name: str, family: str) -> None:
    is_linear(TEXT_STAGES[name], lambda size: request(TEXTS[family](size)))


@pytest.mark.parametrize("name", BODY_STAGES)
@pytest.mark.parametrize("family", BODIES)
def test_bodies_cost_in_proportion(name: str, family: str) -> None:
    is_linear(BODY_STAGES[name], BODIES[family], small=4 * SMALL)  # from where bounds on nesting are asked


def test_a_quadratic_stage_is_seen() -> None:
    def quadratic(text: str) -> None:
        for _ in text:
            for _ in text[::50]:
                pass

    with pytest.raises(AssertionError):
        is_linear(of_text(quadratic), lambda size: request("a" * size))
