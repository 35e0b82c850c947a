"""What prompt compression saves and keeps, and how long it takes; prints every figure that the documentation has.

    make bench-compress MEETINGS=meetings.jsonl PROBLEMS=problems.jsonl PROMPTS=prompts.jsonl

Each file is JSON lines: MEETINGS has ``context``, ``question`` and ``answer`` (the prompt is the context and, after
an empty line, the question), PROBLEMS has ``question``, PROMPTS has ``text``.

*Facts* of an answer are the words of the reference answer that were in the context: numbers (in digits or words),
names (with a capital within the sentence) and rare words (of four letters or more, in at most a fifth of the
contexts). A fact is kept if the compressed context still has the word, in any case.

Random and stop-word dropping get the same protected spans and drop words, in random order or stop words first,
until a prompt has as few tokens as ours; `bare` ones protect nothing.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tenantgate.compress import CompressConfig, CompressionRange, Compressor
from tenantgate.compress.folding import minify_json
from tenantgate.compress.pipeline import joined
from tenantgate.compress.spans import Kind, blocks, is_natural, merged, protected
from tenantgate.edge.compress_pruners import pruner
from tenantgate.edge.compress_service import PromptCompression
from tenantgate.edge.token_counts import token_counter

_WORD: Final = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_DIGITS: Final = re.compile(r"\d+(?:[.,]\d+)*")
_NUMBER_WORDS: Final = frozenset(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion half "
    "twice double triple third quarter percent dozen".split()
)
_STOP: Final = frozenset(
    "a about above after again all also am an and any are as at be because been before being below "
    "between both but by can could did do does doing down during each few for from further had has have "
    "having he her here hers him his how i if in into is it its itself just me more most my no nor not "
    "now of off on once only or other our ours out over own same she should so some such than that the "
    "their theirs them then there these they this those through to too under until up very was we were "
    "what when where which while who whom why will with would you your yours uh um yeah okay well like "
    "really think know mean sort kind got get going ".split()
)
_FOREVER: Final = 1e12
_SIZES: Final = (100, 500, 1000, 2000, 8000)


@dataclass
class Tally:
    """Tokens and facts over prompts."""

    before: int = 0
    after: int = 0
    had: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)

    def add(self, before: int, after: int, facts: Iterable[tuple[str, str]], words: set[str]) -> None:
        """Count one prompt."""
        self.before += before
        self.after += after
        for kind, word in facts:
            self.had[kind] += 1
            self.kept[kind] += word in words

    def line(self, name: str) -> str:
        """A row of the table."""
        cells = [f"{name:<34}", f"{1 - self.after / max(1, self.before):>7.1%}"]
        had, kept = sum(self.had.values()), sum(self.kept.values())
        cells.append(f"{kept / max(1, had):>8.2%}")
        cells += [f"{self.kept[k] / max(1, self.had[k]):>8.2%}" for k in ("number", "name", "rare")]
        return " ".join(cells)


def words_of(text: str) -> set[str]:
    """The words and numbers of `text`, in lower case."""
    return {w.lower() for w in _WORD.findall(text)} | set(_DIGITS.findall(text))


def facts_of(answer: str, context: set[str], spread: Counter[str], contexts: int) -> list[tuple[str, str]]:
    """The facts of a reference answer that are in the context, each once."""
    found: dict[str, str] = {}
    for m in _WORD.finditer(answer):
        word = m.group().lower()
        if word not in context or word in found:
            continue
        if any(c.isdigit() for c in word) or word in _NUMBER_WORDS:
            found[word] = "number"
        elif (
            m.group()[0].isupper()
            and not re.search(r"(?:^|[.!?\n]\s*)$", answer[: m.start()])
            and word not in _STOP
        ):
            found[word] = "name"
        elif len(word) >= 4 and word not in _STOP and spread[word] <= contexts / 5:
            found[word] = "rare"
    return [(kind, word) for word, kind in found.items()]


def dropped(
    text: str, target: int, count: Callable[[str], int], *, stop_first: bool, protect: bool, seed: int
) -> str:
    """`text` with words dropped until it has at most `target` tokens."""
    keep = merged(protected(text)) if protect else ()
    spans = [m.span() for m in re.finditer(r"\S+", text)]
    free = [s for s in spans if not any(a < s[1] and s[0] < b for a, b in _near(keep, s))]
    order = random.Random(seed).sample(free, len(free))
    if stop_first:
        order.sort(key=lambda s: text[s[0] : s[1]].strip(".,!?;:").lower() not in _STOP)

    def without(n: int) -> str:
        gone = set(order[:n])
        return joined(text, [s for s in spans if s not in gone]) or ""

    low, high = 0, len(order)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if count(without(middle)) <= target else (middle + 1, high)
    return without(low)


def _near(keep: Sequence[tuple[int, int]], span: tuple[int, int]) -> Iterable[tuple[int, int]]:
    from bisect import bisect_right  # noqa: PLC0415

    i = bisect_right(keep, (span[0], sys.maxsize))
    return keep[max(0, i - 1) : i + 2]


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def meetings(rows: list[dict[str, Any]], config: CompressConfig, *, compare: bool) -> None:
    """Tokens saved and facts kept."""
    counter = token_counter(config.encoding)
    full = Compressor(config, counter, pruner(config.pruner))
    folding = Compressor(config, counter, None)
    spread = Counter(word for row in rows for word in words_of(row["context"]))
    tallies: dict[str, Tally] = {}
    refused: Counter[str] = Counter()
    for i, row in enumerate(rows):
        prompt = f"{row['context']}\n\n{row['question']}"
        facts = facts_of(row["answer"], words_of(row["context"]), spread, len(rows))
        asked = words_of(row["question"])
        facts = [(kind, word) for kind, word in facts if word not in asked]  # the question stays anyhow
        done = full.text(prompt, _FOREVER)
        refused.update(p.value for p in done.steps.refused)
        results = {
            "lossless folding alone": folding.text(prompt, _FOREVER).text,
            f"with {full.fingerprint}": done.text,
        }
        if compare:
            for stop in (False, True):
                for protect in (True, False):
                    name = ("stop words first" if stop else "random words") + ("" if protect else ", bare")
                    results[name] = dropped(
                        prompt, done.after, counter.count, stop_first=stop, protect=protect, seed=i
                    )
        for name, text in results.items():
            tallies.setdefault(name, Tally()).add(done.before, counter.count(text), facts, words_of(text))
    had = sum(next(iter(tallies.values())).had.values())
    print(f"\nMeetings: {len(rows)} prompts, {had} facts, {counter.name}")
    print(f"{'':<34} {'saved':>7} {'facts':>8} {'number':>8} {'name':>8} {'rare':>8}")
    for name, tally in tallies.items():
        print(tally.line(name))
    print(f"results that a check threw away: {dict(refused) or 0}")


def problems(rows: list[dict[str, Any]], config: CompressConfig) -> None:
    """Numbers of word problems: all of them, in their order."""
    counter = token_counter(config.encoding)
    hard = CompressionRange(min_tokens=0, max_tokens=10_000_000, value=0.5)
    forced = CompressConfig(
        encoding=config.encoding, pruner=config.pruner, min_tokens=0, compression_ranges=(hard,)
    )
    print(f"\nWord problems: {len(rows)}")
    for name, one in (("as configured", config), ("forced: every length, rate 0.5", forced)):
        compressor = Compressor(one, counter, pruner(one.pruner))
        before = after = changed = lost = 0
        for row in rows:
            done = compressor.text(row["question"], _FOREVER)
            before, after = before + done.before, after + done.after
            changed += done.text != row["question"]
            lost += numbers(row["question"]) != numbers(done.text)
        print(
            f"{name:<34} {1 - after / before:>7.1%} saved, {changed} changed, {lost} with a number lost or out of order"
        )


def numbers(text: str) -> list[str]:
    """All numbers of a text, in digits or words, in order."""
    return [
        w.lower()
        for w in re.findall(r"\d+(?:[.,]\d+)*|[^\W\d_]+", text)
        if w[0].isdigit() or w.lower() in _NUMBER_WORDS
    ]


def prompts(rows: list[dict[str, Any]], config: CompressConfig) -> None:
    """Code and JSON of real prompts, and which are left alone."""
    counter = token_counter(config.encoding)
    compressor = Compressor(config, counter, pruner(config.pruner))
    shown: dict[str, list[int]] = {}
    broken = pieces = 0
    for row in rows:
        text = row["text"]
        found = blocks(text)
        done = compressor.text(text, _FOREVER)
        kind = "prose"
        if done.before < config.min_tokens:
            kind = "short"
        elif not is_natural(text, found):
            kind = "mostly code"
        elif any(s.kind is Kind.CODE for s in found):
            kind = "with code"
        entry = shown.setdefault(kind, [0, 0, 0, 0])
        for k, n in enumerate((1, done.text != text, done.before, done.after)):
            entry[k] += n
        place = 0
        for span in found:
            piece = text[span.start : span.end]
            pieces += 1
            options = (minify_json(piece), piece) if span.kind is Kind.JSON else (piece,)
            at = max((done.text.find(o, place) for o in options), default=-1)
            broken += at < 0
            place = max(place, at)
    print(
        f"\nPrompts: {len(rows)}; of {pieces} pieces of code, JSON, mark-up and formulas {broken} aren't intact"
    )
    for kind, (n, changed, before, after) in sorted(shown.items()):
        print(f"{kind:<34} {n:>5} prompts, {changed:>4} changed, {1 - after / max(1, before):>7.1%} saved")


def latency(rows: list[dict[str, Any]], config: CompressConfig, rounds: int) -> None:
    """Time from the body's bytes to the body's bytes, in this thread."""
    counter = token_counter(config.encoding)
    service = PromptCompression(config)
    lines = [line for row in rows for line in row["context"].splitlines(keepends=True)]
    costs = [counter.count(line) for line in lines]
    print("\nLatency, from the client's body to the new one, ms (one thread)")
    print(f"{'tokens':>8} {'p50':>8} {'p95':>8} {'out of time':>12}")
    choose = random.Random(1)
    for size in _SIZES:
        times: list[float] = []
        late = 0
        for i in range(rounds + 3):
            start, text, total = choose.randrange(len(lines)), [], 0
            while total < size:
                text.append(lines[start % len(lines)])
                total += costs[start % len(lines)]
                start += 1
            body = json.dumps(
                {"messages": [{"role": "user", "content": "".join(text) + "\n\nWhat was decided?"}]}
            )
            begin = time.perf_counter()
            done = service._compress(body.encode(), time.monotonic() + config.deadline_ms / 1000)  # noqa: SLF001
            if i >= 3:
                times.append((time.perf_counter() - begin) * 1000)
                late += done.outcome.value == "out_of_time"
        p95 = statistics.quantiles(times, n=20)[-1]
        print(f"{size:>8} {statistics.median(times):>8.2f} {p95:>8.2f} {late:>12}")


def main() -> int:
    """Print what the given files allow."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--meetings", type=Path, metavar="FILE")
    parser.add_argument("--problems", type=Path, metavar="FILE")
    parser.add_argument("--prompts", type=Path, metavar="FILE")
    parser.add_argument("--rate", type=float, help="instead of the default ranges")
    parser.add_argument("--pruner", default="rules")
    parser.add_argument(
        "--rounds", type=int, default=100, help="texts for each latency (default: %(default)s)"
    )
    parser.add_argument("--no-baselines", action="store_true")
    args = parser.parse_args()
    if not (args.meetings or args.problems or args.prompts):
        parser.error("nothing to measure: give --meetings, --problems or --prompts")
    ranges = CompressConfig().ranges
    if args.rate:
        ranges = (CompressionRange(min_tokens=ranges[0].min_tokens, max_tokens=10_000_000, value=args.rate),)
    config = CompressConfig(compression_ranges=ranges, pruner=args.pruner)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    versions = f"{platform.machine()}, Python {platform.python_version()}, commit {commit.stdout.strip()}"
    print(f"{time.strftime('%Y-%m-%d')}, {versions}")
    values = [(r.min_tokens, r.value) for r in config.ranges]
    print(f"pruner {args.pruner}, ranges {values}, deadline {config.deadline_ms} ms")
    if args.meetings:
        rows = read(args.meetings)
        meetings(rows, config, compare=not args.no_baselines)
        latency(rows, config, args.rounds)
    if args.problems:
        problems(read(args.problems), config)
    if args.prompts:
        prompts(read(args.prompts), config)
    return 0


if __name__ == "__main__":
    sys.exit(main())
