"""The commands, with policies in a file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tenantgate.cli import build_parser
from tenantgate.config import load_text
from tenantgate.config.compile import compile_records
from tenantgate.errors import ConfigError, EdgeError
from tenantgate.policy.core.ports import PublishNote
from tenantgate.policy.sqlite_store import SqlitePolicyStore

TENANTS = """
version: 1
gateway: {egress: {allow: %s}}
tenants:
  - id: acme
    api_keys: ['${{ env "DECK_ACME" }}']
    egress: {allow: [api.openai.com]}
    models: [{provider: openai, model: m, credential: '{vault://env/K}'}]
"""
BOTH = TENANTS % "[api.openai.com, api.groq.com]"


class Site:
    """A folder with a tenants.yaml and a file of policies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "tenants.yaml"
        self.file.write_text(BOTH)

    def run(self, action: str, *argv: str) -> int:
        common = ["-f", str(self.file), "--policy-path", str(self.folder / "policy.sqlite")]
        args = build_parser().parse_args(["egress", action, *common, *argv])
        status: int = args.func(args)
        return status

    def publish(self, text: str, at: float) -> None:
        store = SqlitePolicyStore(self.folder / "policy.sqlite")
        note = PublishNote(author="a", message="", at=at)
        store.publish(dict(compile_records(load_text(text))), expected=store.head(), note=note)
        store.close()

    def log(self, name: str, *records: dict[str, Any]) -> str:
        text = "".join(json.dumps(record) + "\n" for record in records).encode()
        path = self.folder / name
        path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
        return str(path)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def record(host: str, *, tenant: str = "acme", time: str = "2027-01-15T08:00:00Z") -> dict[str, Any]:
    tries = [{"target": "openai/m", "outcome": "ok", "ms": 5, "host": host, "address": "20.51.1.1:443"}]
    return {"id": "r1", "time": time, "tenant": tenant, "request": {}, "attempts": 1, "tries": tries}


T = 1_800_000_000.0


def test_a_list_as_rules(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--namespace", "gateways", "--selector", "app=kong,tier=edge", "--name", "out")
    assert site.run("render", "--format", "cilium", *options) == 0
    text = capsys.readouterr().out
    assert text.startswith("# Written by `tenantgate egress render --format cilium`")
    (policy,) = yaml.safe_load_all(text)
    assert policy["metadata"] == {"name": "out", "namespace": "gateways"}
    assert policy["spec"]["endpointSelector"] == {"matchLabels": {"app": "kong", "tier": "edge"}}
    names = [n["matchName"] for rule in policy["spec"]["egress"] for n in rule.get("toFQDNs", ())]
    assert names == ["api.openai.com", "api.groq.com"]


@pytest.mark.parametrize("form", ["kubernetes", "istio", "proxy"])
def test_the_other_formats(site: Site, capsys: pytest.CaptureFixture[str], form: str) -> None:
    assert site.run("render", "--format", form) == 0
    text = capsys.readouterr().out
    assert len(text.splitlines()) > 10
    assert form == "proxy" or all(yaml.safe_load_all(text))


def test_what_can_not_be_rendered(site: Site) -> None:
    with pytest.raises(ConfigError, match="--selector app: must be LABEL=VALUE"):
        site.run("render", "--format", "cilium", "--selector", "app")
    site.file.write_text("version: 1\ntenants:\n  - {id: a, api_keys: ['${{ env \"DECK_A\" }}']}\n")
    with pytest.raises(ConfigError, match=r"gateway.egress: required"):
        site.run("render", "--format", "cilium")


def test_a_log_within_the_lists_of_its_time(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.publish(TENANTS % "[api.openai.com]", T - 5000)
    site.publish(TENANTS % "[api.openai.com, api.groq.com]", T + 5000)
    good = site.log("good.jsonl", record("api.openai.com"), {"id": "gap", "lost": 3})
    assert site.run("verify", "--log", good) == 0
    assert capsys.readouterr().err == "2 records, 1 tries, 0 not permitted\n"


def test_tries_that_the_lists_of_their_time_did_not_permit(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.publish(TENANTS % "[api.openai.com]", T - 5000)
    site.publish(BOTH, T + 5000)
    later = "2027-01-15T10:00:00Z"
    logs = [
        # For another tenant the gateway's list alone holds, but it came later.
        site.log(
            "a.jsonl",
            record("api.groq.com", tenant="other"),
            record("api.groq.com", tenant="other", time=later),
        ),
        site.log("b.jsonl.gz", record("api.groq.com", time=later)),
    ]
    assert site.run("verify", "--log", logs[0], "--log", logs[1]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "2027-01-15T08:00:00Z  other  openai/m  api.groq.com 20.51.1.1:443  r1: its host isn't in the list",
        "2027-01-15T10:00:00Z  acme  openai/m  api.groq.com 20.51.1.1:443  r1: its host isn't in the list",
    ]
    assert err == "3 records, 3 tries, 2 not permitted\n"


def test_a_time_without_a_list(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        (TENANTS % "[]")
        .replace("gateway: {egress: {allow: []}}", "")
        .replace("    egress: {allow: [api.openai.com]}\n", "")
    )
    site.publish(text, T - 5000)
    assert site.run("verify", "--log", site.log("a.jsonl", record("evil.example"))) == 0
    assert capsys.readouterr().err.endswith("0 not permitted, 1 requests at times without an egress list\n")


def test_logs_that_can_not_be_read(site: Site) -> None:
    with pytest.raises(EdgeError, match="nowhere: can't be read"):
        site.run("verify", "--log", str(site.folder / "nowhere"))
    (site.folder / "bad").write_text('{"id": 1}\n\nnonsense\n')
    with pytest.raises(ConfigError, match="bad:3: isn't an audit record"):
        site.run("verify", "--log", str(site.folder / "bad"))
