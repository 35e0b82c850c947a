"""A request in the engine's memory."""

from __future__ import annotations

import pytest

from tenantgate.engine.core.tables import PackedRequest
from tenantgate.engine.exchange import Exchange
from tenantgate.kong.host import DeadlineError, Host


def exchange() -> Exchange:
    found = PackedRequest.of({"tenant": "acme", "body": b"{}"})
    assert found is not None
    return Exchange(Host(None, "access", deadline_ms=60_000), found)


def test_what_one_stage_keeps_the_log_phase_gets_back() -> None:
    made = exchange()
    made.keep("a-plugin", {"bytes": b"\xff\x00", "text": "é"})
    assert made.kept("a-plugin") == {"bytes": b"\xff\x00", "text": "é"}
    assert made.kept("another") is None


def test_a_stage_out_of_time_asks_nothing_more() -> None:
    made = exchange()
    made.limit(0)
    with pytest.raises(DeadlineError):
        made.call("ctx.shared.get", "x")
    made.limit(None)
    assert made.call("ctx.shared.get", "x") is None


def test_a_wait_for_others_counts_for_the_whole_phase_and_not_for_the_stages_time() -> None:
    made = exchange()
    made.limit(0)
    with made.waiting() as left_ms:
        assert 1000 < left_ms <= 60_000
    assert made.call("ctx.shared.get", "x") is None
