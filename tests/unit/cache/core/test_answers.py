"""Two answers side by side: what is the same, what is other, and what tells nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.cache.core.answers import FAR_ANSWERS, Verdict, likeness

NEAR, FAR = FAR_ANSWERS, FAR_ANSWERS - 0.01


def verdict(a: str, b: str, cosine: float) -> Verdict:
    found = likeness(a, b, lambda _a, _b: cosine)
    assert likeness(b, a, lambda _a, _b: cosine) is found
    return found


@pytest.mark.parametrize(
    ("a", "b"),
    [("Your card arrives in 3 days.", "your card arrives in 3 days"), ("Yes, it’s free.", "Yes: it's free!")],
)
def test_equal_words_are_the_same_however_far(a: str, b: str) -> None:
    assert verdict(a, b, -1.0) is Verdict.SAME


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Your card arrives in 3 days.", "Your card arrives in 5 days."),
        ("It costs 1,000 euros.", "It costs 100 euros."),
        ("Yes, you can.", "No, you can't."),
        ("You can return it.", "You can not return it."),
        ("Ask for Anna at the desk.", "Ask for Bernard at the desk."),
    ],
)
def test_facts_that_can_not_both_hold_are_other_however_near(a: str, b: str) -> None:
    assert verdict(a, b, 1.0) is Verdict.OTHER


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Open the app and choose Cards.", "Sure! In the app, go to Cards."),
        ("It costs 1,000 euros.", "The price is 1000 euros."),
        ("You'll have it in 3 days.", "Delivery takes 3 days."),
    ],
)
def test_other_words_alone_are_alike_if_near_and_other_if_far(a: str, b: str) -> None:
    assert verdict(a, b, NEAR) is Verdict.ALIKE
    assert verdict(a, b, FAR) is Verdict.OTHER
    assert verdict(a, b, float("nan")) is Verdict.OTHER


def test_of_long_answers_a_few_other_figures_do_not_make_another() -> None:
    steps = [
        f"Step {i} takes a while, so wait until the light of the device is green again." for i in range(9)
    ]
    assert verdict(" ".join(steps), " ".join(steps[:7]) + " Done.", NEAR) is Verdict.ALIKE
    assert verdict(" ".join(steps), " ".join(steps).replace("Step ", "Step 77"), NEAR) is Verdict.OTHER


@given(st.text(max_size=80), st.text(max_size=80), st.floats(-1, 1))
def test_any_two_texts_get_one_verdict_and_every_text_is_the_same_as_itself(
    a: str, b: str, cosine: float
) -> None:
    verdict(a, b, cosine)
    assert verdict(a, a, cosine) is Verdict.SAME
