"""`Host` and `Origin` against DNS rebinding."""

from __future__ import annotations

import pytest

from tenantgate.config.names import entity_id
from tenantgate.mcp.core.access import is_allowed_host, is_allowed_origin, principals_of


@pytest.mark.parametrize(
    ("host", "hosts", "allowed"),
    [
        ("anything.example:8000", (), True),
        ("gw.example", ("gw.example",), True),
        ("GW.example:8443", ("gw.example",), True),
        ("gw.example:8443", ("gw.example:8443",), True),
        ("gw.example:1", ("gw.example:8443",), False),
        ("evil.example", ("gw.example",), False),
        ("gw.example.evil.example", ("gw.example",), False),
        ("[::1]:8000", ("::1",), True),
        ("[", ("gw.example",), False),
        ("", ("gw.example",), False),
    ],
)
def test_hosts(host: str, hosts: tuple[str, ...], allowed: bool) -> None:
    assert is_allowed_host(host, hosts) is allowed


@pytest.mark.parametrize(
    ("origin", "host", "origins", "allowed"),
    [
        ("https://app.example", "gw.example", ("https://app.example",), True),
        ("https://APP.example/", "gw.example", ("https://app.example",), True),
        ("https://app.example", "gw.example", ("*",), True),
        ("https://evil.example", "gw.example", ("https://app.example",), False),
        ("https://evil.example", "gw.example", (), False),
        ("http://localhost:6274", "127.0.0.1:8000", (), True),
        ("http://[::1]:6274", "localhost", (), True),
        ("http://localhost:6274", "gw.example", (), False),
        ("http://evil.example", "localhost:8000", (), False),
        ("null", "localhost", (), False),
        ("http://[", "localhost", (), False),
    ],
)
def test_origins(origin: str, host: str, origins: tuple[str, ...], allowed: bool) -> None:
    assert is_allowed_origin(origin, host, origins) is allowed


def test_a_scope_is_no_key() -> None:
    key = entity_id("keyauth_credentials", "tenant_acme:KEY")
    assert principals_of("oauth-1", "acme", {"tools.read", key}) == {"oauth-1", "acme", "tools.read"}
    assert principals_of(key, "acme", None) == {key, "acme"}
