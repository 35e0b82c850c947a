"""Starts real plugin servers for the contract tests."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tenantgate.kong.testing import KongClient

LAUNCHER = ("-m", "tenantgate.kong.launcher")
PLUGINS = Path(__file__).parent / "plugins"


@dataclass
class Launched:
    """A plugin server that runs."""

    process: subprocess.Popen[bytes]
    socket: Path
    name: str
    log: Path

    @staticmethod
    def eventually(check: Callable[[], Any], *, seconds: float = 15.0) -> Any:
        """The first true value of `check`; what it raises counts as false until time is up."""
        until = time.monotonic() + seconds
        while True:
            try:
                if found := check():
                    return found
            except OSError:
                if time.monotonic() > until:
                    raise
            if time.monotonic() > until:
                raise AssertionError("did not become true in time")
            time.sleep(0.01)

    def client(self, timeout_s: float = 10.0) -> KongClient:
        return KongClient(self.socket, timeout_s=timeout_s)

    def http(self, path: str, accept: str = "*/*") -> tuple[int, str]:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(self.socket.with_name(f"{self.socket.stem}.metrics.socket")))
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n".encode())
            data = b""
            while chunk := sock.recv(65536):
                data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), body.decode()

    def pids(self) -> list[int]:
        """The processes that take events, of a server with several."""
        return [one["pid"] for one in self.health()["processes"] if one["ready"]]

    def health(self) -> dict[str, Any]:
        return json.loads(self.http("/healthz")[1])

    def ready(self) -> None:
        self.eventually(lambda: self.http("/readyz")[0] == 200)

    def metric(self, series: str) -> float:
        for line in self.http("/metrics")[1].splitlines():
            if line.startswith(series + " "):
                return float(line.rpartition(" ")[2])
        return 0.0

    def logged(self) -> str:
        return self.log.read_text()


Launch = Callable[..., Launched]


@contextlib.contextmanager
def launching() -> Iterator[Launch]:
    with tempfile.TemporaryDirectory(prefix="tg-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)

        def launch(
            plugin: str, *options: str, path: Path | None = None, program: Sequence[str] = LAUNCHER
        ) -> Launched:
            count = len(list(folder.glob("*.log")))
            path = path or folder / f"{count}.socket"
            log = folder / f"{count}.log"
            with log.open("wb") as out:
                process = subprocess.Popen(
                    [
                        sys.executable,
                        *program,
                        "--plugin",
                        str(PLUGINS / f"{plugin}.py"),
                        "--socket",
                        str(path),
                        *options,
                    ],
                    stderr=out,
                    stdout=out,
                    env={**os.environ, "PYTHONPATH": ""},
                )
            stack.callback(process.wait)
            stack.callback(process.kill)  # asked to end it waits for what a test has left in progress
            return Launched(process, path, plugin, log)

        yield launch


@pytest.fixture
def launch() -> Iterator[Launch]:
    with launching() as launch:
        yield launch


@pytest.fixture(scope="session")
def launched() -> Iterator[Launch]:
    """As `launch`, for servers that several tests use."""
    with launching() as launch:
        yield launch


@pytest.fixture(scope="session", params=["1", "2"], ids=["one process", "two processes"])
def faulty(request: pytest.FixtureRequest) -> Iterator[Launched]:
    """One server for all tests that leave it healthy."""
    with launching() as launch:
        server = launch("faulty", "--processes", request.param)
        server.ready()
        yield server


@pytest.fixture
def kong(faulty: Launched) -> Iterator[KongClient]:
    with faulty.client() as client:
        yield client
