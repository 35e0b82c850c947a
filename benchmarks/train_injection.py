"""Trains the weights of `tenantgate.guard.injection`: ``train_injection.py ATTACKS.jsonl [--benign FILE …]``.

Data sheet
    Attacks and honest prompts: lines of {"text", "attack": 0|1, "source"}. Four fifths of them, by a hash of
    their beginning (so that variants of one jailbreak stay on one side), are trained on; the rest is held out,
    and what is printed at the end is measured on it. Nothing of these files is kept but the weights.
    Own examples: `injection_examples.toml`, written for this project: attacks by kind, and honest prompts that
    use the same words. Attacks are also hidden in the middle of honest documents.
    Other honest texts (``--benign``): any JSON lines with a "text", "question", "a" or "context".
    Some test sets label prompts as attacks that hold none (a harmless question in another language, or as the
    last turn of a many-shot test); they are left as they are: such rows can't be found.
    Method, sources and figures: src/tenantgate/models/README.md.

Needs scikit-learn; the weights need NumPy only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tenantgate.edge.models import find_models
from tenantgate.guard.injection import FEW, InjectionModel, Weights, meaning, segments, signals
from tenantgate.guard.lexical import BUCKETS, FAMILIES
from tenantgate.pii import normalise

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "src" / "tenantgate" / "models" / "injection.npz"
HELD_OUT = 5  # one in so many
BOUND = 0.016  # share of honest prompts that may score 0.5 or more, in cross-validation
FOLDS = 4
MEANING = 0.7  # how much the embedding's dimensions may say beside the words
HONEST = ("arena-hard", "notinject", "xstest-safe")
HEAVY = {**dict.fromkeys(HONEST, 6.0), "own-benign": 6.0}


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


def read(path: Path) -> Iterator[Row]:
    """The rows of an evaluation file."""
    for line in path.read_text("utf-8").strip("\n").split("\n"):
        row = json.loads(line)
        yield Row(row["text"], int(row["attack"]), row["source"])


def own(rng: random.Random, each: int = 8) -> Iterator[Row]:
    """The examples of our own."""
    file = tomllib.loads((HERE / "injection_examples.toml").read_text("utf-8"))
    slots: dict[str, list[str]] = file["slots"]
    for name, attack in (("attack", 1), ("benign", 0)):
        made: set[str] = set()
        for template in file[name]["templates"]:
            for _ in range(each):
                text = re.sub(r"\{(\w+)\}", lambda m: rng.choice(slots[m[1]]), template)
                for variant in (text, text.lower(), text.upper()) if rng.random() < 0.06 else (text,):
                    if variant not in made:
                        made.add(variant)
                        yield Row(variant, attack, f"own-{name}")


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


def hidden(rows: list[Row], rng: random.Random, most: int) -> Iterator[Row]:
    """Attacks in the middle of honest documents."""
    documents = [r.text for r in rows if not r.attack and 300 < len(r.text) < 4000]
    attacks = [r.text for r in rows if r.source == "own-attack" and len(r.text) < 300 and "gnor" in r.text]
    for _ in range(most):
        document, attack = rng.choice(documents), rng.choice(attacks)
        sentences = re.split(r"(?<=[.!?\n])\s", document[:1400])
        sentences.insert(rng.randrange(len(sentences) + 1), attack)
        yield Row(" ".join(sentences), 1, "own-hidden")


class Table:
    """Segments of all rows, as features."""

    def __init__(self, rows: list[Row], embedder: Any) -> None:
        from scipy.sparse import csr_matrix, hstack  # noqa: PLC0415 - the benchmark needs none of it

        none = np.zeros(BUCKETS, np.float32)
        self.rows, self.of = rows, []
        texts, found_at = [], []
        columns, values, ends, found = [], [], [0], []
        for i, row in enumerate(rows):
            text = normalise(row.text[:12_000]).text
            for start, end in segments(len(text)):
                signal = signals(text, start, end, none)
                if not signal.window:
                    continue
                # What was hidden counts as the segment's own words, or they would never be learnt.
                bag = max(signal.bags, key=len)
                columns += bag.tolist()
                values += [1 / np.sqrt(max(FEW, len(bag)))] * len(bag)
                ends.append(len(columns))
                found.append(signal.families)
                self.of.append(i)
                texts.append(text)
                found_at.append((start, end))
        words = csr_matrix((values, columns, ends), shape=(len(self.of), BUCKETS))
        self.index = np.array(self.of)
        self.attack = np.array([rows[i].attack for i in self.of])
        self.part = np.array([bucket(rows[i].text, "fold", FOLDS) for i in self.of])
        self.weight = np.array([HEAVY.get(rows[i].source, 1.0) for i in self.of])
        first = hstack((words, csr_matrix(np.array(found))))
        # The window that is embedded is the one that the words find most suspicious, as later in use.
        everything = np.ones(len(self.of), bool)
        self.inputs = {"first": first.tocsr()}
        ranks = fit_worst(self, self.inputs["first"], everything)[0][:BUCKETS]
        vectors = [
            meaning(text, signals(text, *span, ranks), embedder)
            for text, span in zip(texts, found_at, strict=True)
        ]
        self.inputs["second"] = hstack((first, csr_matrix(np.array(vectors) * MEANING))).tocsr()


def fit(x: Any, y: Any, w: Any) -> tuple[Any, float]:
    """A logistic regression's weights and bias."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    model = LogisticRegression(C=10, max_iter=600, class_weight="balanced").fit(x, y, sample_weight=w)
    return model.coef_[0].astype(np.float32), float(model.intercept_[0])


def fit_worst(table: Table, x: Any, among: Any) -> tuple[Any, float]:
    """`fit` on all honest segments and on the worse half of each attack's: long attacks have harmless parts."""
    coefficients, _ = fit(x[among], table.attack[among], table.weight[among])
    scores = x @ coefficients
    keep = table.attack == 0
    by_row: dict[int, list[int]] = defaultdict(list)
    for n, i in enumerate(table.of):
        by_row[i].append(n)
    for members in by_row.values():
        ranked = sorted(members, key=lambda n: -scores[n])
        keep[ranked[: (len(ranked) + 1) // 2]] = True
    keep = keep & among
    return fit(x[keep], table.attack[keep], table.weight[keep])


def top(table: Table, scores: Any) -> Any:
    """For each row its highest score."""
    best = np.full(len(table.rows), -99.0)
    np.maximum.at(best, table.index, scores)
    return best


def train(rows: list[Row], embedder: Any) -> dict[str, Any]:
    """The weights."""
    table = Table(rows, embedder)
    print(len(table.of), "segments", file=sys.stderr)
    honest_rows = np.array([r.source in HONEST for r in rows])
    attack = np.array([bool(r.attack) for r in rows])
    everything = np.ones(len(table.of), bool)
    out: dict[str, Any] = {}
    seen: dict[str, Any] = {}
    for name, x in table.inputs.items():
        # The bias comes from rows that were not learnt from, or it would be too hopeful.
        scores = np.zeros(len(table.of))
        for fold in range(FOLDS):
            coefficients, bias = fit_worst(table, x, table.part != fold)
            rest = table.part == fold
            scores[rest] = (x[rest] @ coefficients) + bias
        by_row = top(table, scores)
        limit = float(np.quantile(by_row[honest_rows], 1 - BOUND))
        seen[name] = by_row - limit
        coefficients, bias = fit_worst(table, x, everything)
        words, rest = coefficients[:BUCKETS], coefficients[BUCKETS:]
        scale = np.abs(words).max() / 127
        out[f"{name}_words"] = np.round(words / scale).astype(np.int8)
        out[f"{name}_scale"] = np.float32(scale)
        out[f"{name}_families"] = rest[: len(FAMILIES)].astype(np.float16)
        out[f"{name}_bias"] = np.float32(bias - limit)
        if name == "second":
            out["head"] = (rest[len(FAMILIES) :] * MEANING).astype(np.float16)
    # One honest prompt in fifty is worth an embedding; surer attacks need none. More changed little in
    # cross-validation, and an embedding takes longer than all other rules together.
    found = np.array([not r.attack and not r.source.startswith("own") for r in rows])
    out["clear"] = np.float32(np.quantile(seen["first"][found & honest_rows], 0.98))
    out["certain"] = np.float32(1.5)
    both = (seen["first"] + seen["second"]) / 2
    real = attack & ~np.array([r.source.startswith("own") for r in rows])
    for name, scores in (*seen.items(), ("mean", both)):
        print(f"{name}: recall {(scores[real] >= 0).mean():.3f}, false alarms {(scores[honest_rows] >= 0).mean():.3f}",
              "in cross-validation", file=sys.stderr)  # fmt: skip
    return out


def report(rows: list[Row], model: InjectionModel, title: str) -> None:
    """Recall and false alarms by source, at a score of 0.5."""
    hits: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for row in rows:
        hit = max((f.score for f in model.find(row.text)), default=0) >= 0.5
        for name in (row.source.split("/")[0], "all attacks" if row.attack else "all honest"):
            hits[name] += hit
            total[name] += 1
    print(title)
    for name in sorted(total):
        print(f"  {name:28} {hits[name]:5} of {total[name]:5}  {hits[name] / total[name]:.3f}")


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("attacks", type=Path)
    parser.add_argument("--benign", type=Path, nargs="*", default=[])
    parser.add_argument("--most", type=int, default=1500, help="of each --benign file")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    files = find_models()
    if files is None:
        print("error: run `tenantgate models build` first", file=sys.stderr)
        return 2
    embedder = files.embedder(64)
    rng = random.Random(20)
    rows = list(read(args.attacks))
    rest = [r for r in rows if held_out(r.text)]
    learn = (
        [r for r in rows if not held_out(r.text)] + list(own(rng)) + list(honest(args.benign, rng, args.most))
    )
    learn += list(hidden(learn, rng, 150))
    print(f"{len(learn)} to learn from, {len(rest)} held out", file=sys.stderr)
    arrays = train(learn, embedder)
    np.savez_compressed(args.out, **arrays)
    print(f"{args.out}: {args.out.stat().st_size / 1024:.0f} KiB, clear below {arrays['clear']:.2f}, "
          f"certain above {arrays['certain']:.2f}")  # fmt: skip
    weights = Weights.from_arrays(arrays)
    report(rest, InjectionModel(weights, embedder), "held out, whole cascade")
    report(rest, InjectionModel(weights), "held out, without the embedder")
    return 0


if __name__ == "__main__":
    sys.exit(main())
