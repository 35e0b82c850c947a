"""The journal's fields, in the embedded host's Lua."""

from __future__ import annotations

from typing import Any

import pytest

from lua_rig import exchange, value
from tenantgate.audit.scripts import journal
from tenantgate.devhost.exchange import Phase


def tries(table: Any) -> Any:
    x = exchange()
    x.shared = {} if table is None else {"tenantgate_log": table}
    return value(journal("X-Request-ID")["tenantgate.tries"], x, phase=Phase.LOG)


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


@pytest.mark.parametrize(
    "table", [None, {}, "text", 7, {"request": {"tenant": "acme", "credential": "oauth-1"}}]
)
def test_a_caller_without_a_consumer_is_the_engines(table: Any) -> None:
    def of(name: str) -> Any:
        x = exchange()
        x.shared = {} if table is None else {"tenantgate_log": table}
        return value(journal("X-Request-ID")[f"tenantgate.{name}"], x, phase=Phase.LOG)

    known = isinstance(table, dict) and bool(table)
    assert (of("tenant"), of("key")) == (("acme", "oauth-1") if known else (None, None))
