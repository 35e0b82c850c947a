"""Train a cross-encoder of the cache's verifier, which ships in ``src/tenantgate/models``, and measure any reader.

    python training/train_verifier.py PAIRS.jsonl --intents INTENTS.jsonl --weights FOLDER --out FILE
    python training/train_verifier.py PAIRS.jsonl --intents INTENTS.jsonl --measure mpnet

PAIRS has ``a``, ``b``, ``same`` (1 or 0) a line, INTENTS ``text``, ``intent``. Training needs torch and
safetensors (``pip install torch safetensors``); ``--measure`` needs neither: it scores what was held out from training
with the int8 models as they are built.

The encoder starts from all-mpnet-base-v2. Only low-rank updates of its dense layers, its biases, layer norms and
token types, and a small head are trained, so that what ships is 5 MB. An epoch takes about fifty minutes on two cores
with bfloat16. The late reader has a script of its own, ``train_late.py``, but is measured here, too.

What is held out: 15 % of the pairs' connected components (over shared texts, so no text is on both sides),
20 % of the intents, and 15 % of the texts of the other intents.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import sys
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from verifier_pairs import (
    Pair,
    Request,
    Words,
    compatible,
    components,
    content_words,
    implied_pairs,
    in_part,
    near_misses,
    read_pairs,
    read_requests,
    reword,
    template_pairs,
)

from tenantgate.cache.config import VERIFIERS
from tenantgate.cache.core.verifier_cascade import Cascade, Stage
from tenantgate.cache.verifier import load_verifier
from tenantgate.errors import EdgeError
from tenantgate.models.files import SHAPES, ModelFiles, build_models, find_models
from tenantgate.models.inference import sides
from tenantgate.models.onnx_bert import BertShape, relative_buckets
from tenantgate.models.ports import LARGE
from tenantgate.models.tensors import DISTANCES, is_mpnet, layers_of, mpnet_as_bert, read_safetensors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from tenantgate.cache.core.ports import Embedder, PairReader, PairVerifier

    Floats = NDArray[np.float64]

HELD_PAIRS, HELD_INTENTS, HELD_TEXTS = 0.15, 0.2, 0.15
# The split stays as it is whatever seed the training has, or a resumed run would train on what was held out.
SPLIT_SEED = 7
PROBES = Path(__file__).with_name("verifier_probes.txt")


@dataclass(frozen=True, slots=True)
class Split:
    """What is trained on, and what isn't."""

    train: list[Pair]
    held: list[Pair]
    train_requests: list[Request]
    held_texts: list[Request]
    """Texts held out, of intents trained on."""
    held_intents: list[Request]


def split(pairs: list[Pair], requests: list[Request]) -> Split:
    """Split by components, intents and texts; see the module's text."""
    component = components(pairs)
    held = {key for key in set(component.values()) if in_part(key, SPLIT_SEED) < HELD_PAIRS}
    rest = [request for request in requests if in_part(request.intent, SPLIT_SEED) >= HELD_INTENTS]
    return Split(
        train=[pair for pair in pairs if component[pair.a] not in held],
        held=[pair for pair in pairs if component[pair.a] in held],
        train_requests=[request for request in rest if in_part(request.text, SPLIT_SEED) >= HELD_TEXTS],
        held_texts=[request for request in rest if in_part(request.text, SPLIT_SEED) < HELD_TEXTS],
        held_intents=[request for request in requests if in_part(request.intent, SPLIT_SEED) < HELD_INTENTS],
    )


# --- what an epoch is made of ---


class Curriculum:
    """Draws the pairs of an epoch: labelled, implied by labels, by rule, from templates, from intents."""

    def __init__(self, data: Split, vectors: NDArray[np.float32], rng: random.Random) -> None:
        self._data = data
        self._rng = rng
        self._words = Words(text for pair in data.train for text in (pair.a, pair.b))
        implied = implied_pairs(data.train)
        self._implied = {same: [pair for pair in implied if pair.same is same] for same in (True, False)}
        self._neighbours = self._find_neighbours(data.train_requests, vectors)

    def _find_neighbours(
        self, requests: Sequence[Request], vectors: NDArray[np.float32]
    ) -> list[tuple[list[str], list[str], list[str]]]:
        """For each request the nearest that may share its answer, that may not, and of other intents."""
        per_intent: defaultdict[str, Counter[str]] = defaultdict(Counter)
        sizes = Counter(request.intent for request in requests)
        for request in requests:
            per_intent[request.intent].update(content_words(request.text))
        similarity = vectors @ vectors.T
        np.fill_diagonal(similarity, -1)
        found = []
        for i, request in enumerate(requests):
            usual = {
                word
                for word, count in per_intent[request.intent].items()
                if count >= max(3, 0.1 * sizes[request.intent])
            }
            same: list[str] = []
            apart: list[str] = []
            foreign: list[str] = []
            for j in np.argsort(-similarity[i]):
                other = requests[j]
                if other.intent != request.intent:
                    foreign.append(other.text)
                    continue
                verdict = compatible(request.text, other.text, self._words, usual)
                if verdict is not None:
                    (same if verdict else apart).append(other.text)
            found.append((same[:8], apart[:5], foreign[:6]))
        return found

    def epoch(self) -> list[tuple[Pair, float]]:
        """Pairs and their weights, in no order."""
        rng, drawn = self._rng, []
        for pair in self._data.train:
            a, b = (pair.a, pair.b) if rng.random() < 0.5 else (pair.b, pair.a)
            drawn.append((Pair(reword(a, rng) if rng.random() < 0.25 else a, b, pair.same), 1.0))
        for same, count in ((True, 3500), (False, 1500)):
            pool = self._implied[same]
            drawn += [(pair, 0.7) for pair in rng.sample(pool, min(count, len(pool)))]
        drawn += [(pair, 1.0) for pair in near_misses(self._data.train, 9000, self._words, rng)]
        drawn += [(pair, 0.7) for pair in template_pairs(5000, rng)]
        for request, (same_texts, apart, foreign) in zip(
            self._data.train_requests, self._neighbours, strict=True
        ):
            others = [(text, True) for text in rng.sample(same_texts, min(1, len(same_texts)))]
            others += [(text, False) for text in rng.sample(apart, min(rng.randrange(2), len(apart)))]
            others += [(text, False) for text in rng.sample(foreign, min(1, len(foreign)))]
            for text, same in others:
                a, b = (request.text, text) if rng.random() < 0.5 else (text, request.text)
                drawn.append((Pair(a, b, same), 1.0))
        return drawn


# --- training ---


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train."""

    epochs: int
    rate: float
    rank: int
    seed: int
    most: int | None = None
    """Pairs of an epoch; all when left out."""
    frozen: int = 2
    """The lowest layers, which stay as they are."""
    hidden: int = 128
    batch: int = 32
    warm_up: float = 0.06
    smoothing: float = 0.02
    dropout: float = 0.1
    max_tokens: int = 96


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a training starts from."""

    tensors: dict[str, Any]
    adapter: dict[str, Any]

    @classmethod
    def read(cls, base: Path, start: Path | None) -> Beginning:
        """An encoder and, if there is one, an adapter for it."""
        tensors = read_safetensors(base / "model.safetensors")
        adapter = dict(read_safetensors(start)) if start else {}
        return cls(mpnet_as_bert(tensors) if is_mpnet(tensors) else tensors, adapter)


def make_network(begin: Beginning, shape: BertShape, recipe: Recipe) -> Any:  # noqa: C901
    """The verifier as a torch module whose parameters are named as the adapter's tensors."""
    import torch
    from torch import nn
    from torch.nn import functional

    base = {
        name: torch.from_numpy(np.array(value, np.float32))
        for name, value in begin.tensors.items()
        if value.ndim
    }
    heads, width = shape.heads, base["embeddings.LayerNorm.weight"].shape[0]
    layers = layers_of(base)
    base = {name: value.to(torch.bfloat16) if value.ndim == 2 else value for name, value in base.items()}
    dense_names = (
        *(f"attention.self.{part}" for part in ("query", "key", "value")),
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
    )

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trained = nn.ParameterDict()
            for i in layers:
                for name in (f"encoder.layer.{i}.{dense}" for dense in dense_names):
                    rows, columns = base[f"{name}.weight"].shape
                    if i >= recipe.frozen:
                        self._train(f"{name}.lora_A", torch.randn(recipe.rank, columns) / math.sqrt(columns))
                        self._train(f"{name}.lora_B", torch.zeros(rows, recipe.rank))
                    self._train(f"{name}.bias", base[f"{name}.bias"])
                for name in (
                    f"encoder.layer.{i}.{part}.LayerNorm" for part in ("attention.output", "output")
                ):
                    self._train(f"{name}.weight", base[f"{name}.weight"])
                    self._train(f"{name}.bias", base[f"{name}.bias"])
            for name in ("LayerNorm.weight", "LayerNorm.bias", "token_type_embeddings.weight"):
                self._train(f"embeddings.{name}", base[f"embeddings.{name}"].float())
            hidden, out = nn.Linear(3 * width, recipe.hidden), nn.Linear(recipe.hidden, 1)
            for name, layer in (("hidden", hidden), ("out", out)):
                self._train(f"head.{name}.weight", layer.weight.detach())
                self._train(f"head.{name}.bias", layer.bias.detach())
            for name, value in begin.adapter.items():
                self._train(name, torch.from_numpy(np.array(value, np.float32)))

        def _train(self, name: str, value: Any) -> None:
            # A ParameterDict's keys can't hold dots.
            self.trained[name.replace(".", "/")] = nn.Parameter(value.clone())

        def get(self, name: str) -> Any:
            return self.trained[name.replace(".", "/")]

        def dense(self, x: Any, name: str) -> Any:
            weight, bias = base[f"{name}.weight"], self.get(f"{name}.bias")
            if f"{name}.lora_A".replace(".", "/") not in self.trained:
                return functional.linear(x, weight, bias)
            down, up = self.get(f"{name}.lora_A"), self.get(f"{name}.lora_B")
            # Two thin products: the gradient of a whole weight costs more on a processor.
            return functional.linear(x, weight, bias) + functional.linear(functional.linear(x, down), up)

        def drop(self, x: Any) -> Any:
            return functional.dropout(x, recipe.dropout, self.training)

        def normalise(self, x: Any, name: str) -> Any:
            return functional.layer_norm(
                x, (width,), self.get(f"{name}.weight"), self.get(f"{name}.bias"), shape.epsilon
            )

        def forward(self, ids: Any, types: Any, mask: Any) -> Any:
            count, length = ids.shape
            second = (types.bool() & mask).float().unsqueeze(-1)
            first = (~types.bool() & mask).float().unsqueeze(-1)
            x = (
                base["embeddings.word_embeddings.weight"][ids]
                + base["embeddings.position_embeddings.weight"][:length]
            )
            x = self.normalise(
                x + self.get("embeddings.token_type_embeddings.weight")[types], "embeddings.LayerNorm"
            )
            hide = (~mask)[:, None, None, :].to(x.dtype) * -1e4
            if DISTANCES in base:
                near = torch.from_numpy(relative_buckets(length))
                hide = hide + base[DISTANCES][near].permute(2, 0, 1)[None].float()
            for i in layers:
                layer = f"encoder.layer.{i}"
                query, key, value = (
                    self.dense(x, f"{layer}.attention.self.{part}")
                    .view(count, length, heads, width // heads)
                    .transpose(1, 2)
                    for part in ("query", "key", "value")
                )
                # Written out: the fused kernel's backward pass is slow for short sequences on processors.
                weights = (query @ key.transpose(-1, -2)) * (width // heads) ** -0.5
                weights = torch.softmax(weights + hide, -1)
                mixed = (weights.to(value.dtype) @ value).transpose(1, 2).reshape(count, length, width)
                out = f"{layer}.attention.output"
                x = self.normalise(x + self.drop(self.dense(mixed, f"{out}.dense")), f"{out}.LayerNorm")
                wide = functional.gelu(self.dense(x, f"{layer}.intermediate.dense"))
                x = self.normalise(
                    x + self.drop(self.dense(wide, f"{layer}.output.dense")), f"{layer}.output.LayerNorm"
                )
            means = x.float()
            u, v = ((means * part).sum(1) / part.sum(1) for part in (first, second))
            features = torch.cat([x[:, 0].float(), 4 * (u - v).abs(), 4 * u * v], -1)
            features = self.drop(features)
            hidden = functional.linear(features, self.get("head.hidden.weight"), self.get("head.hidden.bias"))
            logit = functional.linear(
                functional.gelu(hidden), self.get("head.out.weight"), self.get("head.out.bias")
            )
            return logit.squeeze(-1)

    return Network()


def batches(
    tokenizer: Any, pairs: Sequence[Pair], size: int, rng: random.Random
) -> Iterator[tuple[list[int], Any, Any, Any]]:
    """Batches of like length in random order: rows of `pairs`, ids, types, mask."""
    import torch

    encoded = tokenizer.encode_batch([(pair.a, pair.b) for pair in pairs])
    lengths = [len(item.ids) + 2 * rng.random() for item in encoded]
    order = sorted(range(len(pairs)), key=lengths.__getitem__)
    chunks = [order[i : i + size] for i in range(0, len(order), size)]
    rng.shuffle(chunks)
    for rows in chunks:
        longest = max(len(encoded[row].ids) for row in rows)
        ids, types, mask = (torch.zeros(len(rows), longest, dtype=torch.long) for _ in range(3))
        for i, row in enumerate(rows):
            length = len(encoded[row].ids)
            ids[i, :length] = torch.tensor(encoded[row].ids)
            types[i, :length] = torch.tensor(sides(encoded[row]))
            mask[i, :length] = 1
        yield rows, ids, types, mask.bool()


def reader_named(name: str, files: ModelFiles) -> PairReader:
    """A reader by its name, as built."""
    found = find_models(LARGE) if name == "mpnet" else files
    if found is None:
        raise EdgeError("the large verifier isn't built: run `tenantgate models build --large`")
    return found.reader(name)


def verifier_named(name: str, files: ModelFiles) -> PairVerifier:
    """A verifier by its name, or a reader by its name as a verifier of its own."""
    if name in VERIFIERS:
        return load_verifier(name, files)
    return Cascade([reader_named(name, files)], [Stage((1.0,))])


@dataclass(frozen=True, slots=True)
class Task:
    """A pair, what the network should say of it (0..1), and how much that counts."""

    pair: Pair
    goal: float
    weight: float


def draw_epochs(curriculum: Curriculum, recipe: Recipe, rng: random.Random) -> list[list[Task]]:
    """What each epoch trains on."""
    drawings = [curriculum.epoch() for _ in range(recipe.epochs)]
    if recipe.most is not None:
        drawings = [rng.sample(drawn, min(recipe.most, len(drawn))) for drawn in drawings]
    return [
        [
            Task(pair, recipe.smoothing + pair.same * (1 - 2 * recipe.smoothing), weight)
            for pair, weight in drawn
        ]
        for drawn in drawings
    ]


def scores_of(pairs: Sequence[Pair], verifier: PairVerifier, embedder: Embedder) -> list[float]:
    """What the verifier says of the pairs, 0..1, on all processors."""

    def one(pair: Pair) -> float:
        return verifier.score(pair.a, pair.b, float(embedder.embed(pair.a) @ embedder.embed(pair.b)))

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(one, pairs))


def train(
    data: Split, files: ModelFiles, recipe: Recipe, *, base: Path, start: Path | None, out: Path
) -> None:
    """Train and write the adapter to `out` after each epoch."""
    import torch
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer
    from torch.nn import functional

    torch.manual_seed(recipe.seed)
    rng = random.Random(recipe.seed)
    embedder = files.embedder()
    vectors = np.array([embedder.embed(request.text) for request in data.train_requests]).reshape(-1, 384)
    curriculum = Curriculum(data, vectors, rng)
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(recipe.max_tokens)
    begin = Beginning.read(base, start)
    network = make_network(begin, SHAPES["mpnet"], recipe)
    named = [(name.replace("/", "."), value) for name, value in network.named_parameters()]
    groups = [
        {"params": [value for name, value in named if ".lora_" in name], "lr": recipe.rate},
        {"params": [value for name, value in named if ".head." in name], "lr": 1e-3},
        {"params": [v for n, v in named if ".lora_" not in n and ".head." not in n], "lr": recipe.rate / 2},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01, fused=True)
    rates = [group["lr"] for group in optimizer.param_groups]
    epochs = draw_epochs(curriculum, recipe, rng)
    steps, step, began, smooth_loss = (
        sum(math.ceil(len(e) / recipe.batch) for e in epochs),
        0,
        time.monotonic(),
        0.7,
    )
    network.train()
    for drawn in epochs:
        pairs = [each.pair for each in drawn]
        weights = torch.tensor([each.weight for each in drawn])
        goals = torch.tensor([each.goal for each in drawn])
        for rows, ids, types, mask in batches(tokenizer, pairs, recipe.batch, rng):
            factor = min(1.0, (step + 1) / (recipe.warm_up * steps)) * max(0.02, 1 - step / steps)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(ids, types, mask)
            losses = functional.binary_cross_entropy_with_logits(
                logits.float(), goals[rows], reduction="none"
            )
            loss = (losses * weights[rows]).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            smooth_loss += 0.01 * (loss.item() - smooth_loss)
            if step % 100 == 0:
                print(
                    f"step {step}/{steps} loss {smooth_loss:.3f} {time.monotonic() - began:.0f} s", flush=True
                )
        labels = np.array([pair.same for pair in data.held])
        scores = predict(network, tokenizer, data.held)
        print(f"held-out pairs: AUC {auc(labels, scores):.4f}, {recalls(labels, scores)}", flush=True)
        save_file(
            {
                name.replace("/", ".").removeprefix("trained."): value.detach()
                .to(torch.float16)
                .numpy()
                .copy()
                for name, value in network.named_parameters()
            },
            out,
        )


def predict(network: Any, tokenizer: Any, pairs: Sequence[Pair]) -> Floats:
    """The network's log-odds for the pairs."""
    import torch

    network.eval()
    found = np.zeros(len(pairs))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for rows, ids, types, mask in batches(tokenizer, pairs, 64, random.Random(0)):
            found[rows] = network(ids, types, mask).float().numpy()
    network.train()
    return found


def average(adapters: Sequence[Path], out: Path) -> None:
    """Write the mean of adapters of one line of training to `out`.

    The mean of an early and a late state generalises better than either: "Model soups", arXiv:2203.05482.
    """
    from safetensors.numpy import save_file

    states = [read_safetensors(path) for path in adapters]
    mean = {
        name: np.mean([state[name].astype(np.float32) for state in states], axis=0).astype(value.dtype)
        for name, value in states[0].items()
    }
    save_file(mean, out)


# --- measuring ---


def recall_at(precision: float, labels: NDArray[np.bool_], scores: Floats) -> float:
    """The largest share of the true pairs found at any threshold whose precision is at least this."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(labels[order])
    reached = np.flatnonzero(hits / np.arange(1, len(order) + 1) >= precision)
    return float(hits[reached[-1]] / labels.sum()) if len(reached) else 0.0


def recalls(labels: NDArray[np.bool_], scores: Floats) -> str:
    """`recall_at` for the precisions that are told."""
    found = ", ".join(f"{recall_at(p, labels, scores):.3f} at {p}" for p in (0.8, 0.85, 0.9, 0.95))
    return f"recall {found}"


def auc(labels: NDArray[np.bool_], scores: Floats) -> float:
    """The chance that a true pair scores above a false one."""
    _values, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]  # equal scores share the mean of their ranks
    positives = int(labels.sum())
    return float(
        (ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * (len(labels) - positives))
    )


def measure(data: Split, files: ModelFiles, verifier: PairVerifier) -> None:
    """Print the figures of what was held out."""
    embedder = files.embedder()
    labels = np.array([pair.same for pair in data.held])
    scores = np.array(scores_of(data.held, verifier, embedder))
    cosines = np.array([embedder.embed(pair.a) @ embedder.embed(pair.b) for pair in data.held], np.float64)
    print(f"held-out pairs: {len(labels)}, {labels.mean():.0%} the same")
    for name, values in (("cosine", cosines), ("verifier", scores)):
        print(f"  {name}: AUC {auc(labels, values):.4f}, {recalls(labels, values)}")
    probe(embedder, verifier)


def probe(embedder: Embedder, verifier: PairVerifier) -> None:
    """Print how the hand-written pairs score, by kind."""
    kinds: defaultdict[str, list[float]] = defaultdict(list)
    for line in PROBES.read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            kind, a, b = (part.strip() for part in line.split("|"))
            kinds[kind].append(verifier.score(a, b, float(embedder.embed(a) @ embedder.embed(b))))
    print("probes: how many pass at a score")
    for kind, found in kinds.items():
        passing = ", ".join(f"{sum(s >= at for s in found)} at {at}" for at in (0.5, 0.7, 0.8, 0.9))
        print(f"  {kind}: {len(found)} pairs, pass {passing}; median {sorted(found)[len(found) // 2]:.2f}")


def main(argv: list[str] | None = None) -> int:
    """Train, then measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", type=Path, help="JSON lines: a, b, same")
    parser.add_argument("--intents", type=Path, help="JSON lines: text, intent")
    parser.add_argument("--weights", type=Path, help="folder with model.safetensors and tokenizer.json")
    parser.add_argument("--out", type=Path, default=Path("reader.safetensors"), help="the trained adapter")
    parser.add_argument("--start", type=Path, help="an adapter to go on from")
    parser.add_argument(
        "--average", type=Path, nargs="+", help="don't train; write the mean of these to --out"
    )
    parser.add_argument(
        "--measure",
        choices=sorted({*SHAPES, *VERIFIERS}),
        metavar="NAME",
        help="don't train; measure this reader, or this verifier, as built",
    )
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--most", type=int, help="pairs of an epoch, drawn from the curriculum's")
    parser.add_argument("--rate", type=float, default=6e-4, help="peak learning rate of the low-rank updates")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args(argv)
    data = split(read_pairs(args.pairs), read_requests(args.intents) if args.intents else [])
    print(f"trained on: {len(data.train)} pairs, {len(data.train_requests)} requests")
    print(
        f"held out: {len(data.held)} pairs, {len(data.held_intents)} requests of held-out intents, ", end=""
    )
    print(f"{len(data.held_texts)} of the others")
    if args.average:
        average(args.average, args.out)
        return 0
    files = build_models(progress=print)
    if args.measure:
        measure(data, files, verifier_named(args.measure, files))
        return 0
    if args.weights is None:
        parser.error("training needs --weights")
    recipe = Recipe(args.epochs, args.rate, args.rank, args.seed, most=args.most)
    train(data, files, recipe, base=args.weights, start=args.start, out=args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
