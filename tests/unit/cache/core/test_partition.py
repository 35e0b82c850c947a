"""Laws of the partition: nothing that may change an answer is shared, and no two tenants meet."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.cache.core.partition import Keys, Partition, encode, entry_name, partition_of
from tenantgate.llm.chat import ChatRequest, parse_request
from tenantgate.store.sealing import TenantSealer
from tenantgate.tenant import TenantId

KEY = "k" * 32
HOSTILE = [
    "a:b",
    "{x}",
    "a b",
    "\U0001f980",
    "x" * 10_240,
    "*",
    "a}:{b",
    "\n",
    "acme",
    "ACME",
    "acme ",
    "é",
    "é",
]
TENANTS = st.sampled_from(HOSTILE) | st.text(min_size=1, max_size=60)


def parsed(body: dict[str, Any]) -> ChatRequest:
    request = parse_request(json.dumps(body).encode())
    assert isinstance(request, ChatRequest)
    return request


BODY: dict[str, Any] = {
    "model": "m",
    "temperature": 0.5,
    "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "What is Oslo like?"},
        {"role": "assistant", "content": "Cold."},
        {"role": "user", "content": "And in summer?"},
    ],
}


def of(body: dict[str, Any], tenant: str = "acme", namespace: str = "n", **how: Any) -> tuple[Partition, str]:
    who = TenantId(tenant)
    sealer = TenantSealer(KEY, who)
    partition = partition_of(who, namespace, parsed(body), sealer, **how)
    return partition, entry_name(partition, sealer)


def every_key(tenant: str, namespace: str, body: dict[str, Any]) -> set[str]:
    partition, name = of(body, tenant, namespace)
    keys = Keys(TenantId(tenant))
    return {keys.entry(name), keys.bucket(partition.fingerprint), keys.index, keys.sizes}


@given(TENANTS, TENANTS, st.sampled_from(HOSTILE), st.sampled_from(HOSTILE))
def test_two_tenants_share_no_key_and_no_slot(a: str, b: str, first: str, second: str) -> None:
    mine, yours = every_key(a, first, BODY), every_key(b, second, BODY)
    if a == b:
        return
    assert not mine & yours
    # What is between the first braces is what a Redis Cluster hashes; and no tenant's keys begin another's.
    assert {k[k.index("{") : k.index("}") + 1] for k in mine | yours} == {
        f"{{{TenantId(a).slug}}}",
        f"{{{TenantId(b).slug}}}",
    }
    assert not any(k.startswith(Keys(TenantId(b)).base) for k in mine)


@pytest.mark.parametrize("tenant", HOSTILE)
def test_keys_are_short_plain_ascii(tenant: str) -> None:
    for key in every_key(tenant, tenant, BODY):
        assert key.isascii()
        assert key.isprintable()
        assert " " not in key
        assert len(key) < 200
        assert key.count("{") == key.count("}") == 1


@given(st.lists(st.binary(max_size=6), max_size=5), st.lists(st.binary(max_size=6), max_size=5))
def test_parts_in_one_text_stay_apart(a: list[bytes], b: list[bytes]) -> None:
    assert (encode(a) == encode(b)) == (a == b)


def changed(**change: Any) -> dict[str, Any]:
    return {**BODY, **change}


def with_message(index: int, **change: Any) -> dict[str, Any]:
    messages = [dict(m) for m in BODY["messages"]]
    messages[index].update(change)
    return changed(messages=messages)


@pytest.mark.parametrize(
    "body",
    [
        changed(model="m2"),
        changed(temperature=0.6),
        changed(max_tokens=5),
        changed(seed=1),
        changed(response_format={"type": "json_object"}),
        changed(tools=[{"type": "function", "function": {"name": "f"}}]),
        changed(a_parameter_of_tomorrow=1),
        with_message(0, content="be verbose"),
        with_message(0, role="developer"),
        with_message(1, content="What is Rome like?"),
        with_message(2, content="Warm."),
        with_message(1, name="ann"),
        changed(messages=BODY["messages"][1:]),
        changed(messages=[BODY["messages"][-1]]),
    ],
)
def test_what_may_change_an_answer_makes_another_partition(body: dict[str, Any]) -> None:
    assert of(body)[0].fingerprint != of(BODY)[0].fingerprint


@pytest.mark.parametrize(
    "body",
    [
        changed(stream=True),
        changed(stream_options={"include_usage": True}),
        changed(user="u-1"),
        changed(metadata={"a": "b"}),
        dict(reversed(BODY.items())),
    ],
)
def test_what_is_only_delivery_or_booking_changes_nothing(body: dict[str, Any]) -> None:
    assert of(body) == of(BODY)


@pytest.mark.parametrize(
    "change",
    [
        {"content": "And in winter?"},
        {"content": [{"type": "image_url", "image_url": {"url": "data:1"}}]},
        {"content": [{"type": "image_url", "image_url": {"url": "data:2"}}]},
        {"name": "ann"},
    ],
)
def test_the_last_message_makes_another_entry_of_the_same_partition(change: dict[str, Any]) -> None:
    body = with_message(-1, **change)
    (partition, name), (mine, my_name) = of(body), of(BODY)
    assert partition.fingerprint == mine.fingerprint
    assert name != my_name


def test_namespaces_and_keys_keep_apart() -> None:
    assert of(BODY, namespace="a")[1] != of(BODY, namespace="b")[1]
    who = TenantId("acme")
    other = TenantSealer("another key of the operator", who)
    assert partition_of(who, "n", parsed(BODY), other).fingerprint != of(BODY)[0].fingerprint


def test_system_prompts_can_be_left_out_but_not_the_conversation() -> None:
    def short(body: dict[str, Any]) -> str:
        return of(body, ignore_system_prompts=True)[0].fingerprint

    assert short(with_message(0, content="be verbose")) == short(BODY)
    assert short(with_message(1, content="What is Rome like?")) != short(BODY)
    assert short(changed(temperature=0.6)) != short(BODY)


def test_a_role_can_not_be_slipped_into_a_text() -> None:
    one = changed(
        messages=[{"role": "user", "content": 'a"},{"role":"user","content":"b'}, BODY["messages"][-1]]
    )
    two = changed(
        messages=[{"role": "user", "content": "a"}, {"role": "user", "content": "b"}, BODY["messages"][-1]]
    )
    assert of(one)[0].fingerprint != of(two)[0].fingerprint
