"""What a plugin server's successor knows of its instances."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tenantgate.kong.instances import InstanceError, Instances
from tenantgate.kong.memory import Memory
from tenantgate.kong.policy import PhasePolicy


class Plugin:
    def __init__(self, config: dict[str, Any]) -> None:
        if config.get("bad"):
            raise ValueError
        self.config = config


@pytest.fixture
def memory() -> Memory:
    found = Memory.new()
    if found is None:
        pytest.skip("no memfd here")
    return found


def instances(memory: Memory | None, limit: int = 10) -> Instances:
    found = Instances("x", Plugin, default=PhasePolicy(), limit=limit, memory=memory)
    found.restore()
    return found


def start(at: Instances, config: str) -> int:
    return int(at.start({"Name": "x", "Config": config})["Id"])


@pytest.mark.parametrize(("anywhere", "objects"), [(False, 3), (True, 2)])
def test_a_plugin_may_have_one_object_for_all_places_with_equal_settings(
    anywhere: bool, objects: int
) -> None:
    cls = type("Anywhere", (Plugin,), {"anywhere": anywhere})
    at = Instances("x", cls, default=PhasePolicy())
    places = ('"service_id": "a", "__seq__": 1', '"service_id": "b"', '"service_id": "a", "n": 1')
    ids = [start(at, f"{{{place}}}") for place in (*places, places[0])]
    assert len({id(at.get(number).plugin) for number in ids}) == objects


def test_the_next_process_has_the_same_ids_with_the_same_configurations(memory: Memory) -> None:
    first = instances(memory)
    ids = [start(first, f'{{"n": {n}}}') for n in range(4)]
    first.close(ids[1])
    second = instances(memory)
    assert [second.get(i).plugin.config for i in (ids[0], ids[2], ids[3])] == [{"n": 0}, {"n": 2}, {"n": 3}]
    with pytest.raises(InstanceError, match="no plugin instance"):
        second.get(ids[1])
    assert start(second, "{}") not in ids


def test_what_was_pushed_out_stays_out(memory: Memory) -> None:
    first = instances(memory, limit=2)
    ids = [start(first, "{}") for _ in range(3)]
    assert list(memory.read()) == ids[1:]


def test_what_can_not_be_started_any_more_is_left_out(memory: Memory) -> None:
    memory.add(7, {"bad": 1})
    memory.add(8, {})
    at = instances(memory)
    assert at.get(8)
    assert list(memory.read()) == [8]


def test_a_line_that_was_cut_hides_no_other(memory: Memory) -> None:
    memory.add(7, {"a": "\u2028"})
    os.pwrite(memory._fd, b'[8,{"a"', os.fstat(memory._fd).st_size)
    memory.compact()
    number = start(instances(memory), "{}")
    assert set(memory.read()) == {7, number}


def test_without_a_memory_every_process_begins_anew() -> None:
    number = start(instances(None), "{}")
    with pytest.raises(InstanceError):
        instances(None).get(number)
