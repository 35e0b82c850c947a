"""What is never taken out of a text."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.compress.core.blocks import blocks, is_natural
from tenantgate.compress.core.protected_words import protected
from tenantgate.compress.core.spans import Kind, merged, touches


def kept(text: str) -> list[str]:
    return [text[s:e] for s, e in merged(protected(text))]


def kinds(text: str) -> set[Kind]:
    return {s.kind for s in protected(text)}


FILLER = "we were talking about it "


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ("a bag of 25 kg and $3.50 each", ["25 kg", "$3.50", "each"]),
        ("about 12,500.75 euros or 7 %", ["12,500.75 euros", "7 %"]),
        ("it grew by 3.5x in v2.1", ["3.5x", "v2.1"]),
        ("twelve point five euro and half of it", ["twelve point five euro", "half"]),
        ("two hundred and forty miles", ["two hundred and forty miles"]),
        ("on 2024-03-01 at 14:30", ["2024-03-01", "14:30"]),
        ("by March 3rd, 2024 or next week", ["March 3rd, 2024", "next week"]),
        ("Monday it was, then on Tuesday", ["Monday", "Tuesday"]),
        ("see https://example.com/a?b=1 please", ["https://example.com/a?b=1"]),
        ("write to jane.doe@example.co.uk today", ["jane.doe@example.co.uk", "today"]),
        ("look in /etc/nginx/nginx.conf there", ["/etc/nginx/nginx.conf"]),
        ("it is not here and never was", ["not", "never"]),
        ("they don't and won’t go without it", ["don't", "won’t", "without"]),
        ('he said "leave it as it is" then', ['"leave it as it is"']),
        ("the word “quite so” matters", ["“quite so”"]),
        ("when we asked Maria Lopez about Berlin", ["Maria Lopez", "Berlin"]),
        ("then the NASA people use gRPC and snake_case", ["NASA", "gRPC", "snake_case"]),
        ("at most five of them, more than that", ["at most", "five", "more than"]),
        ("dear {customer_name}, hello {{ name }} there", ["{customer_name}", "{{ name }}"]),
        ("ask [EMAIL_ADDRESS_1] or [2] about it", ["[EMAIL_ADDRESS_1]", "[2]"]),
        ("the U.S.A. and std::vector with main.py in it", ["U.S.A.", "std::vector", "main.py"]),
        ("@ann said #done and Über_x", ["@ann", "#done", "Über_x"]),
        ("run `rm -rf build` first", ["`rm -rf build`", "first"]),
        ("so $E = mc^2$ holds", ["$E = mc^2$"]),
        ('it sends {"a": [1, 2], "b": null} back', ['{"a": [1, 2], "b": null}']),
        ("use <b>this</b> tag", ["<b>", "</b>"]),
        ("if you are not sure then say so", ["if", "are not sure", "then"]),
        ("we are unsure whether it is not so unless they say", ["whether", "is not so", "unless they"]),
        ("a few of them, the few that we had, a little more", ["a few", "the few", "a little", "more"]),
        ("it may be and it should, it has to and it might", ["may", "should", "has to", "might"]),
        (
            "just the one, only some, the same and the others",
            ["just", "only", "some", "the same", "the others"],
        ),
    ],
)
def test_these_stay(text: str, stays: list[str]) -> None:
    found = kept(text)
    assert all(any(piece in whole for whole in found) for piece in stays), found
    assert not any("tell" in whole for whole in kept("we tell them what we like"))


def test_a_name_at_the_start_of_a_sentence_stays_and_a_common_word_does_not() -> None:
    text = "Maria went out. We saw roofs. It rained. Roofs came. Nobody came."
    assert [t for t in kept(text) if t[0].isupper()] == ["Maria", "Nobody came"]


def test_speakers_labels_are_no_names() -> None:
    assert kept("Project Manager: well um\nUser Interface: yeah") == []


def test_marks_of_transcripts_are_no_placeholders() -> None:
    assert kept("{noise} a {noise} b {noise} c {noise} d") == []
    assert kept("hi {name} there") == ["{name}"]


@pytest.mark.parametrize(
    "code",
    [
        "```python\nx = 1  # not\n\n\n\ny  =  2\n```",
        "~~~\nany   thing\n~~~",
        "def f(a, b):\n    return a + b\n\n\nprint(f(1, 2))",
        'int main() {\n    printf("x");\n    return 0;\n}',
        "SELECT a, b\nFROM t\nWHERE c = 1",
        "import os\nfrom a.b import c",
    ],
)
def test_code_is_one_block(code: str) -> None:
    text = f"Here is what we wrote, have a look\n\n{code}\n\nand tell us about the problems in it please"
    found = [text[s.start : s.end] for s in blocks(text) if s.kind is Kind.CODE]
    assert found == [code]


def test_a_fence_that_nobody_closes_runs_to_the_end() -> None:
    text = "so\n```\na  b\n\n\n\nc"
    assert [text[s.start : s.end] for s in blocks(text)] == ["```\na  b\n\n\n\nc"]


@pytest.mark.parametrize(
    "code",
    ["```python\nreally  just = very\n```", "```x  =  1```", "```\nand  so on", "````\n```\na  b\n```\n````"],
)
def test_a_fence_may_begin_behind_words(code: str) -> None:
    before = "```sh\nls  -l\n```\n"
    text = f"{before}and the code that we really just use: {code}"
    assert [text[s.start : s.end] for s in blocks(text)] == [before.rstrip(), code]


@pytest.mark.parametrize(
    "text", ["I like it; really.", "Well (you know) we went there.", "We met. Then class was over.", "a b c"]
)
def test_prose_is_no_code(text: str) -> None:
    assert blocks(text) == ()


def test_natural_is_what_is_mostly_outside_of_blocks() -> None:
    text = "look at this\n```\n" + "x = 1\n" * 20 + "```"
    assert not is_natural(text, blocks(text))
    assert is_natural(FILLER * 20, blocks(FILLER * 20))
    data = '{"a": [' + ", ".join("1" * 50) + "]}"
    assert is_natural(data, blocks(data)), "JSON is folded, so it is no reason to leave a text alone"


@given(st.text(max_size=400))
def test_spans_lie_in_any_text_in_order(text: str) -> None:
    last = 0
    for span in blocks(text):
        assert last <= span.start < span.end <= len(text)
        last = span.end
    for span in protected(text):
        assert 0 <= span.start <= span.end <= len(text)
    flat = merged(protected(text))
    assert all(a[1] < b[0] for a, b in pairwise(flat))
    assert all(touches(s, e, flat) for s, e in flat)
