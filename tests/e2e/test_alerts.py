"""What a budget has reached is an event in its tenant's audit log, once, and a raise another."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tenantgate.audit.core.chain import verify
from tenantgate.cli import main

from gateway import Gateway
from support import until, whole_lines

pytestmark = pytest.mark.e2e


def test_each_step_of_a_budget_is_an_event_of_its_tenant(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    path = gateway.stack.audit_dir / "audit.jsonl"
    client = gateway.endpoint("alerted")

    def events() -> list[dict[str, Any]]:
        records = [json.loads(line) for line in whole_lines(path)]
        return [r["event"] for r in records if "event" in r and r["tenant"] == "alerted"]

    def steps() -> list[str]:
        return [f"{e['type']} {e['at']}" for e in events() if "at" in e]

    with gateway.redis() as store:
        store.flushall()
    first = client.chat(gateway.fresh(), model="mock-small")
    assert first.status == 200, first.json
    until(steps, lambda found: found == ["threshold_crossed 20%"], what="an alert")
    statuses = [client.chat(gateway.fresh(), model="mock-small").status for _ in range(3)]
    assert statuses[-1] == 429
    until(
        steps,
        lambda found: found == ["threshold_crossed 20%", "budget_crossed 100%"],
        what="the alert of the end",
    )

    site = ["-f", str(gateway.stack.tenants), "--state-dir", str(gateway.stack.secrets_file.parent)]
    assert (
        main(
            ["budget", "raise", "alerted", "month", "--by", "1", "--until", "1h", "--reason", "a test", *site]
        )
        == 0
    )
    assert client.chat(gateway.fresh(), model="mock-small").status == 200
    both = {"budget_raised", "budget_recovered"}
    kinds = until(
        lambda: [e["type"] for e in events()],
        lambda found: both <= {*found},
        what="the raise and the recovery",
    )
    assert all(kinds.count(kind) == 1 for kind in both)
    capsys.readouterr()
    assert main(["budget", "status", "alerted", "--json", *site]) == 0
    (month,) = json.loads(capsys.readouterr().out)
    assert (month["limit"], month["raised_by"]) == ("1.05", "1")
    assert verify(whole_lines(path)).sound
