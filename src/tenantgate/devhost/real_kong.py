"""A real Kong as a part of the stack: started with its own prefix, ended with all its children."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tenantgate.devhost import kong_conf
from tenantgate.devhost.processes import descendants, end_all, wait_for
from tenantgate.errors import ConfigError, EdgeError

__all__ = ["RealKong", "find"]

_START_S: Final = 60.0


def find(environ: Mapping[str, str] | None = None) -> Path:
    """The `kong` of ``KONG_BIN``, or on PATH.

    Raises:
        ConfigError: there is none.
    """
    env = os.environ if environ is None else environ
    found = env.get("KONG_BIN") or shutil.which("kong", path=env.get("PATH"))
    if not found or not Path(found).is_file():
        raise ConfigError("no Kong found: set KONG_BIN to its `kong`, or put it on PATH")
    return Path(found)


class RealKong:
    """One Kong; `kong start` makes a daemon of it."""

    def __init__(self, binary: Path, conf: Path, prefix: Path, *, log: Path) -> None:
        self._binary = binary
        self._conf = conf
        self._prefix = prefix
        self._log = log
        self.pid = 0

    @staticmethod
    def settings() -> dict[str, str]:
        """Settings for a Kong of one's own: one worker, and files that its worker can read."""
        own = {"nginx_worker_processes": "1"}
        return {**own, "nginx_user": "root"} if os.geteuid() == 0 else own

    def migrate(self, environ: Mapping[str, str]) -> None:
        """Make the tables of its database, or bring them to its version.

        Raises:
            EdgeError: it said why not.
        """
        said = self._run(environ, "migrations", "bootstrap")
        if "already bootstrapped" in said.lower():
            self._run(environ, "migrations", "up")
            self._run(environ, "migrations", "finish")

    def start(self, environ: Mapping[str, str]) -> None:
        """Start it.

        Raises:
            EdgeError: it said why not.
        """
        self._run(environ, "start")
        self.pid = wait_for(self._read_pid, None, what="Kong", timeout_s=_START_S)

    def reload(self, environ: Mapping[str, str]) -> None:
        """Have it read its files again; returns before the old workers have ended.

        Raises:
            EdgeError: it said why not.
        """
        self._run(environ, "reload")

    def _run(self, environ: Mapping[str, str], *words: str) -> str:
        """One command of `kong`; what it says."""
        command = [str(self._binary), *words, "-c", str(self._conf), "-p", str(self._prefix)]
        # Some builds bring a path of their own in the environment, which comes before the file's.
        lua_path = {"KONG_LUA_PACKAGE_PATH": kong_conf.load(self._conf).lua_package_path}
        done = subprocess.run(
            command,
            env={**environ, **lua_path},
            capture_output=True,
            text=True,
            timeout=_START_S,
            check=False,
        )
        text = done.stdout + done.stderr
        self._log.write_text(text, encoding="utf-8")
        if done.returncode != 0:
            said = [line for line in text.splitlines() if "error" in line.lower()]
            raise EdgeError(f"kong {' '.join(words)}: {said[0] if said else f'see {self._log}'}")
        return text

    def _read_pid(self) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            return int((self._prefix / "pids" / "nginx.pid").read_text())
        return None

    def check(self) -> None:
        """Raise if it ended."""
        try:
            os.kill(self.pid, 0)
        except OSError as error:
            raise EdgeError(f"Kong ended; see {self._prefix}/logs/error.log") from error

    def stop(self) -> None:
        """End it and everything that it started."""
        if not self.pid:
            return
        family = [self.pid, *descendants(self.pid)]
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        with contextlib.suppress(EdgeError):
            wait_for(self._gone, None, what="Kong's end", timeout_s=5.0)
        end_all(family)
        self.pid = 0

    def _gone(self) -> bool | None:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        return None
