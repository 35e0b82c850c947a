"""Traffic while tenants, keys, rules and models change: failed requests, and how long each change takes to act.

    python benchmarks/live_changes.py --kong-bin /path/to/kong [--postgres] [--seconds 60] [--rate 500] [--seed 1]

Clients ask at a fixed rate (or as fast as the machine lets them), by keys and models that no change takes away.
Meanwhile, one after the other and drawn at random: a tenant comes or goes, a key of a tenant is added or
taken away, a rule goes from alert to block or back, an alias moves to another model. Each change is `tenantgate apply`,
as its operator runs it, in a process of its own. While it runs a probe asks, until five answers in a row are as the
change has them; the first of these counts, from the moment at which the command began to change anything, whether that
was in Kong or in the policies. A request fails if its answer isn't 200, or none comes. The clients begin when the node
has answered once: until then an engine doesn't know where its policies are. Without --kong-bin on the embedded host;
--postgres starts a PostgreSQL for Kong and the policies.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

import yaml

from tenantgate.bench.live import Clients, holds
from tenantgate.devhost.stack import Stack

STEADY: Final = ("acme", "globex", "initech")
SPARE: Final = ("north", "south", "east")
WORD: Final = "codename-bluebird"
WITHIN_S: Final = 120.0
"""Seconds that a change may take to act at all."""
LIMIT_S: Final = 2.0
"""The most that a change may take to act, from the beginning of its publication."""
KEY_LIMIT_S: Final = 10.0
"""The same, of keys and tenants where Kong has a database, which its workers poll."""
STEP: Final = re.compile(r"\((\d+\.\d) s\)$")
"""The end of a line of `tenantgate apply` about a step that is done: the seconds that it took."""


@dataclass
class Desired:
    """What tenants.yaml says now."""

    tenants: set[str] = field(default_factory=set)
    second_keys: set[str] = field(default_factory=set)
    blocks: bool = False
    alias_large: bool = False

    def text(self) -> str:
        """The file."""
        return yaml.safe_dump(
            {"version": 1, "tenants": [self._tenant(name) for name in (*STEADY, *sorted(self.tenants))]}
        )

    def _tenant(self, name: str) -> dict[str, Any]:
        names = [name, *([f"{name}_b"] if name in self.second_keys else [])]
        mode = "block" if self.blocks else "alert"
        alias = ["fast"]
        models: list[dict[str, Any]] = [
            {"provider": "mock", "model": "mock-small"},
            {"provider": "mock", "model": "mock-large"},
        ]
        models[int(self.alias_large)]["aliases"] = alias
        made: dict[str, Any] = {
            "id": name,
            "api_keys": [f'${{{{ env "DECK_{n.upper()}" }}}}' for n in names],
            "models": models,
            "cache": {"enabled": False},
        }
        if name == "acme":
            made["guardrails"] = {
                "rules": [
                    {
                        "name": "word",
                        "detector": "patterns",
                        "mode": mode,
                        "patterns": [{"name": "BIRD", "regex": WORD}],
                    }
                ]
            }
        return made


class Site:
    """The gateway and its file."""

    def __init__(self, stack: Stack, file: Path) -> None:
        self.stack, self.file = stack, file
        self.port = int(stack.proxy_url.rpartition(":")[2])

    def apply(self, accept: Callable[[], bool]) -> tuple[float, float]:
        """Run `tenantgate apply`; its seconds, and those from its first step until the change acts."""
        command = [sys.executable, "-m", "tenantgate.cli", "apply", str(self.file), "--state-dir"]
        command.append(str(self.stack.secrets_file.parent))
        start, said, steps = time.monotonic(), list[str](), list[float]()
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as running:

            def read() -> None:
                for line in running.stdout or ():
                    said.append(line)
                    if found := STEP.search(line.rstrip()):
                        steps.append(time.monotonic() - float(found[1]))

            reader = threading.Thread(target=read)
            reader.start()
            acted = holds(accept, within_s=WITHIN_S, what="the change")
            reader.join()
        if running.returncode or not steps:
            raise SystemExit(f"apply: {''.join(said)}")
        return time.monotonic() - start, acted - steps[0]

    def ask(self, key: str, model: str, text: str) -> tuple[int, str]:
        """Status and model of one answer."""
        return asked(self.port, key, model, text)


def asked(port: int, key: str, model: str, text: str) -> tuple[int, str]:
    """Status and model of one answer of the gateway at a port, on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": text}]})
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", body, headers)
        response = connection.getresponse()
        answer = response.read()
        found = json.loads(answer).get("model", "") if response.status == 200 else ""
        return response.status, str(found)
    finally:
        connection.close()


class Traffic:
    """Clients that ask at a rate."""

    def __init__(self, site: Site, rate: float, clients: int) -> None:
        self._site, self._rate, self._count = site, rate, clients
        self._clients = Clients(clients, self._run)
        self.answers: Counter[str] = Counter()
        self.late = 0
        self.failed_at: list[float] = []
        self.began = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Ask while the block runs."""
        self.began = time.monotonic()
        with self._clients.running():
            yield

    def _run(self, number: int, stop: threading.Event) -> None:
        every = self._count / self._rate
        key = key_of(STEADY[number % len(STEADY)])
        body = json.dumps(
            {
                "model": ("mock-small", "fast")[number % 2],
                "messages": [{"role": "user", "content": "What does it cost?"}],
            }
        )
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection("127.0.0.1", self._site.port, timeout=20)
        due = time.monotonic() + every * number / self._count
        while not stop.is_set():
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                connection.request("POST", "/v1/chat/completions", body, headers)
                response = connection.getresponse()
                response.read()
                said = str(response.status)
            except (OSError, http.client.HTTPException) as error:
                said = type(error).__name__
                connection.close()
            self.answers[said] += 1
            if said != "200":
                self.failed_at.append(round(time.monotonic() - self.began, 1))
            due += every
            if due < time.monotonic() - 1.0:  # the machine can't keep up: no burst follows
                self.late += 1
                due = time.monotonic()


def key_of(name: str) -> str:
    """The client key that the environment has under this name."""
    return os.environ[f"DECK_{name.upper()}"]


def change(site: Site, desired: Desired, kind: str, draw: random.Random) -> tuple[str, Callable[[], bool]]:
    """One change of the file: its name, and what holds when it acts."""
    if kind == "tenant":
        name = draw.choice(SPARE)
        coming = name not in desired.tenants
        (desired.tenants.add if coming else desired.tenants.remove)(name)
        desired.second_keys.discard(name)
        return (
            f"tenant {'comes' if coming else 'goes'}",
            lambda: site.ask(key_of(name), "mock-small", "Hi")[0] == (200 if coming else 401),
        )
    if kind == "key":
        name = draw.choice((*STEADY, *sorted(desired.tenants)))
        coming = name not in desired.second_keys
        (desired.second_keys.add if coming else desired.second_keys.remove)(name)
        return (
            f"key {'comes' if coming else 'goes'}",
            lambda: site.ask(key_of(f"{name}_b"), "mock-small", "Hi")[0] == (200 if coming else 401),
        )
    if kind == "rule":
        desired.blocks = not desired.blocks
        wanted = 200 if not desired.blocks else 400
        return (
            f"rule {'blocks' if desired.blocks else 'alerts'}",
            lambda: (site.ask(key_of("acme"), "mock-small", WORD)[0] == 200) == (wanted == 200),
        )
    desired.alias_large = not desired.alias_large
    wanted_model = "mock-large" if desired.alias_large else "mock-small"
    return "alias moves", lambda: site.ask(key_of("globex"), "fast", "Hi")[1] == wanted_model


def run(site: Site, seconds: float, rate: float, clients: int, seed: int) -> dict[str, Any]:
    """Traffic and changes, and what came of them."""
    draw = random.Random(seed)
    desired = Desired()
    applied: list[float] = []
    acted: defaultdict[str, list[float]] = defaultdict(list)
    traffic = Traffic(site, rate, clients)
    holds(
        lambda: all(site.ask(key_of(name), "fast", "Hi")[0] == 200 for name in STEADY),
        within_s=WITHIN_S,  # an engine that has just started may still be copying the policies
        what="an answer to each tenant",
    )
    start = time.monotonic()
    with traffic.running():
        while time.monotonic() - start < seconds:
            kind = draw.choice(("tenant", "key", "rule", "model"))
            name, accept = change(site, desired, kind, draw)
            site.file.write_text(desired.text())
            took, first = site.apply(accept)
            applied.append(took)
            acted[name].append(first)
    took = time.monotonic() - start
    total = sum(traffic.answers.values())
    return {
        "seconds": round(took, 1),
        "requests": total,
        "requests_per_s": round(total / took, 1),
        "late_clients": traffic.late,
        "failed": {said: n for said, n in sorted(traffic.answers.items()) if said != "200"},
        "failed_at_s": traffic.failed_at[:100],
        "changes": len(applied),
        "apply_s": {"median": round(median(applied), 2), "most": round(max(applied), 2)},
        "acts_after_s": {
            name: {"changes": len(found), "median": round(median(found), 2), "most": round(max(found), 2)}
            for name, found in sorted(acted.items())
        },
    }


def gates(found: dict[str, Any]) -> list[str]:
    """What isn't as promised."""
    with_database = "PostgreSQL" in found["gateway"]
    wrong = [f"{n} requests failed: {said}" for said, n in found["failed"].items()]
    for name, times in found["acts_after_s"].items():
        limit = KEY_LIMIT_S if with_database and name.split()[0] in ("tenant", "key") else LIMIT_S
        if times["most"] > limit:
            wrong.append(f"{name}: acted after {times['most']} s, more than {limit} s")
    return wrong


def main() -> int:
    """See above."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kong-bin", type=Path, help="a real Kong; without it the embedded host")
    parser.add_argument(
        "--postgres", action="store_true", help="Kong and the policies in a PostgreSQL of its own"
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument(
        "--rate", type=float, default=500.0, help="requests per second that clients try to send"
    )
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    for name in (*STEADY, *SPARE):
        for suffix in ("", "_b"):
            os.environ[f"DECK_{name}{suffix}".upper()] = f"key-of-{name}{suffix}"
    with tempfile.TemporaryDirectory(prefix="tglive") as folder:
        file = Path(folder) / "tenants.yaml"
        file.write_text(Desired().text())
        with Stack(
            tenants=file,
            state_dir=Path(folder) / "gw",
            kong_bin=args.kong_bin,
            postgres="" if args.postgres else None,
            log_level="notice",
        ) as stack:
            found = run(Site(stack, file), args.seconds, args.rate, args.clients, args.seed)
            found = {"gateway": stack.description, "cores": os.cpu_count(), **found}
    wrong = gates(found)
    print(json.dumps(found | {"wrong": wrong}, indent=2))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
