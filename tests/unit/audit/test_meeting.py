"""The lock and the socket of a state folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tenantgate.audit.meeting import SOCKET, connect, listen, lock, peer


@pytest.mark.parametrize("name", ["short", "long/" * 40])
def test_who_connects_meets_who_listens(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir(parents=True)
    assert connect(folder) is None
    with listen(folder) as listener:
        line = connect(folder)
        assert line is not None
        assert peer(line) == (os.getpid(), os.geteuid())
        with line, listener.accept()[0] as accepted:
            line.sendall(b"x")
            assert accepted.recv(1) == b"x"
    assert connect(folder) is None, "a socket that was left"
    with listen(folder):
        again = connect(folder)
        assert again is not None
        again.close()


def test_only_the_owner_may_connect(tmp_path: Path) -> None:
    with listen(tmp_path):
        assert (tmp_path / SOCKET).stat().st_mode & 0o777 == 0o600


def test_another_user_s_socket_is_no_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = os.geteuid()
    with listen(tmp_path):
        monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
        assert connect(tmp_path) is None


def test_one_at_a_time_has_the_lock_and_a_child_that_got_it_keeps_it(tmp_path: Path) -> None:
    held = lock(tmp_path)
    assert held is not None
    assert lock(tmp_path) is None
    with subprocess.Popen([sys.executable, "-c", "input()"], pass_fds=[held], stdin=subprocess.PIPE) as child:
        os.close(held)
        assert lock(tmp_path) is None
        child.kill()
    held = lock(tmp_path)
    assert held is not None
    os.close(held)


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="lock"):
        lock(tmp_path)
    assert not (tmp_path / "elsewhere").exists()
