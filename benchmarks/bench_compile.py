"""Reading, checking and compiling tenants.yaml, by the number of tenants: seconds and megabytes.

    python benchmarks/bench_compile.py [--tenants 1 100 1000 10000] [--folders]

Each tenant has three models, two keys, rules of its own choice out of five, limits, aliases and prices. With
`--folders` also a folder with one file a tenant. Each size runs in a process of its own, so that the memory is that of
this size: peak of the process over what it took before. Seconds are the process's processor time, and by the clock.
Differences are those of a change of rules in two thirds of the tenants. Prints tables; gates are counts: each tenant
has a record with its three models, and each changed one a line.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from tenantgate.bench.report import plain_table
from tenantgate.config import load
from tenantgate.config.compile import compile_records
from tenantgate.policy.core.difference import differences
from tenantgate.policy.core.records import CATALOG, read_record

T = TypeVar("T")
_MODES: Final = ("alert", "block", "mask")
_SHARED: Final = """version: 1
gateway:
  redis: {host: 127.0.0.1, port: 6379}
  audit: {sinks: [{name: file, type: file, path: records.jsonl}]}
defaults:
  rate_limit: {per_minute: 600}
  cache: {cache_ttl: 3600}
  guardrails: {}
  audit: {}
"""


def tenant(i: int) -> str:
    """The lines of one tenant."""
    return f"""id: tenant-{i:05}
api_keys:
  - '${{{{ env "DECK_TENANT_{i:05}_KEY" }}}}'
  - '${{{{ env "DECK_TENANT_{i:05}_KEY_NEXT" }}}}'
rate_limit: {{per_minute: {100 + i % 7 * 100}, per_hour: 20000}}
key_rate_limit: {{per_second: {1 + i % 5}}}
models:
  - provider: openai
    model: gpt-4o-mini
    credential: "{{vault://env/TENANT_{i:05}_OPENAI_KEY}}"
    aliases: [fast]
    input_cost: 0.15
    output_cost: 0.60
  - provider: anthropic
    model: claude-3-5-haiku-20241022
    credential: "{{vault://env/TENANT_{i:05}_ANTHROPIC_KEY}}"
    aliases: [smart]
    max_tokens: 1024
    rate_limit: {{per_minute: 60}}
  - {{provider: groq, model: llama-3.1-8b-instant, credential: "{{vault://env/TENANT_{i:05}_GROQ_KEY}}"}}
guardrails:
  rules:
    - {{name: secrets, detector: secrets, mode: block, target: concatenate_all_content}}
    - {{name: personal-data, detector: personal_data, mode: {_MODES[i % 3]}}}
    - {{name: injection, detector: injection, mode: {_MODES[i % 2]}}}
cache: {{max_wrong_rate: 0.0{1 + i % 3}}}
compression: {{}}
"""


def _indented(text: str, first: str, rest: str) -> str:
    return first + rest.join(text.splitlines(keepends=True))


def write(folder: Path, tenants: int, *, files: bool) -> Path:
    """tenants.yaml with so many tenants, or a folder with a file for each."""
    if not files:
        path = folder / "tenants.yaml"
        entries = (_indented(tenant(i), "  - ", "    ") for i in range(tenants))
        path.write_text(f"{_SHARED}tenants:\n{''.join(entries)}", encoding="utf-8")
        return path
    path = folder / "tenants"
    path.mkdir()
    (path / "shared.yaml").write_text(_SHARED, encoding="utf-8")
    for i in range(tenants):
        text = f"version: 1\ntenant:\n{_indented(tenant(i), '  ', '  ')}"
        (path / f"tenant-{i:05}.yaml").write_text(text, encoding="utf-8")
    return path


def _timed(work: Callable[[], T], figures: dict[str, Any], name: str) -> T:
    cpu, clock = time.process_time(), time.monotonic()
    found = work()
    figures[name] = time.process_time() - cpu
    figures["clock"] = figures.get("clock", 0.0) + time.monotonic() - clock
    return found


def measure(tenants: int, *, files: bool) -> dict[str, Any]:
    """Figures of one size, in this process."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), 1, files=False)
        compile_records(load(path))  # what is imported for the first time isn't counted
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        path = write(Path(folder), tenants, files=files)
        file = _timed(lambda: load(path), figures, "read and checked")
        records = _timed(lambda: compile_records(file), figures, "compiled")
    figures["MB"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    figures["record bytes"] = sum(map(len, records.values())) // tenants
    del records[CATALOG]
    if (
        any(len(read_record(name, raw).models) != 3 for name, raw in records.items())
        or len(records) != tenants
    ):
        raise SystemExit("a tenant has no record with its three models")
    changed = {name: raw.replace(b'"mode":"alert"', b'"mode":"block"') for name, raw in records.items()}
    clock = figures["clock"]
    lines = _timed(lambda: list(differences(records, changed)), figures, "differences")
    figures["clock"] = clock
    if len(lines) != sum(raw != changed[name] for name, raw in records.items()):
        raise SystemExit("a changed tenant has no line")
    return figures


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tenants", type=int, nargs="+", default=[1, 100, 1000, 10_000])
    parser.add_argument("--folders", action="store_true", help="also a folder with one file a tenant")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        print(json.dumps(measure(args.one, files=args.folders)))
        return
    head = [
        "tenants",
        "read, s",
        "compiled, s",
        "both by the clock, s",
        "MB",
        "bytes a record",
        "differences, s",
    ]
    for files in (False, True) if args.folders else (False,):
        rows = []
        for tenants in args.tenants:
            command = [sys.executable, __file__, "--one", str(tenants), *(["--folders"] if files else [])]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            names = ("read and checked", "compiled", "clock", "MB", "record bytes", "differences")
            rows.append([f"{tenants:,}", *(f"{found[name]:,.2f}" for name in names)])
        print("one folder, one file a tenant" if files else "one file")
        print(plain_table(head, rows))


if __name__ == "__main__":
    main()
