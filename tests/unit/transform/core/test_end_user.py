"""Whom a request names to the provider."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tenantgate.transform.core.end_user import named

BODIES = st.dictionaries(
    st.sampled_from(["user", "safety_identifier", "model", "metadata"]), st.text(max_size=3) | st.none()
)


@given(BODIES, st.text(min_size=1, max_size=3) | st.none())
def test_the_clients_word_is_gone_and_all_else_is_there(body: Any, name: str | None) -> None:
    made = named(body, name)
    assert named(made, name) is made
    assert made.get("user") == name
    assert made.get("safety_identifier") in (None, name)
    others = {"model", "metadata"}
    assert {k: v for k, v in made.items() if k in others} == {k: v for k, v in body.items() if k in others}
