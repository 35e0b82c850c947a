"""Health, limits and switches decide where requests go, on the whole gateway; records tell of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tenantgate.cli import main
from tenantgate.devhost.client import Reply
from tenantgate.policy.core.ports import PublishNote
from tenantgate.policy.core.records import ModelPolicy, Routing, Target, read_record, write_record
from tenantgate.policy.sqlite_store import SqlitePolicyStore

from gateway import Gateway
from support import until, whole_lines

pytestmark = pytest.mark.e2e

TENANT = "failing"
NAMES = ("a", "b", "c")


def models(gateway: Gateway, stages: Any) -> Iterator[ModelPolicy]:
    """Models whose targets are one provider each, on ports of their own; no two models share a deployment."""
    ports = {name: gateway.stack.mock_port() for name in NAMES}
    for model in ("smart", "drained", "limited", "out", "waiting"):
        yield ModelPolicy(
            provider="tenantgate",
            model=model,
            aliases=(f"{model}-alias",),
            route_name=f"llm.tenantgate.{model}.{TENANT}",
            targets=tuple(
                Target(
                    provider="openai",
                    name=f"{model}-{name}",
                    id=f"{name}/{model}",
                    options={
                        "upstream_url": f"http://127.0.0.1:{ports[name]}/v1/chat/completions",
                        "input_cost": 1000.0 * (1 + NAMES.index(name)),
                        "output_cost": 10_000.0 * (1 + NAMES.index(name)),
                    },
                    header_name="Authorization",
                    credential=f"key-{name}",
                    bearer=True,
                )
                for name in NAMES
            ),
            routing=Routing(fail_timeout_ms=300_000),
            stages=stages,
            log_payloads=True,
        )


@dataclass(frozen=True)
class World:
    gateway: Gateway

    def ask(self, model: str, prompt: str | None = None, **more: Any) -> Reply:
        return self.gateway.endpoint(TENANT).chat(prompt or self.gateway.fresh(), model=model, **more)

    def failing(self, model: str, *names: str, **how: Any) -> Any:
        return self.gateway.stack.mock_rules(*({"model": f"{model}-{name}", **how} for name in names))

    def record(self, reply: Reply) -> dict[str, Any]:
        path = self.gateway.stack.audit_dir / "audit.jsonl"
        wanted = reply.headers["x-kong-request-id"]

        def found() -> list[dict[str, Any]]:
            return [
                r
                for line in whole_lines(path)
                if (r := json.loads(line)).get("request", {}).get("id") == wanted
            ]

        (one,) = until(found, bool, what="record")
        return one


@pytest.fixture(scope="module")
def world(gateway: Gateway) -> Iterator[World]:
    state = gateway.stack.secrets_file.parent
    options = json.loads((state / "gateway.json").read_text())["options"]
    store = SqlitePolicyStore(Path(options["policy_path"]))
    records = dict(store.records(only=[TENANT, "acme"]))
    stages = read_record("acme", records["acme"]).models[0].stages
    kept = {name: stages[name] for name in ("audit", "cache")}
    policy = replace(read_record(TENANT, records[TENANT]), models=tuple(models(gateway, kept)))

    def publish(record: bytes) -> None:
        store.publish({TENANT: record}, expected=store.head(), note=PublishNote("a test", "", time.time()))

    publish(write_record(policy))
    made = World(gateway)
    until(lambda: made.ask("smart").status, lambda status: status == 200, what="status")
    yield made
    publish(records[TENANT])
    store.close()


def target_of(reply: Reply) -> tuple[int, str | None, str | None]:
    return reply.status, reply.headers.get("x-tenantgate-target"), reply.headers.get("x-tenantgate-tries")


def test_a_failing_provider_is_left_out_and_records_tell_who_answered(world: World) -> None:
    prompt = world.gateway.fresh()
    first = world.ask("smart", prompt)
    assert target_of(first) == (200, "a/smart", "1")
    with world.failing("smart", "a", status=500):
        replies = [world.ask("smart") for _ in range(3)]
        assert {target_of(reply) for reply in replies} == {(200, "b/smart", "2")}
        until(lambda: target_of(world.ask("smart")), lambda t: t == (200, "b/smart", "1"), what="target")
        stream = world.ask("smart-alias", stream=True)
        assert target_of(stream)[:2] == (200, "b/smart")
    # Whoever answers, it is the same model: its answers are found in the cache.
    assert (
        until(lambda: world.ask("smart", prompt), lambda r: r.cache == "Hit", what="cache").text == first.text
    )
    record = world.record(replies[0])
    assert [(t["target"], t["outcome"], t["status"]) for t in record["tries"]] == [
        ("a/smart", "http_500", 500),
        ("b/smart", "ok", 200),
    ]
    assert all(t["host"] == "127.0.0.1" and t["address"].startswith("127.0.0.1:") for t in record["tries"])
    assert (record["response"]["target"], record["response"]["upstream_status"]) == ("b/smart", "500, 200")
    assert (record["outcome"], record["attempts"]) == ("answered", 2)
    assert record["gen_ai"]["request"]["model"] == "smart-b"
    usage = record["gen_ai"]["usage"]
    assert record["cost"]["amount"] == pytest.approx(
        (usage["input_tokens"] * 2000 + usage["output_tokens"] * 20_000) / 1e6
    )
    assert world.record(stream)["response"]["target"] == "b/smart"


def test_a_provider_near_its_limit_is_spared(world: World) -> None:
    told = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "5m"}
    with world.failing("limited", "a", headers=told):
        assert target_of(world.ask("limited")) == (200, "a/limited", "1")
        until(lambda: target_of(world.ask("limited")), lambda t: t == (200, "b/limited", "1"), what="target")


def test_where_all_are_left_out_one_is_tried_and_the_client_told_when_to_come_back(world: World) -> None:
    with world.failing("out", *NAMES, status=500):
        assert {target_of(world.ask("out")) for _ in range(3)} == {(500, "c/out", "3")}
        reply = until(lambda: world.ask("out"), lambda r: "retry-after" in r.headers, what="header")
        # The engine's other process may not have heard of it yet.
        stream = until(lambda: world.ask("out", stream=True), lambda r: r.status != 500, what="a refusal")
        assert (stream.status, stream.json) == (503, reply.json)
    assert reply.json["error"]["code"] == "service_unavailable"
    assert target_of(reply) == (503, reply.headers["x-tenantgate-target"], "1")
    assert 200 <= int(reply.headers["retry-after"]) <= 300
    answered = world.ask("out")  # which tried it, too: it is back
    assert (answered.status, answered.headers["x-tenantgate-tries"], "retry-after" in answered.headers) == (
        200, "1", False,
    )  # fmt: skip


def test_providers_that_ask_to_wait_are_the_clients_503(world: World) -> None:
    with world.failing("waiting", *NAMES, status=429, headers={"Retry-After": "40"}):
        assert target_of(world.ask("waiting")) == (429, "c/waiting", "3")
        reply = until(lambda: world.ask("waiting"), lambda r: r.status == 503, what="status")
    assert 1 <= int(reply.headers["retry-after"]) <= 40
    assert reply.json["error"]["code"] == "service_unavailable"
    record = world.record(reply)
    assert (record["verdicts"]["routing"], "tries" in record) == ({"why": "all_out"}, False)


def test_the_switch(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TENANTGATE_CACHE_KEY", world.gateway.stack.environ["TENANTGATE_CACHE_KEY"])
    monkeypatch.setenv("TENANTGATE_REDIS_URL", world.gateway.stack.redis_url)

    def run(*args: str) -> str:
        assert main(["providers", *args]) == 0
        return capsys.readouterr().out

    def goes_to(target: str) -> None:
        until(lambda: target_of(world.ask("drained"))[:2], lambda t: t == (200, target), what="target")

    goes_to("a/drained")
    known = world.gateway.fresh()
    until(lambda: world.ask("drained", known), lambda r: r.cache == "Hit", what="cache")
    began = time.monotonic()
    run("drain", "a", "--reason", "outage", "--by", "ann", "--until", "1h", "--tenant", TENANT)
    goes_to("b/drained")
    assert time.monotonic() - began < 10
    run("drain", "b/drained", "--reason", "slow", "--by", "ann")
    run("drain", "c", "--reason", "slow", "--by", "ann")
    reply = until(lambda: world.ask("drained"), lambda r: r.status == 503, what="status")
    assert reply.headers["retry-after"].isdecimal()
    assert world.record(reply)["verdicts"]["routing"] == {"why": "drained"}
    assert "drained: b/drained until restored, by ann: slow" in run("status")
    for scope in ("a", "b", "c"):
        run("restore", scope)
    goes_to("a/drained")
    run("drain", "all", "--reason", "outage", "--by", "ann", "--tenant", TENANT)
    until(lambda: world.ask("drained").status, lambda status: status == 503, what="status")
    assert world.ask("drained", known).cache == "Hit", "all that the gateway serves then comes from its cache"
    run("restore", "all")
    goes_to("a/drained")
    assert run("status").startswith("drained") is False
