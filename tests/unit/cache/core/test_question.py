"""What is asked, and what is never asked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tenantgate.cache.core.cache_control import BypassReason, CacheControl
from tenantgate.cache.core.partition import Keys, entry_name, partition_of
from tenantgate.cache.core.question import Cacheable, cacheable, question_of
from tenantgate.llm.chat import ChatRequest, Refusal, parse_request
from tenantgate.store.sealing import TenantSealer
from tenantgate.tenant import TenantId

ACME = TenantId("acme")


def parsed(**body: Any) -> ChatRequest:
    request = parse_request(json.dumps({"messages": [{"role": "user", "content": "q"}], **body}).encode())
    assert isinstance(request, ChatRequest)
    return request


@pytest.mark.parametrize(
    ("tenant", "body", "control", "reason"),
    [
        (None, {}, "", BypassReason.NO_TENANT),
        (ACME, {"n": 2}, "", BypassReason.SEVERAL_CHOICES),
        (ACME, {"n": 0}, "", BypassReason.SEVERAL_CHOICES),
        (ACME, {"n": 2.0}, "", BypassReason.SEVERAL_CHOICES),
        (ACME, {}, "no-store", BypassReason.NO_STORE),
        (ACME, {}, "only-if-cached, No-Store", BypassReason.NO_STORE),
    ],
)
def test_what_is_never_looked_up(
    tenant: TenantId | None, body: dict[str, Any], control: str, reason: BypassReason
) -> None:
    assert cacheable(parsed(**body), tenant, (control,)) is reason


@pytest.mark.parametrize("tenant", [None, ACME])
def test_nor_is_what_is_no_chat(tenant: TenantId | None) -> None:
    refusal = parse_request(b"{")
    assert isinstance(refusal, Refusal)
    assert cacheable(refusal, tenant, ()) is BypassReason.NOT_CHAT


@pytest.mark.parametrize("body", [{}, {"n": 1}, {"stream": True}])
def test_all_else_is(body: dict[str, Any]) -> None:
    request = parsed(**body)
    assert cacheable(request, ACME, ("max-age=5",)) == Cacheable(ACME, request, CacheControl(max_age=5))


@pytest.mark.parametrize("tenant", [ACME, TenantId("globex"), TenantId("a:b")])
def test_a_question_has_its_tenants_keys_and_its_own_name(tenant: TenantId) -> None:
    sealer, asked = TenantSealer("k" * 32, tenant), Cacheable(tenant, parsed(), CacheControl())
    partition = partition_of(tenant, "n", asked.request, sealer)
    question = question_of(asked, partition, sealer)
    assert (question.keys, question.text, question.partition) == (Keys(tenant), "q", partition)
    assert question.name == entry_name(partition, sealer)
