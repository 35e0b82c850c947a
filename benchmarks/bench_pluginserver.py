"""Cost of one event: Tenantgate's plugin server beside kong-pdk's in thread and gevent mode.

    python benchmarks/bench_pluginserver.py [--events 3000]

One client process plays Kong over the socket, with 1 or 8 events in flight, and a plugin makes 0, 1 or 5 PDK
calls. Client and server share the machine, so read ratios. Nothing is gated.
"""

from __future__ import annotations

import argparse
import json
import platform
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgpack

from tenantgate.kong.wire import pack_as_kong

PLUGIN = """
class Plugin:
    def __init__(self, config):
        self.calls = int(config["calls"])

    def access(self, kong):
        for _ in range(self.calls):
            kong.request.get_header("host")

Schema = []
version = "1.0.0"
priority = 1
"""
NAME = "bench"


class Lane:
    """One connection that runs one event after the other."""

    def __init__(self, path: str, instance: int) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        self._begin = pack_as_kong(
            [0, 7, "plugin.HandleEvent", [{"InstanceId": instance, "EventName": "access"}]]
        )
        self._steps: dict[int, bytes] = {}
        self._started = 0.0
        self.times: list[float] = []

    def begin(self) -> None:
        """Send HandleEvent."""
        self._started = time.perf_counter()
        self.sock.sendall(self._begin)

    def advance(self) -> bool:
        """Take one answer; True when the event has ended."""
        _, _, error, result = msgpack.unpackb(self.sock.recv(65536))
        if error is not None:
            raise RuntimeError(error)
        if result["Data"] == "ret":
            self.times.append(time.perf_counter() - self._started)
            return True
        self.sock.sendall(pack_step(result["EventId"]))
        return False


def pack_step(event: int) -> bytes:
    """The answer to a PDK call, packed as cheaply as Python can."""
    return bytes(
        msgpack.packb([0, 7, "plugin.Step", [{"EventId": event, "Data": "localhost"}]], use_bin_type=False)
    )


def drive(path: str, calls: int, lanes: int, events: int) -> tuple[float, float]:
    """Median microseconds of an event, and events per second."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        config = json.dumps({"calls": calls})
        sock.sendall(pack_as_kong([0, 1, "plugin.StartInstance", [{"Name": NAME, "Config": config}]]))
        instance = msgpack.unpackb(sock.recv(65536))[3]["Id"]
    selector = selectors.DefaultSelector()
    running = [Lane(path, instance) for _ in range(lanes)]
    for lane in running:
        selector.register(lane.sock, selectors.EVENT_READ, lane)
    started, done = time.perf_counter(), 0
    for lane in running:
        lane.begin()
    # No event is left half done: a server would wait for its next step, and be short of a worker meanwhile.
    while done < events:
        for key, _ in selector.select():
            if key.data.advance():
                done += 1
                if done + lanes <= events:
                    key.data.begin()
    wall = time.perf_counter() - started
    selector.close()
    for lane in running:
        lane.sock.close()
    return statistics.median(t for lane in running for t in lane.times) * 1e6, done / wall


def servers(folder: Path) -> dict[str, list[str]]:
    """The start commands, by name."""
    stock = [
        str(Path(sys.executable).with_name("kong-python-pluginserver")),
        "-d",
        str(folder / "plugins"),
        "-p",
        str(folder),
        "--no-lua-style",
        "--socket-name",
    ]
    ours = [
        sys.executable,
        "-m",
        "tenantgate.kong.launcher",
        "--plugin",
        str(folder / "plugins" / f"{NAME}.py"),
    ]
    return {
        "tenantgate": [*ours, "--log-level", "error", "--socket", str(folder / "tenantgate.socket")],
        "kong-pdk threads": [*stock, "kong-pdk threads.socket"],
        "kong-pdk gevent": [*stock, "kong-pdk gevent.socket", "-g"],
    }


def wait_for(path: Path) -> None:
    """Until somebody listens at `path`."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with socket.socket(socket.AF_UNIX) as sock:
            if sock.connect_ex(str(path)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"nobody listens at {path}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--events", type=int, default=3000)
    parser.add_argument("--only", default="", help="servers whose name contains this")
    args = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}")
    print(f"{'server':18} {'in flight':>9} {'PDK calls':>9} {'median us':>10} {'events/s':>9}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "plugins").mkdir()
        (folder / "plugins" / f"{NAME}.py").write_text(PLUGIN)
        for server, command in servers(folder).items():
            if args.only in server:
                measure(server, command, folder, args.events)


def measure(server: str, command: list[str], folder: Path, events: int) -> None:
    """Start one server and print its rows."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    path = folder / f"{server}.socket"
    try:
        wait_for(path)
        for lanes in (1, 8):
            for calls in (0, 1, 5):
                drive(str(path), calls, lanes, events // 10)
                median, rate = drive(str(path), calls, lanes, events)
                print(f"{server:18} {lanes:9} {calls:9} {median:10.0f} {rate:9.0f}")
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
