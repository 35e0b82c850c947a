"""The ONNX encoder against a NumPy reference, on a tiny random BERT."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from models_rig import (
    HEADS,
    LATE_FROM,
    LAYERS,
    SHAPE,
    WIDTH,
    WORDS,
    Tensors,
    run,
    tiny_adapter,
    tiny_late,
    tiny_mpnet,
    tiny_tensors,
)
from tenantgate.models import inference, onnx_bert
from tenantgate.models import tensors as model_tensors

VERIFIER_INPUTS = {
    "input_ids": np.array([[2, 7, 9, 3, 7, 8, 11, 3]], np.int32),
    "token_type_ids": np.array([[0, 0, 0, 0, 1, 1, 1, 1]], np.int32),
}


def dense(tensors: Tensors, x: Any, name: str) -> Any:
    return x @ tensors[f"{name}.weight"].astype(np.float32).T + tensors[f"{name}.bias"]


def normalise(tensors: Tensors, x: Any, name: str, epsilon: float = 1e-12) -> Any:
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon)
    return x * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def reference(tensors: Tensors, ids: Any, types: Any, layers: int = LAYERS) -> Any:
    """The vectors [n, width] after so many layers, in plain NumPy."""
    x = tensors["embeddings.word_embeddings.weight"][ids]
    x = x + tensors["embeddings.position_embeddings.weight"][: len(ids)]
    x = normalise(
        tensors, x + tensors["embeddings.token_type_embeddings.weight"][types], "embeddings.LayerNorm"
    )
    for i in range(layers):
        x = reference_layer(tensors, x, i)
    return x


def reference_layer(tensors: Tensors, x: Any, i: int) -> Any:
    count, layer, bias = len(x), f"encoder.layer.{i}", 0
    if model_tensors.DISTANCES in tensors:
        rows = [[bucket(j - i) for j in range(count)] for i in range(count)]
        bias = tensors[model_tensors.DISTANCES][rows].transpose(2, 0, 1)
    size = WIDTH // HEADS
    q, k, v = (
        dense(tensors, x, f"{layer}.attention.self.{part}").reshape(count, -1, size).swapaxes(0, 1)
        for part in ("query", "key", "value")
    )
    weights = np.exp(q @ k.swapaxes(1, 2) / math.sqrt(size) + bias)
    mixed = (weights / weights.sum(-1, keepdims=True)) @ v
    attended = dense(tensors, mixed.swapaxes(0, 1).reshape(count, -1), f"{layer}.attention.output.dense")
    x = normalise(tensors, x + attended, f"{layer}.attention.output.LayerNorm")
    if f"{layer}.intermediate.dense.weight" not in tensors:
        return x
    wide = gelu(dense(tensors, x, f"{layer}.intermediate.dense"))
    return normalise(tensors, x + dense(tensors, wide, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")


def bucket(distance: int) -> int:
    """Of T5's and MPNet's 32 buckets, as their papers tell it: exact to 7, then logarithmic to 128."""
    side, far = (16 if distance > 0 else 0), abs(distance)
    if far < 8:
        return side + far
    return side + min(15, 8 + int(math.log(far / 8) / math.log(16) * 8))


def gelu(x: Any) -> Any:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def test_float_embedder_is_the_mean_of_the_last_layer() -> None:
    tensors, ids = tiny_tensors(), np.array([2, 5, 9, 30, 3])
    mean = reference(tensors, ids, np.zeros(5, int)).mean(0)

    vector = run(onnx_bert.build_embedder(tensors, SHAPE, int8=False), input_ids=ids[None].astype(np.int32))

    np.testing.assert_allclose(vector[0], mean / np.linalg.norm(mean), atol=1e-5)


def test_int8_embedder_stays_close_to_float() -> None:
    tensors = tiny_tensors()
    exact, fast = (onnx_bert.build_embedder(tensors, SHAPE, int8=int8) for int8 in (False, True))
    ids = np.array([[2, 5, 9, 30, 12, 7, 3]], np.int32)

    assert (run(exact, input_ids=ids) @ run(fast, input_ids=ids).T).item() > 0.99
    assert len(fast) < len(exact)


def test_float_verifier_matches_the_reference() -> None:
    merged, head = model_tensors.merge_adapter(tiny_tensors(), tiny_adapter())
    ids, types = (VERIFIER_INPUTS[name][0] for name in ("input_ids", "token_type_ids"))
    last = reference(merged, ids, types)
    u, v = last[types == 0].mean(0), last[types == 1].mean(0)
    features = np.concatenate([last[0], 4 * np.abs(u - v), 4 * u * v])
    expected = head.out_weight @ gelu(head.hidden_weight @ features + head.hidden_bias) + head.out_bias

    logit = run(onnx_bert.build_verifier(merged, head, SHAPE, int8=False), **VERIFIER_INPUTS)

    np.testing.assert_allclose(logit[0], expected, rtol=1e-4, atol=1e-4)


def test_int8_verifier_stays_close_to_float() -> None:
    merged, head = model_tensors.merge_adapter(tiny_tensors(), tiny_adapter())
    exact, fast = (
        run(onnx_bert.build_verifier(merged, head, SHAPE, int8=int8), **VERIFIER_INPUTS).item()
        for int8 in (False, True)
    )

    assert fast == pytest.approx(exact, rel=0.4)  # random weights err far more than trained ones


TEXTS = (np.array([2, 7, 9, 30, 3]), np.array([2, 8, 11, 3]))


def reference_states(ids: Any) -> Any:
    """A text's states, from below the upper layer and from the end."""
    tensors, late, types = tiny_tensors(), tiny_late(), np.zeros(len(ids), int)
    both = [reference(tensors, ids, types, layers=layers) for layers in (LATE_FROM, LAYERS)]
    mixed = dense(late, np.concatenate(both, -1), "late.states")
    return normalise(late, mixed, "late.norm", 1e-5)


def quantised(states: Any) -> tuple[Any, Any]:
    scales = (np.abs(states).max(-1, keepdims=True) / 127).astype(np.float32)
    return np.rint(states / scales).astype(np.int8)[None], scales[None]


@pytest.mark.parametrize("ids", TEXTS)
def test_an_embedder_for_a_late_reader_gives_each_tokens_state_and_the_same_vector(ids: Any) -> None:
    tensors = tiny_tensors()
    plain, more = (
        onnxruntime.InferenceSession(
            onnx_bert.build_embedder(tensors, SHAPE, late=late, int8=False),
            providers=["CPUExecutionProvider"],
        ).run(None, {"input_ids": ids[None].astype(np.int32)})
        for late in (None, tiny_late())
    )
    np.testing.assert_array_equal(plain[0], more[0])
    vector, states, scales = more
    assert (vector.shape, states.dtype, states.shape, scales.shape) == (
        (1, WIDTH),
        np.int8,
        (1, len(ids), WIDTH),
        (1, len(ids), 1),
    )
    np.testing.assert_allclose(states * scales, reference_states(ids)[None], atol=float(scales.max()) * 0.51)


@pytest.mark.parametrize("others", [TEXTS, TEXTS[::-1], (TEXTS[0], TEXTS[0])])
def test_a_late_reader_reads_both_texts_together_in_its_layers(others: tuple[Any, Any]) -> None:
    late, lengths = tiny_late(), [len(ids) for ids in others]
    read = [states * scales for states, scales in (quantised(reference_states(ids)) for ids in others)]
    value = np.concatenate([each[0] + late["late.sides"][side] for side, each in enumerate(read)])
    value = reference_layer(late, value, LATE_FROM)
    last = reference_layer(late, value, LATE_FROM + 1)
    size = lengths[0]
    u, v = value[:size].mean(0), value[size:].mean(0)
    features = np.concatenate([last[0], last[size], 4 * np.abs(u - v), 4 * u * v])
    hidden = gelu(dense(late, features, "head.hidden"))
    expected = dense(late, hidden, "head.out")
    states, scales = (
        np.concatenate(each, 1) for each in zip(*map(quantised, map(reference_states, others)), strict=True)
    )
    sides, looks = inference._layout(*lengths)

    exact, fast = (
        run(
            onnx_bert.build_late_reader(late, SHAPE, int8=int8),
            states=states,
            scales=scales,
            sides=sides,
            looks=looks,
        )
        for int8 in (False, True)
    )

    np.testing.assert_allclose(exact[0], expected, rtol=1e-3, atol=1e-3)
    assert fast.item() == pytest.approx(exact.item(), rel=0.4)


def test_a_product_with_an_outlier_in_what_it_takes_is_exact_where_that_is_asked_for() -> None:
    merged, head = model_tensors.merge_adapter(tiny_tensors(), tiny_adapter())
    # One number of 1,000 that nothing comes of leaves the others two or three of 256 steps.
    merged["encoder.layer.0.intermediate.dense.bias"] = merged[
        "encoder.layer.0.intermediate.dense.bias"
    ].copy()
    merged["encoder.layer.0.intermediate.dense.bias"][0] = 1000
    merged["encoder.layer.0.output.dense.weight"] = merged["encoder.layer.0.output.dense.weight"].copy()
    merged["encoder.layer.0.output.dense.weight"][:, 0] = 0
    whole = run(onnx_bert.build_verifier(merged, head, SHAPE, int8=False), **VERIFIER_INPUTS)
    coarse, exact = (
        abs(
            run(onnx_bert.build_verifier(merged, head, replace(SHAPE, exact=layers)), **VERIFIER_INPUTS)
            - whole
        )
        for layers in ((), (0,))
    )
    assert exact.item() < coarse.item() / 4


def test_mpnet_matches_the_reference_at_every_distance() -> None:
    base = model_tensors.mpnet_as_bert(tiny_mpnet())
    merged, head = model_tensors.merge_adapter(base, tiny_adapter())
    ids = np.random.default_rng(3).integers(4, len(WORDS), 128)
    types = (np.arange(128) > 60).astype(np.int64)
    last = reference(merged, ids, types)
    u, v = last[types == 0].mean(0), last[types == 1].mean(0)
    features = np.concatenate([last[0], 4 * np.abs(u - v), 4 * u * v])
    expected = head.out_weight @ gelu(head.hidden_weight @ features + head.hidden_bias) + head.out_bias

    logit = run(
        onnx_bert.build_verifier(merged, head, SHAPE, int8=False),
        input_ids=ids[None].astype(np.int32),
        token_type_ids=types[None].astype(np.int32),
    )

    np.testing.assert_allclose(logit[0], expected, rtol=1e-4, atol=1e-4)
