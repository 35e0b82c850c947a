"""Inference with built models: whole texts, cut texts, several threads."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models_rig import WIDTH, run
from tenantgate.errors import ConfigError, EdgeError
from tenantgate.models import files as model_files
from tenantgate.models import inference


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


def test_the_default_path_imports_no_torch(files: model_files.ModelFiles) -> None:
    program = (
        "import sys; from pathlib import Path; from tenantgate.models.files import OnnxEmbedder, Tokens;"
        "d = Path(sys.argv[1]); OnnxEmbedder(d / 'embedder.onnx', Tokens(d / 'tokenizer.json')).embed('pay');"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'onnx')))"
    )
    subprocess.run([sys.executable, "-c", program, str(files.directory)], check=True, timeout=60)


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


def test_both_tokenizers_tell_the_two_texts_apart(files: model_files.ModelFiles, mpnet_weights: Path) -> None:
    ours, theirs = files.tokens().pair, inference.Tokens(mpnet_weights / "tokenizer.json").pair
    assert ours("how do i", "pay")[1] == [0, 0, 0, 0, 0, 1, 1]
    assert theirs("how do i", "pay")[1] == [0, 0, 0, 0, 0, 1, 1, 1]  # it sets two separators


@pytest.mark.parametrize(
    "texts",
    [
        ("how do i", "pay"),
        ("", ""),
        ("a", ""),
        ("[SEP]", "a [SEP] b"),
        ("a b c d", "e f g"),
        ("a " * 20, "b"),
        ("a " * 20, "b " * 20),
        ("how-do_i", "pay?!"),
        ("can't pay.", "x\x7fy"),
        ("paying" * 8, "a"),
        ("é" * 600, "a"),
    ],
)
def test_a_pairs_tokens_are_what_the_tokenizer_itself_makes_of_it(
    files: model_files.ModelFiles, mpnet_weights: Path, texts: tuple[str, str]
) -> None:
    for tokens in (files.tokens(9), inference.Tokens(mpnet_weights / "tokenizer.json", 9)):
        whole = tokens._encode(*texts)
        assert tokens.pair(*texts) == (whole.ids, inference.sides(whole))
        assert tokens.truncates(*texts) is bool(whole.overflowing or len(texts[0]) > 500)


WORDS = st.lists(
    st.sampled_from(
        [
            "how",
            "pay",
            "unbelievably",
            "e-mail",
            "don't",
            "1234567",
            "x1y",
            "é",
            "日本",
            "한",
            "[SEP]",
            "",
            "?!",
        ]
    ),
    max_size=14,
)


@given(words=WORDS, cut=st.integers(0, 80), most=st.integers(8, 40))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_text_beside_its_own_beginning_is_cut_where_the_tokenizer_says_so(
    files: model_files.ModelFiles, mpnet_weights: Path, words: list[str], cut: int, most: int
) -> None:
    text = " ".join(words)
    for file in (files.tokens, lambda n: inference.Tokens(mpnet_weights / "tokenizer.json", n)):
        tokens = file(most)
        assert tokens.truncates(text, text[:cut]) is bool(tokens._encode(text, text[:cut]).overflowing)
