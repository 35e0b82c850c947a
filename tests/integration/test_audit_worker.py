"""The worker on a journal: each line makes one record, in order, joined with its content."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from audit_rig import Rig, journal_line, only, sound, text_of
from tenantgate.audit.core.ports import Entry
from tenantgate.audit.core.testing import MemorySpool
from tenantgate.audit.messages import LeftOut
from tenantgate.telemetry import metrics


def test_a_line_and_its_content_make_one_record_whichever_comes_first(rig: Rig) -> None:
    rig.policy()
    rig.content(1, "What is a sextant?", "An instrument.")
    rig.write(journal_line(1))
    rig.step()
    rig.write(journal_line(2))
    rig.step()
    assert rig.ids() == [1]
    rig.content(2, "And a compass?", "Another.")
    rig.step()
    first, second = rig.records()
    assert (text_of(first), text_of(first, "output_messages")) == ("What is a sextant?", "An instrument.")
    assert text_of(second) == "And a compass?"
    assert first["content"]["state"] == second["content"]["state"] == "kept"
    assert first["gen_ai"]["response"]["finish_reasons"] == ["stop"]


def test_records_keep_the_order_of_the_journal(rig: Rig) -> None:
    rig.policy()
    rig.write(*(journal_line(n) for n in range(1, 6)))
    for n in (5, 3, 1, 2, 4):
        rig.content(n, f"question {n}")
        rig.step()
    assert rig.ids() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("told", "state"), [("nothing", "late"), ("shed", "shed"), ("off", "off"), ("no_policy", "late")]
)
def test_a_line_without_content_is_recorded_and_says_why(rig: Rig, told: str, state: str) -> None:
    if told != "no_policy":
        rig.policy(content="off" if told == "off" else "redacted")
    if told == "shed":
        rig.send(LeftOut("p", f"{1:032x}"))
    rig.step()
    rig.write(journal_line(1))
    rig.step()
    rig.step(after_s=2.1)
    assert only(rig)["content"] == {"state": state}


def test_a_request_that_was_not_let_in_has_no_content_that_could_be_late(rig: Rig) -> None:
    rig.policy()
    rig.write(journal_line(1, response__status=429, source="kong", tries=[]))
    rig.step()
    rig.step(after_s=2.1)
    assert only(rig)["content"] == {"state": "none"}


def test_what_comes_after_its_record_is_dropped_and_counted(rig: Rig) -> None:
    rig.policy()
    rig.write(journal_line(1))
    rig.step()
    rig.step(after_s=2.1)
    rig.content(1, "too late")
    before = metrics.counter("tenantgate_audit_content_dropped_total", "", ("reason",)).value(reason="late")
    rig.step(after_s=2)
    after = metrics.counter("tenantgate_audit_content_dropped_total", "", ("reason",)).value(reason="late")
    assert (len(rig.records()), after - before) == (1, 1)


def test_a_request_that_was_not_let_in_belongs_to_the_tenant_of_its_route(rig: Rig) -> None:
    rig.policy()
    rig.content(1, None)
    rig.write(journal_line(1, tenant=None, response__status=401, source="kong", tries=[], ai={}))
    rig.step()
    record = only(rig)
    assert (record["tenant"], record["consumer"], record["outcome"]) == ("acme", None, "unauthorized")
    assert record["content"] == {"state": "none", "salt": record["content"]["salt"]}


def test_a_body_that_was_read_by_a_process_that_is_gone_is_lost_not_none(rig: Rig) -> None:
    rig.policy()
    rig.content(1, None)
    rig.write(journal_line(1))
    rig.step()
    assert only(rig)["content"] == {"state": "lost"}


@pytest.mark.parametrize("bad", [b"", b"{", b"[]", b'{"request": 3}', b"\xff\xfe", b'{"a":' * 5000])
def test_a_line_that_is_no_record_is_counted_and_stops_nothing(rig: Rig, bad: bytes) -> None:
    rig.policy(content="off")
    rig.step()
    rig.write(bad + b"\n", journal_line(1))
    rig.step(times=2)
    assert rig.ids() == [1]


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98, 1.0])
def test_a_record_that_was_appended_to_half_a_line_is_recorded(rig: Rig, share: float) -> None:
    rig.policy(content="off")
    rig.step()
    unreadable = metrics.counter("tenantgate_audit_journal_unreadable_total", "")
    before, half = unreadable.value(), journal_line(1).rstrip()
    half = half[: int(len(half) * share)]  # a disk that was full: without its line end, too
    rig.write(half + journal_line(2), journal_line(3))
    rig.step(times=2)
    assert rig.ids() == ([1, 2, 3] if share == 1 else [2, 3])
    assert unreadable.value() - before == (share < 1)
    rig.kill()
    rig.policy(content="off")
    rig.step(times=2)
    assert rig.ids() == ([1, 2, 3] if share == 1 else [2, 3]), "no record twice after a restart"


def test_a_line_without_an_end_stops_nothing(rig: Rig) -> None:
    rig.policy(content="off")
    before = metrics.counter("tenantgate_audit_journal_unreadable_total", "").value()
    rig.write(journal_line(1), b"{" * (9 << 20), b"\n", journal_line(2))
    rig.step(times=15)
    assert rig.ids() == [1, 2]
    assert metrics.counter("tenantgate_audit_journal_unreadable_total", "").value() > before
    rig.kill()
    rig.policy(content="off")
    rig.write(journal_line(3))
    rig.step(times=15)
    sound(rig, range(1, 4))


def test_half_a_line_waits_for_its_other_half(rig: Rig) -> None:
    rig.policy(content="off")
    rig.step()
    line = journal_line(1)
    rig.write(line[:50])
    rig.step()
    assert rig.ids() == []
    rig.write(line[50:])
    rig.step()
    assert rig.ids() == [1]


class SlowSpool(MemorySpool):
    """Whose next append takes longer than a line waits."""

    rig: Rig

    def append(self, entries: Sequence[Entry]) -> None:
        self.rig.now += 10
        super().append(entries)


def test_content_in_the_channel_is_not_late_because_the_spool_was_slow(tmp_path: Path) -> None:
    spool = SlowSpool()
    rig = spool.rig = Rig(tmp_path, spool=spool)
    rig.policy()
    rig.write(journal_line(1), *(journal_line(n) for n in range(2, 400)))
    rig.content(1, "hello")
    rig.step()
    assert len(rig.records()) == 1
    feeder = threading.Thread(target=lambda: [rig.content(n, "word " * 400) for n in range(2, 400)])
    feeder.start()
    while feeder.is_alive() or len(spool.entries) < 399:
        rig.step()
    assert {r["content"]["state"] for r in rig.records()} == {"kept"}
    rig.close()


def test_the_record_has_what_the_gateway_knows(rig: Rig) -> None:
    rig.policy(content="off", input_cost=2.5, output_cost=10)
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    rig.write(journal_line(1, tenantgate__traceparent=parent))
    rig.step()
    record = only(rig)
    assert (record["cost"]["exact"], record["cost"]["book"]) == ("0.00075", "settings")
    assert record["trace"]["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert record["trace"]["parent_id"] == "b7ad6b7169203331"
    assert record["gen_ai"]["usage"] == {"input_tokens": 100, "output_tokens": 50}
    assert record["verdicts"] == {"guardrails": {"action": "pass"}}
    assert record["response"]["cache_status"] == "Miss"
    assert "203.0.113.9" not in json.dumps(record)
    assert record["client"]["address_hash"]
