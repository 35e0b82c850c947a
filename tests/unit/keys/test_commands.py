"""`tenantgate keys`, with Kong's configuration in a file."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest

from tenantgate import api_keys
from tenantgate.cli import main
from tenantgate.config.names import issued_id
from tenantgate.tenant import TenantId

TENANTS = "version: 1\ntenants:\n  - id: acme\n  - {id: globex, api_keys: ['${{ env \"DECK_GLOBEX\" }}']}\n"


class Site:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file, self.kong = folder / "tenants.yaml", folder / "kong.yml"
        self.file.write_text(TENANTS)

    def apply(self) -> None:
        policies = str(self.folder / "policy.sqlite")
        given = ["-f", str(self.file), "--policy-path", policies, "--kong-config", str(self.kong)]
        assert main(["apply", *given]) == 0

    def keys(self, *argv: str, kong: bool = True) -> int:
        to = ["--kong-config", str(self.kong)] if kong else []
        return main(["keys", *argv, "-f", str(self.file), *to])

    def credentials(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(self.kong.read_text())["keyauth_credentials"]
        return found

    def uses(self, key: str, at: str = "2026-11-01T00:00:00.000Z") -> str:
        """A file with an audit record of a request with the key."""
        path = self.folder / "records.jsonl"
        record = {
            "id": "r1",
            "time": at,
            "tenant": "acme",
            "outcome": "answered",
            "key": {"id": issued_id(TenantId("acme"), api_keys.digest(key))},
        }
        path.write_text(json.dumps(record) + "\n")
        return str(path)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Site:
    monkeypatch.setenv("DECK_GLOBEX", "key-globex")
    made = Site(tmp_path)
    made.apply()
    capsys.readouterr()
    return made


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.strip()


def test_a_key_is_printed_once_and_kept_nowhere(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert site.keys("issue", "acme") == 0
    key = printed(capsys)
    assert api_keys.is_issued(key)
    assert site.keys("issue", "acme") == 0
    assert printed(capsys) == ""
    assert {c["key"] for c in site.credentials()} == {api_keys.stored(api_keys.digest(key)), "key-globex"}
    assert not [p for p in site.folder.rglob("*") if p.is_file() and key.encode() in p.read_bytes()]


def test_what_an_apply_brings_is_what_the_command_brings(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.keys("issue", "acme")
    by_command = site.kong.read_text()
    capsys.readouterr()
    site.apply()
    assert "keyauth" not in printed(capsys)
    assert json.loads(site.kong.read_text()) == json.loads(by_command)


def test_a_rotation(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.keys("issue", "acme", "--name", "ci")
    old = printed(capsys)
    assert site.keys("rotate", "acme", "--name", "ci") == 0
    new = printed(capsys)
    assert site.keys("rotate", "acme", "--name", "ci") == 0
    assert printed(capsys) == ""
    assert len(site.credentials()) == 3
    # Not before clients use it.
    assert site.keys("rotate", "acme", "--name", "ci", "--finish", "--records", site.uses(old)) == 2
    assert site.keys("rotate", "acme", "--name", "ci", "--finish", "--records", site.uses(new)) == 0
    tags = {str(c["key"]): " ".join(map(str, c["tags"])) for c in site.credentials()}  # type: ignore[call-overload]
    assert "tenantgate-until." in tags[api_keys.stored(api_keys.digest(old))]
    assert "tenantgate-until." not in tags[api_keys.stored(api_keys.digest(new))]
    # Once more changes nothing.
    before = site.kong.read_text()
    assert site.keys("rotate", "acme", "--name", "ci", "--finish") == 0
    assert site.kong.read_text() == before
    site.apply()
    assert site.kong.read_text() == before


def test_the_records_of_the_gateway_that_up_runs_are_in_its_state_folder(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.keys("issue", "acme")
    site.keys("rotate", "acme")
    up = site.folder / "up"
    assert site.keys("rotate", "acme", "--finish", "--state-dir", str(up), kong=False) == 2
    assert f"{up / 'audit'} has no spool" in capsys.readouterr().err


def test_a_revoked_key_is_gone_and_stays_gone(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.keys("issue", "acme", "--name", "a")
    site.keys("issue", "acme", "--name", "b")
    assert site.keys("revoke", "acme", "--name", "a") == 0
    assert site.keys("revoke", "acme", "--name", "a") == 0
    assert len(site.credentials()) == 2
    assert site.keys("revoke", "acme", "--all") == 0
    site.apply()
    assert [c["key"] for c in site.credentials()] == ["key-globex"]
    assert site.keys("revoke", "acme", "--name", "nobody") == 2
    capsys.readouterr()
    site.keys("list", "--dir", str(site.folder), kong=False)
    assert len(printed(capsys).splitlines()) == 1
    site.keys("list", "--gone", "--dir", str(site.folder), kong=False)
    assert printed(capsys).count(" gone ") == 2


def test_list_has_the_last_use(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.keys("issue", "acme", "--name", "a")
    key = printed(capsys)
    site.keys("issue", "acme", "--name", "b")
    capsys.readouterr()
    site.keys("list", "acme", "--records", site.uses(key), kong=False)
    _, a, b = printed(capsys).splitlines()
    assert "2026-11-01 00:00:00Z" in a
    assert "never" in b


def test_a_found_key_is_told_whose_it_is(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    site.keys("issue", "acme", "--name", "a")
    key = printed(capsys)
    for text, status in ((key, 0), (key[:-1], 1), (api_keys.made(lambda n: int(time.time()) % n), 1)):
        monkeypatch.setattr("sys.stdin", io.StringIO(text + "\n"))
        assert site.keys("find", kong=False) == status
        assert text not in "".join(capsys.readouterr()).replace(key, "") if status else True


def test_a_key_of_the_environment_may_not_look_like_an_issued_one(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = api_keys.made(lambda n: 7 % n)
    monkeypatch.setenv("DECK_GLOBEX", key)
    given = ["-f", str(site.file), "--policy-path", str(site.folder / "p"), "--kong-config", str(site.kong)]
    assert main(["apply", *given]) == 2
    said = capsys.readouterr().err
    assert "DECK_GLOBEX" in said
    assert key not in said


def test_a_tenant_that_isnt_there_gets_no_key(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert site.keys("issue", "nobody") == 2
    assert capsys.readouterr().out == ""
