"""One message and one answer for a phase, where Kong's side offers that (`tenantgate.kong.ahead`)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .conftest import Launched


def event(server: Launched, do: str, shared: Any, **more: Any) -> Any:
    with server.client() as kong:
        instance = kong.start_instance("faulty", {"do": do, "on_error": "reject"})
        argument = {"InstanceId": instance, "EventName": "access", "Shared": {"asked": shared}, **more}
        return kong.call("HandleEvent", argument)


@pytest.mark.parametrize("size", [0, 100_000])
@pytest.mark.parametrize("leaves", [False, True])
def test_a_phase_takes_one_message_and_one_answer(faulty: Launched, leaves: bool, size: int) -> None:
    body = b"\xff" * size
    answer = event(faulty, "share", [json.dumps({"exit": leaves}), body], Takes=True)
    text, *_ = answer["Shared"]["told"]
    assert json.loads(text)["asked"]["exit"] is leaves
    assert (answer["Data"] == "ret") is not leaves
    if leaves:
        assert answer["Data"]["Args"][0] == 403


def test_a_kong_that_takes_nothing_gets_a_call(faulty: Launched) -> None:
    answer = event(faulty, "share", ['{"exit": false}'])
    assert "Shared" not in answer
    assert answer["Data"]["Method"] == "kong.ctx.shared.set"


def test_a_phase_that_fails_tells_nothing(faulty: Launched) -> None:
    answer = event(faulty, "share_and_raise", ["1"], Takes=True)
    assert "Shared" not in answer
    assert answer["Data"]["Args"][0] == 503
