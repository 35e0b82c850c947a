from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tenantgate import cli
from tenantgate.devhost.redis_server import RedisServer
from tenantgate.store.config import RedisConfig
from tenantgate.store.redis_rights import (
    ACL_RULES,
    check_plugins,
    check_policies,
    check_rate_limits,
    doubts,
    forgetting,
)

from support import ROOT

USER, PASSWORD = "tenantgate", "for-this-test-only"  # nothing else has it


@pytest.fixture
def acl(store: redis.Redis) -> Iterator[redis.Redis]:
    yield store
    store.execute_command("ACL", "DELUSER", USER)


def give(client: redis.Redis, *rules: str) -> None:
    client.execute_command("ACL", "SETUSER", USER, "reset", "on", f">{PASSWORD}", *rules)


@pytest.fixture
def config(redis_server: RedisServer) -> RedisConfig:
    return RedisConfig(port=redis_server.port, username=USER, password=PASSWORD)


def test_the_documented_rights_are_enough(acl: redis.Redis, config: RedisConfig) -> None:
    give(acl, *ACL_RULES.split())
    assert check_plugins(config) is None
    assert check_rate_limits(config) is None
    assert check_policies(config) is None
    assert acl.keys("ratelimit:*") == [b"ratelimit:tenantgate-check"]
    assert acl.ttl("ratelimit:tenantgate-check") > 0


@pytest.mark.parametrize("right", ["+@read", "+@write", "+@scripting", "+@transaction", "+info", "~tg:*"])
def test_each_right_is_needed_by_the_plugins(acl: redis.Redis, config: RedisConfig, right: str) -> None:
    give(acl, *(rule for rule in ACL_RULES.split() if rule != right))
    told = check_plugins(config)
    assert told is not None
    assert "permission" in told or "user executing the script can't run" in told  # Redis 8; Redis 7
    assert PASSWORD not in told


@pytest.mark.parametrize("right", ["+@read", "+@write", "+@scripting", "+info", "~tg:*"])
def test_each_right_is_needed_by_the_policies(acl: redis.Redis, config: RedisConfig, right: str) -> None:
    give(acl, *(rule for rule in ACL_RULES.split() if rule != right))
    assert check_policies(config) is not None


@pytest.mark.parametrize(
    ("memory", "appends", "said"),
    [
        ({"maxmemory": 0, "maxmemory_policy": "allkeys-lru"}, 1, []),
        ({"maxmemory": 1000, "maxmemory_policy": "noeviction"}, 1, []),
        ({"maxmemory": 1000, "maxmemory_policy": "volatile-ttl"}, 1, []),
        ({"maxmemory": 1000, "maxmemory_policy": "allkeys-lru"}, 1, ["allkeys-lru"]),
        ({"maxmemory": 0, "maxmemory_policy": "noeviction"}, 0, ["append-only"]),
        ({"maxmemory": 9, "maxmemory_policy": "allkeys-random"}, 0, ["allkeys-random", "append-only"]),
    ],
)
def test_a_redis_that_may_lose_policies(memory: dict[str, object], appends: int, said: list[str]) -> None:
    found = doubts(memory, {"aof_enabled": appends})
    assert len(found) == len(said)
    assert all(word in line for word, line in zip(said, found, strict=True))


@pytest.mark.parametrize("right", ["+@write", "+@scripting", "~ratelimit:*"])
def test_each_right_is_needed_by_the_rate_limits(acl: redis.Redis, config: RedisConfig, right: str) -> None:
    give(acl, *(rule for rule in ACL_RULES.split() if rule != right))
    assert check_rate_limits(config) is not None


def test_the_documented_rights_are_those_of_the_page() -> None:
    page = (ROOT / "docs" / "deploy.md").read_text("utf-8")
    assert " ".join(ACL_RULES.split()) in " ".join(page.replace("\\\n", " ").split())


FILE = """version: 1
gateway:
  policy: {{store: '{{vault://env/POLICY_URL}}'}}
  redis: {{host: 127.0.0.1, port: {port}, username: {user}, password: '{{vault://env/THE_PASSWORD}}'}}
tenants:
  - id: a
    api_keys: ['${{{{ env "DECK_A" }}}}']
    rate_limit: {{per_second: 1}}
"""


def test_the_command_says_which_use_is_not_ready(
    acl: redis.Redis,
    redis_server: RedisServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "tenants.yaml"
    path.write_text(FILE.format(port=redis_server.port, user=USER), "utf-8")
    monkeypatch.setenv("POLICY_URL", f"redis://{USER}:{PASSWORD}@127.0.0.1:{redis_server.port}")
    assert cli.main(["redis", "check", "-f", str(path)]) == 2
    assert "gateway.redis.password: the environment has no THE_PASSWORD" in capsys.readouterr().err
    monkeypatch.setenv("THE_PASSWORD", PASSWORD)
    give(acl, *ACL_RULES.replace("~ratelimit:*", "").split())
    assert cli.main(["redis", "check", "-f", str(path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "gateway.redis, for the plugins: ready"
    assert lines[1].startswith("gateway.redis, for the rate limits: the user lacks a right: ")
    assert lines[2] == "gateway.policy.store, for the policies: ready"
    give(acl, *ACL_RULES.split())
    monkeypatch.delenv("THE_PASSWORD")
    monkeypatch.setenv("OTHER", PASSWORD)
    assert cli.main(["redis", "check", "-f", str(path), "--password-env", "OTHER"]) == 0
    assert "WARNING" not in capsys.readouterr().out


def test_a_redis_of_budgets_alone_is_checked(
    acl: redis.Redis,
    redis_server: RedisServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "tenants.yaml"
    text = FILE.format(port=redis_server.port, user=USER).partition("tenants:")[0].partition("defaults:")[0]
    redis_of_limits = (
        f"  rate_limiting: {{redis: {{host: 127.0.0.1, port: {redis_server.port}, username: {USER}, "
        "password: '${{ env \"DECK_THE_PASSWORD\" }}'}}\n"
    )
    path.write_text(
        text
        + redis_of_limits
        + """tenants:
  - id: acme
    api_keys: ['${{ env "DECK_ACME" }}']
    models: [{provider: mock, model: m, input_cost: 1, output_cost: 1}]
    budgets: [{name: month, max_budget: 1}]
""",
        "utf-8",
    )
    monkeypatch.setenv("POLICY_URL", f"redis://{USER}:{PASSWORD}@127.0.0.1:{redis_server.port}")
    for name in ("THE_PASSWORD", "DECK_THE_PASSWORD"):
        monkeypatch.setenv(name, PASSWORD)
    give(acl, *ACL_RULES.replace("~tg:*", "").split())
    assert cli.main(["redis", "check", "-f", str(path)]) == 1
    assert (
        "gateway.rate_limiting.redis, for the rate limits: the user lacks a right" in capsys.readouterr().out
    )
    give(acl, *ACL_RULES.split())
    assert cli.main(["redis", "check", "-f", str(path)]) == 0
    said = capsys.readouterr().out
    assert "WARNING: evicts keys when it is full (maxmemory-policy allkeys-lru)" in said
    assert "WARNING: writes no append-only file" in said
    acl.config_set("maxmemory-policy", "noeviction")
    try:
        assert "evicts" not in str(forgetting(RedisConfig(port=redis_server.port)))
    finally:
        acl.config_set("maxmemory-policy", "allkeys-lru")
