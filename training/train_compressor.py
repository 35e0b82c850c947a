"""Trains the built-in model of the prompt compressor: ``train_compressor.py --meetings FILE``.

Data sheet
    FILE has lines of {"context", "question", "answer"}: transcripts of meetings. A word of a transcript is worth
    keeping (1) if its stem is in the answer or the question and it is no function word; other content words are
    worth `CONTENT`, so that they go after function words; the rest 0. These labels are made from a distance:
    nobody marked which words matter. Nothing of the file is kept but the weights.
    Meetings are held out whole: transcripts that share a long line or all their speakers (unless those are the roles
    that a whole series shares) are one meeting; a third of the meetings, by a hash, is never trained on.
    Method, source and figures: src/tenantgate/models/data/README.md.

The model is LLMLingua-2's in small: a class for each token, from the first layers of the packaged encoder, which
stays as it is, and a few numbers about the word. A logistic regression by Newton's method; needs NumPy only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tenantgate.compress.core.fillers import tokens_of
from tenantgate.compress.core.word_features import FEATURES, features
from tenantgate.compress.models import HEAD, TokenModel, words_of_tokens
from tenantgate.models.files import find_models
from tenantgate.models.onnx_bert import cut_embedder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

LAYERS: Final = 1
CONTENT: Final = 0.3
"""What a content word is worth that isn't in the answer."""

HELD_OUT: Final = 3  # one meeting in so many
PENALTY: Final = 10.0
ROUNDS: Final = 6
_LONG: Final = 80  # characters of a line that two meetings hardly share
_COMMON: Final = 12  # transcripts with the same speakers, above which these are roles
_SPEAKER: Final = re.compile(r"^([^:\n]{1,40}):", re.MULTILINE)
_WORD: Final = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_ENDINGS: Final = "ations ation ingly ings ing edly ies ied ely es ed ly er s e y".split()
FUNCTION_WORDS: Final = frozenset(
    "a about above after again all also am an and any are as at be because been before being below between both but "
    "by can could did do does doing down during each few for from further had has have having he her here hers him his "
    "how i if in into is it its itself just me more most my no nor not now of off on once only or other our ours out "
    "over own same she should so some such than that the their theirs them then there these they this those through "
    "to too under until up very was we were what when where which while who whom why will with would you your yours "
    "uh um erm eh hmm mm mm-hmm uh-huh ah oh yeah yep yes okay ok right alright sure exactly absolutely well like "
    "really think know mean sort kind got get getting go going see say said want make let us one two three "
    "basically actually literally quite simply obviously it's that's there's i'm you're we're don't can't".split()
)


def stem(word: str) -> str:
    """`word` without its ending, crudely."""
    word = word.lower().replace("’", "'").removesuffix("'s")
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    return word[:-1] if len(word) > 4 and word[-1] == word[-2] else word


def held_out(contexts: Sequence[str]) -> list[bool]:
    """Which transcripts are of meetings that are never trained on."""
    speakers = [frozenset(_SPEAKER.findall(text)) for text in contexts]
    often = Counter(speakers)
    roles = frozenset().union(*(names for names, n in often.items() if n >= _COMMON))
    parent = list(range(len(contexts)))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    first: dict[str | frozenset[str], int] = {}
    for i, text in enumerate(contexts):
        keys: list[str | frozenset[str]] = [line for line in text.splitlines() if len(line) > _LONG]
        if not speakers[i] <= roles:
            keys.append(speakers[i])
        for key in keys:
            parent[root(i)] = root(first.setdefault(key, i))
    # By its first transcript's text, so that the order of the file plays no part.
    names: dict[int, str] = {}
    for i, text in enumerate(contexts):
        names[root(i)] = min(names.get(root(i), text), text)
    chosen = {
        r: int.from_bytes(hashlib.sha256(t[:400].encode()).digest()[:4], "big") % HELD_OUT == 0
        for r, t in names.items()
    }
    return [chosen[root(i)] for i in range(len(contexts))]


@dataclass(frozen=True, slots=True)
class Text:
    """One transcript as rows of a table."""

    inputs: Array
    """float32 [tokens, width + features]"""

    worth: Array
    """float32 [tokens]: 1, `CONTENT` or 0"""


def read(rows: Sequence[dict[str, Any]], model: TokenModel) -> Iterator[Text]:
    """Each transcript's tokens that belong to words."""
    for row in rows:
        text = row["context"]
        words = [t for t in tokens_of(text) if t.is_word]
        spans = [(t.start, t.end) for t in words]
        asked = _WORD.findall(f"{row['answer']} {row['question']}")
        wanted = {stem(w) for w in asked if w.lower() not in FUNCTION_WORDS}
        content = [len(t.text) > 2 and t.text not in FUNCTION_WORDS and t.text[0] != "{" for t in words]
        worth = np.array(
            [c * (1.0 if stem(t.text) in wanted else CONTENT) for c, t in zip(content, words, strict=True)],
            np.float32,
        )
        chunks = list(model.chunks(text))
        states = np.concatenate([model.run(chunk) for chunk in chunks])
        index, inside = words_of_tokens(spans, chunks)
        more = features(text, spans)[index[inside]]
        yield Text(np.hstack([states[inside], more]), worth[index[inside]])


def fit(x: Array, y: Array) -> Array:
    """Weights of a logistic regression with a penalty on their squares; the last is the bias. `y` is 0 to 1."""
    mean, spread = x.mean(0), x.std(0) + 1e-6
    x = np.hstack([(x - mean) / spread, np.ones((len(x), 1), np.float32)])
    weights = np.zeros(x.shape[1])
    for _ in range(ROUNDS):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -60, 60)))
        curvature = (x * (p * (1 - p))[:, None].astype(np.float32)).T @ x + PENALTY * np.eye(x.shape[1])
        weights += np.linalg.solve(curvature, x.T @ (y - p) - PENALTY * weights)
    scaled = weights[:-1] / spread
    return np.append(scaled, weights[-1] - scaled @ mean)


def auc(scores: Array, positive: Array) -> float:
    """How often a positive scores above a negative."""
    order = np.argsort(scores, kind="stable")
    ranks = np.empty(len(scores))
    ranks[order] = np.arange(1, len(scores) + 1)
    n = int(positive.sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(scores) - n)))


def main() -> int:
    """Train, write the weights, and say how well they tell held-out words apart."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--meetings", type=Path, required=True, metavar="FILE")
    parser.add_argument("--layers", type=int, default=LAYERS, help="of the encoder (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=HEAD)
    args = parser.parse_args()
    files = find_models()
    if files is None:
        print("error: run `tenantgate models build` first", file=sys.stderr)
        return 2
    encoder = cut_embedder((files.directory / "embedder.onnx").read_bytes(), args.layers)
    model = TokenModel(encoder, files.directory / "tokenizer.json")
    rows = [json.loads(line) for line in args.meetings.read_text("utf-8").splitlines() if line.strip()]
    rest = held_out([row["context"] for row in rows])
    sides = [[row for row, r in zip(rows, rest, strict=True) if r is side] for side in (False, True)]
    learn, judge = (list(read(side, model)) for side in sides)
    x, y = (np.concatenate([getattr(t, name) for t in learn]) for name in ("inputs", "worth"))
    weights = fit(x, y)
    np.savez_compressed(
        args.out,
        layers=np.int64(args.layers),
        states=weights[: -len(FEATURES) - 1].astype(np.float32),
        features=weights[-len(FEATURES) - 1 : -1].astype(np.float32),
        bias=np.float32(weights[-1]),
    )
    print(
        f"{args.out}: {args.out.stat().st_size} bytes, {args.layers} layers, {len(learn)} transcripts, "
        f"{len(x)} tokens, {(y == 1).mean():.1%} in the answer, {(y > 0).mean():.1%} content"
    )
    x, y = (np.concatenate([getattr(t, name) for t in judge]) for name in ("inputs", "worth"))
    scores = x @ weights[:-1]
    content = y > 0
    print(
        f"held out: {len(judge)} transcripts, {len(x)} tokens; AUC content against function words "
        f"{auc(scores, content):.3f}, in the answer against other content "
        f"{auc(scores[content], y[content] == 1):.3f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
