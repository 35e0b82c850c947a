"""The engine says that it is ready only if it has models and policies, and says what it lacks."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from certificates import made
from scripted_engine import PATIENT, ask, model, packed
from tenantgate.devhost.redis_server import free_port
from tenantgate.engine.core.tables import DECISION
from tenantgate.kong.testing import KongError
from tenantgate.policy.core.ports import PublishNote
from tenantgate.policy.core.records import TenantPolicy, write_record
from tenantgate.policy.sqlite_store import SqlitePolicyStore
from tenantgate.tenant import TenantId

from .conftest import Launched
from support import PATIENCE_S, ROOT


def told(server: Launched) -> Any:
    status, body = server.http("/readyz")
    return status, json.loads(body)["reason"]


def test_what_one_process_misses_the_others_don_t_make_up_for(launch: Callable[..., Launched]) -> None:
    server = launch("needing", "--processes", "2")
    server.eventually(lambda: len(server.pids()) == 2)
    assert told(server) == (200, "ready")
    with server.client() as kong:
        missing, there = (kong.start_instance("needing", {"there": there}) for there in (False, True))
        kong.handle_event(missing, "access")
        server.eventually(lambda: told(server) == (503, "policies"))
        assert len(server.pids()) == 2  # it takes events all the same, and answers each as its policy says
        assert server.metric('tenantgate_missing{what="policies"}') == 1
        kong.handle_event(there, "access")
        server.eventually(lambda: told(server) == (200, "ready"))


def test_the_engine_isn_t_ready_without_models_or_policies(
    launch: Callable[..., Launched], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENANTGATE_MODELS", str(tmp_path / "none"))
    server = launch(str(ROOT / "plugins" / "tenantgate"))
    server.eventually(lambda: told(server) == (503, "models"), seconds=PATIENCE_S)
    assert server.metric('tenantgate_cache_level_off{level="similar",verifier="built-in"}') == 1
    assert server.metric("tenantgate_ready") == 0

    policies = tmp_path / "policy.sqlite"
    settings = {"policy_path": str(policies), "encryption_key": "k" * 32}
    with server.client(PATIENCE_S) as kong:
        kong.handle_event(kong.start_instance("tenantgate", settings), "access")
    server.eventually(lambda: told(server) == (503, "models, policies"), seconds=PATIENCE_S)

    store = SqlitePolicyStore(policies)
    store.publish({"acme": b"{}"}, expected=0, note=PublishNote("test", "", time.time()))
    store.close()
    server.eventually(lambda: told(server) == (503, "models"), seconds=PATIENCE_S)
    assert server.metric('tenantgate_missing{what="policies"}') == 0


@pytest.mark.parametrize("replaced", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_what_rules_need_is_loaded_before_a_process_takes_events(
    launch: Callable[..., Launched], tmp_path: Path, replaced: bool
) -> None:
    settings = {"policy_path": str(tmp_path / "policy.sqlite"), "encryption_key": "k" * 32}
    rule = {"name": "topics", "detector": "denied_topics", "phrases": ["the price of gold"], "mode": "block"}
    made = model(stages={"guardrails": {"rules": [rule], **PATIENT}})
    store = SqlitePolicyStore(tmp_path / "policy.sqlite")
    record = write_record(TenantPolicy(tenant=TenantId("acme"), models=(made,)))
    store.publish({"acme": record}, expected=0, note=PublishNote("test", "", time.time()))
    server = launch(str(ROOT / "plugins" / "tenantgate"))
    server.eventually(server.socket.exists)
    with server.client(PATIENCE_S) as kong:
        instance = kong.start_instance("tenantgate", settings)  # no request yet
        server.eventually(lambda: told(server) == (200, "ready"), seconds=PATIENCE_S)
        server.eventually(
            lambda: [one.version for one in store.acknowledgements()] == [1], seconds=PATIENCE_S
        )
        if replaced:
            os.kill(server.health()["pid"], signal.SIGKILL)
            server.eventually(
                lambda: (now := server.health())["restarts"] == 1 and now["ready"], seconds=PATIENCE_S
            )
        calls = kong.handle_event(instance, "access", {"kong.ctx.shared.get": packed(ask())})
    store.close()
    (decision,) = (call[2] for call in calls if call[:2] == ("kong.ctx.shared.set", DECISION))
    assert decision.get("target"), calls  # else: embedder: still loading


def test_the_next_server_starts_while_the_one_before_has_its_metrics_port(
    launch: Callable[..., Launched],
) -> None:
    port, path = str(free_port()), None
    for _ in range(2):  # as at a reload of Kong: the same command again
        server = launch("well-behaved", "--metrics-port", port, path=path)
        path = server.socket
        server.eventually(lambda server=server: '"serving"' in server.logged())
    assert server.process.poll() is None


def test_errors_that_kong_s_log_level_hides_are_counted(launch: Callable[..., Launched]) -> None:
    server = launch("faulty")
    server.ready()
    before = server.metric('tenantgate_log_events_total{level="error"}')
    with server.client() as kong, pytest.raises(KongError):
        kong.start_instance("faulty", {"do": "bad-start"})
    server.eventually(lambda: server.metric('tenantgate_log_events_total{level="error"}') > before)


def test_the_engine_isn_t_ready_while_its_configuration_can_t_be_used(
    launch: Callable[..., Launched], tmp_path: Path
) -> None:
    """As where Kong's environment lacks the variable of `encryption_key`: Kong then sends an empty text."""
    server = launch(str(ROOT / "plugins" / "tenantgate"))
    server.eventually(server.socket.exists)
    good = {"policy_path": str(tmp_path / "policy.sqlite"), "encryption_key": "k" * 32}
    with server.client(PATIENCE_S) as kong:
        kong.start_instance("tenantgate", good)
        server.eventually(lambda: "configuration" not in told(server)[1])
        kong.start_instance("tenantgate", good | {"encryption_key": ""})
        server.eventually(lambda: told(server)[0] == 503 and "configuration" in told(server)[1])
        kong.start_instance("tenantgate", good)
        server.eventually(lambda: "configuration" not in told(server)[1])


def test_when_certificates_end_is_a_metric_of_one_process(
    launch: Callable[..., Launched], tmp_path: Path
) -> None:
    (tmp_path / "tls.crt").write_text(made("ai.example.com")[0])
    server = launch("needing", "--processes", "2", "--certificates", str(tmp_path))
    series = "tenantgate_certificate_expiration_timestamp_seconds"
    labels = f'{{file="{tmp_path}/tls.crt",name="ai.example.com"}}'
    server.eventually(lambda: server.metric(series + labels) > time.time())
