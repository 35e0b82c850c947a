"""Whether all ledgers say the same: ``ledger_agreement.py [--requests 10000] [--kong-bin KONG]``.

Mixed requests of one tenant: plain ones, streams, streams that the client cuts, repeated questions that the cache
answers, and failovers from a target that refuses, hangs up or fails. Meanwhile the engine, Kong's workers (with
--kong-bin), Redis and the audit log's worker are killed in turn. Each model has a budget of its own. Then four sums are
compared by model: the audit records, the budgets' counters, the platform's ledger, which the audit log's sink feeds,
and what the mock provider itself bills.

A question is *uncertain* where a record of it says so (uncertain, or a lower bound as of a cut stream), or where there
is none for an answer that was billed, since a kill took it. Of what a counter says it tells how much is uncertain, by
its cause: *expired*, of requests whose end never came; *leases* of dead processes; *cut*, of streams that broke off,
what they held beyond what was seen; *unknown*, of what a provider may have done. Gates: on all questions that aren't
uncertain records and bill agree to 0.1 % of the bill; the platform has the records' sums to the last digit; what the
counters know for certain are the records' sums to 0.1 % of each model's bill; with the rest they have all that is
billed; no lease is charged; and only of requests that a killed worker of Kong took along the end never came: these have
no record either, and each such kill takes at most one of each client.

Ends that a killed engine left are given to the next one half a minute later, along with another request. So after the
last question one of a model without a budget goes on asking until nothing is held.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import redis

from tenantgate.devhost.client import Client
from tenantgate.devhost.mock_shapes import Reply
from tenantgate.devhost.processes import Child, command_pids, wait_for
from tenantgate.devhost.redis_server import RedisServer, free_port
from tenantgate.devhost.stack import Stack
from tenantgate.limits.core.keys import counter_name, window_key
from tenantgate.limits.core.ledger import NotCountedError, Room, Used
from tenantgate.limits.core.rules import Counted, Rule, Window
from tenantgate.limits.core.windows import window_at
from tenantgate.limits.redis_ledger import RedisLedger
from tenantgate.store.config import RedisConfig
from tenantgate.store.redis_nodes import connect
from tenantgate.tenant import TenantId
from tenantgate.usage.core.amounts import amount_of
from tenantgate.usage.core.entries import Certainty, Entry, Ledger

MODELS: Final = ("plain", "streamed", "cut", "cached", "failover")
TENANTS: Final = """
version: 1
gateway:
  redis: {{host: 127.0.0.1, port: {redis}, plugin_timeout_ms: 100}}
  audit:
    node: agreement
    sinks:
      - {{name: file, type: file, path: audit.jsonl, flush_ms: 50}}
      - name: platform
        type: http
        format: cloudevents
        url: http://127.0.0.1:{platform}/v1/usage/events
        headers: {{Authorization: "{{vault://env/AGREEMENT_AUTHORIZATION}}"}}
        flush_ms: 100
defaults:
  audit: {{end_user: keep, content: "off"}}
tenants:
  - id: one
    api_keys: ['${{{{ env "DECK_ONE_API_KEY" }}}}']
    cache: {{enabled: false}}
    models:
      - {{provider: mock, model: plain, {more}}}
      - {{provider: mock, model: streamed, {more}}}
      - {{provider: mock, model: cut, {more}}}
      - {{provider: mock, model: cached, cache: {{enabled: true, probe_rate: 0}}, {more}}}
      - {{provider: mock, model: idle}}
      - name: failover
        timeouts: {timeouts}
        failover: {{retries: 1, failover_criteria: [error, timeout, reset, http_500, http_503]}}
        targets:
          - {{provider: openai-compatible, model: first, credential: "{{vault://env/AGREEMENT_KEY}}", upstream_url: "http://127.0.0.1:{first}/v1/chat/completions", {price}}}
          - {{provider: openai-compatible, model: second, credential: "{{vault://env/AGREEMENT_KEY}}", upstream_url: "http://127.0.0.1:{second}/v1/chat/completions", {price}}}
    budgets:
"""  # noqa: E501
BUDGET: Final = (
    "      - {{name: {model}, max_budget: 100000, on_store_down: lease, match: {{models: [{model}]}}}}\n"
)
TOTAL_S: Final = 20
HELD_S: Final = 180.0
PRICE: Final = "input_cost: 1000, output_cost: 1000"
TIMEOUTS: Final = f"{{streaming: {{total_s: {TOTAL_S}}}, non_streaming: {{total_s: {TOTAL_S}}}}}"
TOKEN: Final = 10**6
"""Nano-dollars of one token."""
CACHED: Final = 200
"""Questions that are repeated."""
AGREE: Final = 0.001
UNSURE: Final = {Certainty.UNCERTAIN, Certainty.LOWER_BOUND}
FAULTS: Final[tuple[dict[str, Any] | None, ...]] = (
    None,
    {"status": 503},
    {"fault": "close_head"},
    {"status": 500},
)
PATIENCE_S: Final = 60.0
AUDITED_S: Final = 120.0
AGAIN_S: Final = 40.0
"""Within this time all ends that a killed engine left are with the next one."""


@dataclass(slots=True)
class Sums:
    """Of one model, in nano-dollars."""

    requests: int = 0
    billed: int = 0
    recorded: int = 0
    platform: int = 0
    counted: int = 0
    expired: int = 0
    leases: int = 0
    cut: int = 0
    unknown: int = 0
    held: int = 0
    unsure: int = 0
    """Questions."""
    unsure_billed: int = 0
    unsure_recorded: int = 0
    apart: int = 0
    """By how much bill and records differ on the other questions, each for itself."""

    @property
    def known(self) -> int:
        """What the counter knows for certain."""
        return self.counted - self.expired - self.leases - self.cut - self.unknown


@dataclass(slots=True)
class Asked:
    """The questions, by the digest by which the mock provider knows them, and what came."""

    model: dict[str, str] = field(default_factory=dict)
    ends: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)


def model_of(n: int) -> str:
    """The model of the n-th request: 40 % plain, 20 % streams, 5 % cut ones, 20 % repeated, 15 % failovers."""
    kind = n % 20
    return MODELS[0 if kind < 8 else 1 if kind < 12 else 2 if kind < 13 else 3 if kind < 17 else 4]


def question(n: int) -> str:
    """The n-th request's; nobody's user has an id like it."""
    return f"Repeated question {n % CACHED}" if model_of(n) == "cached" else f"Question {n}"


def ask(stack: Stack, n: int, asked: Asked) -> None:
    """Send one request of the mix, again for as long as there is no engine."""
    ends = time.monotonic() + PATIENCE_S
    while _ask(stack, n, asked) == "503" and time.monotonic() < ends:
        time.sleep(1.0)


def _ask(stack: Stack, n: int, asked: Asked) -> str:
    model, text = model_of(n), question(n)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    stream = model in ("streamed", "cut")
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": Reply(text, "").usage[1] + 5,
        "user": digest,
        "stream": stream,
    }
    if stream and n % 2:
        body["stream_options"] = {"include_usage": True}
    client = Client(url=f"{stack.proxy_url}/v1/chat/completions", key=stack.key("one"), model=model)
    try:
        with client.opened(json.dumps(body).encode()) as response:
            if model == "cut" and response.status == 200:
                response.read1(20)
                end = "200 cut"
            else:
                response.read()
                end = str(response.status)
    except (OSError, EOFError, http.client.HTTPException, ValueError) as error:
        end = type(error).__name__
    with asked.lock:
        asked.model[digest] = model
        asked.ends[end] += 1
    return end


def strike(stack: Stack, server: RedisServer, part: str) -> str:
    """Kill a part, and start it again where nobody else does; what it was."""
    if part == "redis":
        server.kill()
        time.sleep(0.5)
        server.start()
        return part
    marks = {"engine": "tenantgate.py", "kong": "nginx: worker"}
    if part == "audit":
        # Not always below Kong: a server whose worker of Kong was killed serves on for a while, and so does its worker.
        # After a kill of the engine there is none for a while.
        mark, ends, pids = f"--dir {stack.audit_dir} ", time.monotonic() + PATIENCE_S, list[int]()
        while not pids and time.monotonic() < ends:
            time.sleep(0.2)
            pids = sorted({*command_pids(1, mark), *command_pids(stack.gateway_pid, mark)})
    else:
        pids = command_pids(stack.gateway_pid, marks[part])
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return f"{part} ({len(pids)})"


def chaos(stack: Stack, server: RedisServer, done: threading.Event, first: int, every_s: float) -> list[str]:
    """Kill parts in turn, and let the first target fail in turn, until all is asked."""
    parts = ["engine", "redis", "audit"]
    if command_pids(stack.gateway_pid, "nginx: worker"):
        parts.insert(1, "kong")
    killed: list[str] = []
    for n in range(10_000):
        fault = FAULTS[n % len(FAULTS)]
        rules = contextlib.nullcontext() if fault is None else stack.mock_rules({"port": first, **fault})
        with rules:
            if done.wait(every_s):
                return killed
            killed.append(strike(stack, server, parts[n % len(parts)]))
            print(f"killed {killed[-1]}", flush=True)
    return killed


@contextlib.contextmanager
def platform(folder: Path, port: int, token: str) -> Iterator[Child]:
    """`tenantgate platform-mock`."""
    argv = [sys.executable, "-c", "import sys; from tenantgate.cli import main; sys.exit(main())",
            "platform-mock", "--port", str(port), "--data", str(folder / "platform.sqlite")]  # fmt: skip
    environ = {**os.environ, "TENANTGATE_PLATFORM_TOKEN": token}
    child = Child("platform-mock", argv, log=folder / "platform.log", environ=environ)

    def ready() -> bool | None:
        with contextlib.suppress(OSError):
            return get(port, token, "/_mock/ready") is not None or None
        return None

    try:
        wait_for(ready, child, what="platform-mock", timeout_s=60.0)
        yield child
    finally:
        child.stop()


def get(port: int, token: str, path: str) -> Any:
    """An answer of the platform."""
    url = f"http://127.0.0.1:{port}{path}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
        return json.loads(response.read())


def entries_of(path: Path) -> list[Entry]:
    """Of all records that the file has; records that came twice count once."""
    ledger = Ledger()
    for line in path.read_bytes().splitlines() if path.exists() else []:
        ledger.add_record(line)
    return ledger.entries()


def rule_of(model: str) -> Rule:
    """A model's budget."""
    return Rule(name=model, counted=Counted.COST, most=0, window=Window(unit="month"))


def room(ledger: RedisLedger, model: str) -> Room:
    """What the counter of a model's budget says."""
    rule = rule_of(model)
    while True:
        try:
            used = Used(counter_name(rule, ""), rule.window, 0, rule.counted)
            return ledger.rooms(TenantId("one"), [used])[0]
        except NotCountedError:
            time.sleep(0.2)


def summed(asked: Asked, entries: list[Entry], bill: dict[str, list[int]]) -> dict[str, Sums]:
    """Bill and records, question by question."""
    sums = {model: Sums() for model in MODELS}
    by_question: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_question[entry.end_user].append(entry)
    for digest, model in asked.model.items():
        found, (_, prompt, reply) = by_question[digest], bill.get(digest, (0, 0, 0))
        billed = (prompt + reply) * TOKEN
        recorded = sum(e.cost.femto for e in found if e.cost is not None) // 10**6
        one = sums[model]
        one.requests += sum(e.final for e in found)
        one.billed += billed
        one.recorded += recorded
        if any(e.certainty in UNSURE for e in found) or (billed > recorded and not found):
            one.unsure += 1
            one.unsure_billed += billed
            one.unsure_recorded += recorded
        else:
            if billed != recorded:
                print(f"apart: {model}: billed {billed}, recorded {recorded}: "
                      f"{[(e.outcome, e.attempt, e.certainty, e.cached) for e in found]}")  # fmt: skip
            one.apart += abs(billed - recorded)
    return sums


def endless(server: RedisServer) -> dict[str, list[str]]:
    """Ids of the requests by model that were charged since their end never came."""
    found = {}
    with redis.Redis(port=server.port) as client:
        for model in MODELS:
            rule = rule_of(model)
            start_ms, _ = window_at(rule.window, time.time_ns() // 1_000_000)
            fields = client.hgetall(
                window_key(TenantId("one"), counter_name(rule, ""), rule.window, start_ms)
            )
            # As `counters.lua` has a reservation: amount, time, deadline; 0 while it is held, also where nobody has
            # found yet that it has expired; 2 once somebody has.
            texts = {name.decode(): value.split() for name, value in fields.items() if name.startswith(b"r")}
            found[model] = [name[1:] for name, value in texts.items() if value[3] in (b"0", b"2")]
    return found


def settled(stack: Stack, ledger: RedisLedger, port: int, token: str) -> None:
    """Wait until nothing is held, while somebody goes on asking, and until all records are with the platform."""
    ends, client = time.monotonic() + HELD_S, stack.client("one", provider="mock", model="idle")
    begun = time.monotonic()
    while time.monotonic() < ends:
        held = any(room(ledger, model).held for model in MODELS)
        if not held and time.monotonic() - begun > AGAIN_S:
            break
        client.chat("Anything else?")
        time.sleep(0.5)
    ends, before = time.monotonic() + AUDITED_S, -1
    while time.monotonic() < ends:
        records = len(entries_of(stack.audit_dir / "audit.jsonl"))
        sources = get(port, token, "/v1/usage/sources")["data"]
        if records == before and sources and not any(s["gaps"] for s in sources):
            return
        before = records
        time.sleep(3.0)


def of_platform(rows: list[dict[str, Any]]) -> Counter[str]:
    """Nano-dollars by model; those of the failover's targets together."""
    found: Counter[str] = Counter()
    for row in rows:
        model = "failover" if row["model"] in ("first", "second", "failover") else row["model"]
        found[model] += sum(amount_of(cost["exact"]) for cost in row["costs"]) // 10**6
    return found


def count(sums: dict[str, Sums], ledger: RedisLedger, rows: list[dict[str, Any]]) -> None:
    """Fill in what the counters and the platform say."""
    platforms = of_platform(rows)
    for model, one in sums.items():
        found, one.platform = room(ledger, model), platforms[model]
        one.counted, one.held = found.used, found.held
        one.expired, one.leases, one.cut, one.unknown = found.uncertain


def report(sums: dict[str, Sums], unended: int, recorded: int, clients: int, killed: list[str]) -> bool:
    """Print the tables; whether the gates hold.

    Args:
        sums: by model.
        unended: requests whose end never came.
        recorded: those of them that have a record.
        clients: that asked at once.
        killed: what was.
    """
    expiring = clients * sum(kill.startswith("kong") for kill in killed)
    total = Sums()
    for one in sums.values():
        for name in Sums.__slots__:
            setattr(total, name, getattr(total, name) + getattr(one, name))
    rows = [*sums.items(), ("all", total)]
    print(f"\n{'model':10}{'requests':>9}{'provider bills':>16}{'records':>11}{'platform':>11}{'counters':>11}"
          f"{'held':>6}  {'uncertain':>9}{'billed':>9}{'recorded':>10}{'apart':>8}")  # fmt: skip
    for model, one in rows:
        money = [f"${n / 1e9:.3f}" for n in (one.billed, one.recorded, one.platform, one.counted)]
        print(f"{model:10}{one.requests:9,}{money[0]:>16}{money[1]:>11}{money[2]:>11}{money[3]:>11}"
              f"{one.held / 1e9:6.2f}  {one.unsure:9,}{one.unsure_billed / 1e9:9.3f}{one.unsure_recorded / 1e9:10.3f}"
              f"{one.apart / 1e9:8.3f}")  # fmt: skip
    print(f"\n{'counters':10}{'known':>11}{'records':>11}{'apart':>9}   uncertain:{'expired':>9}{'leases':>9}"
          f"{'cut':>9}{'unknown':>9}")  # fmt: skip
    for model, one in rows:
        shares = (one.expired, one.leases, one.cut, one.unknown)
        print(f"{model:10}{one.known / 1e9:11.3f}{one.recorded / 1e9:11.3f}{(one.known - one.recorded) / 1e9:9.3f}"
              f"{'':13}" + "".join(f"{n / 1e9:9.3f}" for n in shares))  # fmt: skip
    gates = {
        f"bill and records agree to {AGREE:.1%} where nothing is uncertain": total.apart
        <= AGREE * total.billed,
        "the platform has the records' sums": all(s.platform == s.recorded for s in sums.values()),
        "all that is billed is counted": all(s.counted >= s.billed for s in sums.values()),
        f"what the counters know and the records agree to {AGREE:.1%}": all(
            abs(s.known - s.recorded) <= AGREE * s.billed for s in sums.values()
        ),
        "no lease is charged": not total.leases,
        f"the end of at most {expiring} requests never came: {unended}": unended <= expiring,
        f"these have no record, either: {recorded}": not recorded,
        "each kill met something": not any("(0)" in kill for kill in killed),
        "nothing is held for ever": not any(s.held for s in sums.values()),
    }
    for gate, holds in gates.items():
        print(f"{'holds ' if holds else 'FAILED'} {gate}")
    return all(gates.values())


def main() -> int:
    """Print the table; exit status 1 if a gate doesn't hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--kill-every", type=float, default=20.0, metavar="SECONDS")
    parser.add_argument("--fsync", choices=("always", "everysec"), default="everysec", help="of Redis' file")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kong-bin", type=Path)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="copy the records here")
    args = parser.parse_args()
    token = "agreement"  # noqa: S105 - of a server on loopback that lives as long as this program
    os.environ |= {"AGREEMENT_AUTHORIZATION": f"Bearer {token}", "AGREEMENT_KEY": "key"}
    ports = {"platform": free_port(), "first": free_port(), "second": free_port()}
    asked = Asked()
    with tempfile.TemporaryDirectory(prefix="tg-agree-") as name, contextlib.ExitStack() as exits:
        folder = Path(name)
        server = RedisServer(folder / "redis", appendonly=args.fsync)
        exits.callback(server.stop)
        server.start()
        exits.enter_context(platform(folder, ports["platform"], token))
        text = TENANTS.format(redis=server.port, more=f"{PRICE}, timeouts: {TIMEOUTS}", price=PRICE,
                              timeouts=TIMEOUTS, **ports)  # fmt: skip
        text += "".join(BUDGET.format(model=model) for model in MODELS)
        (folder / "tenants.yaml").write_text(text)
        stack = exits.enter_context(
            Stack(
                tenants=folder / "tenants.yaml",
                state_dir=folder / "state",
                kong_bin=args.kong_bin,
                mock_latency_ms=20,
                own_redis=False,
            )
        )
        for port in (ports["first"], ports["second"]):
            stack.mock_port(port)
        print(
            f"{stack.description}: {args.requests:,} requests, a kill every {args.kill_every:g} s", flush=True
        )
        done, started = threading.Event(), time.monotonic()
        numbers = list(range(args.requests))
        random.Random(args.seed).shuffle(numbers)
        with ThreadPoolExecutor(args.clients + 1) as pool:
            killing = pool.submit(chaos, stack, server, done, ports["first"], args.kill_every)
            list(pool.map(lambda n: ask(stack, n, asked), numbers))
            done.set()
            killed = killing.result()
        print(f"in {time.monotonic() - started:.0f} s, {len(killed)} kills; what clients got: "
              + ", ".join(f"{end}: {n:,}" for end, n in asked.ends.most_common()), flush=True)  # fmt: skip
        ledger = RedisLedger(connect(RedisConfig(port=server.port, timeout_ms=1000)))
        settled(stack, ledger, ports["platform"], token)
        entries = entries_of(stack.audit_dir / "audit.jsonl")
        if args.keep is not None:
            subprocess.run(["cp", str(stack.audit_dir / "audit.jsonl"), str(args.keep)], check=True)
        sums = summed(asked, entries, stack.mock_billing()["questions"])
        count(sums, ledger, get(ports["platform"], token, "/v1/usage/ledger?limit=500")["data"])
        certainties = Counter(str(e.certainty) for e in entries)
        print("records' entries: " + ", ".join(f"{name}: {n:,}" for name, n in certainties.most_common()))
        known = {entry.request for entry in entries}
        lost = [id_ for ids in endless(server).values() for id_ in ids]
    return 0 if report(sums, len(lost), len(known & set(lost)), args.clients, killed) else 1


if __name__ == "__main__":
    sys.exit(main())
