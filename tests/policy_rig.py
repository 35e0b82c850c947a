"""A PostgreSQL of one's own, and what tests of the policy directory share."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

import pytest

from tenantgate.policy.core.ports import PolicyStore, PublishNote

KEY: Final = "key-of-the-tests-key-of-the-tests"
NOTE: Final = PublishNote("ops", "a change", 1000.0)


def put(store: PolicyStore, **records: bytes | None) -> int:
    """Publish after whatever is there."""
    return store.publish(records, expected=store.head(), note=NOTE)


class Postgres:
    """A server on a socket in a folder of its own; stopped and started at will."""

    def __init__(self) -> None:
        if not all(map(shutil.which, ("initdb", "pg_ctl", "postgres"))):
            pytest.skip("no PostgreSQL server here")
        # Not below pytest's folder: it refuses to run as root, and others may not enter that one.
        self.folder = Path(tempfile.mkdtemp(prefix="tgpg"))
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam("nobody")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self._data = self.folder / "data"
        self._run("initdb", "--pgdata", self._data, "--auth=trust", "--username=ops", "--no-sync")

    @property
    def conninfo(self) -> str:
        return f"host={self.folder} user=ops dbname=postgres"

    def start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories={self.folder} -c fsync=off"
        self._run("pg_ctl", "-D", self._data, "-l", self.folder / "log", "-o", options, "-w", "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")

    def clear(self) -> None:
        import psycopg

        names = "SELECT tablename FROM pg_tables WHERE tablename LIKE 'tenantgate_%'"
        with psycopg.connect(self.conninfo, autocommit=True) as db:
            for (name,) in db.execute(names).fetchall():
                db.execute(f"DROP TABLE {name}")

    def remove(self) -> None:
        if (self._data / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self.folder)

    def _run(self, *argv: object) -> None:
        done = subprocess.run(
            [str(a) for a in argv],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # a pipe would stay open as long as the server runs
            stderr=subprocess.DEVNULL,
            timeout=120,
            check=False,
            **self._as,
        )
        assert done.returncode == 0, argv[0]
