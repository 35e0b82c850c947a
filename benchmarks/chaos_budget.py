"""Budgets under many clients while parts are killed: ``chaos_budget.py [--kong-bin KONG] [--litellm PYTHON]``.

In each round 200 clients ask at once on a new budget of 50 questions; a quarter of what they ask are streams, half of
these cut off. When a random part of the budget is billed, one part is killed with SIGKILL: the engine as a whole, one
of its processes, Kong's workers (with --kong-bin), or Redis, which writes an append-only file. The round ends when the
budget lets nothing pass any more. The mock provider says what it bills, in tokens; each question costs the same.

What a killed part held may be given back after its round has ended. So when nothing is held any more, each budget is
asked on once more, one question at a time, until it is exhausted.

Gates, for each budget: what is billed is within it; all that is billed is counted; nothing is held three minutes after
the last round; what is left in the end is less than one question's worst case, which is what the gateway holds for one
that is in flight before the rounds begin.

With --litellm, the Python of an environment that has ``litellm[proxy]``, the same rounds with as many clients and the
same time-outs go at LiteLLM's proxy afterwards, with a budget for each deployment and Redis, and two workers. Of it a
table is printed beside ours, and no gate decides. Two hundred clients are more than it serves on two cores: use fewer.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import redis

from tenantgate.devhost.client import Client
from tenantgate.devhost.mock_control import MockControl
from tenantgate.devhost.mock_shapes import Reply
from tenantgate.devhost.processes import Child, command_pids, descendants, wait_for
from tenantgate.devhost.redis_server import RedisServer, free_port
from tenantgate.devhost.stack import Stack
from tenantgate.limits.core.keys import counter_name
from tenantgate.limits.core.ledger import NotCountedError, Used
from tenantgate.limits.core.rules import Counted, Rule, Window
from tenantgate.limits.redis_ledger import RedisLedger
from tenantgate.store.config import RedisConfig
from tenantgate.store.redis_nodes import connect
from tenantgate.tenant import TenantId

GATEWAY: Final = """
version: 1
gateway:
  redis: {{host: 127.0.0.1, port: {port}, plugin_timeout_ms: 100}}
tenants:
"""
TENANT: Final = """
  - id: t{n}
    api_keys: ['${{{{ env "DECK_T{n}_API_KEY" }}}}']
    models:
      - provider: mock
        model: m{n}
        input_cost: 1000
        output_cost: 1000
        timeouts: {{streaming: {{total_s: {total_s}}}, non_streaming: {{total_s: {total_s}}}}}
    budgets:
      - {{name: b, max_budget: {dollars}, on_tight: refuse, on_store_down: {down}}}
"""
TOKEN: Final = 10**6
"""Nano-dollars of one token."""
TOTAL_S: Final = 20
HELD_S: Final = 180.0
"""A request's reservation is charged a minute after the longest time that it may take; a lease that nobody uses any
more is given back after a minute, or after that time if it was spent from."""
LATENCY_MS: Final = 500
REST_S: Final = 60.0
QUIET_S: Final = 5.0
ROUND_S: Final = 90.0
"""Before the kill, and after it: by then something is killed in any case."""
PROMPT, REPLY = Reply("00000000", "").usage
COST: Final = (PROMPT + REPLY) * TOKEN
DECIDED: Final = ("200", "200 cut", "429 budget_exhausted", "429 budget_held", "429")


class Gateway(Protocol):
    """What is to keep the budgets; number `n` is of the `n`-th model."""

    name: str
    parts: tuple[str, ...]
    mock: MockControl
    model: str
    """What the names of its models begin with."""
    headers: Mapping[str, str]
    """Of each request, beside the client's own."""

    def client(self, n: int) -> Client:
        """Who asks for the n-th model."""
        ...

    def strike(self, part: str, rng: random.Random) -> str:
        """Kill a part, and start it again where nobody else does; what it was."""
        ...

    def counted(self, n: int) -> tuple[int, int]:
        """Nano-dollars that are used and held."""
        ...


@dataclass(slots=True)
class Round:
    """What came of one budget."""

    killed: str = ""
    at: float = 0.0
    billed_then: int = 0
    answers: list[tuple[float, str, float]] = field(default_factory=list)
    """When it was asked, what came, and when."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, asked: float, status: str) -> None:
        """One answer."""
        with self.lock:
            self.answers.append((asked, status, time.monotonic()))

    def recovered_s(self) -> float | None:
        """From the kill to the first answer to a later request that was decided about."""
        found = [came - self.at for asked, end, came in self.answers if asked > self.at and end in DECIDED]
        return min(found, default=None)


def ask(client: Client, rng: random.Random, headers: Mapping[str, str]) -> str:
    """One question that nobody has asked; what came."""
    stream = rng.random() < 0.25
    body = {
        "messages": [{"role": "user", "content": f"{rng.randrange(10**8):08}"}],
        "model": client.model,
        "max_tokens": REPLY,
        "stream": stream,
    }
    if stream:
        body["stream_options"] = {"include_usage": True}
    try:
        with client.opened(json.dumps(body).encode(), headers=dict(headers)) as response:
            if response.status == 200 and stream and rng.random() < 0.5:
                response.read1(20)
                return "200 cut"
            answer = response.read()
        if response.status == 429:
            code = json.loads(answer)["error"].get("code")
            return f"429 {code}" if str(code).startswith("budget") else "429"
    except (OSError, EOFError, http.client.HTTPException, ValueError):
        return "broken"
    return str(response.status)


def billed(gateway: Gateway, n: int) -> int:
    """Questions that the mock provider bills for a model."""
    return int(gateway.mock.mock_billing()["models"].get(f"{gateway.model}{n}", [0])[0])


def play(gateway: Gateway, n: int, part: str, *, clients: int, requests: int, seed: int) -> Round:
    """One round."""
    made, over, client = Round(), threading.Event(), gateway.client(n)
    rng = random.Random(seed * 1000 + n)

    def run(number: int) -> None:
        own = random.Random(f"{seed} {n} {number}")
        over.wait(own.random())
        while not over.is_set():
            asked = time.monotonic()
            made.add(asked, ask(client, own, gateway.headers))
            over.wait(1 + 3 * own.random())

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(clients)]
    for thread in threads:
        thread.start()
    begun, wanted, seen, since = time.monotonic(), rng.randint(1, requests // 3), -1, 0.0
    ends = begun + 2 * ROUND_S
    while time.monotonic() < ends:
        if (now := billed(gateway, n)) != seen:
            seen, since = now, time.monotonic()
        if not made.killed and (now >= wanted or time.monotonic() > begun + ROUND_S):
            made.billed_then, made.at = now, time.monotonic()
            made.killed = gateway.strike(part, rng)
            since = time.monotonic()
            ends = since + ROUND_S
        with made.lock:
            refused = sum(a > since and s.startswith("429") for a, s, _ in made.answers)
        if made.killed and refused > clients / 10 and time.monotonic() - since > QUIET_S:
            break
        time.sleep(0.05)
    over.set()
    for thread in threads:
        thread.join()
    return made


def worst_case(gateway: Gateway, n: int) -> int:
    """Nano-dollars that are held for one question."""
    thread = threading.Thread(
        target=ask, args=(gateway.client(n), random.Random(0), gateway.headers), daemon=True
    )
    thread.start()
    held = 0
    while not held and thread.is_alive():
        _, held = gateway.counted(n)
    thread.join()
    return held


def use_up(gateway: Gateway, n: int, seed: int) -> int:
    """Ask one question after another until the budget is exhausted; how many were answered."""
    rng, answered, ends = random.Random(f"{seed} {n} rest"), 0, time.monotonic() + REST_S
    while time.monotonic() < ends:
        end = ask(gateway.client(n), rng, gateway.headers)
        if end == "429 budget_exhausted":
            break
        answered += end.startswith("200")
        if not end.startswith("200"):
            time.sleep(1.0)
    return answered


class Ours:
    """Tenantgate, embedded or on a Kong."""

    model = "m"

    def __init__(self, stack: Stack, server: RedisServer) -> None:
        self.mock: MockControl = stack
        self.name = stack.description
        self.parts: tuple[str, ...] = ("engine", "process", "redis")
        self.headers: Mapping[str, str] = {}
        self._stack, self._server = stack, server
        self._ledger = RedisLedger(connect(RedisConfig(port=server.port, timeout_ms=1000)))
        if command_pids(stack.gateway_pid, "nginx: worker"):
            self.parts = ("engine", "process", "kong", "redis")

    def client(self, n: int) -> Client:
        """Of the n-th tenant."""
        return self._stack.client(f"t{n}", provider="mock", model=f"m{n}")

    def strike(self, part: str, rng: random.Random) -> str:
        """All of the engine, one of the processes that serve, all of Kong's workers, or Redis."""
        if part == "redis":
            return _redis_dies(self._server, rng)
        if part == "kong":
            pids = command_pids(self._stack.gateway_pid, "nginx: worker")
        else:
            pids = self._stack.pids("tenantgate")
            pids = pids if part == "engine" else [pid for pid in pids if not descendants(pid)][:1]
        return f"{part} ({_kill(pids)})"

    def counted(self, n: int) -> tuple[int, int]:
        """What the budget's counter says."""
        rule = Rule(name="b", counted=Counted.COST, most=0, window=Window(unit="month"))
        used = Used(counter_name(rule, ""), rule.window, 0, rule.counted)
        while True:
            try:
                found = self._ledger.rooms(TenantId(f"t{n}"), [used])[0]
            except NotCountedError:
                time.sleep(0.2)
            else:
                return found.used, found.held


class LiteLlm:
    """LiteLLM's proxy with two workers."""

    parts: tuple[str, ...] = ("engine", "redis")
    name, model = "LiteLLM", "l"

    def __init__(
        self, python: Path, mock: Stack, server: RedisServer, folder: Path, budgets: list[int]
    ) -> None:
        self.mock: MockControl = mock
        self._server, self._folder, self._port, self._python = server, folder, free_port(), python
        self._key = f"sk-{secrets.token_hex(16)}"  # without one it refuses to start
        self.headers: Mapping[str, str] = {"Authorization": f"Bearer {self._key}"}
        config = {
            "model_list": [
                {
                    "model_name": f"l{n}",
                    "litellm_params": {
                        "model": f"openai/l{n}",
                        "api_base": f"{mock.mock_url}/v1",
                        "api_key": "none",
                        "max_budget": nano / 1e9,
                        "budget_duration": "30d",
                        "input_cost_per_token": TOKEN / 1e9,
                        "output_cost_per_token": TOKEN / 1e9,
                    },
                    "model_info": {"id": f"l{n}"},
                }
                for n, nano in enumerate(budgets)
            ],
            "router_settings": {
                "redis_host": "127.0.0.1",
                "redis_port": server.port,
                "num_retries": 0,
                "disable_cooldowns": True,
            },
            "litellm_settings": {"drop_params": True, "num_retries": 0},
            "general_settings": {"master_key": self._key},
        }
        (folder / "litellm.yaml").write_text(json.dumps(config))
        self._child = self._start()

    def _start(self) -> Child:
        argv = [
            str(self._python.with_name("litellm")), "--config", str(self._folder / "litellm.yaml"),
            "--host", "127.0.0.1", "--port", str(self._port), "--num_workers", "2", "--telemetry", "False",
            # On a busy machine a worker imports for longer than uvicorn's five seconds, and is killed for it.
            "--timeout_worker_healthcheck", "600",
        ]  # fmt: skip
        environ = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_DOCS": "True"}
        child = Child("litellm", argv, log=self._folder / "litellm.log", environ=environ)
        wait_for(self._answers, child, what="litellm", timeout_s=600.0)
        return child

    def _answers(self) -> bool | None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            at = f"http://127.0.0.1:{self._port}/health/liveliness"
            return Client(url=at, key="none", model="").send(b"", method="GET").status == 200 or None
        return None

    def client(self, n: int) -> Client:
        """Anybody."""
        return Client(url=f"http://127.0.0.1:{self._port}/v1/chat/completions", key=self._key, model=f"l{n}")

    def strike(self, part: str, rng: random.Random) -> str:
        """All processes, or Redis."""
        if part == "redis":
            return _redis_dies(self._server, rng)
        pids = [self._child.pid, *descendants(self._child.pid)]
        self._child.kill()
        self._child = self._start()
        return f"{part} ({len(pids)})"

    def counted(self, n: int) -> tuple[int, int]:
        """What Redis has of the deployment."""
        with redis.Redis(port=self._server.port) as client:
            keys = list(client.scan_iter(f"deployment_spend:l{n}:*"))
            return sum(round(float(client.get(key) or 0) * 1e9) for key in keys), 0

    def stop(self) -> None:
        """End it."""
        self._child.stop()


def _kill(pids: list[int]) -> int:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(pids)


def _redis_dies(server: RedisServer, rng: random.Random) -> str:
    server.kill()
    time.sleep(rng.random())
    server.start()
    return "redis"


def rounds(gateway: Gateway, args: argparse.Namespace, worst: int) -> bool:
    """Play all rounds, wait for what is held, print the table; whether the gates hold.

    `then` in the table is what was counted before the rest of each budget was used up, and `more` how many of the
    questions were answered that did it. `worst` is what one question holds; 0: the rest isn't used up.
    """
    print(
        f"{gateway.name}: {args.rounds} budgets of {args.requests} questions, {args.clients} clients each",
        flush=True,
    )
    played = []
    for n in range(args.rounds):
        part = gateway.parts[n % len(gateway.parts)]
        played.append(play(gateway, n, part, clients=args.clients, requests=args.requests, seed=args.seed))
        found = played[-1]
        print(f"round {n}: killed {found.killed} at {found.billed_then} of {args.requests}", flush=True)
    started = time.monotonic()
    ends = started + HELD_S
    counted = [gateway.counted(n) for n in range(args.rounds)]
    while any(held for _, held in counted) and time.monotonic() < ends:
        time.sleep(1.0)
        counted = [gateway.counted(n) for n in range(args.rounds)]
    print(
        f"nothing is held after {time.monotonic() - started:.0f} s" if not any(h for _, h in counted) else ""
    )
    before = [used for used, _ in counted]
    more = [use_up(gateway, n, args.seed) for n in range(args.rounds)] if worst else [0] * args.rounds
    ends = time.monotonic() + HELD_S
    counted = [gateway.counted(n) for n in range(args.rounds)]
    while any(held for _, held in counted) and time.monotonic() < ends:
        time.sleep(1.0)
        counted = [gateway.counted(n) for n in range(args.rounds)]
    bills = [billed(gateway, n) for n in range(args.rounds)]
    print(f"\n{'killed':14}{'at':>4}{'200':>6}{'cut':>5}{'429':>7}{'5xx':>7}{'broken':>8}{'again after':>13}"
          f"{'then':>7}{'more':>6}{'billed':>8}{'counted':>9}{'held':>6}")  # fmt: skip
    for found, then, asked, bill, (used, held) in zip(played, before, more, bills, counted, strict=True):
        kinds = Counter(
            status.split(" ")[0] if status != "200 cut" else "cut" for _, status, _ in found.answers
        )
        again = found.recovered_s()
        fives = sum(n for kind, n in kinds.items() if kind.startswith("5"))
        print(f"{found.killed:14}{found.billed_then:4}{kinds['200']:6}{kinds['cut']:5}{kinds['429']:7}{fives:7}"
              f"{kinds['broken']:8}{'never' if again is None else f'{again:.1f} s':>13}"
              f"{then / COST:7.1f}{asked:6}{bill:8}{used / COST:9.1f}{held / COST:6.1f}")  # fmt: skip
    budget = args.requests * COST
    gates = {
        "what is billed is within the budget": all(bill <= args.requests for bill in bills),
        "all that is billed is counted": all(b * COST <= u for b, (u, _) in zip(bills, counted, strict=True)),
        "the counter is within the budget": all(u + h <= budget for u, h in counted),
        "nothing is held for ever": not any(held for _, held in counted),
        f"less than one worst case is left, {worst / COST:.1f} questions": all(
            budget - used < worst for used, _ in counted
        ),
        "a part was killed in each round": all(found.killed for found in played),
    }
    if not worst:
        return True
    for gate, holds in gates.items():
        print(f"{'holds ' if holds else 'FAILED'} {gate}")
    return all(gates.values())


def main() -> int:
    """Print the tables; exit status 1 if a gate doesn't hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--requests", type=int, default=50, help="that a budget is for")
    parser.add_argument("--down", choices=("lease", "closed"), default="lease", help="on_store_down")
    parser.add_argument("--fsync", choices=("always", "everysec"), default="everysec", help="of Redis' file")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kong-bin", type=Path)
    parser.add_argument("--litellm", type=Path, metavar="PYTHON", help="go at LiteLLM, too")
    args = parser.parse_args()
    budget = args.requests * COST
    with tempfile.TemporaryDirectory(prefix="tg-budget-") as name, contextlib.ExitStack() as exits:
        server = RedisServer(Path(name, "redis"), appendonly=args.fsync)
        exits.callback(server.stop)
        server.start()
        tenants = Path(name, "tenants.yaml")
        text = GATEWAY.format(port=server.port)
        for n in range(args.rounds + 1):
            text += TENANT.format(n=n, dollars=budget / 1e9, down=args.down, total_s=TOTAL_S)
        tenants.write_text(text)
        print(f"a question: {PROMPT} + {REPLY} tokens, ${COST / 1e9}; Redis: appendfsync {args.fsync}")
        stack = Stack(
            tenants=tenants,
            state_dir=Path(name, "state"),
            kong_bin=args.kong_bin,
            mock_latency_ms=LATENCY_MS,
            own_redis=False,
        )
        exits.enter_context(stack)
        ours = Ours(stack, server)
        worst = worst_case(ours, args.rounds)
        print(f"held for a question in flight: ${worst / 1e9}")
        sound = rounds(ours, args, worst)
        if args.litellm is not None:
            other = LiteLlm(args.litellm, stack, server, Path(name), [budget] * args.rounds)
            exits.callback(other.stop)
            print()
            rounds(other, args, 0)
        return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
