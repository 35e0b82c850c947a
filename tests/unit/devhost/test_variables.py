from __future__ import annotations

import pytest

from lua_rig import exchange
from tenantgate.devhost import variables
from tenantgate.devhost.exchange import Phase


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("request_uri", "/acme/chat/completions?key=1"),
        ("uri", "/acme/chat/completions"),
        ("http_x_a", "1"),
        ("http_none", None),
        ("upstream_x_forwarded_for", "198.51.100.1, 203.0.113.7"),
        ("upstream_x_forwarded_prefix", ""),
        ("request_completion", ""),
    ],
)
def test_a_variable_is_as_in_nginx(name: str, value: str | None) -> None:
    x = exchange([("X-A", "1"), ("X-Forwarded-For", "198.51.100.1")])
    assert variables.get(x, name) == value


def test_every_variable_can_be_read() -> None:
    for name in (*variables.READ, *variables.FORWARDED):
        variables.get(exchange(), name)


@pytest.mark.parametrize(("gone", "value"), [(False, "OK"), (True, "")])
def test_a_request_is_complete_if_its_client_stayed(gone: bool, value: str) -> None:
    assert variables.get(exchange(phase=Phase.LOG, client_gone=gone), "request_completion") == value


def test_what_was_set_is_read_again() -> None:
    x = exchange()
    variables.put(x, "upstream_via", "")
    assert variables.get(x, "upstream_via") == ""


@pytest.mark.parametrize("name", ["upstream_addr", "", "ssl_cipher"])
def test_other_variables_are_unknown(name: str) -> None:
    with pytest.raises(variables.UnknownVariableError):
        variables.get(exchange(), name)


@pytest.mark.parametrize("name", ["uri", "upstream_uri", "http_x"])
def test_other_variables_cant_be_set(name: str) -> None:
    with pytest.raises(variables.UnknownVariableError):
        variables.put(exchange(), name, "x")
