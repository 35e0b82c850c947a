"""Questions with nearly the same words and another answer, by kind, and wordings of one question beside them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tenantgate.cache.core.judge import difference

_TABLE = tomllib.loads(Path(__file__).with_name("alignment_questions.toml").read_text("utf-8"))
APART = [
    pytest.param(*pair.split(" | "), id=f"{kind['name']}: {pair}")
    for kind in _TABLE["kind"]
    for pair in kind["pairs"]
]
TOGETHER = [
    ("How is the weather in Berlin today?", "What is the weather in Berlin today?"),
    ("How much does a passport cost?", "What does a passport cost?"),
    ("How much is my account balance?", "What's my account balance?"),
    ("Are there any restaurants near me?", "What restaurants are near me?"),
    ("Are there any restaurants near me?", "Find restaurants near me"),
    ("Is there a way to cancel my subscription?", "How do I cancel my subscription?"),
    ("Can you tell me how to reset my password?", "How do I reset my password?"),
    ("Can you explain machine learning?", "What is machine learning?"),
    ("Can you set an alarm for 7 am?", "Set an alarm for 7 am"),
    ("Why doesn't my card work?", "Why is my card not working?"),
    ("I lost my card", "I have lost my card"),
    ("How Do I Reset My Password?", "How can I reset my password?"),
    ("tell us the capital of france", "What is the capital of France?"),
    ("tell me about your refund policy", "What is your refund policy?"),
    ("when can one apply", "When can I apply?"),
    ("can i see this one", "Can I see this one?"),
    ("Is my flight on time?", "Is my flight on time!"),
    ("is the server down", "So is the server down?"),
    ("Tell me about whales?", "Tell me about whales."),
    ("Could you please reset my password?", "could you please reset my password"),
    ("The refund takes how long", "The refund takes how long?"),
    ("reset my password", "How do I reset my password?"),
    ("We approved the invoice!", "We approved the invoice."),
    ("what's the price of 1,500 shares", "price of 1500 shares"),
]


@pytest.mark.parametrize(("a", "b"), APART)
def test_questions_with_another_answer_are_kept_apart_both_ways(a: str, b: str) -> None:
    assert difference(a, b) is not None
    assert difference(b, a) is not None


@pytest.mark.parametrize(("a", "b"), TOGETHER)
def test_wordings_of_one_question_get_through_both_ways(a: str, b: str) -> None:
    assert difference(a, b) is None
    assert difference(b, a) is None
