"""A file that others delete, replace, damage or forbid."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from policy_rig import NOTE
from tenantgate.errors import ConfigError
from tenantgate.policy import sqlite_file
from tenantgate.policy.core.ports import DamagedError, UnavailableError
from tenantgate.policy.sqlite_store import SqlitePolicyStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "policy.db"


def published(path: Path, body: bytes) -> SqlitePolicyStore:
    store = SqlitePolicyStore(path)
    store.publish({"acme": body}, expected=store.head(), note=NOTE)
    return store


def test_reading_makes_no_file(path: Path) -> None:
    assert SqlitePolicyStore(path).head() == 0
    assert not path.exists()


def test_group_may_read_the_file_and_others_nothing(path: Path) -> None:
    before = os.umask(0)
    try:
        store = published(path, b"1")
        for each in path.parent.iterdir():
            assert stat.S_IMODE(each.stat().st_mode) == 0o640, each.name
    finally:
        os.umask(before)
    store.close()


def test_nothing_is_left_beside_the_file(path: Path) -> None:
    published(path, b"1").close()
    assert [each.name for each in path.parent.iterdir()] == ["policy.db"]


def test_another_file_under_the_name_is_read_from_then_on(path: Path, tmp_path: Path) -> None:
    store, reader = published(path, b"1"), SqlitePolicyStore(path)
    assert reader.record("acme") == b"1"
    published(tmp_path / "other.db", b"2").close()
    opened = store.opened
    (tmp_path / "other.db").replace(path)  # the log of the old one stays
    assert (store.record("acme"), reader.record("acme")) == (b"2", b"2")
    assert store.opened == opened + 1
    assert store.publish({"acme": b"3"}, expected=1, note=NOTE) == 2
    assert reader.record("acme") == b"3"


@pytest.mark.parametrize("logs", [True, False])
@pytest.mark.parametrize(("keep", "said"), [(True, b"1"), (False, None)])
def test_a_deleted_file_is_read_on_if_asked_for(
    path: Path, keep: bool, said: bytes | None, logs: bool
) -> None:
    writer = published(path, b"1")
    store = SqlitePolicyStore(path, keep_deleted=keep)
    assert store.record("acme") == b"1"
    for each in sqlite_file.files_of(path)[: 3 if logs else 1]:
        each.unlink(missing_ok=True)
    assert store.record("acme") == said
    new = SqlitePolicyStore(path)
    assert new.publish({"acme": b"2"}, expected=0, note=NOTE) == 1
    assert (store.record("acme"), writer.record("acme")) == (b"2", b"2")
    for each in (new, store, writer):
        each.close()


def test_who_writes_makes_a_deleted_file_anew(path: Path) -> None:
    store = published(path, b"1")
    for each in sqlite_file.files_of(path):
        each.unlink(missing_ok=True)
    assert store.publish({"acme": b"2"}, expected=0, note=NOTE) == 1
    assert SqlitePolicyStore(path).record("acme") == b"2"


@pytest.mark.parametrize(
    "content", [b"no database, but of some length" * 99, b"SQLite format 3\0" + b"\xff" * 4096]
)
def test_a_damaged_file_is_said_to_be(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    store = SqlitePolicyStore(path)
    for call in (store.head, lambda: store.publish({}, expected=0, note=NOTE)):
        with pytest.raises(DamagedError, match=r"policy.db: is damaged"):
            call()
    assert path.read_bytes() == content


def test_another_programs_database_is_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t (a)")
    with pytest.raises(ConfigError, match="isn't a policy directory"):
        SqlitePolicyStore(path).publish({}, expected=0, note=NOTE)


def test_a_file_of_another_version_of_the_product_is_left_alone(path: Path) -> None:
    published(path, b"1").close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(DamagedError, match="another version"):
        SqlitePolicyStore(path).head()


def test_a_writer_waits_for_another_one_no_longer_than_it_may(path: Path) -> None:
    store = published(path, b"1")
    other = SqlitePolicyStore(path, busy_s=0.01)
    with store._file.write():
        assert other.record("acme") == b"1"  # a reader doesn't wait
        with pytest.raises(UnavailableError, match="another process writes it"):
            other.publish({}, expected=1, note=NOTE)


def test_a_full_disk_undoes_what_was_begun(path: Path) -> None:
    store = published(path, b"1")
    with store._file.read() as db:
        assert db is not None
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(UnavailableError, match="disk is full"):
        store.publish({"acme": bytes(100_000)}, expected=1, note=NOTE)
    assert (store.head(), store.record("acme")) == (1, b"1")


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that a user without rights can enter."""
    made = Path(tempfile.mkdtemp(prefix="tgpolicy"))
    made.chmod(0o755)
    yield made
    made.chmod(0o755)
    shutil.rmtree(made)


def test_where_nothing_can_be_written_it_says_so(public: Path) -> None:
    path = public / "policy.db"
    published(path, b"1").close()
    path.chmod(0o444)
    public.chmod(0o555)
    program = """
import os, sys
from pathlib import Path
from tenantgate.errors import TenantgateError
from tenantgate.policy.core.ports import PublishNote
from tenantgate.policy.sqlite_store import SqlitePolicyStore
if not os.geteuid():
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for name in ("policy.db", "new.db"):
    try:
        SqlitePolicyStore(Path(sys.argv[1]) / name).publish({}, expected=0, note=PublishNote("", "", 0.0))
    except TenantgateError as error:
        print(type(error).__name__, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(public)], capture_output=True, text=True, check=False
    )
    first, second = done.stdout.splitlines()
    assert "UnavailableError" in first
    assert "accessible for this user" in first or "read-only" in first
    assert second == f"UnavailableError {public}/new.db: can't be made: Permission denied"


def test_on_a_read_only_mount_it_reads_without_a_log_and_notices_writers(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(path, b"1").close()
    connected = sqlite_file.SqliteFile._connected

    def refusing(self: sqlite_file.SqliteFile, options: str) -> sqlite3.Connection:
        if options == "mode=rw" and not self._log.exists():
            raise sqlite3.OperationalError("unable to open database file")
        return connected(self, options)

    monkeypatch.setattr(sqlite_file.SqliteFile, "_connected", refusing)
    monkeypatch.setattr(sqlite_file, "_read_only_mount", lambda _path: True)
    reader = SqlitePolicyStore(path)
    assert reader.record("acme") == b"1"
    assert [each.name for each in path.parent.iterdir()] == ["policy.db"]
    monkeypatch.undo()  # the writer has the file system another way
    writer = published(path, b"2")
    assert reader.record("acme") == b"2"
    writer.close()
    assert reader.record("acme") == b"2"


def test_a_forked_process_opens_the_file_anew(path: Path) -> None:
    store = published(path, b"1")
    opened = store.opened
    child = os.fork()
    if not child:
        ok = False
        try:
            ok = store.head() == 1 and store.opened == opened + 1
            ok = (
                ok
                and store.record("acme") == b"1"
                and store.publish({"acme": b"2"}, expected=1, note=NOTE) == 2
            )
        finally:
            os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.record("acme") == b"2"
    assert store.publish({"acme": b"3"}, expected=2, note=NOTE) == 3
