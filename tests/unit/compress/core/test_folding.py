"""Folding is lossless and does nothing twice."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantgate.compress.core.folding import STEPS, fold, minify_json

PASSAGE = "The quick brown fox jumps over the lazy dog and then goes home to sleep, as every day it does when there is "
PASSAGE += "nothing else to do but this, and nobody seems to mind much about it at all."
SENTENCE = "We went to the old house by the river on foot."
LOG = "WARN connection to the database was lost, trying again"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a  b", "a  b"),
        ("a \n\n\n\nb\t\nc", "a \n\n\n\nb\t\nc"),
        (f"{SENTENCE} \n\n\n\n{SENTENCE}\t\nc", f"{SENTENCE}\n\n{SENTENCE}\nc"),
        (f"{SENTENCE}  {SENTENCE}\nc", f"{SENTENCE} {SENTENCE}\nc"),
        (f"{SENTENCE}  \na line that Markdown breaks", f"{SENTENCE}  \na line that Markdown breaks"),
        (f"{SENTENCE} ", f"{SENTENCE} "),
        ("a:\n  - b:  c\n\n\n\n  - d:  |\n      e  f", "a:\n  - b:  c\n\n\n\n  - d:  |\n      e  f"),
        ("Roses are red,\n\n\n\nviolets  are blue,", "Roses are red,\n\n\n\nviolets  are blue,"),
        ("   *\n  ***  \n *****\n\n\n\n   |", "   *\n  ***  \n *****\n\n\n\n   |"),
        ("id,name,  sum\n1,ann,  2\n1,ann,  2", "id,name,  sum\n1,ann,  2\n1,ann,  2"),
        (
            "name        age     city\nann                 rome",
            "name        age     city\nann                 rome",
        ),
        ("  indented stays", "  indented stays"),
        ("| a   |  b |\n|-----|:---:|\n|  1  |  22  |", "| a | b |\n|---|:---:|\n| 1 | 22 |"),
        ("a | b  is no table", "a | b  is no table"),
        ('it sends {"a": 1,  "b": [1, 2]} back', 'it sends {"a": 1,  "b": [1, 2]} back'),
        ('{\n  "a b": "c  d",\n  "e": [\n    1.50\n  ]\n}', '{"a b":"c  d","e":[1.50]}'),
        ("----------------------------\nx", "---\nx"),
        ("> > > text", ">>> text"),
        (f"{LOG}\n{LOG}\n{LOG}\nok", f"{LOG}\n[same line 2 more times]\nok"),
        ("no\nno\nno", "no\nno\nno"),
        ("```\na  b\n\n\n\nc | d\n```\nx", "```\na  b\n\n\n\nc | d\n```\nx"),
    ],
)
def test_folding(before: str, after: str) -> None:
    assert fold(before) == after


def test_a_passage_that_comes_again_is_named() -> None:
    text = f"{PASSAGE}\n\nAnd then:\n\n{PASSAGE}\n\nWhat is it about?"
    assert (
        fold(text) == f"{PASSAGE}\n\nAnd then:\n\n[as above: The quick brown fox jumps…]\n\nWhat is it about?"
    )


def test_a_quoted_passage_counts_as_the_same() -> None:
    quoted = "> " + PASSAGE.replace("and then", "and\n> then")
    assert "[as above: The quick" in fold(f"{PASSAGE}\n\nShe wrote:\n\n{quoted}\n\nWhy?")


def test_what_stands_last_is_never_named_only() -> None:
    text = f"{PASSAGE}\n\nSome text between them.\n\n{PASSAGE}"
    assert fold(text) == text


def test_code_that_comes_again_stays() -> None:
    code = "```\n" + "x = 1\n" * 40 + "```"
    text = f"one\n\n{code}\n\ntwo\n\n{code}\n\nthree"
    assert fold(text) == text


@pytest.mark.parametrize("step", sorted(STEPS))
def test_each_step_is_a_switch_of_its_own(step: str) -> None:
    texts = {
        "whitespace": f"{SENTENCE}\n\n\n\n{SENTENCE}",
        "structure": 'see {"a":  [\n1,\n2,\n3,\n4]} there',
        "repeats": f"{LOG}\n{LOG}",
        "boilerplate": "=" * 30 + "\nx",
    }
    assert fold(texts[step], (step,)) != texts[step]
    assert fold(texts[step], tuple(s for s in STEPS if s != step)) == texts[step]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


@given(JSON, st.sampled_from([None, 2, "\t"]), st.booleans())
def test_json_stays_the_same_json(value: Any, indent: Any, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    short = minify_json(text)
    assert json.loads(short) == value
    assert short == json.dumps(value, separators=(",", ":"), ensure_ascii=ascii_only)
    if isinstance(value, dict | list):
        assert json.loads(fold(text)) == value


PIECES = st.sampled_from(
    [
        "a  b",
        "\n",
        "\n\n\n\n",
        "```\n",
        "> ",
        "> > x",
        PASSAGE,
        LOG + "\n",
        "| a  | b |\n",
        "|---|---|\n",
        "=" * 12 + "\n",
        '{"a": [1,  2]}',
        "`x  y`",
        "  ",
        "\t",
        "[as above: The quick brown fox jumps…]",
        "$x = 1$",
        "\r\n",
        "é",
        "。",
        '"',
    ]
)


@given(st.lists(PIECES, max_size=24).map("".join) | st.text(max_size=300))
@settings(max_examples=400)
def test_folding_twice_is_folding_once(text: str) -> None:
    once = fold(text)
    assert fold(once) == once


@given(st.text(alphabet=st.characters(codec=None), max_size=200))
def test_any_text_folds(text: str) -> None:
    assert isinstance(fold(text), str)
