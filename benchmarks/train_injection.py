"""Trains the weights of `tenantgate.guard.injection`: ``train_injection.py SET.jsonl … [--benign FILE …]``.

Data sheet
    Sets: lines of {"text", "attack": 0|1, "source"}. Four fifths of them, by a hash of their beginning (so that
    variants of one jailbreak stay on one side), are trained on; the rest is held out, and what is printed at the end is
    measured on it. Nothing of these files is kept but the weights.
    Own examples (`injection_texts`): attacks by kind and language, and honest texts that use the same words.
    Other honest texts (``--benign``): any JSON lines with a "text", "question", "a" or "context".
    Some rows count as attacks and hold none (`doubtful`): they are never learnt from, but always counted.
    Method, sources and figures: src/tenantgate/models/README.md.

``--leave-out`` trains once more for each source, without it, and says what is found of it then.
Needs scikit-learn; the weights need NumPy only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from injection_texts import doubtful, own

from tenantgate.edge.models import find_models
from tenantgate.guard import injection
from tenantgate.guard.concepts import CONCEPTS, PATTERNS
from tenantgate.guard.injection import FEATURES, FEW, InjectionModel, Weights, meaning
from tenantgate.guard.lexical import BUCKETS, PAIRS, read
from tenantgate.pii import normalise

OUT = Path(__file__).resolve().parents[1] / "src" / "tenantgate" / "models" / "injection.npz"
HELD_OUT = 5  # one in so many
FOLDS = 4
OLD = ("arena-hard", "notinject", "xstest-safe")
NEW = ("wildguard-benign", "arena-hard-v2", "piguard-valid")
BOUNDS = {OLD: 0.015, NEW[:1]: 0.03, NEW[1:2]: 0.03}  # share that may score 0.5 or more, in cross-validation
# How much a kind of features may say: the scale of its columns.
SCALES = (1.0, 0.5, 0.35, 0.8)
GROUPS = (BUCKETS, len(CONCEPTS), PAIRS, len(PATTERNS))
MEANING = 0.7  # … and the embedding's dimensions
HEAVY = {**dict.fromkeys(OLD, 3.0), **dict.fromkeys(NEW, 3.0), "own-honest": 1.0, "own-attack": 0.5}
LENGTHS = (50, 150, 400, 1600)


@dataclass(frozen=True, slots=True)
class Row:
    """A text, whether it is an attack, and where it is from."""

    text: str
    attack: int
    source: str


def bucket(text: str, salt: str, n: int) -> int:
    """The same for texts that begin alike."""
    start = re.sub(r"\W+", "", text.lower())[:60]
    return int.from_bytes(hashlib.sha256((salt + start).encode("utf-8", "replace")).digest()[:8], "big") % n


def held_out(text: str) -> bool:
    """Whether a row of an evaluation file is never trained on."""
    return bucket(text, "", HELD_OUT) == 0


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of an evaluation file."""
    for line in path.read_text("utf-8").strip("\n").split("\n"):
        row = json.loads(line)
        yield Row(row["text"], int(row["attack"]), row["source"])


def honest(paths: Iterable[Path], rng: random.Random, most: int) -> Iterator[Row]:
    """Honest texts of other files."""
    for path in paths:
        texts = []
        for line in path.read_text("utf-8").strip("\n").split("\n"):
            row = json.loads(line)
            texts.append(next(row[k] for k in ("text", "question", "a", "context") if k in row))
            if "context" in row:
                texts[-1] = row["context"][: rng.choice((500, 1500, 3000))]
        rng.shuffle(texts)
        yield from (Row(t, 0, path.stem) for t in texts[:most])


@dataclass(slots=True)
class Table:
    """Windows and segments of all rows, as features."""

    rows: list[Row]
    of_window: Any = None
    of_segment: Any = None
    windows: Any = None
    segments: Any = None
    spans: list[Any] = field(default_factory=list)  # of each segment: its text and its windows' numbers and places
    weight: Any = None
    fold: Any = None


def table_of(rows: list[Row]) -> Table:
    """The features of all rows."""
    table = Table(rows)
    of_window: list[int] = []
    of_segment: list[int] = []
    windows = Columns()
    segments = Columns()
    for i, row in enumerate(rows):
        text = normalise(row.text[:12_000]).text
        reading = read(text)
        words = len(reading.starts)
        if not words:
            continue
        features = injection._features(reading)
        first, last = injection.windows(words)
        base = len(of_window)
        for a, b in zip(first, last, strict=True):
            inside = (features.at >= a) & (features.at < b)
            k = features.words
            windows.add(features.numbers[:k][inside[:k]], features.numbers[k:][inside[k:]], 3 * (b - a))
            of_window.append(i)
        for a, b in injection._spans(words):
            bag, rest = injection.segment_features(features, a, b)
            segments.add(bag, rest, len(bag))
            of_segment.append(i)
            low = a // injection._STEP
            high = max(low + 1, min(len(first), -(-(b - injection._WINDOW) // injection._STEP) + 1))
            places = [
                (int(reading.where[reading.starts[x]]), int(reading.where[reading.ends[y - 1] - 1]) + 1)
                for x, y in zip(first[low:high], last[low:high], strict=True)
            ]
            table.spans.append((text, base + low, places, b - a))
    table.of_window, table.of_segment = np.array(of_window), np.array(of_segment)
    table.windows, table.segments = windows.matrix(), segments.matrix()
    table.weight = np.array([HEAVY.get(r.source.split("/")[0], 0.7 if r.attack else 0.4) for r in rows])
    table.fold = np.array([bucket(r.text, "fold", FOLDS) for r in rows])
    return table


class Columns:
    """A sparse matrix, row by row."""

    def __init__(self) -> None:
        self.columns: list[Any] = []
        self.values: list[Any] = []
        self.ends = [0]

    def add(self, bag: Any, rest: Any, size: int) -> None:
        """A row: hashed words, of a piece with so many, and other features."""
        scale = np.repeat(SCALES, GROUPS)
        self.columns += [bag, rest]
        self.values += [np.full(len(bag), 1 / math.sqrt(max(FEW, size))), scale[rest]]
        self.ends.append(self.ends[-1] + len(bag) + len(rest))

    def matrix(self) -> Any:
        """It."""
        from scipy.sparse import csr_matrix  # noqa: PLC0415 - the benchmark needs none of it

        made = csr_matrix(
            (np.concatenate(self.values).astype(np.float32), np.concatenate(self.columns), self.ends),
            shape=(len(self.ends) - 1, FEATURES),
        )
        made.sum_duplicates()
        return made


def fit(x: Any, y: Any, w: Any, strength: float, start: Any = None) -> tuple[Any, float]:
    """A logistic regression's weights and bias; both classes weigh the same."""
    from scipy.optimize import minimize  # noqa: PLC0415

    y = np.asarray(y, np.float64)
    w = np.asarray(w, np.float64)
    w = w * np.where(y > 0, 0.5 / (w * y).sum(), 0.5 / (w * (1 - y)).sum())
    sign = 2 * y - 1
    xt = x.T.tocsr()

    def loss(theta: Any) -> Any:
        margin = sign * (x @ theta[:-1] + theta[-1])
        slope = -w * sign / (1 + np.exp(np.clip(margin, -30, 30)))
        value = (w * np.logaddexp(0, -margin)).sum() + strength * (theta[:-1] ** 2).sum() / 2
        return value, np.concatenate((xt @ slope + strength * theta[:-1], [slope.sum()]))

    theta = np.zeros(x.shape[1] + 1) if start is None else start
    found = minimize(loss, theta, jac=True, method="L-BFGS-B", options={"maxiter": 120, "ftol": 1e-6})
    return found.x[:-1], float(found.x[-1])


def worst(scores: Any, of: Any, among: Any, attack: Any, share: float) -> Any:
    """Which pieces are learnt from: all of honest rows, of attacks the worst `share`, at least one."""
    keep = among & (attack[of] == 0)
    by_row: dict[int, list[int]] = defaultdict(list)
    for n in np.flatnonzero(among & (attack[of] == 1)):
        by_row[of[n]].append(n)
    for members in by_row.values():
        ranked = sorted(members, key=lambda n: -scores[n])
        keep[ranked[: max(1, math.ceil(len(ranked) * share))]] = True
    return keep


def top(of: Any, scores: Any, n: int) -> Any:
    """For each row its highest score."""
    best = np.full(n, -99.0)
    np.maximum.at(best, of, scores)
    return best


@dataclass(slots=True)
class Linear:
    """Both linear models."""

    segment: tuple[Any, float]
    window: tuple[Any, float]

    def score(self, table: Table) -> tuple[Any, Any]:
        """Of each window, of each segment."""
        return (
            table.windows @ self.window[0] + self.window[1],
            table.segments @ self.segment[0] + self.segment[1],
        )


STRENGTH = {"segment": 3e-5, "window": 3e-5}


def learn(table: Table, rows: Any) -> Linear:
    """The linear models, from the rows that `rows` marks."""
    attack = np.array([r.attack for r in table.rows])
    usable = rows & ~np.array([doubtful(r.text) and bool(r.attack) for r in table.rows])
    among = usable[table.of_segment]
    y = attack[table.of_segment]
    w = table.weight[table.of_segment]
    counts = np.bincount(table.of_segment, minlength=len(table.rows))
    w = w / np.sqrt(counts[table.of_segment])
    s = fit(table.segments[among], y[among], w[among], STRENGTH["segment"])
    keep = worst(table.segments @ s[0], table.of_segment, among, attack, 0.5)
    s = fit(table.segments[keep], y[keep], w[keep], STRENGTH["segment"], np.append(*s))
    among = usable[table.of_window]
    y = attack[table.of_window]
    counts = np.bincount(table.of_window, minlength=len(table.rows))
    w = table.weight[table.of_window] / np.sqrt(np.where(y > 0, 1, counts[table.of_window]))
    scores = table.windows @ s[0]
    v = None
    for _ in range(2):
        keep = worst(scores, table.of_window, among, attack, 0.1)
        v = fit(table.windows[keep], y[keep], w[keep], STRENGTH["window"], None if v is None else np.append(*v))
        scores = table.windows @ v[0]
    return Linear(s, v)


def stacked(table: Table, windows: Any, segments: Any) -> tuple[Any, list[tuple[int, int]]]:
    """For each segment: its worst window's score, its own, the logarithm of its length, 1; and that window."""
    out, places = [], []
    for n, (_, base, spans, words) in enumerate(table.spans):
        worst_one = int(np.argmax(windows[base : base + len(spans)]))
        out.append((windows[base + worst_one], segments[n], math.log(words + 1), 1.0))
        places.append(spans[worst_one])
    return np.array(out), places


def join(table: Table, inputs: Any, rows: Any, strength: float = 1e-4) -> Any:
    """Weights of `inputs`, whose last but `stacked`'s fourth is the bias, over the rows that `rows` marks."""
    attack = np.array([r.attack for r in table.rows])
    use = rows & ~np.array([doubtful(r.text) and bool(r.attack) for r in table.rows])
    among = use[table.of_segment]
    columns = [c for c in range(inputs.shape[1]) if c != 3]
    from scipy.sparse import csr_matrix  # noqa: PLC0415

    x = csr_matrix(inputs[:, columns])
    scores = inputs[:, 0] + inputs[:, 1]
    for _ in range(2):
        keep = worst(scores, table.of_segment, among, attack, 0.01)
        w = table.weight[table.of_segment]
        theta, bias = fit(x[keep], attack[table.of_segment][keep], w[keep], strength)
        scores = x @ theta
    return np.insert(theta, 3, bias)


def limit(table: Table, by_row: Any, rows: Any) -> float:
    """The score above which the bounds hold."""
    sources = np.array([r.source for r in table.rows])
    attack = np.array([r.attack for r in table.rows])
    found = [-99.0]
    for group, bound in BOUNDS.items():
        chosen = np.isin(sources, group) & (attack == 0) & rows
        if chosen.any():
            found.append(float(np.quantile(by_row[chosen], 1 - bound)))
    return max(found)


def out_of_fold(table: Table, rows: Any, folds: Any) -> tuple[Any, Any]:
    """Scores of windows and segments by models that didn't see their row."""
    windows, segments = np.zeros(len(table.of_window)), np.zeros(len(table.of_segment))
    for n in sorted(set(folds[rows])):
        model = learn(table, rows & (folds != n))
        w, s = model.score(table)
        mine = (folds == n)[table.of_window]
        windows[mine] = w[mine]
        mine = (folds == n)[table.of_segment]
        segments[mine] = s[mine]
    return windows, segments


def show(rows: list[Row], flags: Any, title: str, chosen: Any = None) -> None:
    """Recall and false alarms by source and length."""
    total: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for i, row in enumerate(rows):
        if chosen is not None and not chosen[i]:
            continue
        what = "recall      " if row.attack else "false alarms"
        length = next((f"below {n}" for n in LENGTHS if len(row.text) < n), f"{LENGTHS[-1]} and more")
        for name in (row.source.split("/")[0], "= all", f"  characters: {length}"):
            total[f"{what} {name}"][0] += bool(flags[i])
            total[f"{what} {name}"][1] += 1
    print(f"\n{title}\n{'':54}{'flagged':>8}{'of':>7}{'share':>8}")
    for name in sorted(total):
        print(f"{name:54}{total[name][0]:>8}{total[name][1]:>7}{total[name][0] / total[name][1]:>8.3f}")


def quantised(name: str, model: tuple[Any, float]) -> dict[str, Any]:
    """A stage's arrays, with a scale for each kind of features."""
    weights = model[0] * np.repeat((1.0, *SCALES[1:]), GROUPS)
    parts = np.split(weights, np.cumsum(GROUPS)[:-1])
    scales = np.array([max(1e-9, np.abs(p).max()) / 127 for p in parts], np.float32)
    whole = np.concatenate([np.round(p / s) for p, s in zip(parts, scales, strict=True)]).astype(np.int8)
    return {name: whole, f"{name}_scale": scales, f"{name}_bias": np.float32(model[1])}


def train(rows: list[Row], embedder: Any) -> dict[str, Any]:
    """The weights."""
    table = table_of(rows)
    print(table.windows.shape, table.segments.shape, file=sys.stderr)
    every = np.ones(len(rows), bool)
    real = np.array([not r.source.startswith("own") for r in rows])
    inputs, places = stacked(table, *out_of_fold(table, every, table.fold))
    first = join(table, inputs, every)
    by_row = top(table.of_segment, inputs @ first, len(rows))
    first[3] -= limit(table, by_row, every)
    by_row = top(table.of_segment, inputs @ first, len(rows))
    out: dict[str, Any] = {"version": np.int32(injection.VERSION)}
    show(rows, by_row >= 0, "cross-validation, first stage", real)
    model = learn(table, every)
    out |= quantised("window", model.window) | quantised("segment", model.segment)
    vectors = np.zeros((len(places), embedder.dimensions), np.float32)
    rng = np.random.default_rng(7)
    score = inputs @ first
    use = (score > -3.5) | (rng.random(len(score)) < 0.03)
    for n in np.flatnonzero(use):
        vectors[n] = meaning(table.spans[n][0], places[n], embedder)
    print(f"{use.sum()} of {len(use)} windows embedded", file=sys.stderr)
    both = np.hstack((inputs, vectors * MEANING))
    some = use[np.searchsorted(table.of_segment, np.arange(len(rows)))] & every
    scores = np.full(len(places), -99.0)
    for n in range(FOLDS):
        theta = join(table, both, some & (table.fold != n), 1e-3)
        mine = (table.fold == n)[table.of_segment]
        scores[mine] = both[mine] @ theta
    certain = float(np.quantile(by_row[real & np.array([not r.attack for r in rows])], 0.9995)) + 0.5
    clear = float(np.quantile(by_row[real & np.isin([r.source for r in rows], [*OLD, *NEW])
                                     & np.array([not r.attack for r in rows])], 0.93))  # fmt: skip
    undecided = (score >= clear) & (score <= certain)
    shift = 0.0
    for _ in range(3):
        cascade = np.where(undecided, scores - shift, score)
        chosen = top(table.of_segment, cascade, len(rows))
        shift += limit(table, chosen, every)
    cascade = np.where(undecided, scores - shift, score)
    show(rows, top(table.of_segment, cascade, len(rows)) >= 0, "cross-validation, cascade", real)
    theta = join(table, both, some, 1e-3)
    theta[3] -= shift
    out |= {"first": first.astype(np.float32), "second": theta[:4].astype(np.float32),
            "head": (theta[4:] * MEANING).astype(np.float16), "clear": np.float32(clear), "certain": np.float32(certain)}  # fmt: skip
    return out


def flags_of(rows: list[Row], model: InjectionModel) -> list[bool]:
    """Whether each row is found."""
    return [max((f.score for f in model.find(r.text)), default=0.0) >= 0.5 for r in rows]


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", type=Path, nargs="+")
    parser.add_argument("--benign", type=Path, nargs="*", default=[])
    parser.add_argument("--most", type=int, default=1000, help="of each --benign file")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    files = find_models()
    if files is None:
        print("error: run `tenantgate models build` first", file=sys.stderr)
        return 2
    embedder = files.embedder(64)
    rng = random.Random(20)
    rows = [r for path in args.sets for r in read_rows(path)]
    rest = [r for r in rows if held_out(r.text)]
    learnt = [r for r in rows if not held_out(r.text)]
    learnt += [Row(*t) for t in own(rng, [r.text for r in learnt if not r.attack])]
    learnt += list(honest(args.benign, rng, args.most))
    print(f"{len(learnt)} to learn from, {len(rest)} held out", file=sys.stderr)
    arrays = train(learnt, embedder)
    np.savez_compressed(args.out, **arrays)
    print(f"{args.out}: {args.out.stat().st_size / 1024:.0f} KiB, clear below {arrays['clear']:.2f}, "
          f"certain above {arrays['certain']:.2f}")  # fmt: skip
    weights = Weights.from_arrays(arrays)
    show(rest, flags_of(rest, InjectionModel(weights, embedder)), "held out, cascade")
    show(rest, flags_of(rest, InjectionModel(weights)), "held out, without the embedder")
    return 0


if __name__ == "__main__":
    sys.exit(main())
