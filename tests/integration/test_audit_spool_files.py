"""The spool in files: crashes, full disks, damaged and removed segments."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from audit_rig import Chain, ids
from tenantgate.audit.files import FileSpool
from tenantgate.audit.segments import stored
from tenantgate.errors import EdgeError


def files(tmp_path: Path, **how: int) -> FileSpool:
    return FileSpool(
        tmp_path,
        ["a"],
        max_records=how.get("most", 1000),
        max_bytes=how.get("most_bytes", 1 << 30),
        segment_entries=10,
    )


@pytest.mark.parametrize("left", [b'{"t":"acme"', b'{"t":"acme","i":"x","s":9}\t{"half', b"\0" * 50])
def test_what_a_crash_left_of_a_line_is_cut_off(tmp_path: Path, left: bytes) -> None:
    spool, chain = files(tmp_path), Chain()
    entries = chain.entries(4)
    spool.append(entries)
    with max(tmp_path.glob("*.seg")).open("ab") as out:
        out.write(left)
    again = files(tmp_path)
    assert again.heads() == chain.heads
    more = chain.entries(1)
    again.append(more)
    assert ids(again, "a") == [e.id for e in (*entries, *more)]


def test_a_full_disk_is_an_error_and_leaves_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, chain = files(tmp_path), Chain()
    kept = chain.entries(2)
    spool.append(kept)
    entries = chain.entries(2)

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(EdgeError, match="No space left"):
            spool.append(entries)
    spool.append(entries)
    assert ids(spool, "a") == [e.id for e in (*kept, *entries)]


def test_beyond_the_bound_the_oldest_records_go_and_that_is_noted(tmp_path: Path) -> None:
    spool, chain = files(tmp_path, most=20), Chain()
    spool.append(chain.entries(10))
    spool.append(chain.entries(10))
    spool.append(chain.entries(10))
    assert spool.trim() == 10
    assert len(ids(spool, "a")) == 20
    noted = json.loads((tmp_path / "dropped").read_bytes())
    assert (noted["records"], noted["numbers"]) == (10, {"acme": [[1, 10]]})


def test_a_replay_is_taken_up(tmp_path: Path) -> None:
    spool, chain = files(tmp_path), Chain()
    entries = chain.entries(15)
    spool.append(entries)
    assert len(ids(spool, "a")) == 15
    (tmp_path / "replay.a").write_text("12")
    assert ids(spool, "a") == [e.id for e in entries[12:]]
    assert [e.id for e in stored(tmp_path)] == [e.id for e in entries]


@pytest.mark.parametrize("left", [b"", b'{"heads":{"acme"'])
def test_a_crash_at_the_beginning_of_a_segment_forgets_no_head(tmp_path: Path, left: bytes) -> None:
    spool, chain = files(tmp_path), Chain()
    entries = chain.entries(10)
    spool.append(entries)
    spool.close()
    (tmp_path / f"{10:020d}.seg").write_bytes(left)
    again = files(tmp_path)
    assert again.heads() == chain.heads
    again.append(entries)
    more = chain.entries(3)
    again.append(more)
    assert ids(files(tmp_path), "a") == [e.id for e in (*entries, *more)]


def test_a_full_disk_at_the_beginning_of_a_segment_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, chain = files(tmp_path), Chain()
    kept, entries = chain.entries(10), chain.entries(2)
    spool.append(kept)

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        for _ in range(2):
            with pytest.raises(EdgeError, match="No space left"):
                spool.append(entries)
    spool.append(entries)
    assert ids(files(tmp_path), "a") == [e.id for e in (*kept, *entries)]


@pytest.mark.parametrize("line", [0, 1, 3, 4])
def test_a_damaged_line_costs_no_more_than_itself(tmp_path: Path, line: int) -> None:
    spool, chain = files(tmp_path), Chain()
    entries = chain.entries(4)
    spool.append(entries)
    path = max(tmp_path.glob("*.seg"))
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line] = b"\xff" + lines[line][1:]
    path.write_bytes(b"".join(lines))
    again = files(tmp_path)
    more = chain.entries(3)
    again.append(more)
    expected = [e.id for e in entries]
    if line:
        del expected[line - 1]
    assert ids(again, "a") == [*expected, *(e.id for e in more)]
    assert ids(files(tmp_path), "a") == []


def test_our_files_are_nobody_elses_and_no_link_is_followed(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    for name in ("cursor.a.new", "dropped", f"{0:020d}.seg"):
        (folder / name).symlink_to(tmp_path / f"elsewhere-{name}")
    with pytest.raises(EdgeError):
        files(folder)
    (folder / f"{0:020d}.seg").unlink()
    spool, chain = files(folder, most=20), Chain()
    for _ in range(3):
        spool.append(chain.entries(10))
    with pytest.raises(EdgeError):
        spool.ack("a", spool.read("a", 1))
    (folder / "cursor.a.new").unlink()
    spool.ack("a", spool.read("a", 1))
    with pytest.raises(EdgeError):
        spool.trim()
    (folder / "dropped").unlink()
    spool.append(chain.entries(10))
    spool.trim()
    assert not list(tmp_path.glob("elsewhere*"))
    assert {p.name: stat.S_IMODE(p.stat().st_mode) for p in folder.iterdir() if p.is_file()} == {
        p.name: 0o600 for p in folder.iterdir()
    }


def test_a_full_disk_while_room_is_made_takes_no_more_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, chain = files(tmp_path, most_bytes=3000), Chain()
    for _ in range(3):
        spool.append(chain.entries(10))

    def full(_file: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(FileSpool, "_sync", staticmethod(full))
        with pytest.raises(EdgeError):
            spool.trim()
    assert not list(tmp_path.glob("*.new"))
    assert len(ids(spool, "a")) == 30
    spool.append(chain.entries(1))


def test_whoever_removes_segments_takes_nothing_from_what_comes_after(tmp_path: Path) -> None:
    spool, chain = files(tmp_path), Chain()
    spool.append(chain.entries(25))
    assert len(ids(spool, "a")) == 25
    for path in tmp_path.glob("*.seg"):
        path.unlink()
    files(tmp_path).append(chain.entries(3))
    again = files(tmp_path)
    assert again.backlog("a") == 3
    assert len(ids(again, "a")) == 3
