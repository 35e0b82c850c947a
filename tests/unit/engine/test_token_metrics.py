from __future__ import annotations

import pytest

from tenantgate.engine import token_metrics
from tenantgate.engine.token_metrics import count_tokens
from tenantgate.llm.token_usage import TokenUsage
from tenantgate.tenant import TenantId

TENANT = TenantId("of-token-metrics")


def counted(kind: str) -> float:
    return token_metrics._tokens.value(tenant=TENANT.slug, kind=kind)


@pytest.mark.parametrize(
    ("usage", "kinds", "uncertain"),
    [
        (None, {}, 0),
        (
            TokenUsage(input=9, output=3, cache_read=4, reasoning=2),
            {"input": 9, "output": 3, "cache_read": 4},
            0,
        ),
        (TokenUsage(output=7, estimated=True, lower_bound=True), {"output": 7, "input": 0}, 1),
    ],
)
def test_tokens_are_counted_by_kind(
    usage: TokenUsage | None, kinds: dict[str, float], uncertain: float
) -> None:
    before = {kind: counted(kind) for kind in kinds}
    doubts = token_metrics._uncertain.value(tenant=TENANT.slug, reason="lower_bound")
    count_tokens(TENANT, usage)
    assert {kind: counted(kind) - before[kind] for kind in kinds} == kinds
    assert token_metrics._uncertain.value(tenant=TENANT.slug, reason="lower_bound") - doubts == uncertain
