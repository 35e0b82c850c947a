"""Exemptions, counts and events in a real Redis, and the commands over them."""

from __future__ import annotations

import importlib.util
import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tenantgate import cli
from tenantgate.arguments import until as until_when
from tenantgate.cli import build_parser
from tenantgate.devhost.redis_server import RedisServer
from tenantgate.errors import ConfigError, EdgeError, TenantgateError
from tenantgate.guard import registry as guard_registry
from tenantgate.guard.core.exemptions import Exemption
from tenantgate.guard.records import GuardRecords, new_id
from tenantgate.guard.registry import Registry
from tenantgate.guard.stored import Keys
from tenantgate.kong.testing import FakeKong
from tenantgate.paths import plugin_file
from tenantgate.store.config import RedisConfig
from tenantgate.store.redis_nodes import OneRedis, connect
from tenantgate.store.sealing import TenantSealer
from tenantgate.store.shared import Shared
from tenantgate.tenant import TenantId

from support import ROOT, until

ACME, GLOBEX = TenantId("acme"), TenantId("globex")
CANARY = "canary.person@example.com"
KEY = "key-of-the-tests-key-of-the-tests"


def keys(tenant: TenantId = ACME) -> TenantSealer:
    return TenantSealer(KEY, tenant)


def exemption(**changes: Any) -> Exemption:
    now = time.time()
    values = {
        "id": new_id(),
        "rule": "personal-data",
        "reason": "why",
        "by": "ann",
        "created": now,
        "until": now + 3600,
    }
    return Exemption(**{**values, **changes})


@pytest.fixture
def port(
    redis_server: RedisServer, store: redis.Redis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[int]:
    monkeypatch.chdir(tmp_path)  # without a tenants.yaml
    registries: Shared[Registry] = Shared(64)
    monkeypatch.setattr(guard_registry, "_EVERY_S", 0.02)
    monkeypatch.setattr(guard_registry, "_registries", registries)
    monkeypatch.setenv("TENANTGATE_REDIS_URL", f"redis://127.0.0.1:{redis_server.port}/0")
    monkeypatch.setenv("GUARD_KEY", KEY)
    monkeypatch.setenv("TENANTGATE_CACHE_KEY", KEY)
    yield redis_server.port
    for registry in registries.values():
        registry._thread.stop(10)  # what still waits must not be written into the next test's Redis
        assert not registry._thread.alive


def run(*argv: str) -> int:
    args = build_parser().parse_args(["guard", *argv])
    return int(args.func(args))


def plugin(port: int, **config: Any) -> Any:
    spec = importlib.util.spec_from_file_location("tests_guard", plugin_file("tenant-guardrails"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rules = [{"name": "personal-data", "detector": "personal_data", "mode": "block"}]
    return module.Plugin({"rules": rules, "encryption_key": KEY, "redis": {"port": port}, **config})


def status(made: Any, text: str = f"I am {CANARY}", tenant: str = "acme") -> int | None:
    body = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
    kong = FakeKong(consumer=tenant, body=body).run(made, "access")
    return kong.exit.status if kong.exit else None


def test_an_exemption_is_honoured_soon_for_its_tenant_alone_and_ends_when_revoked(
    port: int, store: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    made = plugin(port)
    assert status(made) == 400
    assert (
        run(
            "exempt",
            "--tenant",
            "acme",
            "--rule",
            "personal-data",
            "--reason",
            "test",
            "--until",
            "1h",
            "--by",
            "ann",
        )
        == 0
    )
    identifier = capsys.readouterr().out.split()[0]
    until(lambda: status(made), lambda s: s is None, what="exempted")
    assert status(made, tenant="globex") == 400
    assert run("revoke", "--tenant", "acme", identifier, "--by", "ann") == 0
    until(lambda: status(made), lambda s: s == 400, what="revoked")
    names = until(
        lambda: [e["event"] for e in GuardRecords(OneRedis(store), ACME).events()],
        lambda found: {"granted", "used", "revoked", "blocked"} <= set(found),
        what="events",
    )
    assert names.count("granted") == 1


def test_an_exemption_by_hash_covers_that_finding_only(
    port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = plugin(port)
    monkeypatch.setattr("sys.stdin", io.StringIO(CANARY + "\n"))
    assert run("hash", "--tenant", "acme", "--rule", "personal-data", "--key-env", "GUARD_KEY") == 0
    digest = capsys.readouterr().out.strip()
    run(
        "exempt",
        "--tenant",
        "acme",
        "--rule",
        "personal-data",
        "--pattern-hash",
        digest,
        "--reason",
        "r",
        "--until",
        "1h",
    )
    until(lambda: status(made), lambda s: s is None, what="exempted")
    assert status(made, f"I am {CANARY} and jane@example.com") == 400


def test_a_request_needs_a_second_person(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    made = plugin(port, approval=True)
    run(
        "request",
        "--tenant",
        "acme",
        "--rule",
        "personal-data",
        "--reason",
        "r",
        "--until",
        "1h",
        "--by",
        "ann",
    )
    identifier = capsys.readouterr().out.split()[0]
    with pytest.raises(TenantgateError, match="second person"):
        run("approve", "--tenant", "acme", identifier, "--by", "ANN")
    assert status(made) == 400
    assert run("approve", "--tenant", "acme", identifier, "--by", "bob") == 0
    until(lambda: status(made), lambda s: s is None, what="approved")
    assert run("list", "--tenant", "acme") == 0
    assert "approved by bob" in capsys.readouterr().out


def test_an_exemption_expires_by_itself_in_redis_and_in_the_process(port: int, store: redis.Redis) -> None:
    book, registry = (
        GuardRecords(OneRedis(store), ACME, keys()),
        Registry(RedisConfig(port=port), background=False),
    )
    made = exemption(created=time.time() - 10, until=time.time() + 3600)
    book.grant(made)
    registry.exemptions(ACME, keys(), approval=False)
    registry.synchronise()
    assert registry.exemptions(ACME, keys(), approval=False) == (made,)
    assert 3590 < store.ttl(Keys(ACME).exemption(made.id)) <= 3601
    registry._known[ACME] = (replace(made, until=time.time() - 1),)
    assert registry.exemptions(ACME, keys(), approval=False) == ()


Forgery = Callable[[redis.Redis, Exemption], None]


def _plain(store: redis.Redis, made: Exemption) -> None:
    store.set(Keys(ACME).exemption(made.id), made.to_json())


def _of_another_key(store: redis.Redis, made: Exemption) -> None:
    GuardRecords(OneRedis(store), ACME, TenantSealer("another key, as long as the true one", ACME)).grant(
        made
    )


def _of_another_tenant(store: redis.Redis, made: Exemption) -> None:
    GuardRecords(OneRedis(store), GLOBEX, keys(GLOBEX)).grant(made)
    store.copy(Keys(GLOBEX).exemption(made.id), Keys(ACME).exemption(made.id))


def _under_another_id(store: redis.Redis, made: Exemption) -> None:
    short = replace(made, id=new_id(), until=made.created + 60)
    GuardRecords(OneRedis(store), ACME, keys()).grant(short)
    store.copy(Keys(ACME).exemption(short.id), Keys(ACME).exemption(made.id))
    store.zrem(Keys(ACME).index, short.id)


def _altered(store: redis.Redis, made: Exemption) -> None:
    key = Keys(ACME).exemption(made.id)
    GuardRecords(OneRedis(store), ACME, keys()).grant(made)
    value = bytearray(store.get(key) or b"")
    value[len(value) // 2] ^= 1
    store.set(key, bytes(value))


def _garbage(store: redis.Redis, made: Exemption) -> None:
    store.set(Keys(ACME).exemption(made.id), b"\x01" + bytes(40))


FORGERIES = [_plain, _of_another_key, _of_another_tenant, _under_another_id, _altered, _garbage]


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
def test_an_exemption_that_the_key_did_not_seal_counts_for_nothing_and_is_reported(
    forge: Forgery,
    port: int,
    store: redis.Redis,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = exemption()
    forge(store, made)
    store.zadd(Keys(ACME).index, {made.id: made.until})
    registry = Registry(RedisConfig(port=port), background=False)
    registry.exemptions(ACME, keys(), approval=False)
    before = _reported()
    for _ in range(3):
        registry.synchronise()
    assert registry.exemptions(ACME, keys(), approval=False) == ()
    assert _reported() - before == 1
    assert [r.message for r in caplog.records].count(
        "exemptions in redis that the tenant's key didn't seal count for nothing"
    ) == 1
    assert run("list", "--tenant", "acme") == 0
    out, err = capsys.readouterr()
    assert out == "no exemptions\n"
    assert made.id in err
    assert run("revoke", "--tenant", "acme", made.id) == 0
    assert GuardRecords(OneRedis(store), ACME, keys()).unauthenticated() == ()


def _reported() -> float:
    return guard_registry._unauthenticated.value(tenant="acme")


def test_without_a_key_nothing_is_exempt_and_nothing_can_be_granted(
    port: int, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    GuardRecords(OneRedis(store), ACME, keys()).grant(exemption())
    made = plugin(port, encryption_key=None)
    for _ in range(3):
        assert status(made) == 400
    monkeypatch.delenv("TENANTGATE_CACHE_KEY")
    arguments = ("--tenant", "acme", "--rule", "personal-data", "--reason", "r", "--until", "1h")
    with pytest.raises(ConfigError, match="the environment has no TENANTGATE_CACHE_KEY"):
        run("exempt", *arguments)


def test_the_report_shows_examples_to_who_has_the_key(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    made = plugin(port, rules=[{"name": "personal-data", "detector": "personal_data"}], report_examples=3)
    assert status(made, f"Write to {CANARY} about the parcel") is None
    book = GuardRecords(connect(RedisConfig(port=port)), ACME)
    until(lambda: book.examples("personal-data"), lambda found: len(found) == 1, what="examples")
    assert run("report", "--tenant", "acme") == 0
    assert "parcel" not in capsys.readouterr().out
    assert run("report", "--tenant", "acme", "--key-env", "GUARD_KEY") == 0
    out = capsys.readouterr().out
    assert "for example: " in out
    assert "parcel" in out
    assert CANARY not in out
    assert run("report", "--tenant", "acme", "--key-env", "GUARD_KEY", "--json") == 0
    assert "parcel" in json.loads(capsys.readouterr().out)["rules"][0]["examples"][0]


def test_the_report_says_what_alerts_would_have_blocked(
    port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    made = plugin(port, rules=[{"name": "personal-data", "detector": "personal_data"}])
    for text in (CANARY, CANARY, "hello"):
        assert status(made, text) is None
    book = GuardRecords(connect(RedisConfig(port=port)), ACME)
    until(lambda: book.counts(1).get(("", "request", "all")), lambda n: n == 3, what="counts")
    assert run("report", "--tenant", "acme") == 0
    out = capsys.readouterr().out
    assert "3 requests" in out
    assert "would have blocked 2 (66.67%)" in out
    assert "`mode: block`" in out
    assert "tenantgate apply" in out
    assert "mode: block" in out


def test_no_value_in_redis_holds_a_text(port: int, store: redis.Redis) -> None:
    made = plugin(port)
    status(made)
    until(lambda: len(GuardRecords(OneRedis(store), ACME).events()), lambda n: n > 0, what="events")
    for key in store.scan_iter():
        raw = store.dump(key) or b""
        assert b"canary" not in key + raw
    assert any("hashes" in e for e in GuardRecords(OneRedis(store), ACME).events())


def test_redis_gone_keeps_what_was_known_and_costs_nothing() -> None:
    registry = Registry(RedisConfig(port=1), background=False)
    registry._known[ACME] = (exemption(),)
    registry._seen[ACME] = time.time()
    registry.count(ACME, ["a|alert|hits"])
    registry.event(ACME, {"event": "blocked"})
    with pytest.raises((redis.RedisError, OSError)):
        registry.synchronise()
    assert len(registry.exemptions(ACME, keys(), approval=False)) == 1
    assert registry._counts[ACME, "a|alert|hits"] == 1
    assert len(registry._events) == 1
    with pytest.raises(EdgeError):
        GuardRecords(OneRedis(redis.Redis(port=1, retry=Retry(NoBackoff(), 0))), ACME, keys()).exemptions()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("8h", 8 * 3600), ("30d", 30 * 86_400), ("1970-01-02", 2 * 86_400 - 1), ("1970-01-01T01:00Z", 3600)],
)
def test_until_takes_spans_dates_and_times(text: str, seconds: float) -> None:
    assert until_when(text, 0) == seconds


def test_until_refuses_anything_else() -> None:
    with pytest.raises(ConfigError):
        until_when("tomorrow", 0)


@pytest.mark.parametrize(
    ("tenant", "rule", "said"), [("suport-bot", "secrets", "suport-bot"), ("globex", "secretz", "secrets")]
)
def test_a_misspelt_tenant_or_rule_isn_t_exempted(
    tenant: str,
    rule: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
    store: redis.Redis,
    port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # fmt: off
    arguments = ["guard", "exempt", "--tenant", tenant, "--rule", rule, "--reason", "r", "--until", "1h", "--by", "me",
                 "--redis-url", f"redis://127.0.0.1:{port}"]
    # fmt: on
    monkeypatch.chdir(ROOT)  # whose tenants.yaml is the usual one
    for named in ([], ["-f", str(ROOT / "tenants.yaml")]):
        assert cli.main([*arguments, *named]) == 2
        assert said in capsys.readouterr().err
        assert store.dbsize() == 0
