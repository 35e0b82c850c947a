"""What prompt compression saves and keeps, and how long it takes; prints every figure that the documentation has.

    make bench-compress MEETINGS=meetings.jsonl PROBLEMS=problems.jsonl PROMPTS=prompts.jsonl

Each file is JSON lines: MEETINGS has ``context``, ``question`` and ``answer`` (the prompt is the context and, after
an empty line, the question), PROBLEMS has ``question``, PROMPTS has ``text``.

*Facts* of an answer are the words of the reference answer that were in the context: numbers (in digits or words),
names (with a capital within the sentence) and rare words (of four letters or more, in at most a fifth of the
contexts). A fact is kept if the compressed context still has the word, in any case.

Random and stop-word dropping get the same protected spans and drop words, in random order or stop words first,
until a prompt has as few tokens as ours; `bare` ones protect nothing.

``--compare`` sets the pruners beside each other on the meetings that `train_compressor.py` holds out: each drops
words until a prompt has as few tokens as the model leaves at a rate, all with the same protected spans. *Links* are
pronouns, prepositions, conjunctions and modal verbs: no fact, but what holds facts together. The facts hold no word of
the list of stop words, so a method that drops by that list loses none until the list is used up: it is
favoured here.
"""

from __future__ import annotations

import argparse
import contextlib
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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

sys.path.append(str(Path(__file__).resolve().parents[1] / "training"))
from train_compressor import held_out

from tenantgate import llm
from tenantgate.bench.slow_texts import FAMILIES, text_of
from tenantgate.compress.config import CompressConfig, CompressionRange
from tenantgate.compress.core.blocks import blocks, is_natural
from tenantgate.compress.core.folding import minify_json
from tenantgate.compress.core.pipeline import Compressor, OutOfTimeError, joined
from tenantgate.compress.core.ports import Pruner, TokenCounter
from tenantgate.compress.core.protected_words import protected
from tenantgate.compress.core.ranked import RankedPruner, WordScorer
from tenantgate.compress.core.spans import Kind, merged
from tenantgate.compress.core.task import MOST_CHARACTERS
from tenantgate.compress.core.time_budget import Work
from tenantgate.compress.pruners import LoadedLater, pruner, pruner_in_background
from tenantgate.compress.service import PromptCompression
from tenantgate.compress.token_counts import token_counter
from tenantgate.fields import check
from tenantgate.llm import chat
from tenantgate.models.language import english

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
_LINKS: Final = frozenset(
    "i me my you your he him his she her it its we us our they them their this that these those who which what when "
    "where why how in on at by for from to of with without into onto over under between through during before after "
    "until since against about as than and or but so if because although while unless whether can could may might must "
    "shall should will would".split()
)
_FOREVER: Final = 1e12
_RATES: Final = (0.8, 0.6, 0.4)  # of the model, for --compare
_STEPS: Final = 9  # of the search for a rate
_HOSTILE_SIZES: Final = (10_000, 100_000, 1_000_000)  # characters
_SIZES: Final = (100, 500, 1000, 2000, 8000)


@dataclass
class Tally:
    """Tokens and facts over prompts."""

    before: int = 0
    after: int = 0
    links: int = 0
    links_kept: int = 0
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


def links_of(text: str) -> Counter[str]:
    """How often each of `_LINKS` is in `text`."""
    return Counter(w for w in (m.group().lower() for m in _WORD.finditer(text)) if w in _LINKS)


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
    from bisect import bisect_right

    i = bisect_right(keep, (span[0], sys.maxsize))
    return keep[max(0, i - 1) : i + 2]


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def meetings(rows: list[dict[str, Any]], config: CompressConfig, *, compare: bool) -> None:
    """Tokens saved and facts kept."""
    counter = token_counter(config.encoding)
    full = Compressor(config, counter, chosen(config), english=english)
    folding = Compressor(config, counter, None, english=english)
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


def chosen(config: CompressConfig) -> Pruner:
    """The configuration's pruner, loaded."""
    return pruner(config.pruner, config.pruner_model)


class Listed:
    """Scores words at random, or stop words below all others."""

    fingerprint = "listed"

    def __init__(self, *, stop_first: bool) -> None:
        self._stop_first = stop_first

    def scores(self, text: str, words: Sequence[tuple[int, int]], _deadline: float) -> Sequence[float]:
        """0 to 1 at random, the same for the same text; 1 more for what is no stop word."""
        choose = random.Random(len(text))
        return [
            choose.random() + (self._stop_first and text[s:e].lower().strip("'’-") not in _STOP)
            for s, e in words
        ]


class Remembered:
    """A scorer that is asked once for each text."""

    def __init__(self, scorer: WordScorer) -> None:
        self._scorer = scorer
        self.fingerprint = scorer.fingerprint
        self._last: tuple[str, Sequence[float] | None] = ("", None)

    def scores(self, text: str, words: Sequence[tuple[int, int]], deadline: float) -> Sequence[float] | None:
        """As the scorer's."""
        if self._last[0] != text:
            self._last = (text, self._scorer.scores(text, words, deadline))
        return self._last[1]


def compare(rows: list[dict[str, Any]], config: CompressConfig, lingua: str | None) -> None:
    """All pruners at the same share of tokens saved."""
    counter = token_counter(config.encoding)
    rest = held_out([row["context"] for row in rows])
    spread = Counter(word for row in rows for word in words_of(row["context"]))
    model = pruner("model")
    assert isinstance(model, RankedPruner)
    ours = Remembered(model.scorer)
    methods: dict[str, Pruner] = {
        "rules": pruner("rules"),
        "model (rules, then the head)": RankedPruner(ours, fillers_first=True),
        "the head alone": RankedPruner(ours),
        "rules, then stop words": RankedPruner(Listed(stop_first=True), fillers_first=True),
        "rules, then random words": RankedPruner(Listed(stop_first=False), fillers_first=True),
        "stop words first": RankedPruner(Listed(stop_first=True)),
        "random words": RankedPruner(Listed(stop_first=False)),
    }
    if lingua:
        methods["llmlingua"] = pruner("llmlingua", lingua)
    first = "model (rules, then the head)"
    folding = Compressor(config, counter, None, english=english)
    tallies: dict[tuple[float, str], Tally] = {}
    for row, judged in zip(rows, rest, strict=True):
        if not judged:
            continue
        prompt = f"{row['context']}\n\n{row['question']}"
        before = counter.count(prompt)
        asked = words_of(row["question"])
        facts = facts_of(row["answer"], words_of(row["context"]), spread, len(rows))
        facts = [(kind, word) for kind, word in facts if word not in asked]
        folded = folding.text(prompt, _FOREVER).text
        for rate in _RATES:
            target = counter.count(pruned_at(methods[first], folded, rate, counter))
            results = {"lossless folding alone": folded}
            for name, method in methods.items():
                results[name] = matched(method, folded, target, counter)
            for name, text in results.items():
                tally = tallies.setdefault((rate, name), Tally())
                tally.add(before, counter.count(text), facts, words_of(text))
                links = links_of(prompt)
                tally.links += links.total()
                tally.links_kept += (links & links_of(text)).total()
    print(
        f"\nPruners compared: {sum(rest)} held-out prompts, "
        f"{sum(next(iter(tallies.values())).had.values())} facts"
    )
    for rate in _RATES:
        title = f"as few tokens as the model at {rate}"
        print(f"{title:<34} {'saved':>7} {'facts':>8} {'number':>8} {'name':>8} {'rare':>8} {'links':>8}")
        for (at, name), tally in tallies.items():
            if at == rate:
                print(f"{tally.line(name)} {tally.links_kept / max(1, tally.links):>8.2%}")


def pruned_at(method: Pruner, text: str, rate: float, counter: TokenCounter) -> str:
    """`text` as the pipeline would send it."""
    ranges = (CompressionRange(min_tokens=0, max_tokens=10_000_000, value=max(rate, 0.01)),)
    config = CompressConfig(min_tokens=0, compression_ranges=ranges)
    return Compressor(config, counter, method, english=english).text(text, _FOREVER).text


def matched(method: Pruner, text: str, target: int, counter: TokenCounter) -> str:
    """`text` pruned at the highest rate that leaves at most `target` tokens; as few as it can if none does."""
    best, low, high = None, 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        out = pruned_at(method, text, middle, counter)
        if counter.count(out) <= target:
            best, low = out, middle
        else:
            high = middle
    return pruned_at(method, text, 0.01, counter) if best is None else best


def problems(rows: list[dict[str, Any]], config: CompressConfig) -> None:
    """Numbers of word problems: all of them, in their order."""
    counter = token_counter(config.encoding)
    hard = CompressionRange(min_tokens=0, max_tokens=10_000_000, value=0.5)
    forced = replace(config, min_tokens=0, compression_ranges=(hard,))
    print(f"\nWord problems: {len(rows)}")
    for name, one in (("as configured", config), ("forced: every length, rate 0.5", forced)):
        compressor = Compressor(one, counter, chosen(one), english=english)
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
    compressor = Compressor(config, counter, chosen(config), english=english)
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
    made = pruner_in_background(config)
    if isinstance(made, LoadedLater):
        made.wait()
    service = PromptCompression(config)
    lines = [line for row in rows for line in row["context"].splitlines(keepends=True)]
    costs = [counter.count(line) for line in lines]
    print("\nLatency, from the client's body to the new one, ms (one thread)")
    print(f"{'tokens':>8} {'p50':>8} {'p95':>8} {'pruned':>8} {'out of time':>12}")
    choose = random.Random(1)
    for size in _SIZES:
        times: list[float] = []
        late = pruned = 0
        for i in range(rounds + 3):
            start, text, total = choose.randrange(len(lines)), [], 0
            while total < size:
                text.append(lines[start % len(lines)])
                total += costs[start % len(lines)]
                start += 1
            messages = [{"role": "user", "content": "".join(text) + "\n\nWhat was decided?"}]
            body = llm.write({"messages": messages})
            begin = time.perf_counter()
            request = chat.parse_request(body)
            done = service._compress(request, len(body), time.monotonic() + config.deadline_ms / 1000)  # noqa: SLF001
            if i >= 3:
                times.append((time.perf_counter() - begin) * 1000)
                late += done.outcome.value == "out_of_time"
                pruned += done.steps.pruned > 0
        p95 = statistics.quantiles(times, n=20)[-1]
        print(f"{size:>8} {statistics.median(times):>8.2f} {p95:>8.2f} {pruned:>8} {late:>12}")


def hostile(config: CompressConfig, sizes: Sequence[int]) -> None:
    """What texts that are made to be slow cost, without a deadline, and how late the deadline is noticed."""
    counter = token_counter(config.encoding)
    compressor = Compressor(config, counter, chosen(config), english=english)
    english("This loads the model for languages.")
    kb = [f"{size // 1000:,} kB" for size in sizes]
    print("\nTexts made to be slow, ms of processor time; steps a character; ms after a deadline of 50")
    print(f"{'':<28}" + "".join(f"{name:>11}" for name in kb) + f"{'steps':>8} {'late':>6}")
    worst = [0.0] * len(sizes)
    for family in FAMILIES:
        cells, steps = [], 0.0
        for i, size in enumerate(sizes):
            text, work = text_of(family, size), Work()
            begin = time.process_time()
            compressor.text(text, _FOREVER, work)
            cells.append((time.process_time() - begin) * 1000)
            worst[i] = max(worst[i], cells[-1])
            steps = max(steps, work.steps / max(1, len(text)))
        end = time.monotonic() + 0.05
        with contextlib.suppress(OutOfTimeError):
            compressor.text(text_of(family, MOST_CHARACTERS - 1000), end)
        late = max(0.0, time.monotonic() - end) * 1000
        print(f"{family:<28}" + "".join(f"{ms:>11.1f}" for ms in cells) + f"{steps:>8.2f} {late:>6.1f}")
    print(f"{'the worst':<28}" + "".join(f"{ms:>11.1f}" for ms in worst))


def main() -> int:
    """Print what the given files allow."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--meetings", type=Path, metavar="FILE")
    parser.add_argument("--problems", type=Path, metavar="FILE")
    parser.add_argument("--prompts", type=Path, metavar="FILE")
    parser.add_argument("--rate", type=float, help="instead of the default ranges")
    parser.add_argument("--pruner", default="rules")
    parser.add_argument("--pruner-model", metavar="MODEL", help="for --pruner llmlingua")
    parser.add_argument("--compare", action="store_true", help="all pruners on the held-out meetings")
    parser.add_argument("--latency", action="store_true", help="of the meetings nothing else")
    parser.add_argument("--llmlingua", metavar="DIR", help="with --compare: an LLMLingua-2 model, too")
    parser.add_argument(
        "--rounds", type=int, default=100, help="texts for each latency (default: %(default)s)"
    )
    parser.add_argument("--hostile", action="store_true", help="what texts that are made to be slow cost")
    parser.add_argument("--no-baselines", action="store_true")
    args = parser.parse_args()
    if not (args.meetings or args.problems or args.prompts or args.hostile):
        parser.error("nothing to measure: give --meetings, --problems, --prompts or --hostile")
    ranges = CompressConfig().ranges
    if args.rate:
        ranges = (CompressionRange(min_tokens=ranges[0].min_tokens, max_tokens=10_000_000, value=args.rate),)
    config = CompressConfig(compression_ranges=ranges, pruner=args.pruner, pruner_model=args.pruner_model)
    check(config)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    versions = f"{platform.machine()}, Python {platform.python_version()}, commit {commit.stdout.strip()}"
    print(f"{time.strftime('%Y-%m-%d')}, {versions}")
    values = [(r.min_tokens, r.value) for r in config.ranges]
    print(f"pruner {args.pruner}, ranges {values}, deadline {config.deadline_ms} ms")
    if args.meetings:
        rows = read(args.meetings)
        if args.compare:
            compare(rows, config, args.llmlingua)
            return 0
        if not args.latency:
            meetings(rows, config, compare=not args.no_baselines)
        latency(rows, config, args.rounds)
    if args.hostile:
        hostile(config, _HOSTILE_SIZES)
    if args.problems:
        problems(read(args.problems), config)
    if args.prompts:
        prompts(read(args.prompts), config)
    return 0


if __name__ == "__main__":
    sys.exit(main())
