"""The journal's fields, in the embedded host's Lua."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from lua_rig import exchange, value
from tenantgate.audit.scripts import journal
from tenantgate.devhost.exchange import Phase

ID = "01234567-89ab-cdef-0123-456789abcdef"
TRACE = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"


def fields(shared: dict[str, Any], headers: Sequence[tuple[str, str]] = (), *, gone: bool = False) -> Any:
    """What the journal's script sets, by name."""
    x = exchange(headers, client_gone=gone)
    x.shared = shared
    assert value(journal("X-Request-ID")["tenantgate.complete"], x, phase=Phase.LOG) is not gone
    return {name: given for name, given, _ in x.serialize_values}


def tries(table: Any) -> Any:
    return fields({} if table is None else {"tenantgate_log": table}).get("tenantgate.tries")


def test_tries_are_what_the_lua_plugin_gathered_without_the_engine() -> None:
    one = {
        "target": "a/m",
        "outcome": "ok",
        "status": 200,
        "ms": 3,
        "address": "192.0.2.1:443",
        "host": "a.example",
    }
    assert tries({"tries": [{**one, "limits": {"retry-after": "7"}}, {"target": "b/m"}]}) == [
        one,
        {"target": "b/m"},
    ]


@pytest.mark.parametrize("table", [None, {}, {"tries": []}, "text", 7])
def test_a_request_without_tries_has_no_field(table: Any) -> None:
    assert tries(table) is None


@pytest.mark.parametrize("gone", [False, True])
def test_what_client_and_provider_wrote_is_left_out(gone: bool) -> None:
    found = fields({}, [("Authorization", "Bearer secret"), ("X-Other", "text")], gone=gone)
    for name in ("request.headers", "request.uri", "request.url", "request.querystring", "response.headers"):
        assert name in found
    assert [given for given in found.values() if given is not None] == []


@pytest.mark.parametrize(
    ("given", "kept"),
    [(ID, ID), (f"{ID}#12", f"{ID}#12"), (f"{ID}#", None), (f"{ID} text", None), ("any text", None)],
)
def test_ids_and_traces_are_kept_if_they_have_their_form(given: str, kept: str | None) -> None:
    assert fields({}, [("X-Request-ID", given)])["correlation_id"] == kept
    trace = TRACE if kept else given
    assert fields({}, [("traceparent", trace)]).get("tenantgate.traceparent") == (TRACE if kept else None)


def test_the_engines_texts_get_their_names() -> None:
    found = fields({"tenantgate_audit_policy": "p", "tenantgate_tenant_guardrails": "{}"})
    assert (found["tenantgate.policy"], found["tenantgate.guardrails"]) == ("p", "{}")


@pytest.mark.parametrize(
    "table", [None, {}, "text", 7, {"request": {"tenant": "acme", "credential": "oauth-1"}}]
)
def test_a_caller_without_a_consumer_is_the_engines(table: Any) -> None:
    found = fields({} if table is None else {"tenantgate_log": table})
    known = isinstance(table, dict) and bool(table)
    caller = found.get("tenantgate.tenant"), found.get("tenantgate.key")
    assert caller == (("acme", "oauth-1") if known else (None, None))
