"""No addition to a question gets its answer to others, nor theirs to it: the rules alone, however sure a model is."""

from __future__ import annotations

import sys
from itertools import combinations, islice
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.cache.core.alignment import compare, plainly_apart
from tenantgate.cache.core.fitness import unfit
from tenantgate.cache.core.judge import Candidate, choose, difference
from tenantgate.cache.core.text_parts import read
from tenantgate.models.language import Languages

from support import ROOT

LANGUAGES = Languages()


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import cache_pairs
    finally:
        sys.path.pop(0)
    return cache_pairs


class Yes:
    """A model that finds everything the same."""

    fingerprint = "yes"

    def score(self, a: str, b: str, similarity: float, states: object = None) -> float:
        return 1.0

    def truncates(self, a: str, b: str) -> bool:
        return False


def served(a: str, b: str) -> bool:
    """Whether the answer to b would be served for a, if the models said yes to everything."""
    if any(unfit(text, LANGUAGES) is not None for text in (a, b)):
        return False
    return choose(a, [Candidate(1.0, b, True)], Yes(), 0.0) is not None


def test_a_clause_more_is_another_question(tables: ModuleType) -> None:
    pairs = list(islice(tables.clause_pairs(), 0, None, 5))
    assert len(pairs) > 5000
    assert [pair for pair in pairs if difference(pair.a, pair.b) is None] == []


def test_a_clause_less_is_another_question(tables: ModuleType) -> None:
    pairs = islice(tables.clause_pairs(), 3, None, 17)
    assert [pair for pair in pairs if difference(pair.b, pair.a) is None] == []


def test_characters_that_no_model_reads_are_compared_by_no_model(tables: ModuleType) -> None:
    assert [pair for pair in tables.character_pairs() if served(pair.a, pair.b)] == []


@pytest.mark.parametrize("name", ["cache_signs.toml", "cache_edits.toml", "cache_languages.toml"])
def test_near_misses_of_the_tables_are_kept_apart(tables: ModuleType, name: str) -> None:
    pairs = list(tables.table_pairs(name))
    assert len(pairs) >= 200
    assert [pair for pair in pairs if served(pair.a, pair.b) or served(pair.b, pair.a)] == []


def test_one_edit_of_a_prompt_is_another_question(tables: ModuleType) -> None:
    pairs = [pair for pair in islice(tables.edit_pairs(), 0, None, 3) if pair.a != pair.b]
    assert len({pair.a for pair in pairs}) > 500
    assert [pair for pair in pairs if difference(pair.a, pair.b) is None] == []


def test_different_questions_of_other_languages_share_no_answer(tables: ModuleType) -> None:
    questions = tables.everyday_questions()
    assert len(questions) >= 20
    for asked in questions.values():
        assert len(asked) >= 30
        assert [pair for pair in combinations(asked, 2) if served(*pair)] == []


def test_three_paraphrases_of_four_get_through(tables: ModuleType) -> None:
    pairs = [pair for pair in islice(tables.paraphrases(), 0, None, 3) if pair[0] != pair[1]]
    kept = sum(difference(*pair) is None for pair in pairs)
    assert kept > 0.75 * len(pairs)


def test_the_quick_look_at_long_texts_refuses_nothing_that_the_rules_would_let_through(
    tables: ModuleType,
) -> None:
    for a, b in islice(tables.paraphrases(), 0, None, 7):
        if plainly_apart(a, b):
            assert compare(read(a), read(b)) is not None, (a, b)


@given(
    st.sampled_from(["how do I reset my password", "what is the price of an apple"]),
    st.text(st.characters(min_codepoint=0x250), min_size=1, max_size=5),
    st.integers(0, 20),
)
def test_no_character_beyond_latin_is_compared(question: str, added: str, at: int) -> None:
    added = added.strip("‘’“”–—…€")
    text = question[:at] + added + question[at:]
    assert not added.strip() or not served(question, text)
