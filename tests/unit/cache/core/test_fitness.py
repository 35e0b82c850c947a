"""Which texts may be compared by meaning: English that the models read to the last character."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.cache.core.fitness import LANGUAGES, Unfit, unfit
from tenantgate.models.language import Languages

FOUND = Languages()


@pytest.mark.parametrize(
    "text",
    [
        "how do I reset my password",
        "HOW DO I RESET MY PASSWORD?",
        "What's the best café in Zürich – and is it open?",
        "set a timer for 20 minutes",
        "Why does `git push --force` overwrite the history?",
        "is it 20°C or 30 °F outside today",
        "line one is here\nand the second line is here",
    ],
)
def test_english_is_fit(text: str) -> None:
    assert unfit(text, FOUND) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, Unfit.EMPTY),
        ("", Unfit.EMPTY),
        (" \n\t", Unfit.EMPTY),
        ("how do I reset 🐶", Unfit.CHARACTERS),
        ("how do I\u200b reset my password", Unfit.CHARACTERS),
        ("how do I reset my pa\u0301ssword", Unfit.CHARACTERS),
        ("how do I reset my password\U000e0041", Unfit.CHARACTERS),
        ("how do I reset my p\u0430ssword", Unfit.CHARACTERS),  # a Cyrillic letter
        ("how do I reset \x1b my password", Unfit.CHARACTERS),
        ("how do I reset \ud800 my password", Unfit.CHARACTERS),
        ("what is " + "x" * 200, Unfit.CHARACTERS),
        ("如何重置我的密码", Unfit.CHARACTERS),
        ("Wie setze ich mein Passwort zurück?", Unfit.LANGUAGE),
        ("¿Cómo restablezco mi contraseña?", Unfit.CHARACTERS),
        ("hotel en Sevilla sin desayuno", Unfit.LANGUAGE),
        ("asdf qwer zxcv", Unfit.LANGUAGE),
    ],
)
def test_what_the_models_can_not_read_is_not(text: str | None, reason: Unfit) -> None:
    assert unfit(text, FOUND) is reason


class Says:
    """An identifier that finds one language everywhere."""

    def __init__(self, language: str | None) -> None:
        self._language = language

    def language(self, _text: str) -> str | None:
        return self._language


@pytest.mark.parametrize("language", ["de", "sco", None])
def test_a_language_that_was_not_measured_is_unfit(language: str | None) -> None:
    assert unfit("reset my password", Says(language)) is Unfit.LANGUAGE


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_a_language_that_was_measured_is_fit(language: str) -> None:
    assert unfit("reset my password", Says(language)) is None


@given(st.text())
def test_the_identifier_takes_any_text(text: str) -> None:
    found = FOUND.language(text)
    assert found is None or found.isascii()
