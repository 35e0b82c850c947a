"""Amounts of money as whole femto-units (10⁻¹⁵ of a currency's unit), and as exact decimal texts."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

from tenantgate.errors import ConfigError

__all__ = ["FEMTO", "amount_of", "decimal"]

FEMTO: Final = 10**15
_DIGITS: Final = 15
_MOST: Final = 10**18 * FEMTO
"""What no sum of money comes to, so that no typing error and nobody else's file makes a number that can't be shown."""
_DECIMAL: Final = re.compile(r"([+-]?)(\d{1,30})?(?:\.(\d{0,60}))?(?:[eE]([+-]?\d{1,3}))?", re.ASCII)


def decimal(femto: int) -> str:
    """The amount with all its digits and no others, such as 0.0001234 or -2."""
    sign, digits = ("-" if femto < 0 else ""), str(abs(femto)).rjust(_DIGITS + 1, "0")
    whole, part = digits[:-_DIGITS], digits[-_DIGITS:].rstrip("0")
    return f"{sign}{whole}.{part}" if part else f"{sign}{whole}"


def amount_of(text: str) -> int:
    """The amount of a decimal text. Digits beyond the femto are rounded half to even: they come from others' floats.

    Raises:
        ConfigError: it is no decimal number, or beyond 10¹⁸; thousands separators and currency signs aren't taken.
    """
    match = _DECIMAL.fullmatch(text.strip())
    if match is None or not (match[2] or match[3]):
        raise ConfigError(f"{text.strip()[:40]!r} is no decimal number")
    sign, whole, part, exponent = match[1], match[2] or "0", match[3] or "", int(match[4] or 0)
    scaled = int(whole + part)
    shift = exponent - len(part) + _DIGITS
    found = scaled * 10**shift if shift >= 0 else round(Fraction(scaled, 10**-shift))
    if found > _MOST:
        raise ConfigError(f"{text.strip()[:40]!r} is more than any sum of money")
    return -found if sign == "-" else found
