"""Amounts of money as whole femto-units (10⁻¹⁵ of a currency's unit), and as exact decimal texts."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

from tenantgate.errors import ConfigError

__all__ = ["FEMTO", "amount_of", "decimal"]

FEMTO: Final = 10**15
_DIGITS: Final = 15
_DECIMAL: Final = re.compile(r"([+-]?)(\d{1,30})?(?:\.(\d{0,60}))?(?:[eE]([+-]?\d{1,3}))?", re.ASCII)


def decimal(femto: int) -> str:
    """The amount with all its digits and no others, such as 0.0001234 or -2."""
    sign, digits = ("-" if femto < 0 else ""), str(abs(femto)).rjust(_DIGITS + 1, "0")
    whole, part = digits[:-_DIGITS], digits[-_DIGITS:].rstrip("0")
    return f"{sign}{whole}.{part}" if part else f"{sign}{whole}"


def amount_of(text: str) -> int:
    """The amount of a decimal text. Digits beyond the femto are rounded half to even: they come from others' floats.

    Raises:
        ConfigError: it is no decimal number; thousands separators and currency signs aren't taken.
    """
    match = _DECIMAL.fullmatch(text.strip())
    if match is None or not (match[2] or match[3]):
        raise ConfigError(f"{text.strip()[:40]!r} is no decimal number")
    sign, whole, part, exponent = match[1], match[2] or "0", match[3] or "", int(match[4] or 0)
    if not exponent and len(part) <= _DIGITS:
        found: int = int(whole + part) * 10 ** (_DIGITS - len(part))
        return -found if sign == "-" else found
    scaled = Fraction(int(whole + part)) * Fraction(10) ** (exponent - len(part) + _DIGITS)
    return round(-scaled if sign == "-" else scaled)
