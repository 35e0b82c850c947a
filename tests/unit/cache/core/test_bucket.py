"""A bucket holds whatever the rules may let pass: where `compare` finds nothing, two texts have the same one."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.cache.core.alignment import compare
from tenantgate.cache.core.bucket import bucket
from tenantgate.cache.core.lexicon import ENDINGS, GENERIC, IDLE, SYNONYMS
from tenantgate.cache.core.text_parts import read


def same(a: str, b: str) -> bool:
    return bucket(read(a)) == bucket(read(b))


def holds(a: str, b: str) -> None:
    assert compare(read(a), read(b)) is not None or same(a, b), (a, b)


WORDS = st.sampled_from(
    sorted(
        {word for group in SYNONYMS for word in group}
        | GENERIC
        | set(sorted(IDLE)[:60])
        | {"Pakistan" + ending for ending in ENDINGS}
        | set("Pakistan Moses mose W2 12 % router not never I my you your to from Paris Parisian".split())
    )
)
SENTENCES = st.lists(WORDS, max_size=6).map(" ".join)


@given(SENTENCES, SENTENCES)
def test_what_no_rule_tells_apart_has_one_bucket(a: str, b: str) -> None:
    holds(a, b)


@given(SENTENCES, st.data())
def test_what_is_said_a_little_otherwise_too(a: str, data: st.DataObject) -> None:
    words = a.split()
    for i, word in enumerate(words):
        alike = [w for group in SYNONYMS if word in group for w in group] + [word + end for end in ENDINGS]
        if alike and data.draw(st.booleans()):
            words[i] = data.draw(st.sampled_from(alike))
    extra = data.draw(st.lists(st.sampled_from(sorted(GENERIC | IDLE)), max_size=2))
    b = " ".join(data.draw(st.permutations([*words, *extra])))
    holds(a, b)


def test_every_synonym_and_every_form_of_a_name_stays_beside_its_like() -> None:
    for group in SYNONYMS:
        for a, b in itertools.combinations(group, 2):
            holds(f"how to {a} it", f"how to {b} it")
            holds(f"the {a} of Leeds", f"the {b} of Leeds")
    for one, other in itertools.combinations(["", *sorted(ENDINGS)], 2):
        for name in ("Moses", "Pakistan", "Brazil", "Cate", "Tunisia"):
            holds(f"who rules {name}{one}", f"who rules {name}{other}")
            holds(f"who rules {name}{one}{other}", f"who rules {name}{one}")


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("what is the capital of France", "what is the capital of Spain"),
        ("how many cars did we sell in 2023", "how many cars did we sell in 2024"),
        ("may I carry it", "may I not carry it"),
        ("read `a.b`", "read `a.c`"),
        ("reset my password", "reset my password and my name"),
        ("close the shop. open the door", "close the shop open the door"),
    ],
)
def test_what_differs_in_what_it_is_about_is_not_even_looked_at(a: str, b: str) -> None:
    assert not same(a, b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("how do I reset my password", "please, how can I reset my password?"),
        ("buy a large car", "purchase a big car"),
        ("who governs Pakistan", "who governs Pakistani"),
    ],
)
def test_what_is_asked_in_other_words_is(a: str, b: str) -> None:
    assert same(a, b)
