"""Train the late reader of the cache's verifier, which ships in ``src/tenantgate/models``.

    python training/train_late.py draw PAIRS.jsonl --intents INTENTS.jsonl --out DRAWN
    python training/train_late.py teach DRAWN --fold 0 --weights MPNET [--device cuda]      # 0, 1, 2 and 3
    python training/train_late.py train DRAWN --weights MINILM --out wide.safetensors [--start FILE] [--device cuda]
    python training/train_late.py slim DRAWN --weights MINILM --start wide.safetensors --out late.safetensors
    python training/train_verifier.py PAIRS.jsonl --intents INTENTS.jsonl --measure late

Needs torch and safetensors. What is held out is what ``train_verifier.py`` holds out; nothing of it is drawn.

*draw*: the labelled pairs and those made by rule (``verifier_pairs.py``), eight times anew, and each text beside its
nearest neighbours, which nobody has labelled. *teach*: all-mpnet-base-v2 as a cross-encoder, every weight trained, on
the pairs of three folds of four; then it says its word on all pairs. *train*: the late reader learns the labels and
the teachers' mean word, of a labelled pair that of the one who hasn't seen it (Wolpert, Stacked Generalization, 1992).
It reads the states of the embedder as built (int8), which stays as it is. *slim*: of its layers only the heads and
hidden units are kept that its word depends on most (Michel et al., arXiv:1905.10650), and what is left learns what the
whole one says (Hinton et al., arXiv:1503.02531); its states stay. With the goals beside that word it told requests of
unseen intents apart worse.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import torch
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional
from train_verifier import Curriculum, Split, auc, recalls, split
from verifier_pairs import components, in_part, read_pairs, read_requests, reword

from tenantgate.models.files import build_models
from tenantgate.models.onnx_bert import cut_embedder, relative_buckets
from tenantgate.models.tensors import DISTANCES, is_mpnet, mpnet_as_bert, read_safetensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]

FOLDS, DRAWINGS = 4, 8
PARTS = ("query", "key", "value")
LOW, LAYERS, WIDTH = 4, 2, 384
"""The states are of what the encoder's first `LOW` layers and all layers give; the late reader has so many layers."""
LONGEST = 64  # tokens of one text
COSINE, AT = 10.0, 0.78
"""What the cosine adds to the reader's log-odds while it is trained, so that it learns what the cosine doesn't say."""
HEADS, UNITS = (8, 6), (512, 256)
"""What `slim` keeps of each layer: attention heads of twelve, hidden units of 1536."""
DECIDED = -2.5
"""The log-odds, the cosine counted as the verifier counts it, from which on `slim` wants to be like the whole reader:
below nothing is served."""
LABELLED, IMPLIED, MADE, REQUESTS, NEAR = range(5)
OWN = {LABELLED: 0.35, IMPLIED: 0.35, MADE: 0.7, REQUESTS: 0.4, NEAR: 0.0}
"""How much of the goal is the pair's own label, by kind; the rest is the teachers' word."""


# --- draw ---


@dataclass(frozen=True, slots=True)
class Drawn:
    """Pairs as places in `texts`. Rows: a, b, label (-1: none), fold (-1: none), kind, drawing, weight."""

    texts: list[str]
    rows: Array
    held: Array
    """a, b, label of what is held out, only to report on."""

    @classmethod
    def read(cls, folder: Path) -> Drawn:
        """What `write` wrote."""
        arrays = np.load(folder / "rows.npz")
        return cls(json.loads((folder / "texts.json").read_text("utf-8")), arrays["rows"], arrays["held"])

    def write(self, folder: Path) -> None:
        """Two files."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "texts.json").write_text(json.dumps(self.texts), "utf-8")
        np.savez_compressed(folder / "rows.npz", rows=self.rows, held=self.held)

    def column(self, name: str) -> Array:
        """One column of the rows by its name."""
        return self.rows[:, ("a", "b", "label", "fold", "kind", "drawing", "weight").index(name)]


def draw(data: Split, seed: int) -> Drawn:
    """All that is learnt from."""
    rng, embedder = random.Random(seed), build_models(progress=print).embedder()
    index: dict[str, int] = {}
    rows: list[tuple[float, ...]] = []

    def place(text: str) -> int:
        return index.setdefault(text, len(index))

    def embed(texts: Sequence[str]) -> Array:
        with ThreadPoolExecutor() as pool:
            return np.array(list(pool.map(embedder.embed, texts)), np.float32)

    component = components(data.train)

    def fold(text: str) -> int:
        return int(in_part(component[text], 99) * FOLDS)

    requests = [request.text for request in data.train_requests]
    vectors = embed(requests)
    curriculum = Curriculum(data, vectors, rng)
    labelled = len(data.train)
    for drawing in range(DRAWINGS):
        for i, (pair, weight) in enumerate(curriculum.epoch()):
            # The order in which `Curriculum.epoch` gives them.
            kinds = ((labelled, LABELLED), (labelled + 5000, IMPLIED), (labelled + 19_000, MADE))
            kind = next((kind for end, kind in kinds if i < end), REQUESTS)
            text = data.train[i].a if kind == LABELLED else pair.a
            known = fold(text) if kind in (LABELLED, IMPLIED) else -1
            rows.append((place(pair.a), place(pair.b), pair.same, known, kind, drawing, weight))

    questions = sorted({text for pair in data.train for text in (pair.a, pair.b)})
    for texts, of, count, least in ((questions, embed(questions), 12, 0.5), (requests, vectors, 16, 0.4)):
        rows += [
            (place(texts[i]), place(texts[j]), -1, -1, NEAR, -1, 1.0) for i, j in neighbours(of, count, least)
        ]
    for i in rng.sample(range(len(requests)), min(4000, len(requests))):
        near = np.argpartition(-(vectors @ vectors[i]), 9)[:9]
        for j in rng.sample([int(j) for j in near if j != i], 3):
            a, b = reword(requests[i], rng), requests[j] if rng.random() < 0.6 else reword(requests[j], rng)
            rows.append((place(a), place(b), -1, -1, NEAR, -1, 1.0))
    held = [(place(pair.a), place(pair.b), int(pair.same)) for pair in data.held]
    return Drawn(list(index), np.array(rows), np.array(held))


def neighbours(vectors: Array, count: int, least: float) -> Iterator[tuple[int, int]]:
    """Each place beside so many nearest that have at least this cosine; no two places twice."""
    seen: set[tuple[int, int]] = set()
    for i in range(len(vectors)):
        cosines = vectors @ vectors[i]
        cosines[i] = -1
        for j in map(int, np.argpartition(-cosines, count)[:count]):
            both = min(i, j), max(i, j)
            if cosines[j] >= least and both not in seen:
                seen.add(both)
                yield i, j


# --- an encoder in torch ---


class Dense(nn.Module):
    """A dense layer that is trained whole, or with a rank: a low-rank update of a weight that stays."""

    def __init__(self, tensors: dict[str, Any], name: str, rank: int = 0) -> None:
        super().__init__()
        weight = torch.tensor(np.asarray(tensors[f"{name}.weight"], np.float32))
        self.weight = nn.Parameter(weight, requires_grad=not rank)
        self.bias = nn.Parameter(torch.tensor(np.asarray(tensors[f"{name}.bias"], np.float32)))
        self.rank = rank
        if rank:
            self.lora_A = nn.Parameter(torch.randn(rank, weight.shape[1]) / math.sqrt(weight.shape[1]))
            self.lora_B = nn.Parameter(torch.zeros(weight.shape[0], rank))

    def forward(self, x: Any) -> Any:
        """The product."""
        return functional.linear(x, self.whole(), self.bias)

    def whole(self) -> Any:
        """The weight with its update."""
        return self.weight + self.lora_B @ self.lora_A if self.rank else self.weight

    def keep(self, *, outputs: Any = None, inputs: Any = None) -> None:
        """Drop all other outputs or inputs; for a weight without an update."""
        with torch.no_grad():
            if outputs is not None:
                self.weight, self.bias = (
                    nn.Parameter(each[outputs].clone()) for each in (self.weight, self.bias)
                )
            if inputs is not None:
                self.weight = nn.Parameter(self.weight[:, inputs].clone())


class Norm(nn.Module):
    """Layer normalisation."""

    def __init__(self, tensors: dict[str, Any], name: str, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(np.asarray(tensors[f"{name}.weight"], np.float32)))
        self.bias = nn.Parameter(torch.tensor(np.asarray(tensors[f"{name}.bias"], np.float32)))
        self.epsilon = epsilon

    def forward(self, x: Any) -> Any:
        """Normalised."""
        return functional.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.epsilon)


class Layer(nn.Module):
    """One layer; its parts are named as the encoder's tensors.

    It has as many heads as its weights are wide, and a feed-forward part if there are weights for one.
    """

    def __init__(self, tensors: dict[str, Any], i: int, *, epsilon: float, rank: int = 0) -> None:
        super().__init__()
        layer = f"encoder.layer.{i}"
        names = [*(f"attention.self.{part}" for part in PARTS), "attention.output.dense"]
        norms = ["attention.output.LayerNorm"]
        if f"{layer}.intermediate.dense.weight" in tensors:
            names += ["intermediate.dense", "output.dense"]
            norms.append("output.LayerNorm")
        # A ModuleDict's keys can't hold dots.
        self.dense = nn.ModuleDict(
            {name.replace(".", "/"): Dense(tensors, f"{layer}.{name}", rank) for name in names}
        )
        self.norms = nn.ModuleDict(
            {name.replace(".", "/"): Norm(tensors, f"{layer}.{name}", epsilon) for name in norms}
        )
        self.gates: tuple[Any, Any] | None = None
        self.dropped = 0.1

    def forward(self, x: Any, bias: Any, at: Any = None) -> Any:
        """`x` [count, n, width] after the layer, or `at` [count, k, width] if that is given."""
        at = x if at is None else at
        count, size = len(x), x.shape[-1] // 12
        query, key, value = (
            self.dense[f"attention/self/{part}"](of).view(count, of.shape[1], -1, size).transpose(1, 2)
            for of, part in ((at, "query"), (x, "key"), (x, "value"))
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        if self.gates:
            mixed = mixed * self.gates[0][:, None, None]
        mixed = mixed.transpose(1, 2).flatten(2)
        at = self.norms["attention/output/LayerNorm"](
            at + self.drop(self.dense["attention/output/dense"](mixed))
        )
        if "intermediate/dense" not in self.dense:
            return at
        wide = functional.gelu(self.dense["intermediate/dense"](at))
        if self.gates:
            wide = wide * self.gates[1]
        return self.norms["output/LayerNorm"](at + self.drop(self.dense["output/dense"](wide)))

    def drop(self, x: Any) -> Any:
        """Dropout."""
        return functional.dropout(x, self.dropped, self.training)

    def keep(self, heads: Any, units: Any) -> None:
        """Drop all other heads, and all other units of the feed-forward part, or the whole of it if there are none."""
        size = len(self.dense["attention/output/dense"].bias) // 12
        rows = (heads[:, None] * size + torch.arange(size)).flatten()
        for part in PARTS:
            self.dense[f"attention/self/{part}"].keep(outputs=rows)
        self.dense["attention/output/dense"].keep(inputs=rows)
        if len(units):
            self.dense["intermediate/dense"].keep(outputs=units)
            self.dense["output/dense"].keep(inputs=units)
        else:
            with torch.no_grad():  # what it adds to whatever it takes
                self.norms["attention/output/LayerNorm"].bias += self.dense["output/dense"].bias
            for name in ("intermediate/dense", "output/dense"):
                del self.dense[name]
            del self.norms["output/LayerNorm"]


def head_of(features: Any, hidden: Any, out: Any, dropped: float) -> Any:
    """`tenantgate.models.tensors.PairHead`."""
    features = functional.dropout(features, dropped)
    return out(functional.gelu(hidden(features))).squeeze(-1).float()


def mean_of(x: Any, mask: Any) -> Any:
    """Over the tokens that there are."""
    weight = mask[..., None].float()
    return (x * weight).sum(1) / weight.sum(1)


class Tokens:
    """The texts' tokens on the device."""

    def __init__(self, folder: Path, texts: Sequence[str], device: str) -> None:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.enable_truncation(LONGEST)
        tokenizer.encode_special_tokens = True
        encoded = [item.ids for item in tokenizer.encode_batch(list(texts))]
        self.between = tokenizer.encode("", "").ids[2:-1]
        self.lengths = np.array([len(ids) for ids in encoded])
        rows = torch.zeros(len(encoded), LONGEST, dtype=torch.int32)
        for i, ids in enumerate(encoded):
            rows[i, : len(ids)] = torch.tensor(ids, dtype=torch.int32)
        self.ids, self.length = rows.to(device), torch.tensor(self.lengths, device=device)

    def pair(self, a: Any, b: Any) -> tuple[Any, Any, Any]:
        """Both texts of each pair in one sequence: ids, which of them are the second's, which there are."""
        gap = len(self.between)
        first, second = self.length[a][:, None], self.length[b][:, None]
        place = torch.arange(int((first + gap + second).max()) - 1, device=a.device)[None]
        behind = place - first - gap + 1  # the second's first token is left out
        size = (len(a), place.shape[1])
        ids = self.ids[a].gather(1, place.clamp(max=LONGEST - 1).expand(size).long())
        others = self.ids[b].gather(1, behind.clamp(0, LONGEST - 1).long())
        one, two = place < first, (behind >= 1) & (behind < second)
        ids = torch.where(one, ids, torch.where(two, others, 0))
        mask = one | two
        for i, mark in enumerate(self.between):
            between = place == first + i
            ids, mask, two = torch.where(between, mark, ids), mask | between, two | between
        return ids.long(), two, mask


# --- teach ---


class Teacher(nn.Module):
    """MPNet as a cross-encoder; its word vectors stay."""

    def __init__(self, tensors: dict[str, Any]) -> None:
        super().__init__()
        width = len(tensors["embeddings.LayerNorm.weight"])
        for name in ("word", "position"):
            self.register_buffer(
                name, torch.tensor(np.asarray(tensors[f"embeddings.{name}_embeddings.weight"], np.float32))
            )
        self.register_buffer("distances", torch.tensor(np.asarray(tensors[DISTANCES], np.float32)))
        self.types = nn.Parameter(torch.zeros(2, width))
        self.norm = Norm(tensors, "embeddings.LayerNorm", 1e-5)
        count = len({name.split(".")[2] for name in tensors if name.startswith("encoder.layer.")})
        self.layers = nn.ModuleList(Layer(tensors, i, epsilon=1e-5) for i in range(count))
        self.hidden, self.out = nn.Linear(3 * width, 128), nn.Linear(128, 1)

    def forward(self, tokens: Tokens, a: Any, b: Any) -> Any:
        """Log-odds."""
        ids, second, mask = tokens.pair(a, b)
        x = self.norm(self.word[ids] + self.position[: ids.shape[1]] + self.types[second.long()])
        near = torch.from_numpy(relative_buckets(ids.shape[1])).to(a.device)
        bias = (~mask)[:, None, None, :].float() * -1e4 + self.distances[near].permute(2, 0, 1)[None]
        for layer in self.layers:
            x = layer(x, bias)
        x = x.float()
        u, v = mean_of(x, mask & ~second), mean_of(x, second)
        features = torch.cat([x[:, 0], 4 * (u - v).abs(), 4 * u * v], -1)
        return head_of(features, self.hidden, self.out, self.layers[0].dropped if self.training else 0.0)


def batches(lengths: Array, a: Array, b: Array, size: int, rng: np.random.Generator) -> list[Array]:
    """Rows of like length, in random order."""
    order = np.argsort(lengths[a] + lengths[b] + 2 * rng.random(len(a)))
    chunks = [order[i : i + size] for i in range(0, len(order), size)]
    return [chunks[i] for i in rng.permutation(len(chunks))]


def optimizer_of(network: nn.Module, rate: float, lora: float, head: float) -> Any:
    """AdamW with a rate of its own for low-rank updates and for what begins at random."""
    groups: dict[tuple[float, bool], list[Any]] = {}
    for name, value in network.named_parameters():
        if value.requires_grad:
            fresh = name.split(".")[0] in ("hidden", "out", "states", "state_norm", "sides")
            kind = lora if "lora_" in name else head if fresh else rate
            groups.setdefault((kind, value.ndim > 1), []).append(value)
    return torch.optim.AdamW(
        [
            {"params": values, "lr": kind, "base": kind, "weight_decay": 0.01 if wide else 0.0}
            for (kind, wide), values in groups.items()
        ],
        betas=(0.9, 0.98),
    )


def step(network: nn.Module, optimizer: Any, loss: Any, done: float, warm: float) -> None:
    """One step at the rate for `done`, 0..1: it rises until `warm`, and falls to nothing."""
    for group in optimizer.param_groups:
        group["lr"] = group["base"] * min(1.0, (done + 1e-6) / warm) * max(0.01, 1 - done)
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for p in network.parameters() if p.requires_grad], 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def teach(drawn: Drawn, fold: int, weights: Path, device: str, *, epochs: int = 3, size: int = 128) -> Array:
    """Train a teacher without the fold; its log-odds for all rows, then for what is held out."""
    torch.manual_seed(fold)
    rng = np.random.default_rng(fold)
    tensors = read_safetensors(weights / "model.safetensors")
    network = Teacher(mpnet_as_bert(tensors) if is_mpnet(tensors) else dict(tensors)).to(device)
    tokens = Tokens(weights, drawn.texts, device)
    optimizer = optimizer_of(network, 4e-5, 4e-5, 1e-3)
    a, b = drawn.column("a").astype(int), drawn.column("b").astype(int)
    label, weight = (
        torch.tensor(drawn.column(name), dtype=torch.float32, device=device) for name in ("label", "weight")
    )

    def say(some: Array, other: Array) -> Array:
        found = np.zeros(len(some), np.float32)
        network.eval()
        with torch.no_grad(), torch.autocast(device, torch.bfloat16):
            for rows in batches(tokens.lengths, some, other, 1024, np.random.default_rng(0)):
                both = (torch.tensor(each[rows], device=device) for each in (some, other))
                found[rows] = network(tokens, *both).float().cpu().numpy()
        network.train()
        return found

    for epoch in range(epochs):
        used = np.flatnonzero(
            (drawn.column("drawing") == (epoch + 2 * fold) % DRAWINGS) & (drawn.column("fold") != fold)
        )
        chunks = batches(tokens.lengths, a[used], b[used], size, rng)
        for i, rows in enumerate(chunks):
            at = torch.tensor(used[rows], device=device)
            with torch.autocast(device, torch.bfloat16):
                odds = network(tokens, *(torch.tensor(each[used[rows]], device=device) for each in (a, b)))
            losses = functional.binary_cross_entropy_with_logits(
                odds, 0.02 + 0.96 * label[at], reduction="none"
            )
            step(network, optimizer, (losses * weight[at]).mean(), (epoch + i / len(chunks)) / epochs, 0.05)
        held = say(drawn.held[:, 0], drawn.held[:, 1])
        report(f"teacher {fold}, epoch {epoch}", drawn.held[:, 2], held)
    pairs, places = np.unique(np.stack([a, b], 1), axis=0, return_inverse=True)
    said = say(pairs[:, 0], pairs[:, 1])[places.reshape(-1)]
    words: Array = np.concatenate([said, held]).astype(np.float16)
    return words


def report(what: str, labels: Array, odds: Array) -> None:
    """Print how well what was held out is told apart."""
    same = labels.astype(bool)
    print(f"{what}: AUC {auc(same, odds.astype(np.float64)):.4f}, {recalls(same, odds)}", flush=True)


# --- train ---


class States:
    """What the embedder as built (int8) makes of each token, below the late reader's layers and at the end.

    `final` once `settle` has made the states of them.
    """

    def __init__(self, texts: Sequence[str], device: str) -> None:
        files = build_models(progress=print)
        embedder, data = files.embedder(), (files.directory / "embedder.onnx").read_bytes()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        halves = [
            onnxruntime.InferenceSession(
                cut_embedder(data, layers), options, providers=["CPUExecutionProvider"]
            )
            for layers in (LOW, 6)
        ]

        def one(text: str) -> tuple[Array, Array]:
            ids = np.array([embedder.tokens.encode(text).ids[:LONGEST]], np.int32)
            both = [half.run(None, {"input_ids": ids})[0][0] for half in halves]
            return np.concatenate(both, -1).astype(np.float16), embedder.embed(text)

        with ThreadPoolExecutor() as pool:
            found = list(pool.map(one, texts))
        self.lengths = np.array([len(states) for states, _ in found])
        self._starts = torch.tensor(np.cumsum(self.lengths) - self.lengths, device=device)
        self._length = torch.tensor(self.lengths, device=device)
        self._states = torch.from_numpy(np.concatenate([states for states, _ in found])).to(device)
        self.final = False
        self.vectors = torch.tensor(np.array([vector for _, vector in found]), device=device)

    def of(self, texts: Any) -> tuple[Any, Any]:
        """[count, n, 2 · width], and which tokens there are."""
        place = torch.arange(int(self._length[texts].max()), device=texts.device)[None]
        at = (self._starts[texts][:, None] + place).clamp(max=len(self._states) - 1)
        return self._states[at], place < self._length[texts][:, None]

    def settle(self, reader: LateReader) -> None:
        """Make this reader's states of what there is, once and for all."""
        with torch.no_grad():
            parts = [reader.state(part.float()).half() for part in self._states.split(50_000)]
        self._states, self.final = torch.cat(parts), True

    def known(self, a: Any, b: Any) -> Any:
        """The log-odds that the cosine adds."""
        return COSINE * ((self.vectors[a] * self.vectors[b]).sum(-1) - AT)


class LateReader(nn.Module):
    """`tenantgate.models.onnx_bert.build_late_reader`, with the states' dense layer.

    `tensors`: an encoder's, and those of a reader to go on from.
    """

    def __init__(self, tensors: dict[str, Any], rank: int) -> None:
        super().__init__()
        self.states = nn.Linear(2 * WIDTH, WIDTH)
        with torch.no_grad():  # to begin with: the lower layers' states, as they are
            self.states.weight.copy_(torch.cat([torch.eye(WIDTH), torch.zeros(WIDTH, WIDTH)], 1))
            self.states.bias.zero_()
        self.state_norm = nn.LayerNorm(WIDTH, 1e-5)
        self.sides = nn.Parameter(torch.randn(2, WIDTH) * 0.02)
        self.layers = nn.ModuleList(Layer(tensors, LOW + i, epsilon=1e-12, rank=rank) for i in range(LAYERS))
        self.hidden, self.out = nn.Linear(4 * WIDTH, 64), nn.Linear(64, 1)
        with torch.no_grad():
            for name, value in self.own():
                if name in tensors:
                    value.copy_(torch.tensor(np.asarray(tensors[name], np.float32)))

    def own(self) -> Iterator[tuple[str, Any]]:
        """What isn't in its layers, as it is named in a file."""
        yield "late.sides", self.sides
        for name, layer in (
            ("late.states", self.states),
            ("late.norm", self.state_norm),
            ("head.hidden", self.hidden),
            ("head.out", self.out),
        ):
            yield f"{name}.weight", layer.weight
            yield f"{name}.bias", layer.bias

    def state(self, found: Any) -> Any:
        """The embedder's states of `States`, from what it was given of the encoder."""
        return self.state_norm(self.states(found).float())

    def forward(self, states: States, a: Any, b: Any) -> Any:
        """Log-odds, without what the cosine adds."""
        (one, first), (two, second) = states.of(a), states.of(b)
        size = one.shape[1]
        x = torch.cat([one.float(), two.float()], 1)
        x = x if states.final else self.state(x)
        x = torch.cat([x[:, :size] + self.sides[0], x[:, size:] + self.sides[1]], 1)
        bias = (~torch.cat([first, second], 1))[:, None, None, :].float() * -1e4
        *lower, last = self.layers
        for layer in lower:
            x = layer(x, bias)
        ends, x = last(x, bias, at=x[:, [0, size]]).float(), x.float()
        u, v = mean_of(x[:, :size], first), mean_of(x[:, size:], second)
        features = torch.cat([ends[:, 0], ends[:, 1], 4 * (u - v).abs(), 4 * u * v], -1)
        return head_of(features, self.hidden, self.out, self.layers[0].dropped if self.training else 0.0)

    def tensors(self) -> dict[str, Any]:
        """All of it as `tenantgate.models.onnx_bert.build_late_reader` takes it, float16."""
        found = dict(self.own())
        for i, layer in enumerate(self.layers, LOW):
            for name, part in (*layer.dense.items(), *layer.norms.items()):
                full = f"encoder.layer.{i}.{name.replace('/', '.')}"
                found[f"{full}.weight"] = part.whole() if isinstance(part, Dense) else part.weight
                found[f"{full}.bias"] = part.bias
        return {name: value.detach().cpu().half().numpy() for name, value in found.items()}


def goals(drawn: Drawn, said: Sequence[Array]) -> Array:
    """What the reader should say of each row, 0..1."""
    words, fold, kind = (
        np.stack(said).astype(np.float32),
        drawn.column("fold").astype(int),
        drawn.column("kind"),
    )
    report("teachers together", drawn.held[:, 2], words[:, len(drawn.rows) :].mean(0))
    words = words[:, : len(drawn.rows)]
    unseen = words[fold.clip(0), np.arange(len(fold))]
    word = 1 / (1 + np.exp(-np.where(fold >= 0, unseen, words.mean(0))))
    own = np.vectorize(OWN.get)(kind.astype(int))
    goal: Array = own * (0.02 + 0.96 * drawn.column("label").clip(0)) + (1 - own) * word
    return goal


def train(drawn: Drawn, goal: Array, args: argparse.Namespace) -> None:
    """Train a late reader and write it."""
    torch.manual_seed(args.seed)
    network = LateReader(starting(args), args.rank).to(args.device)
    states = States(drawn.texts, args.device)
    goals, weight = (
        torch.tensor(each, dtype=torch.float32, device=args.device) for each in (goal, drawn.column("weight"))
    )

    def loss(at: Any, sides: Any, odds: Any) -> Any:
        losses = functional.binary_cross_entropy_with_logits(
            odds + states.known(*sides), goals[at], reduction="none"
        )
        return (losses * weight[at]).mean()

    learn(network, states, drawn, args, loss)


def slim(drawn: Drawn, args: argparse.Namespace) -> None:
    """Keep the most telling heads and units of the reader in `args.start`, train what is left and write it."""
    torch.manual_seed(args.seed)
    whole, network = (LateReader(starting(args), 0).to(args.device).eval() for _ in range(2))
    states = States(drawn.texts, args.device)
    states.settle(whole)
    for value in (*network.states.parameters(), *network.state_norm.parameters()):
        value.requires_grad = False
    rows = np.random.default_rng(args.seed).choice(len(drawn.rows), min(4096, len(drawn.rows)), replace=False)
    telling = importance(network, states, torch.tensor(drawn.rows[rows, :2].astype(int), device=args.device))
    for layer, worth, heads, units in zip(network.layers, telling, HEADS, UNITS, strict=True):
        most = zip(worth, (heads, units), strict=True)
        layer.keep(*(each.argsort(descending=True)[:n].sort()[0] for each, n in most))
        layer.dropped = 0.0  # what is to be learnt has no noise in it

    def loss(_at: Any, sides: Any, odds: Any) -> Any:
        with torch.no_grad(), torch.autocast(args.device, torch.bfloat16):
            said = whole(states, *sides)
        known = states.known(*sides)
        counts = torch.sigmoid(1.5 * (said + 2.4 * known - DECIDED)) * 0.9 + 0.1
        apart = functional.smooth_l1_loss(odds, said, reduction="none", beta=2.0)
        words = functional.binary_cross_entropy_with_logits(odds + known, torch.sigmoid(said + known))
        return (apart * counts).mean() + 0.25 * words

    learn(network.train(), states, drawn, args, loss)


def importance(network: LateReader, states: States, pairs: Any) -> list[tuple[Any, Any]]:
    """Of each layer's heads and units: the mean square of what its word changes by if one counts less."""
    sums: list[tuple[Any, Any]] = []
    for layer in network.layers:
        units = len(layer.dense["intermediate/dense"].bias)
        layer.gates = tuple(torch.ones(n, device=pairs.device, requires_grad=True) for n in (12, units))
        sums.append(tuple(torch.zeros(n, device=pairs.device) for n in (12, units)))
    gates = [gate for layer in network.layers for gate in layer.gates]
    # Few at once: the squares are of sums, where those of each pair would take a run for each.
    for some in pairs.split(8):
        found = torch.autograd.grad(network(states, some[:, 0], some[:, 1]).sum(), gates)
        for i, (heads, units) in enumerate(sums):
            sums[i] = heads + found[2 * i] ** 2, units + found[2 * i + 1] ** 2
    for layer in network.layers:
        layer.gates = None
    return sums


def starting(args: argparse.Namespace) -> dict[str, Any]:
    """The encoder's tensors, and of the reader to go on from."""
    found = dict(read_safetensors(args.weights / "model.safetensors"))
    return found | dict(read_safetensors(args.start)) if args.start else found


def learn(
    network: LateReader,
    states: States,
    drawn: Drawn,
    args: argparse.Namespace,
    loss: Callable[[Any, Any, Any], Any],
    *,
    size: int = 64,
) -> None:
    """Train for `args.minutes` and write the mean of the last steps.

    `loss` is of the rows that a step is of, their texts (a, b) and the reader's log-odds.
    """
    rng, device = np.random.default_rng(args.seed), args.device
    optimizer = optimizer_of(network, args.rate / 2, args.rate, args.rate)
    trained = [value for value in network.parameters() if value.requires_grad]
    mean = [value.detach().clone() for value in trained]
    a, b = (torch.tensor(drawn.column(name).astype(int), device=device) for name in ("a", "b"))
    kind, drawing = drawn.column("kind"), drawn.column("drawing")

    def held() -> Array:
        network.eval()
        some, other = (torch.tensor(drawn.held[:, i], device=device) for i in (0, 1))
        with torch.no_grad(), torch.autocast(device, torch.bfloat16):
            odds = [
                (network(states, some[rows], other[rows]) + states.known(some[rows], other[rows])).float()
                for rows in torch.arange(len(some)).split(256)
            ]
        network.train()
        found: Array = torch.cat(odds).cpu().numpy()
        return found

    report("begin", drawn.held[:, 2], held())
    chunks: list[Array] = []
    began, told = time.monotonic(), 0
    while (done := (time.monotonic() - began) / (60 * args.minutes)) < 1:
        if not chunks:
            some = rng.choice(DRAWINGS, DRAWINGS // 2, replace=False)
            used = np.flatnonzero((kind == NEAR) | ((kind == LABELLED) & np.isin(drawing, some)))
            for which, count in (((IMPLIED, MADE), 60_000), ((REQUESTS,), 30_000)):
                pool = np.flatnonzero(np.isin(kind, which))
                used = np.append(used, rng.choice(pool, min(count, len(pool)), replace=False))
            rows = drawn.rows[used].astype(int)
            chunks = [used[i] for i in batches(states.lengths, rows[:, 0], rows[:, 1], size, rng)]
        at = torch.tensor(chunks.pop(), device=device)
        sides = (a[at], b[at]) if rng.random() < 0.5 else (b[at], a[at])
        with torch.autocast(device, torch.bfloat16):
            odds = network(states, *sides)
        step(network, optimizer, loss(at, sides, odds), done, 0.02)
        for value, average in zip(trained, mean, strict=True):
            average.lerp_(value.detach(), 0.002)
        if done > (told + 1) / 8:
            told += 1
            report(f"{done:.0%}", drawn.held[:, 2], held())
            save_file(network.tensors(), args.out)
    with torch.no_grad():
        for value, average in zip(trained, mean, strict=True):
            value.copy_(average)
    report("the mean of the last steps", drawn.held[:, 2], held())
    save_file(network.tensors(), args.out)


def main(argv: list[str] | None = None) -> int:
    """Draw, teach, train or slim."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("draw", "teach", "train", "slim"))
    parser.add_argument("source", type=Path, help="JSON lines with a, b, same; or the folder that draw wrote")
    parser.add_argument("--intents", type=Path, help="JSON lines: text, intent")
    parser.add_argument("--out", type=Path, help="what draw, train or slim writes")
    parser.add_argument(
        "--weights", type=Path, help="folder with the encoder's model.safetensors and tokenizer.json"
    )
    parser.add_argument("--fold", type=int, choices=range(FOLDS), help="which the teacher doesn't see")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--start", type=Path, help="a late reader to go on from")
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--rate", type=float, default=4e-4)
    parser.add_argument("--rank", type=int, default=96)
    parser.add_argument("--seed", type=int, default=101)
    args = parser.parse_args(argv)
    if args.what == "draw":
        if args.out is None or args.intents is None:
            parser.error("draw needs --intents and --out")
        draw(split(read_pairs(args.source), read_requests(args.intents)), args.seed).write(args.out)
        return 0
    if args.weights is None:
        parser.error(f"{args.what} needs --weights")
    drawn = Drawn.read(args.source)
    if args.what == "teach":
        if args.fold is None:
            parser.error("teach needs --fold")
        np.save(args.source / f"said{args.fold}.npy", teach(drawn, args.fold, args.weights, args.device))
        return 0
    if args.out is None or (args.what == "slim" and args.start is None):
        parser.error("train needs --out, slim --start too")
    if args.what == "slim":
        slim(drawn, args)
        return 0
    said = [np.load(args.source / f"said{fold}.npy") for fold in range(FOLDS)]
    train(drawn, goals(drawn, said), args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
