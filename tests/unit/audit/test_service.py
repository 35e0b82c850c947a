"""The courier that all configurations of a process share."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from tenantgate.audit import service
from tenantgate.audit.config import PipelineConfig, SinkConfig
from tenantgate.store.shared import Shared


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
