"""Check digits of cards, accounts and national identifiers. Each takes the characters without separators."""

from __future__ import annotations

import hashlib
from typing import Final

__all__ = [
    "IBAN_LENGTHS",
    "aadhaar",
    "base58check",
    "bsn",
    "card",
    "cpf",
    "iban",
    "luhn",
    "nhs",
    "ssn",
    "steuer_id",
]

_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B."""
    total = 0
    for i, c in enumerate(reversed(digits)):
        d = ord(c) - 48
        total += _DOUBLED[d] if i % 2 else d
    return total % 10 == 0


def card(digits: str) -> bool:
    """A payment card: an issuer's range, its length, and Luhn's check digit."""
    n = len(digits)
    if not 12 <= n <= 19 or not luhn(digits):
        return False
    two, four = int(digits[:2]), int(digits[:4])
    if digits[0] == "4":
        return n in (13, 16, 19)
    if n in (14, 16, 19) and (300 <= int(digits[:3]) <= 305 or two in (36, 38, 39)):
        return True  # Diners
    if two in (34, 37) or four in (1800, 2131):
        return n == 15  # American Express, JCB
    if 2221 <= four <= 2720 or 51 <= two <= 55 or two == 35:
        return n == 16 or (two == 35 and n >= 16)
    # Discover, UnionPay, Maestro and the like
    return two in (50, 56, 57, 58) or digits[0] == "6"


# https://www.swift.com/resource/iban-registry-pdf
IBAN_LENGTHS: Final = {
    "AD": 24,
    "AE": 23,
    "AL": 28,
    "AT": 20,
    "AZ": 28,
    "BA": 20,
    "BE": 16,
    "BG": 22,
    "BH": 22,
    "BI": 27,
    "BR": 29,
    "BY": 28,
    "CH": 21,
    "CR": 22,
    "CY": 28,
    "CZ": 24,
    "DE": 22,
    "DJ": 27,
    "DK": 18,
    "DO": 28,
    "EE": 20,
    "EG": 29,
    "ES": 24,
    "FI": 18,
    "FK": 18,
    "FO": 18,
    "FR": 27,
    "GB": 22,
    "GE": 22,
    "GI": 23,
    "GL": 18,
    "GR": 27,
    "GT": 28,
    "HR": 21,
    "HU": 28,
    "IE": 22,
    "IL": 23,
    "IQ": 23,
    "IS": 26,
    "IT": 27,
    "JO": 30,
    "KW": 30,
    "KZ": 20,
    "LB": 28,
    "LC": 32,
    "LI": 21,
    "LT": 20,
    "LU": 20,
    "LV": 21,
    "LY": 25,
    "MC": 27,
    "MD": 24,
    "ME": 22,
    "MK": 19,
    "MN": 20,
    "MR": 27,
    "MT": 31,
    "MU": 30,
    "NI": 28,
    "NL": 18,
    "NO": 15,
    "OM": 23,
    "PK": 24,
    "PL": 28,
    "PS": 29,
    "PT": 25,
    "QA": 29,
    "RO": 24,
    "RS": 22,
    "RU": 33,
    "SA": 24,
    "SC": 31,
    "SD": 18,
    "SE": 24,
    "SI": 19,
    "SK": 24,
    "SM": 27,
    "SO": 23,
    "ST": 25,
    "SV": 28,
    "TL": 23,
    "TN": 24,
    "TR": 26,
    "UA": 29,
    "VA": 22,
    "VG": 24,
    "XK": 20,
    "YE": 30,
}


def iban(text: str) -> bool:
    """ISO 13616: the country's length, and 1 modulo 97."""
    text = text.upper()
    if IBAN_LENGTHS.get(text[:2]) != len(text) or not text.isascii() or not text.isalnum():
        return False
    return int("".join(str(int(c, 36)) for c in text[4:] + text[:4])) % 97 == 1


def ssn(digits: str) -> bool:
    """US social security number: areas, groups and serials that are never given out."""
    return (
        len(digits) == 9
        and digits[:3] not in ("000", "666")
        and digits[0] != "9"
        and digits[3:5] != "00"
        and digits[5:] != "0000"
    )


def _weighted(digits: str, weights: tuple[int, ...]) -> int:
    return sum(int(d) * w for d, w in zip(digits, weights, strict=False))


def nhs(digits: str) -> bool:
    """UK NHS number, modulo 11."""
    check = 11 - _weighted(digits, (10, 9, 8, 7, 6, 5, 4, 3, 2)) % 11
    return len(digits) == 10 and len(set(digits)) > 1 and (0 if check == 11 else check) == int(digits[9])


def bsn(digits: str) -> bool:
    """Dutch burgerservicenummer, the test of eleven."""
    total = _weighted(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1))
    return len(digits) == 9 and len(set(digits)) > 1 and total % 11 == 0


def steuer_id(digits: str) -> bool:
    """German Steuer-ID, ISO 7064 modulo 11, 10."""
    if len(digits) != 11 or digits[0] == "0":
        return False
    product = 10
    for d in digits[:10]:
        total = (int(d) + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == int(digits[10])


def cpf(digits: str) -> bool:
    """Brazilian CPF, two check digits."""
    if len(digits) != 11 or len(set(digits)) == 1:
        return False
    for n in (9, 10):
        check = _weighted(digits[:n], tuple(range(n + 1, 1, -1))) * 10 % 11 % 10
        if check != int(digits[n]):
            return False
    return True


_D: Final = (
    "0123456789",
    "1234067895",
    "2340178956",
    "3401289567",
    "4012395678",
    "5987604321",
    "6598710432",
    "7659821043",
    "8765932104",
    "9876543210",
)
_P: Final = (
    "0123456789",
    "1576283094",
    "5803796142",
    "8916043527",
    "9453126870",
    "4286573901",
    "2793806415",
    "7046913258",
)


def aadhaar(digits: str) -> bool:
    """Indian Aadhaar, Verhoeff's check digit."""
    if len(digits) != 12 or digits[0] in "01":
        return False
    c = 0
    for i, d in enumerate(reversed(digits)):
        c = int(_D[c][int(_P[i % 8][int(d)])])
    return c == 0


_BASE58: Final = {c: i for i, c in enumerate("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")}


def base58check(text: str) -> bool:
    """A Bitcoin address of the first kinds (P2PKH, P2SH): four bytes of a doubled SHA-256."""
    if not set(text) <= _BASE58.keys():
        return False
    number = 0
    for c in text:
        number = number * 58 + _BASE58[c]
    if number >= 1 << 200:
        return False
    raw = number.to_bytes(25, "big")
    return hashlib.sha256(hashlib.sha256(raw[:-4]).digest()).digest()[:4] == raw[-4:]
