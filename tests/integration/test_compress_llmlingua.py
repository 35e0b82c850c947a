"""The real package `llmlingua`, where it is installed, with a tiny random model; and the shipped model, once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tenantgate.compress import pruners as compress_pruners
from tenantgate.compress.core.pipeline import joined
from tenantgate.compress.core.protected_words import protected
from tenantgate.compress.core.ranked import RankedPruner
from tenantgate.compress.core.spans import merged
from tenantgate.compress.llmlingua import LinguaPruner
from tenantgate.compress.models import HeadScorer
from tenantgate.compress.pruners import pruner
from tenantgate.errors import ConfigError
from tenantgate.models.files import find_models

FOREVER = time.monotonic() + 1e6
TEXT = (
    "Please summarize this talk.\n\nAnn: So um we were thinking about the remote control and how it should look, "
    "you know, in the hand of somebody who is not 25 any more.\nBob: Yeah, I mean the rubber buttons were what "
    "people liked in the survey of the market, and the curved case was cheap to make for us.\n"
    "Ann: Then we will take rubber, and it's going to be yellow like the fruit that they showed to us.\n\n"
    "What did they decide?"
)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield
    compress_pruners._pruners.clear()


def test_the_shipped_model_keeps_what_the_talk_is_about() -> None:
    if find_models() is None:
        pytest.skip("the models aren't built")
    made = pruner("model")
    guarded = merged(protected(TEXT))
    kept = made.keep(TEXT, guarded, 0.5, FOREVER)
    assert kept is not None
    assert all(any(s <= a and b <= e for s, e in kept) for a, b in guarded)
    out = joined(TEXT, kept) or ""
    assert len(out) < 0.85 * len(TEXT)
    # The question is none of a pruner's business: the pipeline hands it only the talk.
    for word in ("not 25", "rubber", "remote", "survey", "curved", "yellow"):
        assert word in out
    assert " um " not in out
    assert made.keep(TEXT, guarded, 0.5, FOREVER) == kept
    assert made.keep(TEXT, guarded, 0.5, time.monotonic() + 1e-4) is None
    assert made.fingerprint.startswith("model-")
    # A content word is worth more than a function word.
    assert isinstance(made, RankedPruner)
    assert isinstance(made.scorer, HeadScorer)
    text = "the rubber of the remote"
    scores = made.scorer.scores(text, [(0, 3), (4, 10), (11, 13), (14, 17), (18, 24)], FOREVER)
    assert scores is not None
    assert all(0 <= score <= 1 for score in scores)
    assert min(scores[1], scores[4]) > max(scores[0], scores[2], scores[3])


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A multilingual BERT of two classes with random weights, under a name that the package knows."""
    pytest.importorskip("llmlingua")
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(1)
    folder = tmp_path / "llmlingua-2-bert-base-multilingual-cased-tiny"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *",.?':!", *map(chr, range(97, 123))]
    words += (
        [f"##{chr(i)}" for i in range(97, 123)] + [str(i) for i in range(10)] + [f"##{i}" for i in range(10)]
    )
    words += sorted({w.strip(".,?") for w in TEXT.split()} - set(words))
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt"), do_lower_case=False)
    tokenizer.save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=2,
    )
    transformers.BertForTokenClassification(config).save_pretrained(folder)
    return folder


@pytest.mark.filterwarnings("ignore")
def test_the_package_itself(tiny: Path) -> None:
    made = pruner("llmlingua", str(tiny))
    assert isinstance(made, LinguaPruner)
    guarded = merged(protected(TEXT))
    kept = made.keep(TEXT, guarded, 0.5, FOREVER)
    assert kept is not None
    assert all(any(s <= a and b <= e for s, e in kept) for a, b in guarded)
    assert all(a[1] <= b[0] for a, b in pairwise(kept))
    assert len(joined(TEXT, kept) or "") < len(TEXT)


@pytest.mark.filterwarnings("ignore")
def test_a_name_that_it_does_not_know_shows_when_it_is_loaded(tiny: Path) -> None:
    other = tiny.rename(tiny.with_name("something-else"))
    with pytest.raises(ConfigError, match=r"pruner_model: .*bert-base-multilingual-cased"):
        pruner("llmlingua", str(other))
