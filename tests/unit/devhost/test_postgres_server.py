"""Kong's settings for the database of a URL."""

from __future__ import annotations

import pytest

from tenantgate.devhost.postgres_server import kong_settings
from tenantgate.errors import ConfigError

pytest.importorskip("psycopg")
PLAIN = {
    "KONG_PG_HOST": "db.test",
    "KONG_PG_PORT": "5432",
    "KONG_PG_USER": "kong",
    "KONG_PG_DATABASE": "gateway",
}


@pytest.mark.parametrize(
    ("url", "more"),
    [
        ("postgresql://kong@db.test/gateway", {}),
        ("postgres://kong:p%40ss@db.test:6432/gateway", {"KONG_PG_PORT": "6432", "KONG_PG_PASSWORD": "p@ss"}),
        ("postgresql://kong@db.test/gateway?sslmode=prefer", {}),
        (
            "postgresql://kong@db.test/gateway?sslmode=verify-full",
            {"KONG_PG_SSL": "on", "KONG_PG_SSL_REQUIRED": "on", "KONG_PG_SSL_VERIFY": "on"},
        ),
    ],
)
def test_a_url_as_kong_has_it(url: str, more: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    assert kong_settings(url) == PLAIN | more


def test_a_password_needs_no_place_on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "hidden")
    assert kong_settings("postgresql://kong@db.test/gateway") == PLAIN | {"KONG_PG_PASSWORD": "hidden"}


def test_a_url_that_cant_be_read_is_never_quoted() -> None:
    with pytest.raises(ConfigError) as caught:
        kong_settings("postgresql://kong:hidden@db.test/gateway?nonsense=1")
    assert "hidden" not in str(caught.value)
