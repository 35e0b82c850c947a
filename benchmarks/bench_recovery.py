"""For how long tenants are refused when the engine's processes die or stop: ``bench_recovery.py --kong-bin KONG``.

The tenants of `chaos.py` ask all the while, each kind of request twenty times a second at most. One after the other all
processes of the engine are killed; killed with the audit worker; its watchdog is killed alone; all are stopped, and go
on two seconds later. For each kind of request: the seconds from the blow to the end of the last one that ended with
anything but what is always allowed, and how many these were.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import yaml
from chaos import ALLOWED, AUDIT_WORKER, KINDS, Answer, Seen, Site, file_of

from tenantgate.devhost.mcp_stack import api
from tenantgate.devhost.mock_api import document
from tenantgate.devhost.processes import command_pids
from tenantgate.devhost.redis_server import RedisServer, free_port
from tenantgate.devhost.stack import Stack

ASKED: Final = ("noted", "checked", "paid", "several", "tool", "model tool")
PAUSE_S: Final = 0.05
STOPPED_S: Final = 2.0
CALM_S: Final = 5.0
"""Without a failure, and then it is over."""
LONGEST_S: Final = 120.0


def asking(site: Site, seen: Seen, kind: str, stop: threading.Event) -> None:
    """One client."""
    rng = random.Random(kind)
    while not stop.wait(PAUSE_S):
        sent = time.time()
        try:
            end, id_ = KINDS[kind](site, rng)
        except (OSError, http.client.HTTPException, ValueError) as error:
            end, id_ = type(error).__name__, ""
        seen.add(Answer(kind, sent, time.time(), end, id_))


def failed(seen: Seen, since: float) -> list[Answer]:
    """What ended otherwise than it may always."""
    with seen.lock:
        return [a for a in seen.answers if a.ended >= since and a.end not in ALLOWED[a.kind][0]]


def engine(site: Site) -> list[int]:
    """All processes of the engine, the watchdog first."""
    return site.stack.pids("tenantgate")


def workers(site: Site) -> list[int]:
    """The audit worker's."""
    roots = [site.stack.gateway_pid, *engine(site)]
    return [pid for root in roots for pid in command_pids(root, AUDIT_WORKER)]


def whole(site: Site, before: list[int]) -> bool:
    """Whether as many processes as before serve, and none of those that have lost their watchdog."""
    now = engine(site)
    left = [pid for pid in before if pid not in now and Path(f"/proc/{pid}/exe").exists()]
    return not left and len(now) >= len(before) and site.stack.serving("tenantgate") >= len(before) - 1


def send(pids: list[int], number: signal.Signals) -> None:
    """A signal to those that are there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def stopped(site: Site) -> None:
    """All are stopped for a moment."""
    pids = engine(site)
    send(pids, signal.SIGSTOP)
    time.sleep(STOPPED_S)
    send(pids, signal.SIGCONT)


BLOWS: Final[Mapping[str, Callable[[Site], None]]] = {
    "all killed": lambda s: send(engine(s), signal.SIGKILL),
    "and the audit worker": lambda s: send([*engine(s), *workers(s)], signal.SIGKILL),
    "watchdog killed": lambda s: send(engine(s)[:1], signal.SIGKILL),
    "all stopped for 2 s": stopped,
}


def blow(site: Site, seen: Seen, name: str) -> None:
    """One of them, until all is well again."""
    before, began = engine(site), time.time()
    BLOWS[name](site)
    while (now := time.time()) < began + LONGEST_S:
        last = max((a.ended for a in failed(seen, began)), default=began)
        if now > last + CALM_S and whole(site, before):
            break
        time.sleep(0.1)
    found = failed(seen, began)
    for kind in ASKED:
        mine = [a for a in found if a.kind == kind]
        until = max((a.ended for a in mine), default=began) - began
        ends = ", ".join(sorted({a.end for a in mine}))
        print(f"{name:22} {kind:12} {until:6.1f} s {len(mine):5} failed {ends}", flush=True)


def main() -> int:
    """Run all."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--kong-bin", type=Path)
    parser.add_argument("--only", choices=BLOWS, action="append", help="these blows alone")
    parser.add_argument("--log", type=Path, help="where the gateway's error log is copied to")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tg-rec-") as name, contextlib.ExitStack() as exits:
        folder = Path(name)
        server = RedisServer(folder / "redis", maxmemory="0")
        server.start()
        exits.callback(server.stop)
        api_url = exits.enter_context(api())
        (folder / "openapi.json").write_text(json.dumps(document(api_url)))
        ports = [free_port() for _ in range(3)]
        tenants = folder / "tenants.yaml"
        file = file_of(server.port, ports, api_url, "UTC", blocks=False, alias_large=False)
        tenants.write_text(yaml.safe_dump(file))
        stack = exits.enter_context(
            Stack(
                tenants=tenants,
                state_dir=folder / "state",
                kong_bin=args.kong_bin,
                own_redis=False,
                log_level="info",
                policy_store=server.url,
            )
        )
        for port in ports:
            stack.mock_port(port)
        site, seen, stop = Site(stack, server, ports, folder, "UTC"), Seen(), threading.Event()
        for kind in ASKED:
            while KINDS[kind](site, random.Random(0))[0] not in ALLOWED[kind][0]:
                time.sleep(0.1)
        threads = [threading.Thread(target=asking, args=(site, seen, kind, stop)) for kind in ASKED]
        for thread in threads:
            thread.start()
        print(stack.description, flush=True)
        try:
            time.sleep(CALM_S)
            for name_ in args.only or BLOWS:
                blow(site, seen, name_)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            if args.log is not None:
                args.log.write_bytes(stack.error_log.read_bytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
