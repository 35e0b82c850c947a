"""A BERT encoder as an ONNX graph, written node by node with NumPy: no torch, no transformers, no export.

The graph takes one text (or pair) at a time, without padding and so without a mask, because that is how a
cache meets its requests. Three kinds of graphs:

* the *embedder*: mean of the last layer's vectors, scaled to length 1; and, where a late reader is to be served, the
  *states*, a vector for each token;
* the *pair verifier* (a cross-encoder): both texts in one sequence, a small head on top, one logit;
* the *late reader*: the same, but only the upper layers, on the states of both texts. Each text has been through the
  lower layers alone, once (PreTTR, arXiv:2004.14255; DeFormer, arXiv:2005.00697).

Dense layers and word vectors are int8 as `tenantgate.models.onnx_graph` has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tenantgate.errors import EdgeError
from tenantgate.models.onnx_graph import MICROSOFT, Graph, load_onnx
from tenantgate.models.tensors import DISTANCES, PairHead, layers_of, tensor_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tenantgate.models.tensors import Array, Tensors

__all__ = [
    "BertShape",
    "build_embedder",
    "build_late_reader",
    "build_verifier",
    "cut_embedder",
    "relative_buckets",
]

_LATE_EPSILON = 1e-5  # as it was trained
_LONGEST = 128  # tokens, where attention depends on the distance


@dataclass(frozen=True, slots=True)
class BertShape:
    """The sizes of an encoder that its weights don't tell."""

    heads: int = 12
    """Attention heads per layer."""

    epsilon: float = 1e-12
    """What layer normalisation adds to the variance."""

    exact: tuple[int, ...] = ()
    """Layers whose second feed-forward product is never quantised: where a few of the numbers that it takes are far
    larger than the others, eight bits for all of them are too few."""


def build_embedder(
    tensors: Tensors, shape: BertShape | None = None, *, late: Tensors | None = None, int8: bool = True
) -> bytes:
    """The embedder as a serialised ONNX model: ``input_ids`` int32 [1, n] → ``embedding`` float32 [1, width].

    With `late` also ``states`` int8 [1, n, width] and ``scales`` float32 [1, n, 1]; their product is a state per token.

    Args:
        tensors: a BERT encoder's weights under their usual names (``embeddings.word_embeddings.weight``).
        shape: heads and epsilon; those of MiniLM when left out.
        late: a late reader's tensors. Its states are a dense layer (``late.states.*``, [width, 2 · width]) on the
            vectors below its lowest layer and on the last ones, normalised (``late.norm.*``).
        int8: quantise (see `tenantgate.models.onnx_graph`), or keep float32. States are int8 in any case.
    """
    graph = Graph(int8=int8)
    outputs = _encoder(graph, tensors, shape or BertShape(), pair=False)
    width = int(tensors["embeddings.LayerNorm.weight"].shape[0])
    mean = graph.add("ReduceMean", [outputs[-1]], axes=[1], keepdims=0)
    norm = graph.add("ReduceL2", [mean], axes=[1], keepdims=1)
    graph.add("Div", [mean, norm], output="embedding")
    found: dict[str, tuple[int, list[Any]]] = {"embedding": (graph.onnx.TensorProto.FLOAT, [1, width])}
    if late is not None:
        lowest = layers_of(late)[0]
        both = graph.add("Concat", [outputs[lowest], outputs[-1]], axis=-1)
        mixed = graph.dense(
            both, "late.states", tensor_of(late, "late.states.weight"), tensor_of(late, "late.states.bias")
        )
        states = graph.normalised(mixed, "late.norm", late, _LATE_EPSILON)
        most = graph.add("ReduceMax", [graph.add("Abs", [states])], axes=[2], keepdims=1)
        graph.add("Div", [most, graph.constant("levels", np.array(127, np.float32))], output="scales")
        whole = graph.add("Round", [graph.add("Div", [states, "scales"])])
        graph.add("Cast", [whole], output="states", to=graph.onnx.TensorProto.INT8)
        found |= {
            "states": (graph.onnx.TensorProto.INT8, [1, "n", width]),
            "scales": (graph.onnx.TensorProto.FLOAT, [1, "n", 1]),
        }
    return graph.model({"input_ids": (graph.onnx.TensorProto.INT32, [1, "n"])}, found)


def build_verifier(
    tensors: Tensors, head: PairHead, shape: BertShape | None = None, *, int8: bool = True
) -> bytes:
    """The verifier as a serialised ONNX model.

    ``input_ids`` int32 [1, n] of ``[CLS] a [SEP] b [SEP]`` and ``token_type_ids`` int32 [1, n] → ``logit``
    float32 [1, 1]. Arguments as for `build_embedder`; `tensors` are the merged weights.
    """
    graph = Graph(int8=int8)
    last = _encoder(graph, tensors, shape or BertShape(), pair=True)[-1]
    column = graph.constant("axis_2", np.array([2], np.int64))
    second = graph.add(
        "Cast", [graph.add("Unsqueeze", ["token_type_ids", column])], to=graph.onnx.TensorProto.FLOAT
    )
    first = graph.add("Sub", [graph.constant("one", np.array(1, np.float32)), second])

    def mean(mask: str) -> str:
        axis = graph.constant("axis_1", np.array([1], np.int64))
        total = graph.add("ReduceSum", [graph.add("Mul", [last, mask]), axis], keepdims=1)
        count = graph.add("ReduceSum", [mask, axis], keepdims=1)
        return graph.add("Div", [total, count])

    start = graph.add("Gather", [last, graph.constant("first", np.array([0], np.int64))], axis=1)
    logit = _judge(
        graph,
        start,
        (mean(first), mean(second)),
        head,
        int(tensor_of(tensors, "embeddings.LayerNorm.weight").size),
    )
    kind, n = graph.onnx.TensorProto.INT32, [1, "n"]
    return graph.model({"input_ids": (kind, n), "token_type_ids": (kind, n)}, logit)


def build_late_reader(tensors: Tensors, shape: BertShape | None = None, *, int8: bool = True) -> bytes:
    """The late reader as a serialised ONNX model.

    ``states`` int8 [1, n, width] and ``scales`` float32 [1, n, 1]: what the embedder gives of both texts, one behind
    the other; ``sides`` int32 [1, n]: which text each token belongs to, 0 or 1; ``looks`` float32 [1, 4, n]: each
    token's weight in the first text's first vector, in the second's, and in their means → ``logit`` float32 [1, 1].
    The last layer is computed for the first tokens of both alone.

    Args:
        tensors: all that was trained: its layers under an encoder's names, ``late.sides`` [2, width], which is added to
            the states of each side, and the head. A layer may have fewer heads than an encoder's, and a narrower
            feed-forward layer or none.
        shape: as for `build_embedder`; its heads tell how wide one is.
        int8: as for `build_embedder`.
    """
    graph = Graph(int8=int8)
    shape, kinds = shape or BertShape(), graph.onnx.TensorProto
    sides = tensor_of(tensors, "late.sides")
    value = graph.add("Mul", [graph.add("Cast", ["states"], to=kinds.FLOAT), "scales"])
    value = graph.add("Add", [value, graph.add("Gather", [graph.constant("late.sides", sides), "sides"])])
    *lower, last = layers_of(tensors)
    for i in lower:
        value = _layer(graph, tensors, shape, i, value)
    looked = graph.add("MatMul", ["looks", value])
    parts = graph.constant("parts", np.array([2, 1, 1], np.int64))
    starts = graph.add("Split", [looked, parts], output="looked", outputs=3, axis=1)
    ends = _layer(graph, tensors, shape, last, value, at=starts)
    width, n = int(sides.shape[1]), "n"
    logit = _judge(graph, ends, ("looked:1", "looked:2"), PairHead.of(tensors), width)
    inputs: dict[str, tuple[int, list[Any]]] = {
        "states": (kinds.INT8, [1, n, width]),
        "scales": (kinds.FLOAT, [1, n, 1]),
        "sides": (kinds.INT32, [1, n]),
        "looks": (kinds.FLOAT, [1, 4, n]),
    }
    return graph.model(inputs, logit)


def _judge(
    graph: Graph, first: str, means: tuple[str, str], head: PairHead, width: int
) -> dict[str, tuple[int, list[Any]]]:
    """The head (`PairHead`) on first vectors [1, 1 or 2, width] and both means, each [1, 1, width]: what it gives."""
    u, v = means
    apart = graph.add("Abs", [graph.add("Sub", [u, v])])
    rows = graph.add("Concat", [first, apart, graph.add("Mul", [u, v])], axis=1)
    flat = graph.constant("flat", np.array([1, -1], np.int64))
    weight = np.array(head.hidden_weight, np.float32)
    weight[:, -2 * width :] *= 4
    hidden = graph.gemm(graph.add("Reshape", [rows, flat]), "head.hidden", weight, head.hidden_bias)
    active = graph.add("Gelu", [hidden], domain=MICROSOFT)
    graph.gemm(active, "head.out", head.out_weight, head.out_bias, output="logit")
    return {"logit": (graph.onnx.TensorProto.FLOAT, [1, 1])}


def _encoder(graph: Graph, tensors: Tensors, shape: BertShape, *, pair: bool) -> list[str]:
    """Embeddings and layers: the names of the embeddings and of each layer's output, all [1, n, width]."""
    words = graph.lookup(
        "input_ids", "word_embeddings", tensor_of(tensors, "embeddings.word_embeddings.weight")
    )
    length = graph.add("Shape", ["input_ids"], start=1)
    begin, axis = (
        graph.constant("begin", np.array([0], np.int64)),
        graph.constant("axis_0", np.array([0], np.int64)),
    )
    name = "embeddings.position_embeddings.weight"
    places = graph.add("Slice", [graph.constant(name, tensor_of(tensors, name)), begin, length, axis])
    types = tensor_of(tensors, "embeddings.token_type_embeddings.weight")
    if pair:
        kinds = graph.add("Gather", [graph.constant("token_types", types), "token_type_ids"])
    else:
        kinds = graph.constant("token_type", types[0])
    total = graph.add("Add", [graph.add("Add", [words, kinds]), places])
    outputs = [graph.normalised(total, "embeddings.LayerNorm", tensors, shape.epsilon)]
    distances = None
    if DISTANCES in tensors:
        distances = _distance_bias(graph, tensor_of(tensors, DISTANCES), length)
    for i in layers_of(tensors):
        outputs.append(_layer(graph, tensors, shape, i, outputs[-1], distances=distances))
    return outputs


def _layer(
    graph: Graph,
    tensors: Tensors,
    shape: BertShape,
    i: int,
    value: str,
    *,
    at: str | None = None,
    distances: str | None = None,
) -> str:
    """One layer: the name of its output, of `at` [1, k, width] alone if that is given, else of all of `value`.

    It has as many heads as its weights are wide, and a feed-forward part if it has weights for one.
    """

    def dense(x: str, name: str, *, exact: bool = False) -> str:
        full = f"{prefix}.{name}"
        return graph.dense(
            x, full, tensor_of(tensors, f"{full}.weight"), tensor_of(tensors, f"{full}.bias"), exact=exact
        )

    def joined(x: str, name: str, *parts: str) -> str:
        names = [f"{prefix}.attention.self.{part}" for part in parts]
        weights, biases = (
            np.concatenate([tensor_of(tensors, f"{each}.{kind}") for each in names])
            for kind in ("weight", "bias")
        )
        split = f"{prefix}.{name}"
        graph.add(
            "Split",
            [graph.dense(x, f"{split}.joined", weights, biases)],
            output=split,
            outputs=len(parts),
            axis=-1,
        )
        return split

    def joined_and_normalised(new: str, old: str, name: str) -> str:
        # Two nodes, though SkipLayerNormalization is the same in one: that takes three times as long in ONNX
        # Runtime 1.32 (a scalar loop), a fifth of a short text's time.
        total = graph.add("Add", [new, old])
        return graph.normalised(total, f"{prefix}.{name}.LayerNorm", tensors, shape.epsilon)

    prefix = f"encoder.layer.{i}"
    if at is None:
        at, split = value, joined(value, "qkv", "query", "key", "value")
        heads = [split, f"{split}:1", f"{split}:2"]
    else:
        query, split = dense(at, "attention.self.query"), joined(value, "kv", "key", "value")
        heads = [query, split, f"{split}:1"]
    rows, width = tensor_of(tensors, f"{prefix}.attention.self.query.weight").shape
    attended = graph.add(
        "MultiHeadAttention",
        [*heads, "", "", distances] if distances else heads,
        domain=MICROSOFT,
        num_heads=shape.heads * rows // width,
    )
    at = joined_and_normalised(dense(attended, "attention.output.dense"), at, "attention.output")
    if f"{prefix}.intermediate.dense.weight" not in tensors:
        return at
    active = graph.add("Gelu", [dense(at, "intermediate.dense")], domain=MICROSOFT)
    return joined_and_normalised(dense(active, "output.dense", exact=i in shape.exact), at, "output")


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


def _distance_bias(graph: Graph, table: Array, length: str) -> str:
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
    onnx = load_onnx()
    model: Any = onnx.load_from_string(data)
    graph = model.graph
    # The first normalisation is of the words, each layer ends with the second of its two, a late reader's comes last.
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
