"""Transformations in the engine: what goes upstream, and what the stages read."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from scripted_engine import BLOCK, access, ask, model, packed, plugin
from tenantgate.engine.core.tables import DECISION

MESSAGES = {"path": "/v1/messages"}


def decided(request: dict[str, Any], **transform: Any) -> dict[str, Any]:
    made = model(stages={"transform": transform})
    return dict(access(plugin(made), request).shared[DECISION])


def sent(request: dict[str, Any], **transform: Any) -> dict[str, Any]:
    return dict(json.loads(decided(request, **transform)["body"]))


def test_parameters_and_the_end_user_are_changed_on_their_way_up() -> None:
    body = sent(
        packed(ask(temperature=2, user="jane", seed=7, stream=True)),
        defaults={"max_tokens": 100},
        maximum={"temperature": 0.5},
        end_user="pseudonym",
    )
    assert body["user"].startswith("tg-")
    assert (body["temperature"], body["max_completion_tokens"]) == (0.5, 100)
    assert (body["seed"], body["stream"]) == (7, True)


def test_a_request_that_is_as_it_should_be_goes_as_it_came() -> None:
    body = json.dumps(ask(temperature=0.5), separators=(",", ":")).encode()
    assert "body" not in decided(packed(body), maximum={"temperature": 1})


@pytest.mark.parametrize("stream", [False, True])
def test_the_system_prompts_beginning_is_before_the_clients(stream: bool) -> None:
    body = sent(packed(ask(stream=stream)), system_prefix="Be kind.")
    assert body["messages"] == [{"role": "system", "content": "Be kind."}, *ask()["messages"]]


def test_guardrails_judge_what_is_the_clients_alone() -> None:
    # Made up as a key would be.
    key = "AKIA" + "QWERTYUIOPASDFGH"
    transform = {"system_prefix": f"The key is {key}."}
    kong = access(plugin(model(stages={"transform": transform, "guardrails": BLOCK})), packed(ask()))
    assert key in json.loads(kong.shared[DECISION]["body"])["messages"][0]["content"]
    refused = access(
        plugin(model(stages={"transform": transform, "guardrails": BLOCK})), packed(ask(text=key))
    )
    assert "target" not in refused.shared[DECISION]


def test_anthropics_format_is_changed_alike() -> None:
    native = replace(model().targets[0], provider="anthropic")
    request = {"model": "gpt-4o-mini", "max_tokens": 900, "messages": [{"role": "user", "content": "hello"}]}
    request |= {"metadata": {"user_id": "jane"}, "system": "Be short."}
    stages = {
        "transform": {"maximum": {"max_tokens": 50}, "end_user": "pseudonym", "system_prefix": "Be kind."}
    }
    for targets in (model().targets, (native,)):
        kong = access(plugin(model(targets=targets, stages=stages)), packed(request, **MESSAGES))
        body = json.loads(kong.shared[DECISION]["body"])
        assert {body.get("max_tokens"), body.get("max_completion_tokens")} == {50, None}
        assert body["user"].startswith("tg-")
        assert "jane" not in json.dumps(body)
        content = body["messages"][0]["content"]
        text = content if isinstance(content, str) else "\n\n".join(part["text"] for part in content)
        assert text == "Be kind.\n\nBe short."


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/v1/completions", {"prompt": "hello", "max_tokens": 900}, {"max_tokens": 50, "n": 1, "user": True}),
        ("/v1/completions", {"prompt": "hello"}, {"max_tokens": 50, "user": True}),
        ("/v1/images/generations", {"prompt": "hello", "n": 9}, {"n": 1, "user": True, "max_tokens": None}),
        ("/v1/embeddings", {"input": "hello"}, {"user": True, "max_tokens": None, "n": None}),
    ],
)
def test_other_operations_get_what_they_know(
    path: str, body: dict[str, Any], expected: dict[str, Any]
) -> None:
    request = packed({"model": "gpt-4o-mini", **body}, path=path)
    made = sent(request, maximum={"max_tokens": 50, "n": 1}, end_user="pseudonym", system_prefix="Be kind.")
    for name, value in expected.items():
        if value is True:
            assert name in made
        elif name != "n" or "n" in body:
            assert made.get(name) == value
    assert "Be kind." not in json.dumps(made)


def test_headers_of_a_model_stand_in_place_of_the_gateways() -> None:
    assert decided(packed(ask()), upstream_headers=["anthropic-beta"])["keep_headers"] == ["anthropic-beta"]
    assert "keep_headers" not in decided(packed(ask()))


def test_a_changed_request_costs_no_further_call() -> None:
    made = model(stages={"transform": {"end_user": "none", "system_prefix": "Be kind."}})
    assert access(plugin(made), packed(ask(user="jane"))).methods() == ["ctx.shared.get", "ctx.shared.set"]
