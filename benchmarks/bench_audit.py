"""The audit log's redaction and speed: ``bench_audit.py [--pii PII.jsonl]``.

PII: lines of {"text", "spans": [[start, end, kind], …]}. Without it the texts are made up, and no leaks are counted.
A span has leaked if half of its letters and digits or more would be written as they are; `partly` counts those of
which anything would be. Times are of one core and are reported, never a gate.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tenantgate.audit.config import PipelineConfig
from tenantgate.audit.content import RawContent
from tenantgate.audit.redaction import Policy, findings_in, redact
from tenantgate.audit.testing import MemorySpool
from tenantgate.edge.audit_courier import Courier
from tenantgate.edge.audit_service import AuditLog
from tenantgate.edge.audit_worker import Worker
from tenantgate.errors import TenantgateError
from tenantgate.fields import parse
from tenantgate.guard.ports import NameFinder
from tenantgate.kong.testing import FakeKong
from tenantgate.paths import plugin_file

KEY = "a-key-for-the-benchmark-only-of-32-bytes"
# Kinds of the usual test sets. What has no form needs the recogniser; the rest should go without.
STRUCTURED = (
    "CREDIT_CARD",
    "EMAIL_ADDRESS",
    "IBAN_CODE",
    "IP_ADDRESS",
    "PHONE_NUMBER",
    "US_SSN",
    "US_DRIVER_LICENSE",
)
NAMED = ("PERSON", "STREET_ADDRESS", "GPE", "ORGANIZATION", "NRP")


def leaks(rows: Sequence[dict[str, Any]], names: NameFinder | None, title: str) -> None:
    """How much of each kind would be written."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in rows:
        text = row["text"]
        covered = bytearray(len(text))
        for finding in findings_in(text, names):
            covered[finding.start : finding.end] = b"\1" * (finding.end - finding.start)
        for start, end, kind in row["spans"]:
            at = [i for i in range(start, end) if text[i].isalnum()]
            left = sum(not covered[i] for i in at)
            counts[kind][0] += 1
            counts[kind][1] += left * 2 >= max(1, len(at))
            counts[kind][2] += left > 0
    print(f"\n{title}\n{'kind':20}{'spans':>7}{'leaked':>8}{'rate':>8}{'partly':>8}{'rate':>8}")
    groups = {"= structured": STRUCTURED, "= names, addresses": NAMED}
    for label, kinds in groups.items():
        counts[label] = [sum(counts[k][i] for k in kinds if k in counts) for i in range(3)]
    for kind in sorted(counts):
        spans, leaked, partly = counts[kind]
        share = max(1, spans)
        print(f"{kind:20}{spans:>7}{leaked:>8}{leaked / share:>8.3f}{partly:>8}{partly / share:>8.3f}")


def chat(text: str) -> bytes:
    """A request's body."""
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()


def answer(text: str) -> bytes:
    """A reply as Kong logs it."""
    return json.dumps(
        {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}
    ).encode()


def kong_record(number: int) -> dict[str, Any]:
    """A line of the journal."""
    return {
        "request": {"id": f"{number:032x}", "method": "POST", "size": 900},
        "response": {"status": 200, "size": 1200},
        "latencies": {"kong": 2, "proxy": 600, "request": 700, "receive": 98},
        "route": {"id": "r", "name": "llm.openai.m.t"}, "consumer": {"id": "c", "custom_id": f"t{number % 20}"},
        "started_at": int(time.time() * 1000), "source": "upstream", "client_ip": "203.0.113.1",
        "ai": {"proxy": {"meta": {"provider_name": "openai", "request_model": "m"},
                         "usage": {"prompt_tokens": 200, "completion_tokens": 100, "total_tokens": 300}}},
        "tenantgate": {"guardrails": '{"action":"pass"}', "cache": '{"status":"miss"}'},
    }  # fmt: skip


def pipeline(
    texts: Sequence[str], count: int, names: NameFinder | None, policy: dict[str, Any], title: str
) -> None:
    """Records per second of processor time, from the journal's line to the entry of the spool."""
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal.jsonl"
        journal.write_bytes(
            b"".join(json.dumps(kong_record(n)).encode() + b"\n" for n in range(1, count + 1))
        )
        plain = {"journal": str(journal), "state_dir": folder, "node": "bench", "queue_megabytes": 1024}
        spool = MemorySpool()
        worker = Worker(
            parse(PipelineConfig, plain), None, spool, find_names=None if names is None else lambda: names
        )
        worker.take_in(["policy", "p", "r", {"encryption_key": KEY, "pipeline": plain, **policy}])
        for n in range(1, count + 1):
            prompt, reply = chat(texts[n % len(texts)]), answer(texts[(n + 1) % len(texts)])
            worker.take_in(["content", "p", f"{n:032x}", prompt, len(prompt), reply, len(reply), {}])
        began = time.process_time()
        while len(spool.entries) < count:
            worker.step()
        seconds = time.process_time() - began
        size = statistics.mean(len(e.record) for e in spool.entries)
        print(f"{title:44}{count / seconds:>10.0f}{seconds / count * 1000:>10.3f}{size:>10.0f}")


def request_path(rounds: int, sizes: Sequence[int]) -> None:
    """What access and log take in the plugin's process, Kong's side played in it."""
    spec = importlib.util.spec_from_file_location("bench_tenant_audit_log", plugin_file("tenant-audit-log"))
    if spec is None or spec.loader is None:
        raise SystemExit("no plugin file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    drain = "import socket,sys\ns=socket.socket(fileno=int(sys.argv[-1]))\nwhile s.recv(1<<18): pass"
    print(f"\nin the plugin's process, µs{'access p50':>22}{'p95':>8}{'log p50':>10}{'p95':>8}{'calls':>8}")
    with tempfile.TemporaryDirectory() as folder:
        plain = {"journal": f"{folder}/journal.jsonl", "state_dir": folder}
        courier = Courier(parse(PipelineConfig, plain), plain, command=(sys.executable, "-c", drain))
        plugin = module.Plugin(
            {"encryption_key": KEY, "pipeline": plain, "route_id": "r", "deadline_ms": 1500}
        )
        plugin.__dict__["_audit"] = AuditLog(plugin.config, "r", courier)
        for size in sizes:
            prompt = chat("word " * (size // 5))
            access, log, calls = [], [], 0
            for n in range(rounds):
                record = kong_record(n)
                record["ai"]["proxy"]["payload"] = {
                    "request": prompt.decode(),
                    "response": answer("word " * 100).decode(),
                }
                text = json.dumps(record)
                kong = FakeKong(consumer="t", body=prompt, answers={
                    "kong.nginx.get_var": f"{n:032x}", "kong.log.serialize": text,
                })  # fmt: skip
                access.append(_timed(kong, plugin, "access"))
                log.append(_timed(kong, plugin, "log"))
                calls = len(kong.calls)
            print(f"prompt of {size:>8} bytes        " + "".join(
                f"{statistics.quantiles(times, n=100)[q - 1] * 1e6:>{width}.0f}"
                for times, q, width in ((access, 50, 17), (access, 95, 8), (log, 50, 10), (log, 95, 8))
            ) + f"{calls:>8}")  # fmt: skip
        courier.stop()


def _timed(kong: FakeKong, plugin: Any, phase: str) -> float:
    began = time.perf_counter()
    kong.run(plugin, phase)
    return time.perf_counter() - began


def large(policy: Policy) -> None:
    """A prompt beyond every bound."""
    prompt = chat("My card is 4111 1111 1111 1111, and so on. " * 25_000)
    kept = prompt[: policy.max_bytes + 8192]
    began = time.process_time()
    for _ in range(20):
        redact(RawContent(kept, len(prompt)), policy, names=None)
    print(f"\nredaction of a prompt of {len(prompt)} bytes, of which {len(kept)} are looked at: "
          f"{(time.process_time() - began) * 50:.1f} ms")  # fmt: skip


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pii", type=Path)
    parser.add_argument("--records", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=2000, help="requests of each size")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    print(f"commit {commit.stdout.strip() or '?'}, {platform.machine()}, {os.cpu_count()} cores, "
          f"Python {platform.python_version()}")  # fmt: skip
    names = _names()
    texts = ["Please summarise the following report for the board, and answer by noon. " * 5]
    if args.pii:
        rows = [json.loads(line) for line in args.pii.read_text("utf-8").splitlines() if line.strip()]
        texts = [row["text"] * 3 for row in rows]
        leaks(rows, None, "redaction, without names")
        if names is not None:
            leaks(rows, names, "redaction, with names")
    print(f"\nthe worker, mean text {statistics.mean(map(len, texts)):.0f} characters, twice a record\n"
          f"{'':44}{'records/s':>10}{'ms':>10}{'bytes':>10}")  # fmt: skip
    pipeline(texts, args.records, None, {"content": "off"}, "content: off")
    pipeline(texts, args.records, None, {"content": "hashed"}, "content: hashed")
    pipeline(texts, args.records, None, {}, "content: redacted")
    if names is not None:
        pipeline(texts, max(100, args.records // 20), names, {"names": True}, "content: redacted, names")
    request_path(args.rounds, (500, 20_000, 1_000_000))
    large(Policy(key=b"k"))
    return 0


def _names() -> NameFinder | None:
    try:
        from tenantgate.edge.guard_names import load_names  # noqa: PLC0415 - an extra

        return load_names()
    except (TenantgateError, ImportError) as error:
        print(f"names: not measured ({error})")
        return None


if __name__ == "__main__":
    sys.exit(main())
