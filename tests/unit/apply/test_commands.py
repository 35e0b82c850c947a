"""The commands, with policies in a file and Kong's configuration in another."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tenantgate.cli import build_parser
from tenantgate.errors import ConfigError
from tenantgate.policy.sqlite_store import SqlitePolicyStore

TENANTS = """
version: 1
tenants:
  - id: acme
    api_keys: ['${{ env "DECK_ACME" }}']
    models: [{provider: mock, model: mock-small}]
"""
MORE = TENANTS + "  - id: globex\n    api_keys: ['${{ env \"DECK_GLOBEX\" }}']\n"


class Site:
    """A folder with a tenants.yaml, a kong.yml and a file of policies."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "tenants.yaml"
        self.kong = folder / "kong.yml"
        self.policies = folder / "policy.sqlite"

    def run(self, *argv: str, text: str = TENANTS) -> int:
        self.file.write_text(text)
        command, *rest = argv
        common = ["-f", str(self.file), "--policy-path", str(self.policies)]
        args = build_parser().parse_args([command, *common, *rest])
        status: int = args.func(args)
        return status

    def apply(self, *argv: str, text: str = TENANTS) -> int:
        return self.run("apply", "--kong-config", str(self.kong), *argv, text=text)

    def keys(self) -> set[str]:
        return {k["key"] for k in json.loads(self.kong.read_text())["keyauth_credentials"]}

    def store(self) -> SqlitePolicyStore:
        return SqlitePolicyStore(self.policies)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("DECK_ACME", "key-acme")
    monkeypatch.setenv("DECK_GLOBEX", "key-globex")
    return Site(tmp_path)


def test_apply_says_what_changes_and_brings_it_into_force(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert site.apply() == 0
    assert site.apply("-m", "a new tenant", text=MORE) == 0
    out = capsys.readouterr().out
    assert "globex: added" in out
    assert "+ 1 consumer, 1 key" in out
    assert "key-globex" not in out
    assert site.keys() == {f"key-{t}" for t in ("acme", "globex")}
    assert {"acme", "globex"} <= dict(site.store().records()).keys()


def test_a_dry_run_changes_nothing_and_says_by_its_status_whether_it_would(site: Site) -> None:
    assert site.apply("--dry-run") == 1
    assert not site.kong.exists()
    assert site.store().head() == 0
    site.apply()
    assert site.apply("--dry-run") == 0


def test_a_file_with_problems_changes_nothing(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.apply()
    with pytest.raises(ConfigError, match="1 problem; nothing was changed"):
        site.apply(text=TENANTS.replace("provider: mock", "provider: mok"))
    assert "provider" in capsys.readouterr().err
    assert site.store().head() == 1


def test_a_key_that_the_environment_lacks_changes_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DECK_GLOBEX")
    with pytest.raises(ConfigError, match="the environment has no DECK_GLOBEX"):
        site.apply(text=MORE)
    assert site.store().head() == 0


def test_a_tenant_that_goes_leaves_no_cache_to_another(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.apply(text=MORE)
    capsys.readouterr()
    site.apply()
    assert "`tenantgate cache purge --tenant globex`" in capsys.readouterr().out


def test_an_earlier_version_comes_back(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.apply("-m", "first")
    before = dict(site.store().records())
    site.apply("-m", "second", text=MORE)
    capsys.readouterr()
    assert site.run("rollback", "1") == 0
    out = capsys.readouterr().out
    assert "globex: removed" in out
    assert "version 3 has the policies of version 1" in out
    assert "consumers and keys in Kong stay as they are" in out
    assert "by tenants.yaml" not in out
    assert dict(site.store().records()) == before
    assert site.run("rollback", "1") == 0
    assert "already" in capsys.readouterr().out
    assert site.run("history", "-n", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["3", "2"]
    assert lines[0].endswith("rollback to version 1")


def test_a_rollback_says_whose_keys_dont_fit_it(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.apply()
    site.apply(text=MORE)
    site.run("rollback", "1", text=MORE)
    assert (
        "by tenants.yaml: no policy but a key: requests with it get 403: globex\n" in capsys.readouterr().out
    )
    site.run("rollback", "2")
    assert "by tenants.yaml: a policy but no key: nobody can use it: globex\n" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["history", "status"])
def test_a_store_without_a_version_says_what_to_do(
    site: Site, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert site.run(command) == 0
    assert "no version yet: `tenantgate apply`" in capsys.readouterr().out


def test_status_names_each_node_and_says_whether_one_is_behind(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.apply()
    store = site.store()
    store.acknowledge("n1", "7", 1, time.time())
    store.acknowledge("n2", "8", 0, 1.0)
    assert site.run("status") == 0
    out = capsys.readouterr().out
    assert "n1  version 1  1 process\n" in out
    assert "n2  version 0  not running" in out
    store.acknowledge("n1", "7", 0, time.time())
    assert site.run("status") == 1
    capsys.readouterr()
    store.acknowledge("n1", "7", 5, time.time())
    assert site.run("status") == 1
    assert "the store was emptied or replaced" in capsys.readouterr().out
    store.acknowledge("n1", "7", 1, time.time(), ["acme"])
    assert site.run("status") == 1
    assert "acme: not in force on n1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        ([], "needs a Kong"),
        (["--reload", "x", "--admin-url", "http://127.0.0.1:1"], "--reload: needs --kong-config"),
        (["--state-dir", "/no/such"], "no gateway of `tenantgate up` runs there"),
    ],
)
def test_wrong_arguments(site: Site, argv: list[str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        site.run("apply", *argv)


def test_entities_of_ones_own_are_in_the_file_and_follow_their_own_file(site: Site, tmp_path: Path) -> None:
    own = tmp_path / "own.yml"
    own.write_text(
        "_format_version: '3.0'\nservices: [{name: shop, url: 'http://shop'}]\nupstreams: [{name: u}]\n"
    )
    assert site.apply("--into", str(own)) == 0
    assert site.keys() == {"key-acme"}
    tree = json.loads(site.kong.read_text())
    assert [s["name"] for s in tree["services"]] == ["shop", "llm"]
    assert tree["upstreams"] == [{"name": "u"}]
    assert site.apply("--into", str(own), "--dry-run") == 0
    own.write_text(own.read_text().replace("http://shop", "http://other"))
    assert site.apply("--into", str(own), "--dry-run") == 1
    site.apply("--into", str(own))
    assert "http://other" in site.kong.read_text()
    assert site.apply("--into", str(own), text=MORE) == 0
    assert site.keys() == {"key-acme", "key-globex"}
    with pytest.raises(ConfigError, match="--into: needs --kong-config"):
        site.run("apply", "--into", str(own))
