"""Checks of identifiers by name: those of python-stdnum, loaded when first asked for, and those that it lacks."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from tenantgate.pii.core import checksums

__all__ = ["check_of", "mrz_digit"]

Check = Callable[[str], bool]
_VALUES: Final = {c: i for i, c in enumerate("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")} | {"<": 0}


@cache
def check_of(name: str) -> Check:
    """The check that a row of the table names; it takes the characters with or without separators."""
    if name == "-":
        return _anything
    if "." in name or name in _PLAIN_MODULES:
        module: Any = importlib.import_module(f"stdnum.{name}")
        return _guarded(module.is_valid)
    return _OWN[name]


def _anything(_value: str) -> bool:
    return True


def _guarded(is_valid: Callable[[str], Any]) -> Check:
    def check(value: str) -> bool:
        try:
            return bool(is_valid(value))
        except Exception:  # noqa: BLE001 - some of its modules raise on numbers that no registry gives out
            return False

    return check


def mrz_digit(text: str) -> int:
    """The check digit of ICAO 9303, part 3, 4.9."""
    return sum(_VALUES[c] * (7, 3, 1)[i % 3] for i, c in enumerate(text)) % 10


def _icao(value: str) -> bool:
    return value[-1:].isdecimal() and mrz_digit(value[:-1]) == int(value[-1])


def _date(year: str, month: str, day: str) -> bool:
    return 1 <= int(month) <= 12 and 1 <= int(day) <= 31 and year.isdecimal()


def _digits(value: str) -> list[int]:
    return [int(c) for c in value]


def _crossed(number: int) -> int:
    return number // 10 + number % 10


def _de_rvnr(value: str) -> bool:
    """Versicherungsnummer, VKVV §4: area, date of birth, initial, serial, check digit."""
    if len(value) != 12 or not 1 <= int(value[4:6]) <= 12 or not 1 <= int(value[2:4]) <= 62:
        return False
    number = value[:8] + f"{ord(value[8]) - 64:02d}" + value[9:11]
    weights = (2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1)
    return sum(_crossed(d * w) for d, w in zip(_digits(number), weights, strict=True)) % 10 == int(value[11])


def _de_kvnr(value: str) -> bool:
    """Krankenversichertennummer, SGB V §290."""
    number = f"{ord(value[0]) - 64:02d}" + value[1:9]
    return sum(_crossed(d * (1 + i % 2)) for i, d in enumerate(_digits(number))) % 10 == int(value[9])


def _lu_matricule(value: str) -> bool:
    """Matricule: a date of birth, Luhn's digit, and Verhoeff's."""
    return _date(value[:4], value[4:6], value[6:8]) and checksums.luhn(value[:12])


def _es_nuss(value: str) -> bool:
    province, serial, check = value[:2], value[2:10], int(value[10:])
    number = int(province) * 10_000_000 + int(serial) if int(serial) < 10_000_000 else int(province + serial)
    return number % 97 == check


def _hu_taj(value: str) -> bool:
    return sum(d * (3, 7)[i % 2] for i, d in enumerate(_digits(value[:8]))) % 10 == int(value[8])


def _hu_tax(value: str) -> bool:
    return sum(d * (i + 1) for i, d in enumerate(_digits(value[:9]))) % 11 == int(value[9])


def _ru_snils(value: str) -> bool:
    total = sum(d * (9 - i) for i, d in enumerate(_digits(value[:9]))) % 101 % 100
    return total == int(value[9:])


def _kz_iin(value: str) -> bool:
    digits = _digits(value)
    check = sum(d * (i + 1) for i, d in enumerate(digits[:11])) % 11
    if check == 10:
        check = sum(d * ((i + 2) % 11 + 1) for i, d in enumerate(digits[:11])) % 11
    return check == digits[11] and _date(value[:2], value[2:4], value[4:6])


def _eg_nid(value: str) -> bool:
    return _date(value[1:3], value[3:5], value[5:7]) and 1 <= int(value[7:9]) <= 88


def _pl_id(value: str) -> bool:
    weights = (7, 3, 1, 0, 7, 3, 1, 7, 3)
    total = sum(_VALUES[c] * w for c, w in zip(value, weights, strict=True) if w)
    return total % 10 == int(value[3])


def _tw_id(value: str) -> bool:
    number = "ABCDEFGHJKLMNPQRSTUVXYWZIO".index(value[0]) + 10
    total = number // 10 + number % 10 * 9
    total += sum(d * w for d, w in zip(_digits(value[1:]), (8, 7, 6, 5, 4, 3, 2, 1, 1), strict=True))
    return total % 10 == 0


def _hk_id(value: str) -> bool:
    letters = [_VALUES[c] for c in value if c.isalpha()][: len(value) - 7]
    numbers = ([36, *letters] if len(letters) == 1 else letters) + _digits(value[-7:-1])
    total = sum(n * (9 - i) for i, n in enumerate(numbers)) + _VALUES[value[-1]]
    return total % 11 == 0


def _sg_nric(value: str) -> bool:
    total = sum(d * w for d, w in zip(_digits(value[1:8]), (2, 7, 6, 5, 4, 3, 2), strict=True))
    total += {"S": 0, "T": 4, "F": 0, "G": 4, "M": 3}[value[0]]
    letters = "JZIHGFEDCBA" if value[0] in "ST" else "XWUTRQPNMLK" if value[0] in "FG" else "KLJNPQRTUWX"
    place = total % 11 if value[0] != "M" else 10 - total % 11
    return letters[place] == value[8]


def _kr_rrn(value: str) -> bool:
    # Numbers given out since October 2020 have no check digit, only the date and the century's.
    return _date(value[:2], value[2:4], value[4:6]) and value[6] in "12345678"


def _au_medicare(value: str) -> bool:
    total = sum(d * w for d, w in zip(_digits(value[:8]), (1, 3, 7, 9, 1, 3, 7, 9), strict=True))
    return total % 10 == int(value[8])


def _vn_cccd(value: str) -> bool:
    return 1 <= int(value[:3]) <= 96


def _clabe(value: str) -> bool:
    total = sum(d * (3, 7, 1)[i % 3] % 10 for i, d in enumerate(_digits(value[:17])))
    return (10 - total % 10) % 10 == int(value[17])


def _uk_driver(value: str) -> bool:
    month = int(value[6:8]) % 50
    return 1 <= month <= 12 and 1 <= int(value[8:10]) <= 31 and value[0].isalpha()


_VIN: Final = dict(
    zip(
        "ABCDEFGHJKLMNPRSTUVWXYZ",
        (1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 7, 9, 2, 3, 4, 5, 6, 7, 8, 9),
        strict=True,
    )
) | {str(i): i for i in range(10)}


def _vin(value: str) -> bool:
    """49 CFR 565.15: the check digit of North America, in the ninth place."""
    weights = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
    total = sum(_VIN[c] * w for c, w in zip(value, weights, strict=True)) % 11
    letters = sum(c.isalpha() for c in value)
    return (
        ("X" if total == 10 else str(total)) == value[8]
        and letters >= 3
        and any(c.isalpha() for c in value[:3])
    )


def _vin_told(value: str) -> bool:
    # Cars of other continents have no check digit; the word must do.
    return sum(c.isdecimal() for c in value) >= 4 and any(c.isalpha() for c in value)


def _of_digits(least: int) -> Check:
    return lambda value: sum(c.isdecimal() for c in value) >= least


def _plate(value: str) -> bool:
    return re.search("[0-9]", value) is not None and re.search("[A-Z]", value) is not None


_PLAIN_MODULES: Final = frozenset(("imei", "bic"))
_OWN: Final[dict[str, Check]] = {
    "ssn": checksums.ssn,
    "nhs": checksums.nhs,
    "bsn": checksums.bsn,
    "steuer_id": checksums.steuer_id,
    "cpf": checksums.cpf,
    "aadhaar": checksums.aadhaar,
    "luhn": checksums.luhn,
    "de_rvnr": _de_rvnr,
    "de_kvnr": _de_kvnr,
    "lu_matricule": _lu_matricule,
    "es_nuss": _es_nuss,
    "hu_taj": _hu_taj,
    "hu_tax": _hu_tax,
    "ru_snils": _ru_snils,
    "kz_iin": _kz_iin,
    "eg_nid": _eg_nid,
    "pl_id": _pl_id,
    "tw_id": _tw_id,
    "hk_id": _hk_id,
    "sg_nric": _sg_nric,
    "kr_rrn": _kr_rrn,
    "au_medicare": _au_medicare,
    "vn_cccd": _vn_cccd,
    "clabe": _clabe,
    "uk_driver": _uk_driver,
    "vin": _vin,
    "vin_told": _vin_told,
    "icao": _icao,
    "five_digits": _of_digits(5),
    "four_digits": _of_digits(4),
    "plate": _plate,
}
