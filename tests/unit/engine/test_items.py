"""Items of responses: kept sealed for their tenant, and found again by requests that refer to them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.engine.config import EngineConfig
from tenantgate.engine.items import ItemStore, item_store
from tenantgate.store.redis_nodes import Nodes
from tenantgate.tenant import TenantId

SECRET, ACME = "k" * 32, TenantId("acme")
MESSAGE = "msg_" + "0" * 32
CALL = "fc_" + "1" * 32 + "_2"


class Memory(Nodes):
    """A Redis of the two commands that are needed, as a dictionary."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.expiry: set[int] = set()
        self.asked = 0
        self.down = False

    def node(self, key: str) -> Any:
        del key
        return self

    def ask(self, key: Any, call: Any = None) -> Any:
        if self.down:
            raise redis.ConnectionError
        return (call or key)(self)

    def learn(self, error: Exception) -> None:
        raise error

    def close(self) -> None:
        pass

    @contextmanager
    def pipeline(self, *, transaction: bool) -> Iterator[Memory]:
        assert not transaction
        yield self

    def set(self, key: str, value: bytes, *, ex: int) -> None:
        self.held[key] = value
        self.expiry.add(ex)

    def execute(self) -> None:
        pass

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        self.asked += 1
        return [self.held.get(key) for key in keys]


def store(memory: Memory, sleep: Any = None) -> ItemStore:
    return ItemStore(
        memory, memory, encryption_key=SECRET, keep_s=60, sleep=sleep or (lambda _: pytest.fail("waited"))
    )


def output(*ids: Any) -> bytes:
    return json.dumps([{"id": each, "type": "message", "content": "secret text"} for each in ids]).encode()


@contextmanager
def waiting(most_ms: float = 1000) -> Iterator[float]:
    yield most_ms


def test_what_is_kept_is_found() -> None:
    memory = Memory()
    store(memory).keep(ACME, output(MESSAGE, CALL))
    found = store(memory).find(ACME, [CALL, MESSAGE], waiting)
    assert [found[each]["id"] for each in (MESSAGE, CALL)] == [MESSAGE, CALL]
    assert (memory.asked, memory.expiry) == (1, {60})
    assert not any(b"secret" in value or MESSAGE in key for key, value in memory.held.items())
    assert all(key.startswith("tg:items:1:{acme}:") for key in memory.held)


@given(mine=st.text(min_size=1), other=st.text(min_size=1))
def test_the_items_of_another_tenant_are_never_found(mine: str, other: str) -> None:
    memory = Memory()
    store(memory).keep(TenantId(mine), output(MESSAGE))
    assert (MESSAGE in store(memory).find(TenantId(other), [MESSAGE])) is (mine == other)
    # Nor where somebody copies the record to the other's key.
    (record,) = memory.held.values()
    memory.held.clear()
    store(memory).keep(TenantId(other), output(MESSAGE))
    memory.held = dict.fromkeys(memory.held, record)
    assert (MESSAGE in store(memory).find(TenantId(other), [MESSAGE])) is (mine == other)


@given(at=st.integers(min_value=0), flip=st.integers(1, 255))
def test_a_record_that_was_changed_counts_as_absent(at: int, flip: int) -> None:
    memory = Memory()
    store(memory).keep(ACME, output(MESSAGE))
    ((key, record),) = memory.held.items()
    at %= len(record)
    memory.held[key] = record[:at] + bytes([record[at] ^ flip]) + record[at + 1 :]
    assert store(memory).find(ACME, [MESSAGE]) == {}


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"{}", b"null", b'[1, {"id": 1}]', output("msg_1"), output("x" * 36), b"\xff"]
)
def test_what_is_no_output_of_ours_isnt_kept(raw: bytes) -> None:
    memory = Memory()
    store(memory).keep(ACME, raw)
    assert memory.held == {}


def test_an_item_that_is_still_being_stored_is_waited_for() -> None:
    memory, pauses = Memory(), []

    def sleep(pause_s: float) -> None:
        pauses.append(pause_s)
        if len(pauses) == 2:
            store(memory).keep(ACME, output(MESSAGE))

    found = store(memory, sleep).find(ACME, [MESSAGE], waiting)
    assert (list(found), len(pauses), memory.asked) == ([MESSAGE], 2, 3)


@pytest.mark.parametrize(("left_ms", "pauses"), [(0, 0), (25, 1), (1000, 5)])
def test_the_wait_has_an_end(left_ms: float, pauses: int) -> None:
    memory, slept = Memory(), list[float]()
    assert store(memory, slept.append).find(ACME, [MESSAGE], lambda: waiting(left_ms)) == {}
    assert (len(slept), memory.asked) == (pauses, pauses + 1)
    assert sum(slept) < 0.31


def test_ids_that_nobody_gave_cost_nothing() -> None:
    memory = Memory()
    assert store(memory).find(ACME, ["msg_1", "", MESSAGE + "\n", "resp_" + "0" * 32], waiting) == {}
    assert store(memory).find(ACME, [f"msg_{i:032x}" for i in range(501)], waiting) == {}
    assert memory.asked == 0


def test_without_redis_nothing_is_found_and_nobody_waits() -> None:
    memory = Memory()
    memory.down = True
    store(memory).keep(ACME, output(MESSAGE))
    assert store(memory).find(ACME, [MESSAGE], waiting) == {}


def test_nothing_is_kept_where_the_time_is_zero() -> None:
    config = EngineConfig(policy_path="/p", encryption_key=SECRET)
    assert item_store(config.redis, SECRET, 0) is None
    assert item_store(config.redis, SECRET, 60) is item_store(config.redis, SECRET, 60)
