"""Models that prune: chunks and deadlines, directories with ONNX, the package `llmlingua`, loading beside requests."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tenantgate.compress import models as compress_models
from tenantgate.compress import pruners as compress_pruners
from tenantgate.compress import speed as pace
from tenantgate.compress.config import CompressConfig
from tenantgate.compress.core.pipeline import joined
from tenantgate.compress.llmlingua import LinguaPruner, aligned
from tenantgate.compress.manifest import COMPRESSOR
from tenantgate.compress.models import Chunk, Head, TokenModel, word_means, words_of_tokens
from tenantgate.compress.pruners import LoadedLater, check_model, pruner, pruner_in_background
from tenantgate.errors import ConfigError, EdgeError
from tenantgate.fields import check

FOREVER = time.monotonic() + 1e6
WORDS = "[PAD] [UNK] [CLS] [SEP] the a we house garden red went to of and not keep . , ##den gar".split()
TEXT = "we went to the red house and the garden. the house of a garden, we went to a house. "


def tiny_model(path: Path, classes: int = 2, *inputs: str) -> None:
    """Each token's logits are a row of a table: the articles go, the rest stays by its number."""
    table = np.zeros((len(WORDS), classes), np.float32)
    table[:, -1] = np.arange(len(WORDS)) / 10
    table[[WORDS.index("the"), WORDS.index("a")], -1] = -3
    inputs = inputs or ("input_ids", "attention_mask", "token_type_ids")
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["logits"])],
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "n"]) for name in inputs],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", "n", classes])],
        [numpy_helper.from_array(table, "table")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An LLMLingua-2 model as ONNX, of twenty words."""
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_padding(length=64)
    tokenizer.enable_truncation(4)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(json.dumps({"num_labels": 2}))
    tiny_model(tmp_path / "model.onnx")
    return tmp_path


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield
    compress_pruners._pruners.clear()
    compress_pruners._builds.built.clear()


def test_a_directory_with_onnx_prunes_by_the_second_class(directory: Path) -> None:
    made = pruner("llmlingua", str(directory))
    kept = made.keep(TEXT, [(0, 2)], 0.75, FOREVER)
    assert kept is not None
    assert joined(TEXT, kept) == "we went to the red house and garden. house of garden, we went to house. "
    assert made.fingerprint.startswith("llmlingua-2-")
    assert pruner("llmlingua", str(directory)) is made


def test_the_quantised_file_is_taken_first(directory: Path) -> None:
    before = pruner("llmlingua", str(directory)).fingerprint
    compress_pruners._pruners.clear()
    tiny_model(directory / "model_quantized.onnx", 2, "input_ids", "attention_mask")
    assert pruner("llmlingua", str(directory)).fingerprint != before


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json"])
def test_a_directory_that_lacks_a_file(directory: Path, missing: str) -> None:
    (directory / missing).unlink()
    with pytest.raises(ConfigError, match=r"pruner_model: .* lacks"):
        pruner("llmlingua", str(directory))
    config = CompressConfig(pruner="llmlingua", pruner_model=str(directory))
    assert [field for field, _ in COMPRESSOR.problems(config)] == [
        "pruner_model"
    ]  # as `tenantgate validate` says


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"{"),
        ("config.json", b'{"num_labels": 3}'),
        ("config.json", b"[]"),
        ("tokenizer.json", b"{}"),
        ("model.onnx", b"nonsense"),
    ],
)
def test_a_directory_with_a_broken_file(directory: Path, name: str, content: bytes) -> None:
    (directory / name).write_bytes(content)
    with pytest.raises(ConfigError, match="pruner_model"):
        pruner("llmlingua", str(directory))


@pytest.mark.parametrize(("classes", "inputs"), [(3, ()), (2, ("input_ids", "pixel_values"))])
def test_a_model_of_another_kind(directory: Path, classes: int, inputs: tuple[str, ...]) -> None:
    tiny_model(directory / "model.onnx", classes, *inputs)
    with pytest.raises(ConfigError, match="pruner_model"):
        pruner("llmlingua", str(directory))


@pytest.mark.parametrize("name", ["/no/such/directory", "./nor/this"])
def test_a_directory_that_isn_t_there(name: str) -> None:
    with pytest.raises(ConfigError, match="pruner_model: there is no directory"):
        check_model(name)


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compress_pruners.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"pruner: .*tenantgate\[llmlingua\]"):
        pruner("llmlingua", "someone/some-model")


def test_llmlingua_needs_a_model_and_others_ignore_it() -> None:
    with pytest.raises(ConfigError, match="pruner_model: required"):
        check(CompressConfig(pruner="llmlingua"))
    check(CompressConfig(pruner="rules", pruner_model="inherited"))


# -- chunks and time -------------------------------------------------------------------------------------


@pytest.fixture
def model(directory: Path) -> TokenModel:
    return TokenModel(directory / "model.onnx", directory / "tokenizer.json", chunk=16)


def test_chunks_end_with_sentences_or_between_words(model: TokenModel) -> None:
    text = TEXT * 3 + "gargarden" * 9 + " the" * 40
    chunks = list(model.chunks(text))
    assert all(1 <= len(c.ids) <= 14 for c in chunks)
    places = np.concatenate([c.places for c in chunks])
    assert (np.diff(places[:, 0]) > 0).all()
    ends = [text[: c.places[-1, 1]][-1] for c in chunks[:6]]
    assert ends.count(".") >= 5
    whole = model._tokenizer.encode(text, add_special_tokens=False)
    assert [i for c in chunks for i in c.ids] == whole.ids


def test_a_separator_in_a_text_is_text(model: TokenModel) -> None:
    (chunk,) = model.chunks("the [SEP] house")
    assert WORDS.index("[SEP]") not in chunk.ids


def test_nothing_is_read_if_it_will_not_be_ready(model: TokenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Chunk] = []
    monkeypatch.setattr(model, "run", lambda chunk: ran.append(chunk) or np.zeros((len(chunk.ids), 2)))
    model.pace.seconds = 1.0
    assert model.read(TEXT, time.monotonic() + 10) is None
    assert not ran
    assert model.read("", time.monotonic() + 10) == []
    assert model.read(TEXT, time.monotonic() + 1000) is not None


def test_time_is_looked_at_before_each_chunk(model: TokenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(pace.time, "monotonic", lambda: clock.now)
    ran: list[Chunk] = []

    def run(chunk: Chunk) -> Any:
        ran.append(chunk)
        clock.now += 1
        return np.zeros((len(chunk.ids), 2))

    monkeypatch.setattr(model, "run", run)
    model.pace.seconds = 1e-6
    assert model.read(TEXT * 4, 2.5) is None
    assert len(ran) == 3


def test_a_pace_taken_on_a_busy_machine_is_tried_again() -> None:
    slow = pace.Pace(10.0)
    assert slow.late(1, time.monotonic() + 5)
    tries = 1
    while slow.late(1, time.monotonic() + 5):
        tries += 1
    assert tries < 30
    for _ in range(20):
        slow.took(100, 0.1)
    assert slow.seconds < 0.1
    assert not slow.late(1, time.monotonic() + 5)


def test_a_word_has_the_mean_of_its_tokens() -> None:
    chunks = [Chunk((1, 2), np.array([[0, 3], [3, 6]])), Chunk((3, 4), np.array([[7, 8], [20, 22]]))]
    logits = np.array([0.0, 60.0, 9.0, -60.0])
    index, inside = words_of_tokens([(0, 6), (9, 12), (19, 30)], chunks)
    assert index[inside].tolist() == [0, 0, 2]
    first, second, third = word_means([(0, 6), (9, 12), (19, 30)], chunks, logits)
    assert (first, third) == (pytest.approx(0.75), pytest.approx(0.0))
    assert np.isnan(second)
    assert word_means([], [], np.zeros(0)) == []


@settings(deadline=None)  # the first one loads the model
@given(st.text(max_size=300), st.integers(1, 9))
def test_any_text_keeps_what_is_protected(text: str, share: int) -> None:
    made = _shared_model()
    protected = [(0, len(text) // 3)] if len(text) > 3 else []
    kept = made.keep(text, protected, share / 10, FOREVER)
    assert kept is None or joined(text, kept) is not None


_made: list[Any] = []


def _shared_model() -> Any:
    if not _made:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            _made.append(pruner("llmlingua", str(directory.__wrapped__(Path(folder)))))  # type: ignore[attr-defined]
    return _made[0]


# -- the built-in model ----------------------------------------------------------------------------------


def test_weights_of_another_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"nonsense")
    with pytest.raises(EdgeError, match="can't be read"):
        Head.load(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", layers=1, states=np.zeros(8), features=np.zeros(2), bias=0.0)
    with pytest.raises(EdgeError, match="another version"):
        Head.load(tmp_path / "b.npz")


def test_without_the_built_models_the_field_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TENANTGATE_MODELS", str(tmp_path))
    with pytest.raises(ConfigError, match="pruner: model needs the built models"):
        pruner("model")


def test_the_shipped_weights_can_be_read() -> None:
    head = Head.load(compress_models.HEAD)
    assert head.states.shape == (384,)
    assert 1 <= head.layers <= 6


# -- loading beside requests -----------------------------------------------------------------------------


def test_until_it_is_loaded_nothing_is_pruned(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loading, load = threading.Event(), compress_pruners._pruner
    monkeypatch.setattr(compress_pruners, "_pruner", lambda *key: loading.wait(10) and load(*key))
    try:
        made = pruner_in_background(CompressConfig(pruner="llmlingua", pruner_model=str(directory)))
        assert isinstance(made, LoadedLater)
        assert (made.fingerprint, made.keep(TEXT, (), 0.5, FOREVER)) == ("", None)
    finally:
        loading.set()
    made.wait()
    assert made.fingerprint
    assert made.keep(TEXT, (), 0.5, FOREVER)
    again = pruner_in_background(CompressConfig(pruner="llmlingua", pruner_model=str(directory)))
    assert again.fingerprint == made.fingerprint, "at once"


def test_a_model_that_can_t_be_loaded_prunes_nothing_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "tenantgate.compress"):
        made = pruner_in_background(CompressConfig(pruner="llmlingua", pruner_model="/no/such"))
        assert isinstance(made, LoadedLater)
        made.wait()
    assert made.keep(TEXT, (), 0.5, FOREVER) is None
    assert "pruner_model: there is no directory /no/such" in str([r.__dict__ for r in caplog.records])


# -- the package llmlingua -------------------------------------------------------------------------------


class Package:
    """Answers as `PromptCompressor.compress_prompt_llmlingua2` does: the articles go."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer

    def compress_prompt_llmlingua2(
        self, context: list[str], *, rate: float, return_word_label: bool, word_sep: str, label_sep: str
    ) -> dict[str, str]:
        if callable(self.answer):
            self.answer()
        words = context[0].split() if self.answer is None or callable(self.answer) else self.answer
        labelled = (f"{w}{label_sep}{int(w.lower().strip('▁') not in ('the', 'a'))}" for w in words)
        return {"fn_labeled_original_prompt": word_sep.join(labelled)}


def test_its_labels_choose_the_words() -> None:
    made = LinguaPruner(Package(), "x")
    kept = made.keep(TEXT, [(11, 14)], 0.75, FOREVER)
    assert kept is not None
    assert joined(TEXT, kept) == "we went to the red house and garden. house of garden, we went to house. "
    assert made.keep(TEXT, (), 0.75, time.monotonic()) is None
    assert made.keep("", (), 0.75, FOREVER) is None


def test_labels_that_do_not_fit_the_text_change_nothing() -> None:
    made = LinguaPruner(Package(), "x")
    made._compressor = Package(["we", "the", "somewhere"])
    assert made.keep(TEXT, (), 0.5, FOREVER) is None


def test_what_the_package_raises_stays_here(caplog: pytest.LogCaptureFixture) -> None:
    made = LinguaPruner(Package(), "x")

    def fail() -> None:
        raise RuntimeError("Zanzibar")

    made._compressor = Package(fail)
    assert made.keep(TEXT, (), 0.5, FOREVER) is None
    assert "Zanzibar" not in caplog.text


def test_words_are_found_in_order_and_not_far_away() -> None:
    found = aligned(TEXT, [("▁we", True), ("went", False), ("", True), ("red", True)])
    assert found == [(0, 2, True), (3, 7, False), (15, 18, True)]
    assert aligned(TEXT, [("of", True), ("red", True)]) is None
    assert aligned(TEXT * 9, [("we", True), ("elsewhere", True)]) is None


def test_a_model_by_name_is_loaded_without_its_code_and_without_tiktoken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    package, seen = ModuleType("llmlingua.prompt_compressor"), {}
    original = SimpleNamespace(encoding_for_model=None)

    def make(name: str, **options: Any) -> Any:
        seen.update(options, name=name, tokens=len(package.tiktoken.encoding_for_model("x").encode("a b")))
        made = Package()
        made.model = SimpleNamespace(state_dict=dict)  # type: ignore[attr-defined]
        return made

    package.tiktoken, package.PromptCompressor = original, make  # type: ignore[attr-defined]
    whole = ModuleType("llmlingua")
    whole.prompt_compressor = package  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "llmlingua", whole)
    monkeypatch.setitem(sys.modules, "llmlingua.prompt_compressor", package)
    monkeypatch.setattr(compress_pruners.importlib.util, "find_spec", lambda _name: object())
    made = pruner("llmlingua", "someone/bert-base-multilingual-cased")
    assert made.fingerprint.startswith("llmlingua-")
    assert seen["model_config"] == {"trust_remote_code": False, "local_files_only": False}
    assert (seen["use_llmlingua2"], seen["device_map"], seen["tokens"]) == (True, "cpu", 2)
    assert package.tiktoken is original
