from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.errors import ConfigError
from tenantgate.usage.core.amounts import FEMTO, amount_of, decimal


@given(st.integers(-(10**30), 10**30))
def test_an_amount_survives_its_text(femto: int) -> None:
    text = decimal(femto)
    assert amount_of(text) == femto
    assert Fraction(text) * FEMTO == femto
    assert "e" not in text.lower()


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-1000, max_value=1000, places=12))
def test_any_decimal_of_femtos_is_exact(value: Decimal) -> None:
    assert amount_of(str(value)) == int(value * FEMTO)


@pytest.mark.parametrize(
    ("text", "femto"),
    [
        ("1e-9", 10**6),
        ("-0.5", -5 * 10**14),
        (".25", 25 * 10**13),
        ("3.", 3 * 10**15),
        ("0.0000000000000005", 0),
        ("0.0000000000000015", 2),
    ],
)
def test_others_spellings(text: str, femto: int) -> None:
    assert amount_of(text) == femto


@pytest.mark.parametrize("text", ["", ".", "1,000.00", "$3", "NaN", "inf", "1_0", "0x1", "٣", "1e9999"])
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(ConfigError, match="no decimal number"):
        amount_of(text)
