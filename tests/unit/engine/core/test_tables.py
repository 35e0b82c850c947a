"""Tables between Kong and the engine: whatever comes, reading it doesn't raise."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tenantgate.engine.core.tables import PackedLog, PackedRequest
from tenantgate.llm.token_usage import TokenUsage
from tenantgate.tenant import TenantId

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.binary(), inner, max_size=3),
    max_leaves=6,
)
REQUEST = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("tenant", "credential", "id", "method", "path", "captures", "headers", "body"), ANY
    ),
)


@given(ANY | REQUEST)
def test_any_request_table(table: Any) -> None:
    found = PackedRequest.of(table)
    if found is not None:
        assert isinstance(found.tenant, TenantId)
        assert isinstance(found.body, bytes)


@given(
    ANY
    | st.fixed_dictionaries(
        {"request": REQUEST},
        optional=dict.fromkeys(
            ("state", "shared", "usage", "ends", "ends_dropped", "recalled", "sent", "body_size"), ANY
        ),
    )
)
def test_any_log_table(table: Any) -> None:
    found = PackedLog.of(table)
    if found is not None:
        assert isinstance(found.tenant, TenantId)
        assert isinstance(found.status, int)


def test_the_usage_of_a_reply() -> None:
    told = {
        "format": b"openai",
        "stream": True,
        "complete": True,
        b"counts": {"prompt_tokens": 9, b"prompt_tokens_details": {b"cached_tokens": 4}},
    }
    found = PackedLog.of({"request": {"tenant": "acme"}, "usage": told})
    assert found is not None
    assert found.usage == TokenUsage(input=9, cache_read=4)


@given(st.binary())
def test_a_body_keeps_its_bytes(raw: bytes) -> None:
    as_kong_packs = raw.decode("utf-8", "surrogateescape")
    for body in (raw, as_kong_packs):
        found = PackedRequest.of({"tenant": "acme", "body": body})
        assert found is not None
        assert found.body == raw
