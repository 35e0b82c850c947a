"""Issued keys, on a gateway that runs: each change acts at once, and nobody else's requests notice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tenantgate import api_keys
from tenantgate.cli import main
from tenantgate.devhost.client import Client

from gateway import Gateway
from support import until

pytestmark = pytest.mark.e2e
TENANTS = Path(__file__).parent / "tenants.yaml"


@pytest.fixture
def keys(gateway: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    file = tmp_path / "tenants.yaml"
    shutil.copy(TENANTS, file)
    state = json.loads((gateway.stack.secrets_file.parent / "gateway.json").read_text())

    def run(*words: str) -> str:
        capsys.readouterr()
        status = main(["keys", *words, "-f", str(file), "--admin-url", state["admin_url"]])
        said = capsys.readouterr()
        assert status == 0, said.err
        return said.out.strip()

    return run


def test_an_issued_key_opens_until_it_is_revoked(gateway: Gateway, keys: Callable[..., str]) -> None:
    url = gateway.endpoint("acme").url

    def status(key: str) -> int:
        return Client(url, key, "").chat(gateway.fresh(), model="mock-small").status

    def becomes(key: str, wanted: int) -> None:
        until(lambda: status(key), lambda got: got == wanted, what=f"a {wanted}")

    old = keys("issue", "acme", "--name", "ci")
    becomes(old, 200)
    # What Kong has opens nothing, nor does another key of the form.
    assert status(api_keys.stored(api_keys.digest(old))) == 401
    assert status(old[:-1]) == 401
    new = keys("rotate", "acme", "--name", "ci")
    becomes(new, 200)
    assert status(old) == 200
    # The time of the old one comes at once, by its tag in Kong, without a further change.
    keys("rotate", "acme", "--name", "ci", "--finish", "--unproven", "--grace", "0s")
    becomes(old, 401)
    assert status(new) == 200
    keys("revoke", "acme", "--all")
    becomes(new, 401)
    assert gateway.client("acme").chat(gateway.fresh()).status == 200
    assert gateway.client("globex").chat(gateway.fresh()).status == 200
