"""Laws of parameters."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.transform.core.parameters import IMPLIED, MAX_TOKENS, OUTPUT_NAMES, changed

NUMBERS = st.integers(-3, 9) | st.floats(-3, 9)
SETTINGS = st.fixed_dictionaries(
    {}, optional={name: st.integers(1, 9) if name in (MAX_TOKENS, "n") else NUMBERS for name in IMPLIED}
)
ALSO = {MAX_TOKENS: ("n_predict",), "n": ("best_of",)}
MEMBERS = st.sampled_from(
    [*sorted(IMPLIED), *OUTPUT_NAMES, "n_predict", "best_of", "stream", "model", "seed", "stop"]
)
BODIES = st.dictionaries(MEMBERS, NUMBERS | st.none() | st.booleans() | st.text(max_size=2))
NAMES = st.sampled_from(OUTPUT_NAMES)


def in_force(body: Any, name: str) -> list[Any]:
    """What a provider goes by; a number of tokens or choices below 1 is none to some."""
    keys = OUTPUT_NAMES if name == MAX_TOKENS else (name,)
    given = [body[k] for k in keys if body.get(k) is not None]
    if name in (MAX_TOKENS, "n"):
        given = [math.inf if is_number(v) and v < 1 else v for v in given]
    also = [body[k] for k in ALSO.get(name, ()) if body.get(k) is not None]
    return (given or [IMPLIED[name]]) + also


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@given(BODIES, SETTINGS, SETTINGS, NAMES, st.booleans())
def test_twice_is_once(body: Any, defaults: Any, most: Any, name: str, fill: bool) -> None:
    once = changed(body, defaults, most, output_name=name, fill=fill)
    assert changed(once, defaults, most, output_name=name, fill=fill) is once


@given(BODIES, SETTINGS, SETTINGS, NAMES)
def test_nothing_is_above_its_maximum_also_where_it_is_left_out(
    body: Any, defaults: Any, most: Any, name: str
) -> None:
    made = changed(body, defaults, most, output_name=name)
    for parameter, limit in most.items():
        assert all(is_number(value) and value <= limit for value in in_force(made, parameter))


@given(BODIES, SETTINGS, NAMES, st.booleans())
def test_a_maximum_never_raises(body: Any, most: Any, name: str, fill: bool) -> None:
    made = changed(body, {}, most, output_name=name, fill=fill)
    for parameter in IMPLIED:
        before = [v for v in in_force(body, parameter) if is_number(v)]
        assert (
            not before
            or max(in_force(made, parameter), default=-math.inf) <= max(before)
            or (len(before) < len(in_force(body, parameter)))
        )


@given(BODIES, SETTINGS, NAMES)
def test_a_default_is_for_what_is_absent_only(body: Any, defaults: Any, name: str) -> None:
    made = changed(body, defaults, {}, output_name=name)
    for parameter in IMPLIED:
        keys = OUTPUT_NAMES if parameter == MAX_TOKENS else (parameter,)
        if all(body.get(k) is None for k in (*keys, *ALSO.get(parameter, ()))):
            assert in_force(made, parameter) == [defaults.get(parameter, IMPLIED[parameter])]
        elif any(body.get(k) is not None for k in keys):
            assert all(made.get(k) == body.get(k) for k in keys)


@given(BODIES, SETTINGS, SETTINGS, NAMES, st.booleans())
def test_other_members_stay_as_they_are_and_none_is_lost(
    body: Any, defaults: Any, most: Any, name: str, fill: bool
) -> None:
    made = changed(body, defaults, most, output_name=name, fill=fill)
    known = {*IMPLIED, *OUTPUT_NAMES, "n_predict", "best_of"}
    assert {k: v for k, v in made.items() if k not in known} == {
        k: v for k, v in body.items() if k not in known
    }
    assert made.keys() >= body.keys()
    assert fill or made.keys() == body.keys()


@pytest.mark.parametrize(
    ("body", "made"),
    [
        ({}, {"temperature": 0.5, "max_completion_tokens": 100}),
        ({"temperature": 1.5, "max_tokens": 500}, {"temperature": 0.7, "max_tokens": 200}),
        ({"temperature": 0, "max_tokens": 50, "n": 3}, {"temperature": 0, "max_tokens": 50, "n": 1}),
        ({"max_tokens": "9999"}, {"max_tokens": 200, "temperature": 0.5}),
        ({"max_tokens": -1, "temperature": 0}, {"max_tokens": 200, "temperature": 0}),
        ({"max_completion_tokens": 0, "temperature": -1}, {"max_completion_tokens": 200, "temperature": -1}),
        (
            {"n": 1, "best_of": 9, "n_predict": -1, "max_tokens": 5, "temperature": 0},
            {"n": 1, "best_of": 1, "n_predict": 200, "max_tokens": 5, "temperature": 0},
        ),
        ({"max_tokens": None}, {"max_tokens": None, "max_completion_tokens": 100, "temperature": 0.5}),
    ],
)
def test_examples(body: Any, made: Any) -> None:
    defaults, most = {"temperature": 0.5, "max_tokens": 100}, {"temperature": 0.7, "max_tokens": 200, "n": 1}
    assert changed(body, defaults, most, output_name="max_completion_tokens") == made
