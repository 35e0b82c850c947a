"""The worker on a journal: complete, once, in order, redacted; over kills, rotation and a spool that fails."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from audit_rig import Rig, journal_line
from tenantgate.audit import journal_files as audit_journal
from tenantgate.audit.core.chain import verify
from tenantgate.audit.core.ports import Entry, Gap
from tenantgate.audit.core.testing import MemorySpool
from tenantgate.audit.journal_files import QUIET_S, JournalTail
from tenantgate.audit.messages import LeftOut
from tenantgate.audit.recorder import interrupt
from tenantgate.errors import EdgeError
from tenantgate.pii.core import Finding
from tenantgate.telemetry import metrics
from tenantgate.tenant import TenantId

SECRET = "sk-proj-" + "aB3dE5gH7jK9mN1pQ2sT" * 2
CANARIES = ("jane.roe@example.org", "4111 1111 1111 1111", SECRET)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.close()


def only(rig: Rig) -> dict[str, Any]:
    (record,) = rig.records()
    return record


def text_of(record: dict[str, Any], side: str = "input_messages") -> str:
    found: str = record["content"][side][0]["parts"][0]["content"]
    return found


# -- joining ---------------------------------------------------------------------------------------------


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
    ("told", "state"),
    [("nothing", "late"), ("shed", "shed"), ("off", "off"), ("no_policy", "late")],
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


def test_the_journal_is_for_its_owner_alone_also_after_it_was_begun_anew(tmp_path: Path) -> None:
    rig = Rig(tmp_path, config={"journal_megabytes": 1})
    rig.policy(content="off")
    rig.write(journal_line(1)[:-1] + b" " * (1 << 20) + b"\n")
    rig.journal.chmod(0o644)  # as Kong's file-log makes the file
    rig.step()
    assert rig.journal.stat().st_mode & 0o777 == 0o600
    rig.step(after_s=QUIET_S + 3, times=3)
    rig.write(journal_line(2))
    rig.step(after_s=QUIET_S + 3, times=3)
    assert rig.journal.stat().st_size < 1 << 20
    assert rig.journal.stat().st_mode & 0o777 == 0o600
    sound(rig, range(1, 3))
    rig.close()


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


# -- redaction -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("redaction", ["placeholder", "hash", "remove"])
def test_no_personal_data_and_no_secret_gets_into_the_spool(rig: Rig, redaction: str) -> None:
    rig.policy(redaction=redaction, headers=["x-user"])
    prompt = f"I am {CANARIES[0]}, my card is {CANARIES[1]}, the key {CANARIES[2]}"
    rig.content(1, prompt, f"Hello {CANARIES[0]}", **{"x-user": CANARIES[0]})
    rig.write(journal_line(1))
    rig.step()
    (entry,) = rig.spool.entries
    assert not [c for c in CANARIES if c.encode() in entry.record]
    record = only(rig)
    assert record["content"]["state"] == "kept"
    assert record["content"]["redactions"].pop("EMAIL_ADDRESS") == 3
    assert sorted(record["content"]["redactions"].values()) == [1, 1]


def test_escapes_in_the_body_hide_nothing(rig: Rig) -> None:
    rig.policy()
    hidden = "".join(f"\\u{ord(c):04x}" for c in CANARIES[0])
    rig.content(1, b'{"messages":[{"role":"user","content":"' + hidden.encode() + b'"}]}')
    rig.write(journal_line(1))
    rig.step()
    assert text_of(only(rig)) == "[EMAIL_ADDRESS_1]"


@pytest.mark.parametrize(
    "raw",
    [b"", b"jane.roe@example.org", b"\x1f\x8b\x08jane.roe@example.org",
     b'{"messages": 3, "x": "jane.roe@example.org"}',
     b'["jane.roe@example.org"]', b'{"messages":[{"content":"\xff jane.roe@example.org"}]}'],
)  # fmt: skip
def test_a_body_that_is_no_chat_is_not_kept_at_all(rig: Rig, raw: bytes) -> None:
    rig.policy()
    rig.content(1, raw)
    rig.write(journal_line(1, response__status=400, source="kong"))
    rig.step()
    record = only(rig)
    assert record["content"]["state"] == "unreadable"
    assert b"jane" not in rig.spool.entries[0].record


def test_equal_values_have_equal_hashes_within_a_tenant_only(rig: Rig) -> None:
    rig.policy(redaction="hash")
    for n, tenant in ((1, "acme"), (2, "acme"), (3, "bravo")):
        rig.content(n, f"{n}: mail {CANARIES[0]}")
        rig.write(journal_line(n, tenant=tenant))
    rig.step()
    one, two, other = (text_of(r).split(" ", 2)[2] for r in rig.records())
    assert one == two != other


def test_hashed_content_holds_no_text(rig: Rig) -> None:
    rig.policy(content="hashed")
    rig.content(1, "What is a sextant?", "An instrument.")
    rig.content(2, "What is a sextant?", "A thing.")
    rig.write(journal_line(1), journal_line(2))
    rig.step()
    one, two = (r["content"] for r in rig.records())
    assert one["state"] == "hashed"
    assert one["input_messages"] == two["input_messages"]
    assert one["output_messages"] != two["output_messages"]
    assert b"sextant" not in rig.spool.entries[0].record


class _Names:
    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    def find(self, text: str, kinds: frozenset[str]) -> tuple[Finding, ...]:
        if self._error:
            raise self._error
        at = text.find("Zenobia")
        return (Finding(at, at + 7, "PERSON", 0.9),) if at >= 0 else ()


@pytest.mark.parametrize(
    ("names", "state", "reason"),
    [
        (_Names(), "kept", None),
        (None, "redaction_failed", "names_unavailable"),
        (_Names(ValueError("about Zenobia")), "redaction_failed", "error"),
    ],
)
def test_names_are_redacted_or_nothing_is_kept(
    tmp_path: Path, names: _Names | None, state: str, reason: str | None
) -> None:
    rig = Rig(tmp_path, names=names)
    rig.policy(names=True)
    rig.content(1, "I am Zenobia")
    rig.write(journal_line(1))
    rig.step()
    content = only(rig)["content"]
    assert (content["state"], content.get("reason")) == (state, reason)
    assert b"Zenobia" not in rig.spool.entries[0].record
    rig.close()


def test_a_detector_that_never_ends_is_stopped(rig: Rig) -> None:
    class Endless:
        def find(self, text: str, kinds: frozenset[str]) -> tuple[Finding, ...]:
            while True:
                pass

    rig.names = Endless()
    rig.policy(names=True, redaction_timeout_ms=50)
    rig.content(1, "I am Zenobia")
    rig.write(journal_line(1))
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        rig.step()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert only(rig)["content"] == {"state": "redaction_failed", "reason": "timeout"}


def test_a_prompt_beyond_the_bound_is_cut_where_nothing_is_cut_in_two(rig: Rig) -> None:
    rig.policy(max_content_bytes=1000)
    rig.content(1, "x" * 990 + " " + CANARIES[0] + " y" * 5000)
    rig.write(journal_line(1))
    rig.step()
    record = only(rig)
    assert record["content"]["prompt_truncated"] is True
    assert len(text_of(record)) <= 1000
    assert "jane" not in text_of(record)


# -- once, whatever dies ---------------------------------------------------------------------------------


class Flaky(MemorySpool):
    """Fails when told, also after a part was written."""

    failing = ""

    def append(self, entries: Sequence[Entry]) -> None:
        if self.failing == "before":
            raise EdgeError("spool: gone")
        if self.failing == "between":
            super().append(entries[: len(entries) // 2])
            raise EdgeError("spool: gone")
        super().append(entries)
        if self.failing == "after":
            raise EdgeError("spool: gone")

    def set_checkpoint(self, position: int) -> None:
        if self.failing != "checkpoint":
            super().set_checkpoint(position)


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


def test_a_record_tells_what_the_spool_dropped_and_the_chain_goes_on(rig: Rig) -> None:
    rig.policy(content="off")
    rig.write(journal_line(1), journal_line(2, tenant="bravo"), journal_line(3))
    rig.step()
    gap = Gap(TenantId("acme"), ((1, 2),))
    rig.spool.dropped = [gap]
    rig.step(after_s=6, times=2)
    assert not rig.spool.dropped
    rig.spool.dropped = [gap]
    rig.step(after_s=6, times=2)
    assert rig.spool.dropped, "nowhere to put it before the next line"
    rig.kill()
    rig.write(journal_line(4), journal_line(5, tenant="bravo"))
    rig.policy(content="off")
    rig.step(after_s=6, times=3)
    records = rig.records()
    assert [r.get("gap", {}).get("numbers") for r in records] == [
        None, None, None, [{"from": 1, "to": 2}], None, None, [{"from": 1, "to": 2}],
    ]  # fmt: skip
    assert all(r["tenant"] == "acme" for r in records if "gap" in r)
    assert verify(e.record for e in rig.spool.entries).sound
    left = [e.record for e in rig.spool.entries if str(e.tenant) != "acme" or e.seq > 2]
    report = verify(left)
    assert (report.sound, report.dropped) == (True, {("acme", "node-1"): ((1, 2),)})


def test_positions_of_another_gateway_s_journal_hide_no_line(tmp_path: Path) -> None:
    spool = MemorySpool()
    other = Rig(tmp_path / "a", spool=spool)
    other.folder.mkdir()
    other.policy(content="off")
    other.write(*(journal_line(n) for n in range(1, 6)))
    other.step(times=2)
    other.close()
    mine = Rig(tmp_path / "b", spool=spool)
    mine.folder.mkdir()
    mine.policy(content="off")
    mine.write(journal_line(6))
    spool._checkpoint, heads, spool._heads = 0, spool._heads, {}
    mine.step(times=2)  # the journal is known, and lines of it were processed
    spool._heads, spool.entries[:] = heads, spool.entries[:5]
    mine.kill()
    spool.taken_over = True
    mine.policy(content="off")
    mine.write(journal_line(7))
    mine.step(after_s=3, times=3)
    assert mine.ids() == [1, 2, 3, 4, 5, 6, 7]
    assert verify(e.record for e in spool.entries).sound
    mine.close()


def test_a_disk_on_which_nothing_can_be_noted_makes_the_journal_wait(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.policy(content="off")
    rig.write(journal_line(1))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(audit_journal, "write_whole", full)
        rig.step(after_s=3, times=3)
        assert not rig.records()
    rig.step(after_s=3, times=2)
    rig.journal.rename(rig.journal.with_suffix(".moved"))
    rig.write(journal_line(2))
    with monkeypatch.context() as patched:
        patched.setattr(audit_journal, "write_whole", full)
        rig.step(after_s=3, times=4)
        assert rig.ids() == [1]
    rig.step(after_s=QUIET_S + 1, times=4)
    rig.step(after_s=QUIET_S + 1, times=4)
    assert rig.ids() == [1, 2]
    sound(rig, range(1, 3))


def sound(rig: Rig, numbers: range) -> None:
    assert sorted(rig.ids()) == list(numbers)
    report = verify(e.record for e in rig.spool.entries)
    assert (report.faults, report.beginnings, report.restarts) == ((), {}, {})


@pytest.mark.parametrize("failing", ["before", "between", "after"])
def test_a_failing_spool_loses_and_doubles_nothing(tmp_path: Path, failing: str) -> None:
    rig = Rig(tmp_path, spool=Flaky())
    rig.policy(content="off")
    rig.step()
    rig.spool.failing = failing
    rig.write(*(journal_line(n, tenant=f"t{n % 3}") for n in range(1, 21)))
    rig.step(times=3)
    rig.spool.failing = ""
    rig.step(after_s=5, times=3)
    sound(rig, range(1, 21))
    rig.close()


@pytest.mark.parametrize("failing", ["", "checkpoint", "between", "after"])
def test_kills_at_any_moment_lose_and_double_nothing(tmp_path: Path, failing: str) -> None:
    rig = Rig(tmp_path, spool=Flaky())
    total = 0
    for life in range(6):
        rig.policy()
        rig.spool.failing = failing if life % 2 == 0 else ""
        for _ in range(4):
            for _ in range(5):
                total += 1
                rig.write(journal_line(total, tenant=f"t{total % 3}"))
                if total % 4:
                    rig.content(total, f"question {total}")
            rig.step(after_s=0.6)
        rig.kill()
    rig.spool.failing = ""
    rig.step()
    rig.step(after_s=3, times=3)
    sound(rig, range(1, total + 1))
    rig.close()


def test_no_position_is_noted_before_its_line_is_on_disk(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.policy(content="off")
    rig.step()
    synced: list[int] = []
    append = rig.spool.append

    def checked(entries: Sequence[Entry]) -> None:
        assert synced.pop() == rig.journal.stat().st_ino
        append(entries)

    monkeypatch.setattr(rig.spool, "append", checked)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_ino))
        for number in range(1, 4):
            rig.write(journal_line(number))
            rig.step()
    assert rig.ids() == [1, 2, 3]
    assert not [number for number in synced if number == rig.journal.stat().st_ino]


@pytest.mark.parametrize("failing", ["spool", "journal"])
def test_while_nothing_can_be_written_the_worker_rests(
    tmp_path: Path, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise EdgeError("full") if failing == "spool" else OSError(28, "No space left on device")

    rig = Rig(tmp_path)
    owner, name = (rig.spool, "append") if failing == "spool" else (audit_journal, "write_whole")
    monkeypatch.setattr(owner, name, full)
    rig.policy(content="off")
    rig.write(*(journal_line(n) for n in range(1, 2000)))
    for _ in range(20):
        rig.step()
        assert rig.worker.pause_s() > 0
        rig.now += rig.worker.pause_s()
    rig.close()


def test_the_journal_is_begun_anew_and_nothing_is_lost(tmp_path: Path) -> None:
    rig = Rig(tmp_path, config={"journal_megabytes": 1})
    rig.policy(content="off")
    rig.step()
    padding = " " * 100_000
    late = None
    for n in range(1, 41):
        if late is None:
            # As Kong does: opened, perhaps written only after the file was renamed.
            late = rig.journal.open("ab") if n == 12 else None
        line = journal_line(n)[:-1] + padding.encode() + b"\n"
        if late is not None and n == 13:
            late.write(line)
            late.close()
            late = None
        else:
            rig.write(line)
        rig.step(after_s=3)
        if n % 7 == 0:
            rig.kill()
            rig.policy(content="off")
            rig.step()
    rig.step(after_s=QUIET_S + 3, times=3)
    rig.step(after_s=QUIET_S + 3, times=3)
    sound(rig, range(1, 41))
    assert rig.journal.stat().st_size < 2 << 20
    assert len(list(tmp_path.glob("journal.jsonl.*"))) <= 1
    rig.close()


@pytest.mark.parametrize("how", ["deleted", "replaced", "emptied"])
@pytest.mark.parametrize("running", [True, False])
def test_a_journal_that_somebody_replaced_goes_on_with_new_positions(
    tmp_path: Path, how: str, running: bool
) -> None:
    rig = Rig(tmp_path)
    rig.policy(content="off")
    rig.write(*(journal_line(n) for n in range(1, 4)))
    rig.step()
    rig.step(after_s=2)
    if not running:
        rig.kill()
    if how == "emptied":
        rig.journal.write_bytes(b"")
    else:
        rig.journal.unlink()
    if running:
        rig.step()
    rig.write(*(journal_line(n) for n in range(4, 9)))
    rig.policy(content="off")
    for _ in range(4):
        rig.step(after_s=QUIET_S + 0.1)
    sound(rig, range(1, 9))
    rig.close()


def test_a_lost_state_folder_makes_no_positions_twice(rig: Rig) -> None:
    rig.policy(content="off")
    rig.write(*(journal_line(n) for n in range(1, 4)))
    rig.step()
    rig.step(after_s=2)
    rig.kill()
    rig.journal.unlink()
    (rig.folder / "journal.json").unlink()
    rig.write(*(journal_line(n) for n in range(4, 12)))
    rig.policy(content="off")
    rig.step(after_s=1, times=3)
    sound(rig, range(1, 12))


def test_at_the_end_all_that_is_there_gets_into_the_spool(rig: Rig) -> None:
    rig.policy()
    rig.content(1, "with content")
    rig.write(*(journal_line(n) for n in range(1, 6)))
    rig.worker  # noqa: B018 - made before its channel ends
    rig.line.close()
    rig.worker.run()
    sound(rig, range(1, 6))
    states = [r["content"]["state"] for r in rig.records()]
    assert states == ["kept", "lost", "lost", "lost", "lost"]
    assert rig.spool.checkpoint() == rig.journal.stat().st_size


def test_the_record_has_what_the_gateway_knows(rig: Rig) -> None:
    rig.policy(content="off", input_cost=2.5, output_cost=10)
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    rig.write(journal_line(1, tenantgate__traceparent=parent))
    rig.step()
    record = only(rig)
    assert record["cost"] == {"amount": 0.00075, "source": "prices"}
    assert record["trace"]["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert record["trace"]["parent_id"] == "b7ad6b7169203331"
    assert record["gen_ai"]["usage"] == {"input_tokens": 100, "output_tokens": 50}
    assert record["verdicts"] == {"guardrails": {"action": "pass"}}
    assert record["response"]["cache_status"] == "Miss"
    assert "203.0.113.9" not in json.dumps(record)
    assert record["client"]["address_hash"]


def test_a_renamed_journal_stays_until_all_of_it_is_in_the_spool(tmp_path: Path) -> None:
    rig = Rig(tmp_path, config={"journal_megabytes": 1, "wait_ms": 60_000})
    rig.policy()
    rig.write(journal_line(1)[:-1] + b" " * (1 << 20) + b"\n", journal_line(2))
    rig.step(after_s=6, times=2)
    names = sorted(p.name for p in tmp_path.glob("journal.jsonl*"))
    assert names == ["journal.jsonl", "journal.jsonl." + "0" * 20]
    rig.write(journal_line(3))
    for _ in range(4):
        rig.step(after_s=QUIET_S + 1)
    assert rig.ids() == []
    rig.kill()
    rig.policy()
    rig.step()
    for _ in range(5):
        rig.step(after_s=61)
    sound(rig, range(1, 4))
    assert [p.name for p in tmp_path.glob("journal.jsonl*")] == ["journal.jsonl"]
    rig.close()


def test_a_line_that_was_being_written_when_the_journal_was_renamed_comes_first(tmp_path: Path) -> None:
    now = 0.0
    path = tmp_path / "journal"
    path.write_bytes(b"one\n")
    tail = JournalTail(path, tmp_path, known_end=0, clock=lambda: now)
    assert [line.raw for line in tail.read(1000)] == [b"one"]
    with path.open("ab") as opened:
        assert tail.rotate(1)
        path.write_bytes(b"three\n")
        tail.processed = tail.position
        assert tail.read(1000) == []
        now += QUIET_S - 0.1
        assert tail.read(1000) == []
        opened.write(b"two\n")
        opened.flush()
        assert [line.raw for line in tail.read(1000)] == [b"two"]
    tail.processed = tail.position
    now += QUIET_S - 0.1
    assert tail.read(1000) == []
    now += 0.2
    assert tail.read(1000) == []
    (three,) = tail.read(1000)
    assert (three.raw, three.start) == (b"three", 8)
    tail.close()


def test_a_journal_whose_end_was_lost_with_the_machine_doubles_nothing(rig: Rig) -> None:
    rig.policy(content="off")
    lines = [journal_line(n) for n in range(1, 7)]
    rig.write(*lines)
    rig.step()
    rig.step(after_s=2)
    rig.kill()
    rig.journal.write_bytes(b"".join(lines[:3]))  # the spool had it on its disk, the journal had not
    rig.policy(content="off")
    rig.step()
    rig.write(*(journal_line(n) for n in range(7, 11)))
    rig.step(after_s=2)
    rig.kill()
    rig.policy(content="off")
    rig.step(after_s=2, times=2)
    sound(rig, range(1, 11))
