"""Kong's settings for the database of a URL."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenantgate.devhost.postgres_server import kong_settings, with_password
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
def test_a_url_as_kong_has_it(url: str, more: dict[str, str]) -> None:
    assert kong_settings(url) == PLAIN | more


def test_a_url_that_cant_be_read_is_never_quoted() -> None:
    with pytest.raises(ConfigError) as caught:
        kong_settings("postgresql://kong:hidden@db.test/gateway?nonsense=1")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "environ", "line", "password"),
    [
        ("postgresql://kong@127.0.0.1:1/gateway", {}, "", None),
        ("postgresql://kong@127.0.0.1:1/gateway", {"PGPASSWORD": "a b/@:%"}, "", "a b/@:%"),
        ("postgresql://127.0.0.1:1/gateway", {"PGUSER": "kong", "PGPASSWORD": "p"}, "", "p"),
        ("postgresql://kong@127.0.0.1:1/gateway?sslmode=require", {}, "*:1:gateway:kong:filed", "filed"),
        ("postgresql://kong@127.0.0.1:1/gateway", {}, "*:1:gateway:other:filed", None),
        ("postgresql://kong@127.0.0.1:1/gateway", {"PGPASSWORD": "p"}, "*:*:*:*:filed", "p"),
        ("postgresql://kong:own@127.0.0.1:1/gateway", {"PGPASSWORD": "p"}, "", "own"),
    ],
)
def test_a_password_comes_from_where_libpq_has_it(
    url: str,
    environ: dict[str, str],
    line: str,
    password: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passwords = tmp_path / "pgpass"
    passwords.write_text(f"{line}\n")
    passwords.chmod(0o600)
    for name in ("PGUSER", "PGPASSWORD"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"PGPASSFILE": str(passwords), **environ}.items():
        monkeypatch.setenv(name, value)
    found = kong_settings(with_password(url))
    assert (found["KONG_PG_USER"], found.get("KONG_PG_PASSWORD")) == ("kong", password)
    assert found["KONG_PG_DATABASE"] == "gateway"
    assert ("KONG_PG_SSL" in found) == ("sslmode" in url)
