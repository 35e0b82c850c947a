"""Kong's log lines: what is told, and that nothing else gets on."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_rig import journal_line, kong_record
from tenantgate.audit.core.journal import (
    UNKNOWN_TENANT,
    JournalLine,
    Try,
    parse_line,
    plain_verdict,
    route_parts,
    split_records,
)
from tenantgate.audit.core.record import Outcome, outcome_of
from tenantgate.config.names import route_name
from tenantgate.tenant import TenantId


def line(**changes: Any) -> JournalLine:
    found = parse_line(journal_line(1, **changes))
    assert found is not None
    return found


@pytest.mark.parametrize("tenant", ["acme", "a:b", "{x}", "a b", "\U0001f980", "a.b.c", "~", "x" * 300])
@pytest.mark.parametrize("model", ["gpt-4o", "a.b.c", "meta/llama 3"])
def test_a_route_s_name_tells_provider_model_and_tenant(tenant: str, model: str) -> None:
    assert route_parts(route_name(provider="openai", model=model, tenant=tenant)) == ("openai", model, tenant)


def test_whose_the_request_is() -> None:
    assert line(consumer={"id": "c", "custom_id": "other"}).tenant == TenantId("other")
    assert line(tenant=None).tenant == TenantId("acme")
    assert line(tenant=None, route={"name": "some.route"}).tenant == UNKNOWN_TENANT
    assert line(tenant=None, route=None).tenant == UNKNOWN_TENANT
    assert line(consumer={"id": "c"}).tenant == TenantId("acme")
    of_token = {"tenant": "a b\n\U0001f980", "key": "oauth-1"}
    found = line(tenant=None, route={"name": "mcp-oauth.endpoint"}, tenantgate=of_token)
    assert (found.tenant, found.credential_id, found.notes) == (TenantId("a b\n\U0001f980"), "oauth-1", {})
    assert line(consumer={"id": "c", "custom_id": "other"}, tenantgate=of_token).tenant == TenantId("other")


def test_the_engine_s_name_of_the_route_goes_before_kong_s() -> None:
    name = route_name(provider="groq", model="llama", tenant="a b")
    found = line(route={"id": "r", "name": "llm"}, tenantgate={"route": name, "policy": "p"}, ai={})
    assert (found.route_id, found.route_name, found.policy) == ("r", name, "p")
    assert (found.provider, found.model, found.notes) == ("groq", "llama", {})
    assert line().policy == ""
    hostile = line(route={"id": "r", "name": "llm"}, tenantgate={"route": "a\nb", "policy": '{"a":1}'})
    assert (hostile.route_name, hostile.policy) == ("llm", "")


def test_what_a_plugin_before_ai_proxy_answered_has_the_route_s_names() -> None:
    ai = {
        "proxy": {
            "meta": {"provider_name": "UNSPECIFIED", "request_model": "UNSPECIFIED"},
            "usage": {"prompt_tokens": 0},
        }
    }
    found = line(ai=ai)
    assert (found.provider, found.model, found.tokens) == ("openai", "gpt-4o", None)


def test_nobody_bills_the_tokens_of_an_error() -> None:
    found = line(response__status=503)
    assert (found.tokens, found.usage) == (None, None)


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({}, Outcome.ANSWERED),
        ({"tenantgate__cache_status": "Hit", "source": "kong"}, Outcome.CACHED),
        ({"tenantgate__cache_status": "Hit"}, Outcome.ANSWERED),
        ({"source": "kong", "tries": []}, Outcome.CACHED),
        ({"source": "kong", "tries": [], "route__name": "llm.models", "ai": {}}, Outcome.ANSWERED),
        (
            {"response__status": 400, "source": "kong", "tenantgate__guardrails": '{"action":"block"}'},
            Outcome.BLOCKED,
        ),
        ({"response__status": 400, "tenantgate__response_guardrails": '{"action":"block"}'}, Outcome.BLOCKED),
        ({"response__status": 401, "source": "kong"}, Outcome.UNAUTHORIZED),
        ({"response__status": 403, "source": "kong"}, Outcome.UNAUTHORIZED),
        ({"response__status": 429, "source": "kong"}, Outcome.RATE_LIMITED),
        ({"response__status": 413, "source": "kong"}, Outcome.REFUSED),
        ({"response__status": 429}, Outcome.UPSTREAM_ERROR),
        ({"response__status": 500}, Outcome.UPSTREAM_ERROR),
        ({"response__status": 502, "source": "kong"}, Outcome.UPSTREAM_ERROR),
        ({"response__status": 503, "source": "kong", "tries": []}, Outcome.GATEWAY_ERROR),
        ({"response__status": 499, "source": "kong"}, Outcome.CLIENT_GONE),
        ({"tenantgate__complete": False}, Outcome.CLIENT_GONE),
        ({"tenantgate__complete": True}, Outcome.ANSWERED),
    ],
)
def test_what_became_of_a_request(changes: dict[str, Any], outcome: Outcome) -> None:
    assert outcome_of(line(**changes)) is outcome


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (
            '{"action":"mask","rules":{"pii":{"mode":"mask","kinds":{"EMAIL_ADDRESS":2},"score":0.98}}}',
            {
                "action": "mask",
                "rules": {"pii": {"mode": "mask", "kinds": {"EMAIL_ADDRESS": 2}, "score": 0.98}},
            },
        ),
        ('{"status":"miss","token":"abc"}', {"status": "miss"}),
        ('{"a":"two\\nlines","b":[1,{"c":{"d":{"e":1}}}]}', {"a": None, "b": [1, {"c": {"d": None}}]}),
        ("[]", None),
        ("x", None),
        (3, None),
        ('{"a":"' + "x" * 20_001 + '"}', None),
    ],
)
def test_of_a_verdict_only_plain_values_get_on(text: Any, verdict: Any) -> None:
    assert plain_verdict(text) == verdict


def test_what_is_not_plain_is_left_out() -> None:
    hostile = "jane.roe@example.org\n<script>"
    found = line(
        request__method=hostile,
        source=hostile,
        client_ip=hostile,
        upstream_status=hostile,
        request__id=hostile,
        ai__proxy__meta__request_model=hostile,
        tenantgate__x=hostile,
        correlation_id="4111111111111111",
        route__id=hostile,
        authenticated_entity={"id": hostile, "key": hostile},
        tenantgate__end_user=hostile,
    )
    assert "jane" not in repr(found)
    assert found.correlation_id is None
    assert found.notes == {"cache_status": "Miss"}


def test_the_tries_of_a_request() -> None:
    first = {
        "target": "openai/gpt-4o",
        "outcome": "http_503",
        "status": 503,
        "ms": 12,
        "address": "[2001:db8::1]:443",
    }
    found = line(
        tenantgate__tries=[{**first, "host": "api.openai.com"}, {"target": "azure/gpt-4o#2", "outcome": "ok"}]
    )
    assert found.tries == (
        Try("openai/gpt-4o", "http_503", 503, 12, "[2001:db8::1]:443", "api.openai.com"),
        Try("azure/gpt-4o#2", "ok"),
    )
    assert "tries" not in found.notes


@pytest.mark.parametrize("value", [None, "x", {}, 7, [], [None], [7, "x"]])
def test_what_is_no_list_of_tries(value: Any) -> None:
    assert line(tenantgate__tries=value).tries == ()


def test_of_a_try_only_plain_values_get_on() -> None:
    hostile = "jane.roe@example.org\n<script>"
    one = {
        "target": hostile,
        "outcome": hostile,
        "status": hostile,
        "ms": -1,
        "address": hostile,
        "host": hostile,
    }
    assert line(tenantgate__tries=[one]).tries == (Try("", "unknown"),)
    assert len(line(tenantgate__tries=[one] * 1000).tries) == 32


NAMES = st.sampled_from(sorted(kong_record(1)))
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner),
    max_leaves=8,
)


@given(ANYTHING)
def test_nothing_in_a_line_raises(value: Any) -> None:
    record = {**kong_record(1), **value} if isinstance(value, dict) else value
    parse_line(json.dumps(record).encode())


WHOLE = [journal_line(n).rstrip() for n in range(3)]


@given(
    st.lists(
        st.tuples(st.sampled_from(WHOLE), st.booleans(), st.integers(1, min(map(len, WHOLE)) - 1)),
        min_size=1,
        max_size=4,
    )
)
def test_a_whole_record_after_halves_is_found_wherever_they_were_cut(
    parts: list[tuple[bytes, bool, int]],
) -> None:
    line = b"".join(raw if whole else raw[:cut] for raw, whole, cut in parts)
    pieces = split_records(line)
    assert b"".join(pieces) == line
    found = [piece for piece in pieces if parse_line(piece) is not None]
    assert found == [raw for raw, whole, _ in parts if whole]


@given(st.binary(max_size=200))
def test_a_line_of_any_bytes_is_split_and_nothing_of_it_is_lost(raw: bytes) -> None:
    assert b"".join(split_records(raw)) == raw


def test_brackets_without_end_take_linear_work() -> None:
    assert split_records(b'{"a":' * 100_000) == [b'{"a":' * 100_000]


def test_an_integer_beyond_all_doubles_is_no_number() -> None:
    found = line(response__size=10**400, latencies__kong=10**400, ai__proxy__usage__cost=10**400)
    assert (found.response_size, "kong" in found.latencies, found.cost) == (0, False, None)
