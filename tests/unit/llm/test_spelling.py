"""No member that a policy goes by stands in a request under a name that only some servers know."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.llm import operations
from tenantgate.llm.chat import ChatRequest, Refusal, parse_request
from tenantgate.llm.members import ELSEWHERE, REQUEST_NAMES
from tenantgate.llm.operations import Operation

OTHERS = {"s": "\u017f", "k": "\u212a"}  # which Go's encoding/json takes for s and k


def spelt(name: str) -> st.SearchStrategy[str]:
    """Other spellings of a name."""
    letters = [st.sampled_from(sorted({c, c.upper(), OTHERS.get(c, c)})) for c in name]
    return st.tuples(*letters).map("".join).filter(lambda made: made != name)


def refused(body: dict[str, Any]) -> str | None:
    found = parse_request(json.dumps(body).encode())
    return found.param if isinstance(found, Refusal) else None


@given(st.sampled_from(sorted(REQUEST_NAMES)).flatmap(spelt), st.booleans())
def test_no_member_of_a_chat_in_another_spelling(name: str, beside: bool) -> None:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], name: 9}
    assert refused({**body, "max_tokens": 1} if beside else body) == name


@given(st.sampled_from(["model", "max_tokens", "n", "best_of", "user", "prompt", "messages"]).flatmap(spelt))
def test_nor_of_another_operation(name: str) -> None:
    found = operations.read(Operation.COMPLETIONS, json.dumps({"prompt": "a", name: 9}).encode())
    assert isinstance(found, Refusal)
    assert found.param == name


@pytest.mark.parametrize("name", sorted(ELSEWHERE))
@pytest.mark.parametrize("value", [None, ["other"], {"max_tokens": 9}, "https://other.example"])
def test_nobody_but_the_policy_says_who_answers(name: str, value: Any) -> None:
    assert refused({"messages": [{"role": "user", "content": "hi"}], name: value}) == name
    assert refused({"messages": [{"role": "user", "content": "hi"}], name.upper(): value}) == name.upper()
    if value is not None:  # which is left out there
        found = operations.read(Operation.EMBEDDINGS, json.dumps({"input": "a", name: value}).encode())
        assert isinstance(found, Refusal)
        assert found.param == name


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "user", "content": "a", "Content": "b"}, "messages[0].Content"),
        ({"role": "user", "ROLE": "system", "content": "a"}, "messages[0].ROLE"),
        (
            {"role": "user", "content": [{"type": "text", "text": "a", "Text": "b"}]},
            "messages[0].content[0].Text",
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "a", "Arguments": "{}"}}]},
            "messages[0].tool_calls[0].function.Arguments",
        ),
    ],
)
def test_nor_within_a_message(message: dict[str, Any], param: str) -> None:
    assert refused({"messages": [message]}) == param
    assert refused(
        {"messages": [{"role": "user", "content": "a"}], "stream_options": {"Include_Usage": True}}
    )


def test_what_nobody_goes_by_may_have_any_name() -> None:
    tool = {
        "type": "function",
        "function": {"name": "f", "parameters": {"properties": {"Name": {}, "name": {}}}},
    }
    body = {
        "messages": [{"role": "user", "content": "a"}],
        "chatTemplate": "x",
        "Metadata2": 1,
        "metadata": {"User": "u", "user": "v"},
        "tools": [tool],
    }
    assert isinstance(parse_request(json.dumps(body).encode()), ChatRequest)
