"""The guard's quality and speed: ``bench_guard.py --attacks ATTACKS.jsonl OTHER.jsonl --pii PII.jsonl --texts …``.

ATTACKS, OTHER: lines of {"text", "attack": 0|1, "source"}; PII: lines of {"text", "spans": [[start, end, kind], …]};
TEXTS: ordinary texts, lines of JSON objects whose strings are texts. Rows
that `train_injection.py` learnt from are in the first table; the second has only those that it never saw, if the files
are the ones that it was given. ``--leave-out`` trains anew (it needs SciPy and some minutes): without each fifth of the
rows in turn, and without each source in turn; these tables are what to expect of texts that nobody has seen.
Times are of one thread; they are reported, never a gate.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "training"))
from train_injection import flags_of, held_out, leave_out, read_rows, show, training_rows

from tenantgate.errors import TenantgateError
from tenantgate.guard.config import DEFAULT_RULES, RuleConfig
from tenantgate.guard.core.detectors import detector, shared_readings
from tenantgate.guard.core.injection import InjectionModel
from tenantgate.guard.models import PARTS
from tenantgate.pii.core import PERSONAL_KINDS, Finding, find_personal, find_secrets, readings

WORDS = (20, 100, 850, 2000)
OVERLAP = 0.5  # of a span that a finding must cover, or of a finding that must lie in a span
# The test set's names of what our detectors call otherwise, and what each needs.
STRUCTURED = {
    "EMAIL_ADDRESS": "EMAIL_ADDRESS",
    "CREDIT_CARD": "CREDIT_CARD",
    "IBAN_CODE": "IBAN_CODE",
    "US_SSN": "US_SSN",
    "PHONE_NUMBER": "PHONE_NUMBER",
    "IP_ADDRESS": "IP_ADDRESS",
    "US_DRIVER_LICENSE": "US_DRIVER_LICENSE",
    "DOMAIN_NAME": "URL",
}
NAMED = {
    "PERSON": "PERSON",
    "GPE": "LOCATION",
    "STREET_ADDRESS": "LOCATION",
    "ORGANIZATION": "ORGANIZATION",
    "NRP": "NRP",
}


def personal(path: Path, find: Callable[[str], Iterable[Finding]], names: dict[str, str], title: str) -> None:
    """Recall, precision and F2 by kind: a span counts as found if half of it is, under its kind."""
    right: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    unmarked = 0
    for line in path.read_text("utf-8").strip("\n").split("\n"):
        row = json.loads(line)
        found = list(find(row["text"]))
        spans = [(a, b, names[k]) for a, b, k in row["spans"] if k in names]
        others = [(a, b) for a, b, _ in row["spans"]]
        for a, b, kind in spans:
            over = [f for f in found if min(f.end, b) - max(f.start, a) >= OVERLAP * (b - a)]
            (right if any(f.kind == kind for f in over) else missed)[kind] += 1
            unmarked += not over
        for f in found:
            # Personal data under another name is no false alarm; the set has no spans for some of our kinds.
            if f.kind in names.values() and not any(min(f.end, b) > max(f.start, a) for a, b in others):
                wrong[f.kind] += 1
    print(f"\n{title}\n{'kind':20}{'spans':>7}{'missed':>8}{'false':>7}{'recall':>8}{'prec.':>8}{'F2':>8}")
    kinds = sorted(set(names.values()))
    for kind in (*kinds, "= all"):
        chosen = kinds if kind == "= all" else [kind]
        hits, miss, false = (sum(c[k] for k in chosen) for c in (right, missed, wrong))
        recall, precision = hits / max(1, hits + miss), hits / max(1, hits + false)
        f2 = 5 * precision * recall / max(1e-9, 4 * precision + recall)
        print(f"{kind:20}{hits + miss:>7}{miss:>8}{false:>7}{recall:>8.3f}{precision:>8.3f}{f2:>8.3f}")
    print(f"not found under any name: {unmarked}")


def ordinary(path: Path) -> None:
    """The share of ordinary texts with personal data or secrets by the default rules, and the kinds."""
    texts: dict[str, None] = {}
    for line in path.read_text("utf-8").strip("\n").split("\n"):
        row = json.loads(line)
        if row.get("attack") != 1:
            texts.update(
                dict.fromkeys(
                    v for k, v in row.items() if isinstance(v, str) and k not in ("source", "intent")
                )
            )
    kinds: Counter[str] = Counter()
    flagged = 0
    for text in texts:
        found = {
            f.kind for f in (*find_personal(text), *find_secrets(text)) if f.score >= DEFAULT_RULES[0].bound
        }
        flagged += bool(found)
        kinds.update(found)
    share = flagged / max(1, len(texts))
    print(f"{path.name:28}{len(texts):>8}{flagged:>8}{share:>9.3%}  {dict(kinds.most_common(8))}")


def ordinary_table(paths: list[Path]) -> None:
    """How many ordinary texts are flagged, by file."""
    if paths:
        print(
            f"\nordinary texts with personal data or secrets\n{'':28}{'texts':>8}{'flagged':>8}{'share':>9}"
        )
    for path in paths:
        ordinary(path)


def several(texts: Iterable[str]) -> list[str]:
    """The texts with more than one reading, as they are and as they stand in the JSON of a tool's result."""
    found = [text for text in texts if len(list(readings(text))) > 1]
    return [*found, *(json.dumps({"results": [{"text": text}]}) for text in found)]


def strings(path: Path) -> Iterator[str]:
    """The texts in lines of JSON objects."""
    for line in path.read_text("utf-8").strip("\n").split("\n"):
        yield from (v for v in json.loads(line).values() if isinstance(v, str))


def latency(texts: list[str], finders: dict[str, Callable[[str], Any]], rounds: int, title: str) -> None:
    """Times by length of text, each text a run of words of real prompts."""
    words = re.findall(r"\S+\s*", "\n".join(texts))
    print(
        f"\n{title}: milliseconds, p50 / p95 of {rounds} texts of each length; "
        "CPU: without what other processes took"
    )
    print(f"{'':30}" + "".join(f"{n:>8} words " for n in WORDS))
    table: dict[str, list[str]] = defaultdict(list)
    counts: dict[int, float] = {}
    for n in WORDS:
        step = max(1, (len(words) - n) // rounds)
        pieces = ["".join(words[i * step : i * step + n]) for i in range(rounds)]
        counts[n] = statistics.mean(len(list(readings(piece))) for piece in pieces)
        for name, find in finders.items():
            find(pieces[0])
            walls, cpus = [], []
            for piece in pieces:
                started, cpu = time.perf_counter(), time.thread_time()
                find(piece)
                cpus.append((time.thread_time() - cpu) * 1000)
                walls.append((time.perf_counter() - started) * 1000)
            for label, times in ((name, walls), (f"{name}, CPU", cpus)):
                if times is walls or name.startswith("="):
                    times.sort()
                    p95 = times[int(0.95 * (len(times) - 1))]
                    table[label].append(f"{statistics.median(times):.2f} / {p95:.2f}")
    print(f"{'readings':30}" + "".join(f"{counts[n]:>14.1f}" for n in WORDS))
    for name, cells in table.items():
        print(f"{name:30}" + "".join(f"{cell:>14}" for cell in cells))


def timings(
    texts: list[str],
    finders: dict[str, Callable[[str], Any]],
    model: InjectionModel,
    args: argparse.Namespace,
) -> None:
    """The tables of times."""
    everything = [f for name, f in finders.items() if name != "names"]

    def by_default(text: str) -> list[Any]:
        with shared_readings():
            return [find(text) for find in everything]

    finders["= default rules"] = by_default
    finders["= the text searched once"] = lambda text: (
        find_personal(text),
        find_secrets(text),
        model.find(text),
    )
    try:
        embedder = PARTS.embedder()
    except TenantgateError:
        print("\nwithout the embedder's models: the first stage of the injection model alone")
    else:
        finders["= one embedding of 64 tokens"] = lambda text: embedder.embed(text + " a" * 64)
    latency(texts, finders, args.rounds, "prompts")
    if escaped := several(text for path in args.texts for text in strings(path)):
        latency(escaped, finders, args.rounds, "texts with escapes, code and JSON")


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--attacks", type=Path, nargs="+", default=[])
    parser.add_argument("--benign", type=Path, nargs="*", default=[], help="honest texts, for --leave-out")
    parser.add_argument(
        "--leave-out", action="store_true", help="train anew without a fifth, without a source"
    )
    parser.add_argument("--pii", type=Path)
    parser.add_argument("--texts", type=Path, nargs="*", default=[], help="ordinary texts")
    parser.add_argument("--rounds", type=int, default=200, help="texts of each length")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    print(
        f"commit {commit.stdout.strip() or '?'}, {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}"
    )
    try:
        PARTS.load("injection")
        model = PARTS.injection()
    except TenantgateError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finders: dict[str, Callable[[str], Any]] = {r.name: detector(r, PARTS) for r in DEFAULT_RULES}
    texts = [
        "What is the capital of France, and how do I get there by train with two children and a dog? " * 150
    ]
    rows = [row for path in args.attacks for row in read_rows(path)]
    if rows:
        flags = flags_of(rows, model)
        show(rows, flags, "prompt injection, all rows")
        show(
            rows, flags, "prompt injection, rows that were not learnt from", [held_out(r.text) for r in rows]
        )
        texts = [r.text for r in rows if not r.attack]
    if rows and args.leave_out:
        leave_out(training_rows(rows, args.benign))
    if args.pii:
        every = detector(RuleConfig(name="all", detector="personal_data", kinds=tuple(PERSONAL_KINDS)), PARTS)
        personal(args.pii, every, STRUCTURED, "personal data with a form")
        try:
            PARTS.load("names")
            names = detector(RuleConfig(name="names", detector="names"), PARTS)
        except TenantgateError as error:
            print(f"\nnames: not measured ({error})")
        else:
            personal(
                args.pii,
                lambda text: (*every(text), *names(text)),
                {**STRUCTURED, **NAMED},
                "personal data with names, places and organisations",
            )
            finders["names"] = names
    ordinary_table(args.texts)
    timings(texts, finders, model, args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
