"""Child processes that don't outlive us: started in a group of their own, ended politely, then not."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from tenantgate.errors import EdgeError

__all__ = ["Child", "Watched", "command_pids", "descendants", "end_all", "read_json", "wait_for"]

T = TypeVar("T")
_POLL_S: Final = 0.02
_GRACE_S: Final = 8.0
# Runs a program until it ends, we ask it to, or our end of the pipe is closed because we are gone.
_GUARD: Final = """
exec 3<&0
"$@" 3<&- </dev/null & child=$!
trap 'kill $child 2>/dev/null' TERM
{ read -r _ <&3; kill $child 2>/dev/null; } & watch=$!
wait $child; status=$?
kill $watch 2>/dev/null
exit $status
"""


class Watched(Protocol):
    """Something that may end by itself."""

    def check(self) -> None:
        """Raise if it ended."""


class Child:
    """A process with its output in a file; nobody waits for its pipe.

    A `foreign` program doesn't watch whether we live; a shell does it for it, and the pid is the shell's. `identity`
    is the user and group that it runs as (arguments of `subprocess.Popen`).
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        environ: Mapping[str, str] | None = None,
        foreign: bool = False,
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _GUARD, name, *argv] if foreign else list(argv),
                stdin=subprocess.PIPE if foreign else subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=dict(environ) if environ is not None else None,
                # Ctrl-C goes to us alone; we end the others in order.
                start_new_session=True,
                **(identity or {}),
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def check(self) -> None:
        """Raise if it ended; its last words are in the message."""
        if not self.running:
            raise EdgeError(f"{self.name} ended with status {self._process.returncode}: {self._last_words()}")

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return lines[-1] if lines else f"see {self.log}"

    def kill(self) -> None:
        """SIGKILL, at once."""
        end_all([*descendants(self.pid), self.pid])
        self._reap()

    def stop(self) -> None:
        """SIGTERM; SIGKILL to whatever of it and its children is left after a while."""
        family = [self.pid, *descendants(self.pid)]
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
                os.kill(self.pid, signal.SIGCONT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_S)
        end_all(family)
        self._reap()

    def _reap(self) -> None:
        self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()


def end_all(pids: Sequence[int]) -> None:
    """SIGKILL to those of `pids` that still run."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def wait_for(get: Callable[[], T | None], child: Watched | None, *, what: str, timeout_s: float) -> T:
    """The first value that isn't None.

    Raises:
        EdgeError: `child` ended meanwhile, or the time is up.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        if child is not None:
            child.check()
        value = get()
        if value is not None:
            return value
        if time.monotonic() > deadline:
            raise EdgeError(f"{what} wasn't ready within {timeout_s:.0f} s")
        time.sleep(_POLL_S)


def read_json(path: Path) -> Any:
    """The file's JSON, or None while it isn't there."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _processes() -> dict[int, tuple[int, str]]:
    """Pid → (parent, command line), of all processes that we may see."""
    found: dict[int, tuple[int, str]] = {}
    if Path("/proc/self/stat").exists():
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError, ValueError):
                    # The command's name stands in brackets and may hold anything, brackets too.
                    rest = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                    if rest[0] != "Z":
                        words = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                        found[int(entry.name)] = (int(rest[1]), words.decode(errors="replace").strip())
        return found
    listed = subprocess.run(
        ["ps", "-axo", "pid=,ppid=,command="], capture_output=True, text=True, check=False
    )
    for line in listed.stdout.splitlines():
        pid, parent, command = line.split(None, 2)
        found[int(pid)] = (int(parent), command)
    return found


def descendants(pid: int) -> list[int]:
    """All children of `pid`, and theirs."""
    processes = _processes()
    found: list[int] = []
    level = {pid}
    while level:
        level = {p for p, (parent, _) in processes.items() if parent in level}
        found += sorted(level)
    return found


def command_pids(root: int, mark: str) -> list[int]:
    """Descendants of `root` whose command line holds `mark`."""
    processes = _processes()
    return [p for p in descendants(root) if mark in processes.get(p, (0, ""))[1]]
