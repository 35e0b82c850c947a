"""The beginning of the system prompt."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.transform.core.prompt import prefixed

TEXT = st.text(max_size=5)
CONTENT = TEXT | st.none() | st.lists(st.builds(lambda t: {"type": "text", "text": t}, TEXT), max_size=2)
ROLES = st.sampled_from(["system", "developer", "user", "assistant"])
MESSAGES = st.lists(
    st.builds(lambda r, c: {"role": r, "content": c, "name": "x"}, ROLES, CONTENT), min_size=1, max_size=3
)


def said(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part["text"] for part in content)
    return content or ""


@given(MESSAGES, st.text(min_size=1, max_size=5))
def test_the_prefix_comes_first_once_and_nothing_is_lost(messages: Any, prefix: str) -> None:
    made = prefixed(messages, prefix)
    assert prefixed(made, prefix) == made
    assert made[0]["role"] in ("system", "developer")
    assert said(made[0]["content"]).startswith(prefix)
    rest = made[1:]
    if messages[0]["role"] in ("system", "developer"):
        assert said(made[0]["content"]).endswith(said(messages[0]["content"]))
        assert made[0].keys() == messages[0].keys()
        messages = messages[1:]
    assert list(rest) == messages


@pytest.mark.parametrize(
    ("messages", "made"),
    [
        (
            [{"role": "user", "content": "hi"}],
            [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"}],
        ),
        (
            [{"role": "system", "content": "Be short."}],
            [{"role": "system", "content": "Be kind.\n\nBe short."}],
        ),
    ],
)
def test_examples(messages: Any, made: Any) -> None:
    assert list(prefixed(messages, "Be kind.")) == made
