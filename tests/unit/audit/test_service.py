"""The phases with a host that keeps bodies itself, and the courier that all configurations of a process share."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from audit_rig import KEY, body, kong_record, request_id
from tenantgate import llm
from tenantgate.audit import service
from tenantgate.audit.config import AuditConfig, PipelineConfig, SinkConfig
from tenantgate.audit.core.content import RawContent
from tenantgate.audit.core.redaction import MARGIN
from tenantgate.kong import Host
from tenantgate.llm import Refusal
from tenantgate.llm.operations import Operation
from tenantgate.store.shared import Shared

CONFIG = AuditConfig(pipeline=PipelineConfig(journal="j", state_dir="s"), encryption_key=KEY)


class Courier:
    def __init__(self, config: PipelineConfig, _plain: object) -> None:
        self.config, self.stopped = config, threading.Event()

    def stop(self) -> None:
        self.stopped.set()


def test_a_new_pipeline_ends_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "Courier", Courier)
    monkeypatch.setattr(service, "_couriers", Shared(1))
    sink = SinkConfig(name="a", type="http", headers={"authorization": "one"})
    config = PipelineConfig(journal="j", state_dir="s", sinks=(sink,))
    first = service.courier_of(config)
    assert service.courier_of(replace(config)) is first
    assert isinstance(first, Courier)
    other = replace(config, sinks=(replace(sink, headers={"authorization": "two"}),))
    second = service.courier_of(other)
    assert isinstance(second, Courier)
    assert second.config == other
    assert first.stopped.wait(10)
    assert not second.stopped.is_set()


class Kept:
    """A courier that keeps what it is given."""

    def __init__(self) -> None:
        self.policies: list[tuple[str, str]] = []
        self.contents: list[tuple[str, str, RawContent]] = []

    def policy(self, name: str, route_id: str, _values: Any) -> None:
        self.policies.append((name, route_id))

    def content(self, policy: str, identifier: str, raw: RawContent) -> None:
        self.contents.append((policy, identifier, raw))


@dataclass
class Keeper:
    """A host that keeps the body for the log phase, where only what it says it carries is left."""

    raw: bytes
    carried: dict[str, Any] = field(default_factory=dict)
    refused: bool | None = None
    operation = Operation.CHAT

    def identifier(self) -> str:
        return request_id(1)

    def keep_body(self) -> bool:
        self.carried["body"] = self.raw
        return True

    def kept_body(self) -> bytes | None:
        return self.carried.get("body")

    def put_verdict(self, plugin: str, verdict: Mapping[str, Any]) -> None:
        self.carried[plugin] = verdict

    def verdict(self, plugin: str) -> Any:
        return self.carried.get(plugin)

    def chat_request(self) -> Any:
        return llm.read(self.raw)

    def refuse_unread(self, _refusal: Refusal, *, strict: bool) -> None:
        self.refused = strict

    def record(self) -> Mapping[str, Any]:
        return kong_record(1)


@pytest.mark.parametrize(
    ("raw", "kept", "refused"),
    [
        (body("hello"), body("hello"), None),
        (body("x" * 100_000), body("x" * 100_000)[: 1000 + 2 * MARGIN], None),
        (b'{"messages": [', b"", True),
    ],
)
def test_the_log_phase_may_run_in_another_process(raw: bytes, kept: bytes, refused: bool | None) -> None:
    courier, config = Kept(), replace(CONFIG, max_content_bytes=1000)
    one, other = (service.AuditLog(config, courier=cast("Any", courier)) for _ in range(2))
    access = Keeper(raw)
    one.access(cast("Host", access))
    assert access.refused is refused
    other.log(cast("Host", Keeper(b"", access.carried)))
    ((name, identifier, content),) = courier.contents
    assert (name, identifier) == (one.policy_name, request_id(1))
    assert (content.body, content.body_size) == (kept, len(raw))
    assert courier.policies == [(one.policy_name, "")] * 2
    assert not service._BODIES.take(request_id(1)), "nothing is left in the process of access"


def test_settings_that_differ_have_different_names() -> None:
    others = [CONFIG, replace(CONFIG), replace(CONFIG, content="off"), replace(CONFIG, input_cost=1.0)]
    names = [service.AuditLog(c, courier=cast("Any", Kept())).policy_name for c in others]
    assert names[0] == names[1]
    assert len(set(names)) == 3
