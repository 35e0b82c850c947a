"""Events are records like those of requests: in their tenant's chain once, whatever is killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit_rig import Rig, journal_line
from tenantgate.audit.config import PipelineConfig
from tenantgate.audit.core.chain import START, link, verify
from tenantgate.audit.core.record import schema
from tenantgate.audit.events import EventLog
from tenantgate.audit.files import FileSpool
from tenantgate.audit.receivers import sink_name
from tenantgate.audit.spool import open_spool
from tenantgate.errors import EdgeError
from tenantgate.fields import parse
from tenantgate.tenant import TenantId
from unit.audit.core.test_record import problems

VALUES = {"type": "threshold_crossed", "message": "80% of month is used.", "budget": "month", "at": "80%"}


def told(rig: Rig) -> list[str]:
    return [r["id"] for r in rig.records() if "event" in r]


def test_events_between_requests_are_in_the_tenants_chain(rig: Rig) -> None:
    rig.policy(content="off")
    rig.write(journal_line(1), journal_line(2, tenant="bravo"))
    events = EventLog(rig.journal)
    events.write(TenantId("acme"), "e-1", 1_767_225_600_000, VALUES)
    rig.write(journal_line(3))
    rig.step(times=2)
    acme = [r for r in rig.records() if r["tenant"] == "acme"]
    assert [("event" in r, r["chain"]["seq"]) for r in acme] == [(False, 1), (True, 2), (False, 3)]
    assert acme[1]["event"] == VALUES
    assert verify(e.record for e in rig.spool.entries).sound
    assert [p for r in rig.records() for p in problems(r, schema())] == []


@pytest.mark.parametrize("steps", [0, 1])
def test_an_event_survives_a_kill_and_is_not_doubled(rig: Rig, steps: int) -> None:
    rig.policy(content="off")
    rig.write(journal_line(1))
    rig.step(times=2)
    EventLog(rig.journal).write(TenantId("acme"), "e-1", 1, VALUES)
    rig.step(times=steps)
    rig.kill()
    rig.policy(content="off")
    rig.step(times=2)
    rig.kill()
    rig.policy(content="off")
    rig.write(journal_line(2))
    rig.step(times=2)
    assert told(rig) == ["e-1"]
    assert verify(e.record for e in rig.spool.entries).sound


def test_an_event_behind_a_line_that_was_cut_off_is_read(rig: Rig) -> None:
    rig.policy(content="off")
    with rig.journal.open("ab") as file:
        file.write(journal_line(1)[:50])
    EventLog(rig.journal).write(TenantId("acme"), "e-1", 1, VALUES)
    rig.step(times=2)
    assert told(rig) == ["e-1"]


def test_a_journal_that_kong_has_not_made_yet_is_not_made_for_it(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    with pytest.raises(EdgeError, match="journal"):
        EventLog(journal).write(TenantId("acme"), "e-1", 1, VALUES)
    assert not journal.exists()


@pytest.mark.parametrize(("sinks", "left"), [([], True), ([{"name": "f", "type": "stdout"}], False)])
def test_receivers_of_alerts_let_no_record_go_that_no_sink_has(
    tmp_path: Path, sinks: list[dict[str, str]], left: bool
) -> None:
    receivers = [{"name": "r", "type": "webhook", "url": "http://127.0.0.1:1", "secret": "s"}]
    given = {"journal": "j", "state_dir": str(tmp_path), "sinks": sinks, "receivers": receivers}
    spool = open_spool(parse(PipelineConfig, given), "n")
    assert isinstance(spool, FileSpool)
    spool._segment_entries, spool._keep_s = 1, 0.0
    head = START
    for n in range(3):
        entry, head = link({"id": f"{n}", "content": {}}, head, tenant=TenantId("acme"), node="n", position=n)
        spool.append([entry])
    for name in [sink_name("r"), *(sink["name"] for sink in sinks)]:
        spool.ack(name, spool.read(name, 10))
    spool._max_records = 1
    assert spool.trim() == (2 if left else 0), "what nobody has goes only for want of room, and is reported"
    spool.close()
