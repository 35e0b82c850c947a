"""The operator's commands on the gateway that runs: what the doctor finds, and what `top` and `report` show."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tenantgate import cli

from gateway import Gateway
from support import until

pytestmark = pytest.mark.e2e


def found(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> tuple[dict[tuple[str, str], str], str]:
    cli.main(
        [
            "doctor",
            "-f",
            str(gateway.stack.tenants),
            "--state-dir",
            str(gateway.stack.secrets_file.parent),
            "--json",
        ]
    )
    text = capsys.readouterr().out
    told: Any = json.loads(text)
    return {(f["check"], f["subject"]): f["severity"] for f in told["findings"]}, text


def test_the_doctor_finds_the_running_gateway_well(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gateway.client("acme").chat(gateway.fresh()).status == 200
    by_subject, text = found(gateway, capsys)
    for subject in (("kong", "status"), ("kong", "plugins"), ("kong", "settings")):
        assert by_subject[subject] == "ok", text
    assert by_subject["plugin-servers", "tenantgate"] == "ok", text
    # A Redis for development, where limits are counted, keeps no file.
    assert by_subject["redis", "gateway.redis, for the rate limits"] in ("warning", "error")
    secrets = json.loads(gateway.stack.secrets_file.read_text())
    assert not [name for name, value in secrets.items() if value in text]


def test_top_shows_the_tenant_that_asks(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    audit = str(gateway.stack.secrets_file.parent / "audit")
    assert gateway.client("acme").chat(gateway.fresh()).status == 200

    def shown() -> str:
        cli.main(["top", "--once", "--dir", audit, "--span", "3600"])
        return capsys.readouterr().out

    assert "acme" in until(shown, lambda text: "\nacme " in text, what="a record")
