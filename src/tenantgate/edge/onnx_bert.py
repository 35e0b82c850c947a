"""A BERT encoder as an ONNX graph, written node by node with NumPy: no torch, no transformers, no export.

The graph takes one text (or pair) at a time, without padding and so without a mask, because that is how a
cache meets its requests. Two graphs share the encoder:

* the *embedder*: mean of the last layer's vectors, scaled to length 1;
* the *pair verifier* (a cross-encoder): both texts in one sequence, a small head on top, one logit.

int8 here means: weights as signed 7-bit integers with one scale per output column, activations as unsigned
8-bit integers with one scale per tensor, found while running (ONNX Runtime's ``DynamicQuantizeMatMul``).
Seven bits rather than eight because the AVX2 kernels of processors without VNNI add two products in 16 bits
and would saturate; so the same file gives the same vectors, up to rounding, on every processor. Word vectors
are int8 with a scale per word.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tenantgate.errors import EdgeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Array = NDArray[Any]
    Tensors = Mapping[str, Array]

__all__ = [
    "DISTANCES",
    "BertShape",
    "PairHead",
    "build_embedder",
    "build_verifier",
    "cut_embedder",
    "is_mpnet",
    "merge_adapter",
    "mpnet_as_bert",
    "narrow",
    "read_safetensors",
    "relative_buckets",
]

_KEPT = "intermediate.kept"
_MICROSOFT = "com.microsoft"
_MPNET_NAMES: Mapping[str, str] = {"q": "query", "k": "key", "v": "value"}
# IR 9 and opset 17 are read by every ONNX Runtime since 1.16.
_IR_VERSION = 9
_OPSET = 17
DISTANCES = "encoder.relative_attention_bias.weight"
"""MPNet's name for what each head adds to its attention by distance: [32, heads]."""

_LONGEST = 128  # tokens, where attention depends on the distance
_DTYPES: Mapping[str, str] = {"F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I8": "i1", "U8": "u1"}


def read_safetensors(path: Path) -> dict[str, Array]:
    """Read a safetensors file into memory-mapped arrays.

    The format (https://github.com/huggingface/safetensors#format): eight bytes with the header's length, a
    JSON header with dtype, shape and offsets of each tensor, then the tensors' bytes.

    Raises:
        EdgeError: the file isn't safetensors, or holds a dtype that isn't known here.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > 100_000_000:
                raise EdgeError(f"{path.name}: not a safetensors file")
            header = json.loads(file.read(length))
        data = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + length)
        return {
            name: data[slice(*entry["data_offsets"])].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise EdgeError(f"{path.name}: can't be read as safetensors ({type(error).__name__})") from error


@dataclass(frozen=True, slots=True)
class BertShape:
    """The sizes of an encoder that its weights don't tell."""

    heads: int = 12
    """Attention heads per layer."""

    epsilon: float = 1e-12
    """What layer normalisation adds to the variance."""

    layers: tuple[int, ...] | None = None
    """The layers that are used, in order; all when left out."""

    start_only: bool = False
    """Whether the last layer gives the first token's vector alone, which costs a quarter of a layer."""

    exact: tuple[int, ...] = ()
    """Layers whose second feed-forward product is never quantised: where a few of the numbers that it takes are far
    larger than the others, eight bits for all of them are too few."""

    def layers_of(self, tensors: Iterable[str]) -> tuple[int, ...]:
        """The layers that are used of an encoder with these tensors."""
        found = {int(name.split(".")[2]) for name in tensors if name.startswith("encoder.layer.")}
        return tuple(sorted(found)) if self.layers is None else self.layers


@dataclass(frozen=True, slots=True)
class PairHead:
    """The verifier's head: a hidden layer (GELU) on [first vector, 4·|u-v|, 4·u·v]; u, v: both means."""

    hidden_weight: Array
    """[hidden, 3 · width]"""

    hidden_bias: Array
    """[hidden]"""

    out_weight: Array
    """[1, hidden]"""

    out_bias: Array
    """[1]"""


def narrow(base: Tensors, adapter: Tensors) -> dict[str, Array]:
    """An encoder's weights without the feed-forward units that the adapter leaves out.

    ``encoder.layer.N.intermediate.kept`` (int32 [kept]) names those of the layer that stay.

    Raises:
        EdgeError: there are no such units.
    """
    narrowed: dict[str, Array] = dict(base)
    for name in adapter:
        if name.endswith(_KEPT):
            layer, kept = name.removesuffix(_KEPT), np.asarray(adapter[name])
            into, out = f"{layer}intermediate.dense", f"{layer}output.dense.weight"
            try:
                narrowed[f"{into}.weight"] = base[f"{into}.weight"][kept]
                narrowed[f"{into}.bias"] = base[f"{into}.bias"][kept]
                narrowed[out] = base[out][:, kept]
            except (KeyError, IndexError) as error:
                raise EdgeError(f"adapter: {name} doesn't fit the encoder ({error})") from error
    return narrowed


def merge_adapter(base: Tensors, adapter: Tensors) -> tuple[dict[str, Array], PairHead]:
    """Add low-rank updates to an encoder's weights and take out the head.

    The adapter names tensors as the encoder does. ``X.lora_A`` [rank, in] and ``X.lora_B`` [out, rank] mean
    ``X.weight + lora_B @ lora_A``; ``head.hidden.*`` and ``head.out.*`` are the head; ``….kept`` is as `narrow` has it;
    any other tensor replaces the encoder's of the same name.

    Raises:
        EdgeError: the adapter doesn't fit the encoder.
    """
    base = narrow(base, adapter)
    merged = dict(base)
    try:
        for name, stored in adapter.items():
            value = np.asarray(stored, np.float32)
            if name.endswith(".lora_A"):
                target = name.removesuffix("lora_A") + "weight"
                update = np.asarray(adapter[name.removesuffix("A") + "B"], np.float32) @ value
                merged[target] = np.asarray(base[target], np.float32) + update
            elif not name.startswith("head.") and not name.endswith((".lora_B", _KEPT)):
                if base[name].shape != value.shape:
                    raise EdgeError(f"adapter: {name} has shape {value.shape}, not {base[name].shape}")
                merged[name] = value
        head = PairHead(
            *(
                np.asarray(adapter[f"head.{name}"], np.float32)
                for name in ("hidden.weight", "hidden.bias", "out.weight", "out.bias")
            )
        )
    except (KeyError, ValueError) as error:
        raise EdgeError(f"adapter: doesn't fit the encoder ({error})") from error
    return merged, head


def is_mpnet(tensors: Tensors) -> bool:
    """Whether these are MPNet's weights, under its own names."""
    return f"mpnet.{DISTANCES}" in tensors or DISTANCES in tensors


def mpnet_as_bert(tensors: Tensors) -> dict[str, Array]:
    """MPNet's weights under BERT's names: the same encoder, but for distances in its attention.

    MPNet counts places from 2 and has no token types, so these are 0. Source: transformers' modeling_mpnet.py.
    """
    names = {f"attention.attn.{short}.": f"attention.self.{long}." for short, long in _MPNET_NAMES.items()}
    names |= {
        "attention.attn.o.": "attention.output.dense.",
        "attention.LayerNorm.": "attention.output.LayerNorm.",
    }
    found: dict[str, Array] = {}
    for name, value in tensors.items():
        new = name.removeprefix("mpnet.")
        for old, usual in names.items():
            new = new.replace(old, usual)
        found[new] = value
    try:
        found["embeddings.position_embeddings.weight"] = found["embeddings.position_embeddings.weight"][2:]
        width = found["embeddings.LayerNorm.weight"].shape[0]
    except KeyError as error:
        raise EdgeError(f"the encoder's weights lack {error}") from None
    found["embeddings.token_type_embeddings.weight"] = np.zeros((2, width), np.float32)
    return found


def build_embedder(tensors: Tensors, shape: BertShape | None = None, *, int8: bool = True) -> bytes:
    """The embedder as a serialised ONNX model: ``input_ids`` int32 [1, n] → ``embedding`` float32 [1, width].

    Args:
        tensors: a BERT encoder's weights under their usual names (``embeddings.word_embeddings.weight``).
        shape: heads and epsilon; those of MiniLM when left out.
        int8: quantise (see the module's text), or keep float32.
    """
    graph = _Graph(int8=int8)
    last, _ = _encoder(graph, tensors, shape or BertShape(), pair=False)
    mean = graph.add("ReduceMean", [last], axes=[1], keepdims=0)
    norm = graph.add("ReduceL2", [mean], axes=[1], keepdims=1)
    graph.add("Div", [mean, norm], output="embedding")
    return graph.model("embedding", [1, int(tensors["embeddings.LayerNorm.weight"].shape[0])], pair=False)


def build_verifier(
    tensors: Tensors, head: PairHead, shape: BertShape | None = None, *, int8: bool = True
) -> bytes:
    """The verifier as a serialised ONNX model.

    ``input_ids`` int32 [1, n] of ``[CLS] a [SEP] b [SEP]`` and ``token_type_ids`` int32 [1, n] → ``logit``
    float32 [1, 1]. Arguments as for `build_embedder`; `tensors` are the merged weights.
    """
    graph = _Graph(int8=int8)
    shape = shape or BertShape()
    last, before = _encoder(graph, tensors, shape, pair=True)
    means = before if shape.start_only else last
    column = graph.constant("axis_2", np.array([2], np.int64))
    second = graph.add(
        "Cast", [graph.add("Unsqueeze", ["token_type_ids", column])], to=graph.onnx.TensorProto.FLOAT
    )
    first = graph.add("Sub", [graph.constant("one", np.array(1, np.float32)), second])

    def mean(mask: str) -> str:
        axis = graph.constant("axis_1", np.array([1], np.int64))
        total = graph.add("ReduceSum", [graph.add("Mul", [means, mask]), axis], keepdims=0)
        count = graph.add("ReduceSum", [mask, axis], keepdims=0)
        return graph.add("Div", [total, count])

    u, v = mean(first), mean(second)
    four = graph.constant("four", np.array(4, np.float32))
    start = graph.add("Gather", [last, graph.constant("zero", np.array(0, np.int64))], axis=1)
    apart = graph.add("Mul", [graph.add("Abs", [graph.add("Sub", [u, v])]), four])
    product = graph.add("Mul", [graph.add("Mul", [u, v]), four])
    features = graph.add("Concat", [start, apart, product], axis=1)
    hidden = graph.gemm(features, "head.hidden", head.hidden_weight, head.hidden_bias)
    graph.gemm(
        graph.add("Gelu", [hidden], domain=_MICROSOFT),
        "head.out",
        head.out_weight,
        head.out_bias,
        output="logit",
    )
    return graph.model("logit", [1, 1], pair=True)


class _Graph:
    """Collects nodes and constants; gives each value a name."""

    def __init__(self, *, int8: bool) -> None:
        try:
            import onnx  # noqa: PLC0415 - only to build models, never to run them
            import onnx.helper  # noqa: PLC0415
            import onnx.numpy_helper  # noqa: PLC0415
        except ImportError as error:
            raise EdgeError("building models needs the package onnx") from error
        self.onnx: Any = onnx
        self.int8 = int8
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}

    def constant(self, name: str, value: Array) -> str:
        if name not in self._constants:
            self._constants[name] = self.onnx.numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def add(
        self,
        kind: str,
        inputs: list[str],
        *,
        output: str | None = None,
        outputs: int = 1,
        domain: str = "",
        **attributes: Any,
    ) -> str:
        name = output or f"{kind}_{len(self._nodes)}"
        names = [name, *(f"{name}:{i}" for i in range(1, outputs))]
        self._nodes.append(
            self.onnx.helper.make_node(kind, inputs, names, name=name, domain=domain, **attributes)
        )
        return name

    def gemm(self, value: str, name: str, weight: Array, bias: Array, *, output: str | None = None) -> str:
        """A dense layer that stays float32; `weight` is [out, in]."""
        inputs = [value, self.constant(f"{name}.weight", weight), self.constant(f"{name}.bias", bias)]
        return self.add("Gemm", inputs, transB=1, output=output)

    def dense(self, value: str, name: str, weight: Array, bias: Array, *, exact: bool = False) -> str:
        """A dense layer, quantised where the model is, unless it is to be `exact`; `weight` is [out, in]."""
        weight = np.asarray(weight, np.float32).T
        bias_name = self.constant(f"{name}.bias", np.asarray(bias, np.float32))
        if exact or not self.int8:
            product = self.add("MatMul", [value, self.constant(f"{name}.weight", weight)])
            return self.add("Add", [product, bias_name])
        quantised, scale = _quantise(weight, axis=0, levels=63)
        inputs = [
            value,
            self.constant(f"{name}.weight_int8", quantised),
            self.constant(f"{name}.weight_scale", scale.reshape(-1)),
            self.constant(f"{name}.weight_zero", np.zeros(scale.size, np.int8)),
            bias_name,
        ]
        return self.add("DynamicQuantizeMatMul", inputs, domain=_MICROSOFT)

    def lookup(self, indices: str, name: str, table: Array) -> str:
        """Rows of a table, quantised per row where the model is."""
        if not self.int8:
            return self.add("Gather", [self.constant(name, np.asarray(table, np.float32)), indices])
        quantised, scale = _quantise(np.asarray(table, np.float32), axis=1, levels=127)
        rows = self.add("Gather", [self.constant(f"{name}_int8", quantised), indices])
        scales = self.add("Gather", [self.constant(f"{name}_scale", scale), indices])
        return self.add("Mul", [self.add("Cast", [rows], to=self.onnx.TensorProto.FLOAT), scales])

    def model(self, output: str, shape: list[int], *, pair: bool) -> bytes:
        helper, tensor = self.onnx.helper, self.onnx.TensorProto
        inputs = ["input_ids", "token_type_ids"] if pair else ["input_ids"]
        graph = helper.make_graph(
            self._nodes,
            "tenantgate",
            [helper.make_tensor_value_info(name, tensor.INT32, [1, "n"]) for name in inputs],
            [helper.make_tensor_value_info(output, tensor.FLOAT, shape)],
            list(self._constants.values()),
        )
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_MICROSOFT, 1)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="tenantgate"
        )
        serialised: bytes = model.SerializeToString()
        return serialised


def _quantise(weight: Array, *, axis: int, levels: int) -> tuple[Array, Array]:
    """Symmetric integers in ±levels and their scales, one scale for each index across `axis`."""
    scale = np.maximum(np.abs(weight).max(axis=axis, keepdims=True), 1e-8) / levels
    return np.rint(weight / scale).astype(np.int8), scale.astype(np.float32)


def _encoder(graph: _Graph, tensors: Tensors, shape: BertShape, *, pair: bool) -> tuple[str, str]:
    """Embeddings and layers: the names of the last layer's output and of its input, each [1, n, width].

    Where the shape says `start_only`, the output is [1, 1, width].
    """

    def weight(name: str) -> Array:
        try:
            return np.asarray(tensors[name], np.float32)
        except KeyError as error:
            raise EdgeError(f"the encoder's weights lack {name}") from error

    def constant(name: str) -> str:
        return graph.constant(name, weight(name))

    def normalised(name: str) -> list[str]:
        return [constant(f"{name}.weight"), constant(f"{name}.bias")]

    def joined_and_normalised(new: str, old: str, name: str) -> str:
        # Two nodes, though SkipLayerNormalization is the same in one: that takes three times as long in ONNX
        # Runtime 1.32 (a scalar loop), a fifth of a short text's time.
        return graph.add(
            "LayerNormalization",
            [graph.add("Add", [new, old]), *normalised(name)],
            axis=-1,
            epsilon=shape.epsilon,
        )

    words = graph.lookup("input_ids", "word_embeddings", weight("embeddings.word_embeddings.weight"))
    length = graph.add("Shape", ["input_ids"], start=1)
    begin, axis = (
        graph.constant("begin", np.array([0], np.int64)),
        graph.constant("axis_0", np.array([0], np.int64)),
    )
    places = graph.add("Slice", [constant("embeddings.position_embeddings.weight"), begin, length, axis])
    types = weight("embeddings.token_type_embeddings.weight")
    if pair:
        kinds = graph.add("Gather", [graph.constant("token_types", types), "token_type_ids"])
    else:
        kinds = graph.constant("token_type", types[0])
    total = graph.add("Add", [graph.add("Add", [words, kinds]), places])
    value = graph.add(
        "LayerNormalization", [total, *normalised("embeddings.LayerNorm")], axis=-1, epsilon=shape.epsilon
    )
    distances = None
    if DISTANCES in tensors:
        distances = _distance_bias(graph, weight(DISTANCES), length)
    before, layers = value, shape.layers_of(tensors)
    for i in layers:
        prefix, before = f"encoder.layer.{i}", value
        names = [f"{prefix}.attention.self.{part}" for part in ("query", "key", "value")]
        weights = [weight(f"{name}.weight") for name in names]
        biases = [weight(f"{name}.bias") for name in names]
        if shape.start_only and i == layers[-1]:
            zero = graph.constant("first", np.array([0], np.int64))
            value = graph.add("Gather", [before, zero], axis=1)
            query = graph.dense(value, f"{prefix}.query", weights[0], biases[0])
            joined = graph.dense(
                before, f"{prefix}.kv", np.concatenate(weights[1:]), np.concatenate(biases[1:])
            )
            graph.add("Split", [joined], output=f"{prefix}.k", outputs=2, axis=-1)
            heads = [query, f"{prefix}.k", f"{prefix}.k:1"]
        else:
            joined = graph.dense(before, f"{prefix}.qkv", np.concatenate(weights), np.concatenate(biases))
            graph.add("Split", [joined], output=f"{prefix}.q", outputs=3, axis=-1)
            heads = [f"{prefix}.q", f"{prefix}.q:1", f"{prefix}.q:2"]
        attended = graph.add(
            "MultiHeadAttention", [*heads, "", "", distances] if distances else heads, domain=_MICROSOFT,
            num_heads=shape.heads,
        )  # fmt: skip
        out = f"{prefix}.attention.output"
        projected = graph.dense(
            attended, f"{out}.dense", weight(f"{out}.dense.weight"), weight(f"{out}.dense.bias")
        )
        value = joined_and_normalised(projected, value, f"{out}.LayerNorm")
        wide = f"{prefix}.intermediate.dense"
        expanded = graph.dense(value, wide, weight(f"{wide}.weight"), weight(f"{wide}.bias"))
        active = graph.add("Gelu", [expanded], domain=_MICROSOFT)
        out = f"{prefix}.output"
        contracted = graph.dense(
            active, f"{out}.dense", weight(f"{out}.dense.weight"), weight(f"{out}.dense.bias"),
            exact=i in shape.exact,
        )  # fmt: skip
        value = joined_and_normalised(contracted, value, f"{out}.LayerNorm")
    return value, before


def relative_buckets(length: int) -> NDArray[np.int64]:
    """Which of MPNet's 32 distances stands between two places: int64 [length, length], row: the place that looks.

    The first 16 are for places before, the others for places after; the first 8 of each are exact, the rest
    logarithmic up to 128. As ``relative_position_bucket`` of transformers' modeling_mpnet.py has it.
    """
    places = np.arange(length)
    apart = places[None, :] - places[:, None]
    sign, far = np.where(apart > 0, 16, 0), np.abs(apart)
    coarse = 8 + (np.log(np.maximum(far, 1) / 8) / np.log(128 / 8) * 8).astype(np.int64)
    buckets: NDArray[np.int64] = sign + np.where(far < 8, far, np.minimum(coarse, 15))
    return buckets


def _distance_bias(graph: _Graph, table: Array, length: str) -> str:
    """What each head adds to its attention by distance: [1, heads, n, n], cut from a constant for the longest text."""
    bias = table[relative_buckets(_LONGEST)].transpose(2, 0, 1)[None]
    begin = graph.constant("begin_2", np.zeros(2, np.int64))
    axes = graph.constant("axes_2_3", np.array([2, 3], np.int64))
    end = graph.add("Concat", [length, length], axis=0)
    return graph.add("Slice", [graph.constant("distances", np.asarray(bias, np.float32)), begin, end, axes])


def cut_embedder(data: bytes, layers: int) -> bytes:
    """The first `layers` of an embedder of `build_embedder` as a model of its own, without the mean at the end.

    ``input_ids`` int32 [1, n] → ``states`` float32 [1, n, width]: a vector for each token.

    Raises:
        EdgeError: it has fewer layers, or isn't such a model.
    """
    try:
        import onnx  # noqa: PLC0415 - as above
    except ImportError as error:
        raise EdgeError("cutting models needs the package onnx") from error
    model: Any = onnx.load_from_string(data)
    graph = model.graph
    # The first normalisation is of the words, and each layer ends with the second of its two.
    ends = [node for node in graph.node if node.op_type == "LayerNormalization"][2::2]
    if not 1 <= layers <= len(ends):
        raise EdgeError(f"models: the encoder has {len(ends)} layers, not {layers}")
    last = ends[layers - 1]
    needed, nodes = {last.output[0]}, []
    for node in reversed(graph.node):  # in order, so whatever is needed comes before
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.append(node)
    last.output[0] = "states"
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    width = [tensor.dims[0] for tensor in constants if tensor.name == "embeddings.LayerNorm.weight"]
    helper, tensor = onnx.helper, onnx.TensorProto
    small = helper.make_graph(
        list(reversed(nodes)),
        "tenantgate",
        list(graph.input),
        [helper.make_tensor_value_info("states", tensor.FLOAT, [1, "n", *width])],
        constants,
    )
    cut = helper.make_model(
        small, opset_imports=list(model.opset_import), ir_version=model.ir_version, producer_name="tenantgate"
    )
    serialised: bytes = cut.SerializeToString()
    return serialised
