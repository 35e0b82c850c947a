"""Operations besides chat, Azure's paths and packed bodies in the engine's phases."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from typing import Any

import pytest
import zstandard

from tenantgate.engine.config import EngineConfig
from tenantgate.engine.core.tables import DECISION, LOG, REQUEST, PackedLog
from tenantgate.engine.service import Engine
from tenantgate.engine.wire import as_chat
from tenantgate.kong.phase import phase
from tenantgate.kong.policy import PhasePolicy
from tenantgate.kong.testing import FakeKong
from tenantgate.policy.core.records import ModelPolicy, Routing, Target, TenantPolicy, write_record
from tenantgate.routing.in_flight import InFlight
from tenantgate.routing.registry import Registry
from tenantgate.routing.service import Router
from tenantgate.routing.stored import sealer
from tenantgate.tenant import TenantId

CONFIG = EngineConfig(policy_path="/nowhere/policy.sqlite", encryption_key="k" * 32, max_request_body_mb=1)
OPENAI = Target(provider="openai", name="text-1", id="openai/text-1")
SECRET = "my key is AKIAIOSFODNN7EXAMPLE"
EMBEDDINGS = "/v1/embeddings"


def guard(mode: str) -> dict[str, Any]:
    rule = {"name": "rule", "detector": "secrets", "mode": mode, "target": "last_message"}
    return {"guardrails": {"rules": [rule], "exemptions": False, "deadline_ms": 1500}}


class Directory:
    ready = True

    def __init__(self, tenant: Any) -> None:
        self._tenant = tenant

    def get(self, tenant: TenantId) -> Any:
        return self._tenant if str(tenant) == "acme" else None


class Plugin:
    policy = PhasePolicy(deadline_ms=60_000)

    def __init__(self, **changes: Any) -> None:
        model = ModelPolicy(
            **{
                "provider": "openai",
                "model": "text-1",
                "route_name": "llm.openai.text-1.acme",
                "aliases": ("fast",),
                "targets": (OPENAI,),
                **changes,
            }
        )
        routing = Router(Registry(None, sealer(CONFIG.encryption_key)), InFlight(None))
        self._engine = Engine(CONFIG, directory=object(), routing=routing)  # type: ignore[arg-type]
        policy = TenantPolicy(tenant=TenantId("acme"), models=(model,))
        made = self._engine._parse("acme", write_record(policy))
        self._engine._directory = Directory(made)  # type: ignore[assignment]

    @phase
    def access(self, host: Any) -> None:
        self._engine.access(host)

    @phase
    def log(self, host: Any) -> None:
        self._engine.log(host)


def ask(
    body: Any,
    path: str = EMBEDDINGS,
    headers: Mapping[str, str] | None = None,
    *,
    captures: Any = (),
    **model: Any,
) -> FakeKong:
    table = {
        "tenant": "acme",
        "id": "ab" * 16,
        "method": "POST",
        "path": path,
        "captures": captures or [],
        "headers": {"content-type": "application/json", **(headers or {})},
        "body": body if isinstance(body, bytes) else json.dumps(body).encode(),
    }
    return FakeKong(shared={REQUEST: table}).run(Plugin(**model), "access")


def error(kong: FakeKong) -> tuple[int, str]:
    assert kong.exit is not None
    return kong.exit.status, kong.exit.json["error"]["code"]


def decided(kong: FakeKong) -> dict[str, Any]:
    assert kong.exit is None, kong.exit and kong.exit.json
    found: dict[str, Any] = kong.shared[DECISION]
    return found


def test_embeddings_go_to_the_providers_own_operation_under_its_own_name() -> None:
    decision = decided(ask({"model": "fast", "input": ["a", "b"], "stream": None}))
    target = decision["target"]
    assert (target["route_type"], target["options"]) == ("preserve", {"upstream_path": EMBEDDINGS})
    assert json.loads(decision["body"]) == {"model": "text-1", "input": ["a", "b"]}
    assert decision["state"]["operation"] == "embeddings"


@pytest.mark.parametrize("body", [SECRET, [SECRET, "and more"], ["more", SECRET, "and more"]])
def test_rules_read_all_texts(body: Any) -> None:
    """Also a rule for the last message, which isn't the last text."""
    blocked = ask({"model": "fast", "input": body}, stages=guard("block"))
    assert error(blocked) == (400, "content_policy_violation")
    masked = decided(ask({"model": "fast", "input": body, "user": "u"}, stages=guard("mask")))
    sent = json.loads(masked["body"])
    assert "AKIA" not in json.dumps(sent)
    assert (sent["user"], sent["model"], type(sent["input"])) == ("u", "text-1", type(body))


@pytest.mark.parametrize(("mode", "refused"), [("block", True), ("mask", True), ("alert", False)])
def test_token_ids_pass_where_no_rule_acts(mode: str, refused: bool) -> None:
    kong = ask({"model": "fast", "input": [[1, 2], [3]]}, stages=guard(mode))
    if refused:
        assert error(kong) == (400, "invalid_request")
    else:
        assert json.loads(decided(kong)["body"])["input"] == [[1, 2], [3]]


def test_replies_without_text_arent_held_back() -> None:
    stages = {"response_guardrails": guard("block")["guardrails"]}
    stages["response_guardrails"]["rules"][0]["target"] = "reply"
    model = {"reply_guard": True, "stages": stages}
    assert decided(ask({"model": "fast", "input": "a"}, **model))["reply_guard"] is False
    assert decided(ask({"model": "fast", "prompt": "a"}, "/v1/completions", **model))["reply_guard"] is True
    streamed = ask({"model": "fast", "prompt": "a", "stream": True}, "/v1/completions", **model)
    assert error(streamed) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("path", "payloads"),
    [
        (EMBEDDINGS, True),
        ("/v1/completions", True),
        ("/v1/images/generations", False),
        ("/v1/audio/speech", False),
    ],
)
def test_replies_that_the_log_phase_gets(path: str, payloads: bool) -> None:
    body = {"model": "fast", "input": "a", "prompt": "a"}
    assert decided(ask(body, path, log_payloads=True))["target"]["log_payloads"] is payloads


def test_a_provider_without_the_operation() -> None:
    kong = ask({"model": "fast", "input": "a"}, targets=(Target(provider="anthropic", name="text-1"),))
    assert error(kong) == (400, "invalid_request")


def test_targets_without_the_operation_are_left_out() -> None:
    several = (
        Target(provider="anthropic", name="claude", id="anthropic/claude"),
        Target(provider="openai", name="text-2", id="openai/text-2"),
        OPENAI,
    )
    model: dict[str, Any] = {"targets": several, "routing": Routing()}
    decision = decided(ask({"model": "fast", "input": "a"}, **model))
    assert [t["id"] for t in decision["targets"]] == ["openai/text-2", "openai/text-1"]
    assert {t["route_type"] for t in decision["targets"]} == {"preserve"}
    assert json.loads(decision["body"])["model"] == "text-2"


FORM = (
    b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nfast\r\n'
    b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n\xff\r\n--B--\r\n'
)
MULTIPART = {"content-type": "multipart/form-data; boundary=B"}
AUDIO = "/v1/audio/transcriptions"


def test_a_form_passes_where_no_rule_acts() -> None:
    decision = decided(ask(FORM, AUDIO, MULTIPART))
    assert b"\r\n\r\ntext-1\r\n" in decision["body"]
    assert decision["target"]["response_streaming"] == "always"  # else ai-proxy reads the reply as JSON
    assert error(ask(FORM, AUDIO, MULTIPART, stages=guard("block"))) == (400, "invalid_request")
    other = {"content-type": "multipart/form-data; boundary=C"}
    assert error(ask(FORM, AUDIO, other)) == (400, "invalid_request")
    assert error(ask(FORM, EMBEDDINGS, MULTIPART)) == (415, "unsupported_media_type")


def test_a_form_goes_on_to_targets_of_the_same_name_alone() -> None:
    several = (
        OPENAI,
        Target(provider="openai", name="b", id="b"),
        Target(provider="openai", name="text-1", id="c"),
    )
    decision = decided(ask(FORM, AUDIO, MULTIPART, targets=several, routing=Routing()))
    assert [t["id"] for t in decision["targets"]] == ["openai/text-1", "c"]


CHAT = {"messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize("name", ["text-1", "fast", "openai%2Ftext-1"])
def test_azures_paths_name_the_model(name: str) -> None:
    path, captures = f"/openai/deployments/{name}", {"deployment": name}
    chat = decided(ask({**CHAT, "model": "whatever"}, f"{path}/chat/completions", captures=captures))
    assert chat["target"]["name"] == "text-1"
    assert json.loads(chat["body"])["model"] == "text-1"
    unnamed = decided(ask(CHAT, f"{path}/chat/completions", captures=captures))  # ai-proxy names it
    assert json.loads(unnamed["body"]) == CHAT
    vectors = decided(ask({"input": "a"}, f"{path}/embeddings", captures=captures))
    assert json.loads(vectors["body"]) == {"input": "a", "model": "text-1"}


@pytest.mark.parametrize(("pack", "coding"), [(gzip.compress, "gzip"), (zstandard.compress, "zstd")])
def test_packed_bodies(pack: Any, coding: str) -> None:
    chat, packed = "/v1/chat/completions", {"content-encoding": coding}
    raw = json.dumps({**CHAT, "model": "text-1"}).encode()
    decision = decided(ask(pack(raw), chat, packed))
    assert json.loads(decision["body"]) == json.loads(raw)
    assert decision["state"]["coding"] == coding
    blocked = json.dumps({"model": "fast", "messages": [{"role": "user", "content": SECRET}]}).encode()
    assert error(ask(pack(blocked), chat, packed, stages=guard("block"))) == (400, "content_policy_violation")
    assert error(ask(pack(bytes(1 << 21)), chat, packed)) == (413, "request_too_large")
    assert error(ask(raw, chat, packed)) == (415, "unsupported_media_type")
    vectors = decided(ask(pack(b'{"model": "fast", "input": "a"}'), headers=packed))
    assert json.loads(vectors["body"])["input"] == "a"


def test_other_codings_are_refused() -> None:
    assert error(ask(CHAT, headers={"content-encoding": "br"})) == (415, "unsupported_media_type")


def test_the_log_phase_reads_what_the_stages_have_read() -> None:
    raw = gzip.compress(b'{"model": "fast", "input": ["a"]}')
    state = {"operation": b"embeddings", "coding": b"gzip"}
    packed = PackedLog.of({"request": {"tenant": "acme", "body": raw}, "state": state})
    assert packed is not None
    found = as_chat(packed).body
    assert found is not None
    assert json.loads(found)["messages"] == [{"role": "user", "content": [{"type": "text", "text": "a"}]}]


def test_the_log_phase_takes_it_for_what_it_was() -> None:
    decision = decided(ask({"model": "fast", "input": "a"}))
    table = {
        "request": {"tenant": "acme", "id": "ab" * 16},
        "decided": True,
        "state": decision["state"],
        "shared": decision["shared"],
        "source": "service",
        "status": 200,
    }
    kong = FakeKong(shared={LOG: table}).run(Plugin(), "log")
    assert kong.methods() == ["ctx.shared.get"]
