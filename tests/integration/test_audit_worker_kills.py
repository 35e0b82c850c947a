"""The worker loses and doubles no record: over kills, a journal begun anew, and a spool or disk that fails."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from audit_rig import Rig, journal_line, sound
from tenantgate.audit import journal_files as audit_journal
from tenantgate.audit.core.chain import verify
from tenantgate.audit.core.ports import Entry, Gap
from tenantgate.audit.core.testing import MemorySpool
from tenantgate.audit.journal_files import QUIET_S, JournalTail
from tenantgate.errors import EdgeError
from tenantgate.tenant import TenantId


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
        None,
        None,
        None,
        [{"from": 1, "to": 2}],
        None,
        None,
        [{"from": 1, "to": 2}],
    ]
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
