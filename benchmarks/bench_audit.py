"""The audit log's redaction and speed, or its memory: ``bench_audit.py [--pii PII.jsonl] [--memory N]``.

PII: lines of {"text", "spans": [[start, end, kind], …]}. Without it the texts are made up, and no leaks are counted.
A span has leaked if half of its letters and digits or more would be written as they are; `partly` counts those of
which anything would be. Times are of one core and are reported, never a gate.

``--memory N`` measures something else: N records go the whole way, from the plugin's phases and the journal through the
real worker process to a file sink, and the worker's memory is printed on the way, then what prompts of a megabyte cost.
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
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tenantgate.audit.channel import Channel
from tenantgate.audit.config import PipelineConfig
from tenantgate.audit.core.chain import verify
from tenantgate.audit.core.content import RawContent
from tenantgate.audit.core.redaction import Policy, findings_in, redact
from tenantgate.audit.core.testing import MemorySpool
from tenantgate.audit.courier import Courier
from tenantgate.audit.messages import Content, Settings
from tenantgate.audit.service import AuditLog
from tenantgate.audit.worker import Worker
from tenantgate.errors import TenantgateError
from tenantgate.fields import parse
from tenantgate.kong.testing import FakeKong
from tenantgate.paths import plugin_file
from tenantgate.pii.core.ports import NameFinder

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
        "route": {"id": "r", "name": "llm.openai.m.t"},
        "consumer": {"id": "c", "custom_id": f"t{number % 20}"},
        "started_at": int(time.time() * 1000),
        "source": "upstream",
        "client_ip": "203.0.113.1",
        "ai": {
            "proxy": {
                "meta": {"provider_name": "openai", "request_model": "m"},
                "usage": {"prompt_tokens": 200, "completion_tokens": 100, "total_tokens": 300},
            }
        },
        "tenantgate": {"guardrails": '{"action":"pass"}', "cache": '{"status":"miss"}'},
    }


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
            parse(PipelineConfig, plain),
            Channel(),
            spool,
            find_names=None if names is None else lambda: names,
        )
        worker.take(Settings("p", "r", {"encryption_key": KEY, "pipeline": plain, **policy}))
        for n in range(1, count + 1):
            prompt, reply = chat(texts[n % len(texts)]), answer(texts[(n + 1) % len(texts)])
            worker.take(Content("p", f"{n:032x}", RawContent(prompt, len(prompt), reply, len(reply), {})))
        began = time.process_time()
        while len(spool.entries) < count:
            worker.step()
        seconds = time.process_time() - began
        size = statistics.mean(len(e.record) for e in spool.entries)
        print(f"{title:44}{count / seconds:>10.0f}{seconds / count * 1000:>10.3f}{size:>10.0f}")


def request_path(rounds: int, sizes: Sequence[int]) -> None:
    """What access and log take in the plugin's process, Kong's side played in it."""
    module = load_plugin()
    drain = (
        "import pathlib, sys\nfrom tenantgate.audit.meeting import listen\n"
        "s = listen(pathlib.Path(sys.argv[-3]))\ns.setblocking(True)\ns = s.accept()[0]\nwhile s.recv(1<<18): pass"
    )
    print(f"\nin the plugin's process, µs{'access p50':>22}{'p95':>8}{'log p50':>10}{'p95':>8}{'calls':>8}")
    with tempfile.TemporaryDirectory() as folder:
        plain = {"journal": f"{folder}/journal.jsonl", "state_dir": folder}
        courier = Courier(parse(PipelineConfig, plain), plain, command=(sys.executable, "-c", drain))
        plugin = module.Plugin(
            {"encryption_key": KEY, "pipeline": plain, "route_id": "r", "deadline_ms": 1500}
        )
        plugin.__dict__["_service"] = AuditLog(plugin.config, "r", courier)
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
                kong = FakeKong(
                    consumer="t",
                    body=prompt,
                    answers={"kong.nginx.get_var": f"{n:032x}", "kong.log.serialize": text},
                )
                access.append(_timed(kong, plugin, "access"))
                log.append(_timed(kong, plugin, "log"))
                calls = len(kong.calls)
            print(
                f"prompt of {size:>8} bytes        "
                + "".join(
                    f"{statistics.quantiles(times, n=100)[q - 1] * 1e6:>{width}.0f}"
                    for times, q, width in ((access, 50, 17), (access, 95, 8), (log, 50, 10), (log, 95, 8))
                )
                + f"{calls:>8}"
            )
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
    print(
        f"\nredaction of a prompt of {len(prompt)} bytes, of which {len(kept)} are looked at: "
        f"{(time.process_time() - began) * 50:.1f} ms"
    )


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pii", type=Path)
    parser.add_argument("--records", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=2000, help="requests of each size")
    parser.add_argument("--memory", type=int, metavar="N", help="only the memory, over so many records")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    print(
        f"commit {commit.stdout.strip() or '?'}, {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}"
    )
    if args.memory:
        return memory(args.memory)
    names = _names()
    texts = ["Please summarise the following report for the board, and answer by noon. " * 5]
    if args.pii:
        rows = [json.loads(line) for line in args.pii.read_text("utf-8").splitlines() if line.strip()]
        texts = [row["text"] * 3 for row in rows]
        leaks(rows, None, "redaction, without names")
        if names is not None:
            leaks(rows, names, "redaction, with names")
    print(
        f"\nthe worker, mean text {statistics.mean(map(len, texts)):.0f} characters, twice a record\n"
        f"{'':44}{'records/s':>10}{'ms':>10}{'bytes':>10}"
    )
    pipeline(texts, args.records, None, {"content": "off"}, "content: off")
    pipeline(texts, args.records, None, {"content": "hashed"}, "content: hashed")
    pipeline(texts, args.records, None, {}, "content: redacted")
    if names is not None:
        pipeline(texts, max(100, args.records // 20), names, {"names": True}, "content: redacted, names")
    request_path(args.rounds, (500, 20_000, 1_000_000))
    large(Policy(key=b"k"))
    return 0


class WholeWay:
    """The plugin's phases here, Kong's journal, and the real worker with a spool and a sink in files."""

    def __init__(self, folder: Path, **policy: Any) -> None:
        self.folder, self.written = folder, 0
        self.sink = folder / "audit.jsonl"
        plain = {
            "journal": f"{folder}/journal.jsonl",
            "state_dir": str(folder),
            "node": "bench",
            "sinks": [
                {"name": "file", "type": "file", "path": str(self.sink), "batch_size": 1000, "flush_ms": 50}
            ],
        }
        self.plugin = load_plugin().Plugin(
            {"encryption_key": KEY, "pipeline": plain, "route_id": "r", "deadline_ms": 1500, **policy}
        )
        self.courier = Courier(parse(PipelineConfig, plain), plain)
        self.plugin.__dict__["_service"] = AuditLog(self.plugin.config, "r", self.courier)
        self._seen = self._lines = 0

    def request(self, number: int, prompt: bytes, reply: bytes) -> None:
        """One request: access, log, and Kong's line."""
        record = kong_record(number)
        record["ai"]["proxy"]["payload"] = {"request": "", "response": reply.decode()}
        kong = FakeKong(
            consumer="t",
            body=prompt,
            answers={"kong.nginx.get_var": f"{number:032x}", "kong.log.serialize": json.dumps(record)},
        )
        kong.run(self.plugin, "access")
        kong.run(self.plugin, "log")
        del record["ai"]["proxy"]["payload"]
        with (self.folder / "journal.jsonl").open("ab") as out:
            out.write(json.dumps(record).encode() + b"\n")
        self.written += 1

    def arrived(self) -> int:
        """How many records the sink has."""
        if self.sink.exists():
            with self.sink.open("rb") as file:
                file.seek(self._seen)
                while block := file.read(1 << 20):
                    self._seen += len(block)
                    self._lines += block.count(b"\n")
        return self._lines

    def wait(self, behind: int = 0) -> None:
        """Until at most so many records are on their way."""
        while self.written - self.arrived() > behind:
            time.sleep(0.01)

    def worker(self) -> dict[str, float]:
        """Of the worker: `rss` and `peak`, MiB, and `cpu`, seconds."""
        while (pid := self.courier.worker_pid) is None:
            time.sleep(0.01)
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
        )
        times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return {
            "rss": int(status["VmRSS"].split()[0]) / 1024,
            "peak": int(status["VmHWM"].split()[0]) / 1024,
            "cpu": (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK"),
        }

    def own_mib(self) -> float:
        """RSS of this process, which stands for the plugin server."""
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def memory(count: int, *, marks: int = 10, large_prompts: int = 50) -> int:
    """The worker's memory over so many records, then the cost of large prompts; 1 if a record is missing."""
    reply = answer("word " * 100)
    with tempfile.TemporaryDirectory(prefix="tg-audit-memory-") as name:
        way = WholeWay(Path(name))
        way.request(0, chat("hello"), reply)
        way.wait()
        print(
            f"{'records':>10}{'worker MiB':>12}{'peak':>8}{'server MiB':>12}{'records/s':>11}{'CPU ms/record':>15}"
        )
        before, began = way.worker(), time.monotonic()
        print(f"{way.arrived():>10}{before['rss']:>12.1f}{before['peak']:>8.1f}{way.own_mib():>12.1f}")
        for number in range(1, count):
            text = f"Write to jo{number}@example.com about order {number}. " + "Please be brief. " * 20
            way.request(number, chat(text), reply)
            way.wait(2000)
            if (number + 1) % max(1, count // marks) == 0:
                way.wait()
                now, took = way.worker(), time.monotonic() - began
                print(
                    f"{way.arrived():>10}{now['rss']:>12.1f}{now['peak']:>8.1f}{way.own_mib():>12.1f}"
                    f"{(number + 1) / took:>11.0f}{(now['cpu'] - before['cpu']) / number * 1000:>15.2f}",
                    flush=True,
                )
        way.wait()
        way.courier.stop()
        lines = way.sink.read_bytes().splitlines()
        states = Counter(json.loads(line)["content"]["state"] for line in lines)
        report = verify(lines)
        print(f"{report.records} records at the sink, {len(report.faults)} faults, content: {dict(states)}")
        missing = report.records != count or not report.sound
    for bound in (32_768, 1_048_576):
        missing |= _large_prompts(bound, large_prompts)
    return int(missing)


def _large_prompts(bound: int, count: int) -> bool:
    prompt = chat("My card is 4111 1111 1111 1111, and so on. " * 25_000)
    with tempfile.TemporaryDirectory(prefix="tg-audit-memory-") as name:
        way = WholeWay(Path(name), max_content_bytes=bound, redaction_timeout_ms=60_000)
        way.request(0, chat("hello"), answer("yes"))
        way.wait()
        before = way.worker()
        for number in range(1, count + 1):
            way.request(number, prompt, answer("yes"))
            way.wait()
        after = way.worker()
        way.courier.stop()
        records = [json.loads(line) for line in way.sink.read_bytes().splitlines()[1:]]
        size = max(len(json.dumps(r["content"])) for r in records)
        print(
            f"{count} prompts of {len(prompt)} bytes, max_content_bytes {bound}: "
            f"{(after['cpu'] - before['cpu']) / count * 1000:.0f} ms of the worker each, its memory "
            f"{before['rss']:.0f} to {after['rss']:.0f} MiB, at its peak {after['peak']:.0f}; "
            f"content at the sink {size} bytes, {dict(Counter(r['content']['state'] for r in records))}"
        )
        return len(records) != count


def load_plugin() -> Any:
    """The plugin's module."""
    spec = importlib.util.spec_from_file_location("bench_tenant_audit_log", plugin_file("tenant-audit-log"))
    if spec is None or spec.loader is None:
        raise SystemExit("no plugin file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _names() -> NameFinder | None:
    try:
        from tenantgate.pii.name_models import load_names

        return load_names()
    except (TenantgateError, ImportError) as error:
        print(f"names: not measured ({error})")
        return None


if __name__ == "__main__":
    sys.exit(main())
