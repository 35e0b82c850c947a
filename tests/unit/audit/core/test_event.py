"""Events are read back as they were written, and nothing else is taken for one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_rig import journal_line
from tenantgate.audit.core.event import EVENT_TYPES, Event, event_line, parse_event
from tenantgate.audit.core.record import of_event
from tenantgate.tenant import TenantId

EVENT = Event(
    TenantId("acme"),
    "budget-1",
    1_767_225_600_000,
    {"type": "budget_crossed", "message": "The budget month is used up.", "budget": "month", "at": "100%"},
)
texts = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=40)


@given(tenant=texts.filter(bool), kind=st.sampled_from(sorted(EVENT_TYPES)), message=texts, subject=texts)
def test_an_event_is_read_as_it_was_written(tenant: str, kind: str, message: str, subject: str) -> None:
    event = Event(TenantId(tenant), "e-1", 1, {"type": kind, "message": message, "subject": subject})
    line = event_line(event)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert parse_event(line.rstrip(b"\n")) == event


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b'{"tenantgate_event"',
        b'{"tenantgate_event":[]}',
        b'{"tenantgate_event":{"tenant":"","id":"a","time_ms":1,"values":{"type":"budget_crossed"}}}',
        b'{"tenantgate_event":{"tenant":"a","id":"","time_ms":1,"values":{"type":"budget_crossed"}}}',
        b'{"tenantgate_event":{"tenant":"a","id":"b","time_ms":"1","values":{"type":"budget_crossed"}}}',
        b'{"tenantgate_event":{"tenant":"a","id":"b","time_ms":1,"values":{"type":"unheard"}}}',
        journal_line(1),
        journal_line(1, tenant=event_line(EVENT).decode()),
    ],
)
def test_what_is_no_event_is_not_taken_for_one(raw: bytes) -> None:
    assert parse_event(raw.rstrip(b"\n")) is None


def test_values_that_are_not_known_or_not_plain_are_left_out() -> None:
    values = {"type": "budget_crossed", "message": "a\nb", "prompt": "secret", "budget": "x" * 501}
    found = parse_event(event_line(Event(TenantId("a"), "b", 1, values)))
    assert found is not None
    assert found.values == {"type": "budget_crossed"}


def test_the_record_of_an_event_has_its_tenant_time_and_values() -> None:
    record = of_event(EVENT)
    assert (record["tenant"], record["time"], record["id"]) == (
        "acme",
        "2026-01-01T00:00:00.000Z",
        "budget-1",
    )
    assert json.loads(json.dumps(record["event"])) == dict(EVENT.values)
