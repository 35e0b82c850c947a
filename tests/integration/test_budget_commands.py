"""The commands `tenantgate budget`, with policies in a file and counters in a real Redis."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from tenantgate.cli import build_parser
from tenantgate.config import load_text
from tenantgate.config.compile import compile_records
from tenantgate.devhost.redis_server import RedisServer
from tenantgate.errors import ConfigError
from tenantgate.limits.alert_store import AlertStore
from tenantgate.limits.alerts import Alerts
from tenantgate.limits.core.keys import counter_name, raises_key, window_key
from tenantgate.limits.core.ledger import Claim, Reservation, Room
from tenantgate.limits.core.raises import read_raise
from tenantgate.limits.core.reading import rules_of
from tenantgate.limits.core.rules import Rule
from tenantgate.limits.core.windows import window_at
from tenantgate.limits.redis_ledger import RedisLedger
from tenantgate.policy.core.ports import PublishNote
from tenantgate.policy.core.records import read_record
from tenantgate.policy.sqlite_store import SqlitePolicyStore
from tenantgate.store.config import RedisConfig
from tenantgate.store.redis_nodes import connect
from tenantgate.tenant import TenantId

TENANTS = """
version: 1
tenants:
  - id: acme
    api_keys: ['${{ env "DECK_ACME" }}']
    models: [{provider: openai, model: gpt-4o-mini, credential: '{vault://env/K}'}]
    token_limits: [{name: tpm, limit: 10000000, window: 1m}]
    budgets:
      - {name: month, max_budget: 500, timezone: Europe/Berlin, steps: [{at: 80%, do: notify}]}
      - {name: each, max_budget: 5, budget_duration: 1d, per: key}
  - id: bravo
    api_keys: ['${{ env "DECK_BRAVO" }}']
    models: [{provider: openai, model: gpt-4o-mini, credential: '{vault://env/K}'}]
"""
ACME = TenantId("acme")
DOLLAR = 1_000_000_000


class Site:
    """A folder with a tenants.yaml, its policies in force, and a Redis."""

    def __init__(self, folder: Path, port: int, store: redis.Redis) -> None:
        self.folder, self.store, self.port = folder, store, port
        self.file = folder / "tenants.yaml"
        self.file.write_text(TENANTS)
        records = compile_records(load_text(TENANTS))
        policies = SqlitePolicyStore(folder / "policy.sqlite")
        policies.publish(
            dict(records), expected=policies.head(), note=PublishNote(author="a", message="", at=1.0)
        )
        policies.close()
        self.rules = {rule.name: rule for rule in rules_of(read_record("acme", records["acme"]))}

    def run(self, *argv: str) -> int:
        common = ["-f", str(self.file)]
        if argv[0] != "simulate":
            common += ["--policy-path", str(self.folder / "policy.sqlite")]
            common += ["--redis-url", f"redis://127.0.0.1:{self.port}/0"]
        args = build_parser().parse_args(["budget", *argv, *common])
        status: int = args.func(args)
        return status

    def spend(self, rule: Rule, used: int, *, held: int = 0, subject: str = "") -> None:
        start_ms, _ = window_at(rule.window, int(time.time() * 1000))
        key = window_key(ACME, counter_name(rule, subject), rule.window, start_ms)
        self.store.hset(key, mapping={"u": used + held, "h": held, "xc": used // 8, "xl": used // 8})

    def most(self, rule: Rule) -> int:
        """The limit by which the ledger goes."""
        ledger = RedisLedger(connect(RedisConfig(port=self.port, timeout_ms=2000)))
        claim = Claim(
            counter=counter_name(rule, ""), counted=rule.counted, most=rule.most, window=rule.window, fixed=0
        )
        asked = Reservation(
            tenant=ACME,
            id=str(time.monotonic_ns()),
            claims=(claim,),
            worst_tokens=0,
            expected_tokens=0,
            lifetime_ms=10,
        )
        return ledger.reserve(asked).rooms[0].most


@pytest.fixture
def site(tmp_path: Path, redis_server: RedisServer, store: redis.Redis) -> Site:
    return Site(tmp_path, redis_server.port, store)


def rows(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_status_tells_spent_and_held_apart(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.spend(site.rules["month"], 400 * DOLLAR, held=50 * DOLLAR)
    for subject, used in (("a", 1), ("b", 3), ("c", 2)):
        site.spend(site.rules["each"], used * DOLLAR, subject=subject)
    assert site.run("status", "--json", "--most", "2") == 0
    month, *each = rows(capsys)
    assert {
        k: month[k] for k in ("tenant", "budget", "limit", "spent", "uncertain", "held", "left", "unit")
    } == {
        "tenant": "acme",
        "budget": "month",
        "limit": "500",
        "spent": "400",
        "uncertain": "100",
        "held": "50",
        "left": "50",
        "unit": "USD",
    }
    assert month["steps"] == [
        {"at": "80%", "do": "notify", "reached": True},
        {"at": "100%", "do": "block", "reached": False},
    ]
    assert [(row["subject"], row["spent"]) for row in each] == [("b", "3"), ("c", "2")]


def test_status_is_a_table(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.spend(site.rules["month"], 500 * DOLLAR)
    assert site.run("status", "acme") == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["TENANT", "BUDGET", "SUBJECT", "SPENT"]
    assert "used up" in line
    assert "80% notify (reached) 100% block (reached)" in line
    assert site.run("status", "bravo") == 0
    assert capsys.readouterr().out == "no budget is in force\n"


def test_a_raise_holds_for_the_next_request_until_it_ends(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    month = site.rules["month"]
    assert site.most(month) == 500 * DOLLAR
    assert site.run("raise", "acme", "month", "--by", "200.5", "--until", "8h", "--reason", "a launch") == 0
    assert site.most(month) == 700 * DOLLAR + DOLLAR // 2
    capsys.readouterr()
    assert site.run("raises", "--json") == 0
    (found,) = rows(capsys)
    assert (found["tenant"], found["budget"], found["by"]) == ("acme", "month", "200.5")
    assert site.run("status", "--json") == 0
    assert [(r["limit"], r["raised_by"]) for r in rows(capsys)] == [("700.5", "200.5")]
    assert site.run("lower", "acme", "month", "--reason", "over") == 0
    assert site.most(month) == 500 * DOLLAR
    assert site.run("lower", "acme", "month", "--reason", "over") == 1
    capsys.readouterr()
    assert site.run("raises") == 0
    assert capsys.readouterr().out == "no raise is in force\n"


def test_a_raise_is_an_event_of_the_tenant_and_takes_alerts_back(site: Site) -> None:
    told: list[tuple[str, dict[str, Any]]] = []

    class Log:
        def write(self, tenant: TenantId, identifier: str, time_ms: int, values: Any) -> None:
            del identifier, time_ms
            told.append((str(tenant), dict(values)))

    alerts = Alerts(AlertStore(connect(RedisConfig(port=site.port, timeout_ms=2000))))
    alerts.stop(5)
    alerts.use(Log())
    month = site.rules["month"]
    site.spend(month, 450 * DOLLAR)
    alerts.seen(
        ACME,
        month,
        "",
        Room(450 * DOLLAR, 0, month.most, window_at(month.window, int(time.time() * 1000))[1]),
        month.window,
    )
    alerts.look()
    site.run(
        "raise", "acme", "month", "--by", "500", "--until", "8h", "--reason", "a launch", "--who", "jane"
    )
    alerts.look_at_due()
    kinds = [values["type"] for _, values in told if values["type"] != "projected_limit_exceeded"]
    assert kinds == ["threshold_crossed", "budget_raised", "budget_recovered"]
    tenant, raised = next(e for e in told if e[1].get("who") == "jane")
    assert (tenant, raised["by"], raised["reason"], raised["unit"]) == ("acme", "500", "a launch", "USD")


def test_one_key_s_budget_is_raised_by_its_id(site: Site) -> None:
    site.run("raise", "acme", "each", "--subject", "key-1", "--by", "1", "--until", "1d", "--reason", "r")
    found = {k: read_raise(v) for k, v in site.store.hgetall(raises_key(ACME)).items()}
    assert [name.decode() for name in found] == [counter_name(site.rules["each"], "key-1")]


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (("nobody", "month", "--by", "1", "--until", "1d"), "TENANT"),
        (("acme", "week", "--by", "1", "--until", "1d"), "it has: tpm, month, each"),
        (("acme", "month", "--by", "-1", "--until", "1d"), "--by"),
        (("acme", "month", "--by", "much", "--until", "1d"), "--by"),
        (("acme", "month", "--by", "inf", "--until", "1d"), "--by"),
        (("acme", "tpm", "--by", "1.5", "--until", "1d"), "whole number of tokens"),
        (("acme", "month", "--by", "1", "--until", "2020-01-01"), "--until"),
        (("acme", "month", "--by", "1", "--until", "soon"), "--until"),
        (("acme", "each", "--by", "1", "--until", "1d"), "--subject"),
        (("acme", "month", "--subject", "k", "--by", "1", "--until", "1d"), "--subject"),
        (("acme", "month", "--by", "1", "--until", "1d", "--reason", "a\nb"), "--reason"),
    ],
)
def test_what_is_no_raise(site: Site, argv: tuple[str, ...], problem: str) -> None:
    reason = () if "--reason" in argv else ("--reason", "r")
    given = [a for a in argv if a != "-1"]
    if "-1" in argv:
        given[given.index("--by")] = "--by=-1"
    with pytest.raises(ConfigError, match=problem):
        site.run("raise", *given, *reason)
    assert not site.store.exists(raises_key(ACME))


def test_simulate_says_who_would_have_been_blocked(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    records = [
        {
            "id": f"r{n}",
            "tenant": "acme",
            "time": f"2026-11-0{1 + n % 2}T1{n // 20}:{n % 20 + 10}:00.000Z",
            "outcome": "answered",
            "route": {"name": "llm.openai.gpt-4o-mini.acme"},
            "gen_ai": {"usage": {"input_tokens": 1000, "output_tokens": 500}},
            "cost": {"amount": 15.0, "exact": "15"},
        }
        for n in range(40)
    ]
    event = {"id": "e", "tenant": "acme", "time": "2026-11-01T00:00:00Z", "event": {"type": "budget_crossed"}}
    path = site.folder / "audit.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in [*records, event, records[0]]))
    assert site.run("simulate", str(path), "--tenant", "acme") == 0
    out = capsys.readouterr().out
    assert "40 requests, from 2026-11-01T10:10:00Z" in out
    assert "acme, month: would have been blocked on 1 day, 6 requests, from 12:19 on" in out
    assert "of 40 requests no record tells the key" in out
    assert site.run("simulate", str(path), "--json") == 0
    month = next(row for row in rows(capsys) if row["budget"] == "month")
    assert (month["blocked"], month["requests"], month["estimated"]) == (6, 40, 0)
    path.write_text("no record\n")
    with pytest.raises(ConfigError, match="audit record"):
        site.run("simulate", str(path))


def test_the_file_of_a_simulation_may_have_mcp_servers(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    api = {
        "openapi": "3.1.0",
        "info": {"title": "a", "version": "1"},
        "paths": {"/a": {"get": {"operationId": "a", "responses": {"200": {"description": "ok"}}}}},
    }
    (site.folder / "api.json").write_text(json.dumps(api))
    server = "    mcp: [{name: s, openapi: api.json, upstream: 'https://api.example', tools: [{name: a}]}]\n"
    site.file.write_text(TENANTS.replace("    token_limits:", f"{server}    token_limits:"))
    path = site.folder / "audit.jsonl"
    path.write_text("")
    assert site.run("simulate", str(path)) == 0
    assert "0 requests" in capsys.readouterr().out


def test_a_cost_that_no_record_tells_is_that_of_the_file_s_prices(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    record = {
        "id": "r",
        "tenant": "acme",
        "time": "2026-11-01T10:00:00.000Z",
        "outcome": "answered",
        "route": {"name": "llm.openai.gpt-4o-mini.acme"},
        "gen_ai": {"usage": {"input_tokens": 1_000_000, "output_tokens": 1_000_000}},
    }
    path = site.folder / "audit.jsonl"
    path.write_text(json.dumps(record) + "\n")
    assert site.run("simulate", str(path), "--json") == 0
    month = next(row for row in rows(capsys) if row["budget"] == "month")
    assert month["most_in_a_window"] == "0.75"  # $0.15 and $0.60 a million
