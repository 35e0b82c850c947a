"""The pruner by rules."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.compress.core.fillers import FillerPruner
from tenantgate.compress.core.pipeline import joined
from tenantgate.compress.core.protected_words import protected
from tenantgate.compress.core.spans import merged

FOREVER = time.monotonic() + 1e6


def pruned(text: str, rate: float = 0.5, keep: str = "") -> str:
    spans = [(text.index(keep), text.index(keep) + len(keep))] if keep else []
    kept = FillerPruner().keep(text, spans, rate, FOREVER)
    return text if kept is None else joined(text, kept) or ""


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("well uh we think that um it will be , you know , good", "we think that it will be good"),
        ("we we should go to the the shop with them", "we should go to shop with them"),
        ("I w want what th they do about it", "I want what they do about it"),
        ("it is good uh good for th the people", "it is good for people"),
        ("I mean it's it's so , sort of , like that", "it's so like that"),
        ("they have it in red {vocalsound} , if you like it", "they have it in red, if you like it"),
        ("we should, you know, not go there with the others", "we should not go there with the others"),
        ("uh , you know , we will not go there if it rains", "we will not go there if it rains"),
    ],
)
def test_what_goes(text: str, left: str) -> None:
    assert pruned(text, 0.0) == left


def test_hesitations_go_first_and_the_rest_as_the_rate_says() -> None:
    text = "um the man in the house with the garden is at the door of the shop and he will not go"
    assert pruned(text, 1.0) == text.removeprefix("um ")
    assert len(pruned(text, 0.9).split()) > len(pruned(text, 0.7).split())


def test_an_empty_turn_goes_with_its_speaker_and_an_answer_stays() -> None:
    talk = "Ann: we went to the shop with them .\nBob: Mm-hmm .\n"
    talk += "Cal: Shall we take the car ?\nBob: Yeah .\nAnn: it was there .\nBob: Okay ."
    assert pruned(talk, 0.5) == (
        "Ann: we went to shop with them .\nCal: Shall we take car ?\nBob: Yeah .\nAnn: it was there ."
    )


def test_a_turn_that_follows_the_same_speaker_s_goes_on_without_a_label() -> None:
    talk = "Ann: we went to a shop\nBob: {vocalsound}\nAnn: and we bought bread\nBob: good bread"
    assert pruned(talk, 0.5) == "Ann: we went to a shop\nand we bought bread\nBob: good bread"


@pytest.mark.parametrize(
    "text",
    [
        "a few will come and a little will do",
        "let a be so , vitamin c capsules , plan b because",
        "are you sure ? not sure",
        "turn right at the same corner as the other one",
        "that is just the one that we had had",
        "do you know what I mean by that",
        "what kind of car is it , a kind of van",
        "call six oh four now",
        "it is well known and well done",
        "we know that that is so",
        "move in in March , go on on Monday",
        "um die Ecke kommt er",
        "the White House and the Hague",
        "this or that and so on",
        "no no no , very very good",
    ],
)
def test_what_means_something_stays_at_any_rate(text: str) -> None:
    spans = merged(protected(text))
    kept = FillerPruner().keep(text, spans, 0.0, FOREVER)
    assert kept is None or joined(text, kept) == text


@pytest.mark.parametrize("answer", ["Yeah .", "Mm .", "Mm-hmm .", "Right .", "Okay , uh yeah ."])
@pytest.mark.parametrize("asked", ["Is it done ?", "we should do it", "shall we", "let's vote on it ."])
def test_an_answer_stays(asked: str, answer: str) -> None:
    kept = pruned(f"Ann: {asked}\nBob: {answer}\nAnn: good uh good", 0.0)
    assert (
        f"Bob: {answer.replace(', uh ', ', ')}" in kept
        or "Bob: Okay , yeah" in kept
        or "Bob: Okay, yeah" in kept
    )


def test_what_is_protected_stays() -> None:
    assert "um the" in pruned("so um the man in the house is there for you", 0.0, keep="um the")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "Der Mann geht in das Haus und isst ein Brot um zehn",
        "мы пошли в магазин",
        "12 34 56",
        "...",
        "会議を始めます",
    ],
)
def test_what_isn_t_english_is_left_alone(text: str) -> None:
    assert FillerPruner().keep(text, (), 0.5, FOREVER) is None


def test_out_of_time() -> None:
    assert (
        FillerPruner().keep("uh this is the time that we have for it", (), 0.5, time.monotonic() - 1) is None
    )


PIECES = st.sampled_from(
    [
        "uh ",
        "the ",
        "we ",
        "you know ",
        ", ",
        ". ",
        "? ",
        "\n",
        "Ann: ",
        "Yeah ",
        "{noise} ",
        "not ",
        "25 ",
        "Maria ",
        "it's ",
        "d ",
    ]
)


@given(st.lists(PIECES, max_size=60).map("".join) | st.text(max_size=200), st.floats(0, 1))
def test_spans_are_in_order_and_hold_what_is_protected(text: str, rate: float) -> None:
    guarded = merged(protected(text))
    kept = FillerPruner().keep(text, guarded, rate, FOREVER)
    if kept is None:
        return
    assert all(0 <= s < e <= len(text) for s, e in kept)
    assert all(a[1] <= b[0] for a, b in pairwise(kept))
    assert all(any(s <= a and b <= e for s, e in kept) for a, b in guarded)
    assert joined(text, kept) is not None
