"""Token counts: exact where the vocabulary is there, stated as approximate where it isn't."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.compress import token_counts
from tenantgate.compress.token_counts import ApproximateTokens, token_counter


@pytest.mark.parametrize(
    ("encoding", "text", "tokens"),
    [
        # As OpenAI's own library counts them.
        ("o200k_base", "", 0),
        ("o200k_base", "hello world", 2),
        ("o200k_base", "antidisestablishmentarianism", 6),
        ("cl100k_base", "antidisestablishmentarianism", 6),
        ("cl100k_base", "2 + 2 = 4", 7),
        ("o200k_base", "お誕生日おめでとう", 8),
        ("cl100k_base", "お誕生日おめでとう", 9),
        ("o200k_base", "<|endoftext|>", 7),
    ],
)
def test_counts_are_the_vocabulary_s(encoding: str, text: str, tokens: int) -> None:
    counter = token_counter(encoding)
    assert counter.name == encoding
    assert counter.count(text) == tokens


@given(st.text(alphabet=st.characters(codec=None)))
def test_any_text_has_a_count(text: str) -> None:
    for counter in (token_counter("o200k_base"), ApproximateTokens()):
        assert 0 <= counter.count(text) <= max(1, len(text.encode("utf-8", "surrogatepass")))


def test_without_the_library_counts_are_said_to_be_approximate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "quicktok", None)
    counter = token_counts._load("o200k_base")
    assert counter.name == "approximate"
    assert counter.count("hello world, this is it") == 5
