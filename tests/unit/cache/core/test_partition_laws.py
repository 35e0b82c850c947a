"""The partition over random conversations: what differs anywhere never meets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.cache.core.partition import Keys, entry_name, partition_of
from tenantgate.llm.chat import ChatRequest
from tenantgate.store.sealing import TenantSealer
from tenantgate.tenant import TenantId

SECRET = "s" * 32
HOSTILE = ["a:b", "{x}", "a b", "🙂", "x" * 10_240, "a", "A", "a\n", "\x00", "~", "e:", "v:"]
TENANTS = st.sampled_from(HOSTILE) | st.text(min_size=1, max_size=12)
ROLES = st.sampled_from(["system", "user", "assistant", "developer", "tool"])
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": ROLES, "content": st.sampled_from(["", "a", "b", "a:b", '","', "[]"]) | st.text(max_size=5)}
    ),
    min_size=1,
    max_size=4,
)
REQUESTS = st.tuples(TENANTS, st.sampled_from(["", "n", "n:a", "route:x", "name:x"]), MESSAGES)


def ask(messages: Any, **parameters: Any) -> ChatRequest:
    # Of whatever types: what is refused before is a matter of its own.
    return ChatRequest({"messages": messages, **parameters}, tuple(messages))


def entry_key(tenant: str, namespace: str, messages: Any) -> str:
    who = TenantId(tenant)
    sealer = TenantSealer(SECRET, who)
    return Keys(who).entry(entry_name(partition_of(who, namespace, ask(messages), sealer), sealer))


def bucket_key(tenant: str, namespace: str, messages: Any) -> str:
    who = TenantId(tenant)
    return Keys(who).bucket(
        partition_of(who, namespace, ask(messages), TenantSealer(SECRET, who)).fingerprint
    )


@given(REQUESTS, REQUESTS)
def test_an_entry_is_shared_by_equal_requests_alone(a: Any, b: Any) -> None:
    assert (entry_key(*a) == entry_key(*b)) == (a == b)


@given(REQUESTS, REQUESTS)
def test_buckets_are_shared_by_the_same_tenant_place_and_turns_alone(a: Any, b: Any) -> None:
    same = (a[0], a[1], a[2][:-1]) == (b[0], b[1], b[2][:-1])
    assert (bucket_key(*a) == bucket_key(*b)) == same
    assert bucket_key(*a) != entry_key(*b)


NEUTRAL = [
    "stream",
    "stream_options",
    "user",
    "metadata",
    "store",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "service_tier",
]
COUNTING = [
    "model",
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "seed",
    "n",
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "parallel_tool_calls",
    "response_format",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "presence_penalty",
    "frequency_penalty",
    "reasoning_effort",
    "verbosity",
    "modalities",
    "audio",
    "prediction",
    "web_search_options",
    "top_k",
    "system",
    "thinking",
    "safety_settings",
    "of_tomorrow",
    "",
    "Stream",
    "stream ",
]


def fingerprint(**parameters: Any) -> str:
    who = TenantId("acme")
    request = ask([{"role": "user", "content": "q"}], **parameters)
    return partition_of(who, "n", request, TenantSealer(SECRET, who)).fingerprint


@pytest.mark.parametrize("name", COUNTING)
def test_each_value_of_a_parameter_has_a_partition_of_its_own(name: str) -> None:
    values = [None, True, False, 0, 1, 0.5, "1", "", [], {}, [1], {"a": 1}, {"a": [1]}]
    found = [fingerprint(), *(fingerprint(**{name: value}) for value in values)]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("name", NEUTRAL)
@pytest.mark.parametrize("value", [None, True, "x", {"include_usage": True}])
def test_neutral_parameters_share_it(name: str, value: Any) -> None:
    assert fingerprint(**{name: value}) == fingerprint()


@pytest.mark.parametrize("role", [[], {}, ["system"], 1, None])
def test_a_role_of_another_type_counts_as_a_turn(role: Any) -> None:
    who = TenantId("acme")
    sealer = TenantSealer(SECRET, who)

    def found(content: str) -> str:
        request = ask([{"role": role, "content": content}, {"role": "user", "content": "q"}])
        return partition_of(who, "n", request, sealer, ignore_system_prompts=True).fingerprint

    assert found("a") != found("b")


def test_a_system_prompt_that_comes_last_is_the_message() -> None:
    who = TenantId("acme")
    sealer = TenantSealer(SECRET, who)

    def name(content: str) -> str:
        request = ask([{"role": "user", "content": "q"}, {"role": "system", "content": content}])
        return entry_name(partition_of(who, "n", request, sealer, ignore_system_prompts=True), sealer)

    assert name("a") != name("b")


def test_what_has_been_said_does_not_show_in_a_key() -> None:
    messages = [{"role": "user", "content": "flamingo"}, {"role": "user", "content": "pelican"}]
    for key in (entry_key("acme", "heron", messages), bucket_key("acme", "heron", messages)):
        assert not any(word in key for word in ("flamingo", "pelican", "heron"))
