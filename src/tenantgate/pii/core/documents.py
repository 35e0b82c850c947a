"""What is no group of digits: the machine-readable zone of a passport, a postal address, the code of a bank."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

from tenantgate.pii.core.finding import Finding
from tenantgate.pii.core.identifier_checks import check_of, mrz_digit
from tenantgate.time_left import check_time

__all__ = ["find_bank_codes", "find_mrz", "find_streets"]

_MRZ_LINE: Final = re.compile(r"(?<![A-Z0-9<])[A-Z0-9<]{30,44}+(?![A-Z0-9<])")
_MRZ_LENGTHS: Final = {44: 2, 36: 2, 30: 3}
# Document number, nationality, birth, sex, expiry of the second line of a passport, a visa, or an ID card of two lines.
_MRZ_NUMBERS: Final = re.compile(r"[A-Z0-9<]{9}[0-9<][A-Z<]{3}[0-9]{6}[0-9][MFX<][0-9]{6}[0-9]")


_BANK_WORD: Final = re.compile(
    r"(?<![a-z])(?:bic|swift)(?:[ /-](?:bic|swift))?(?:[ -](?:code|nummer|number))?(?: (?:is|ist|est|es))?[ :=#\"']{1,4}"
)
_BANK_CODE: Final = re.compile(r"[A-Z]{6}[A-Z0-9]{2}(?:[A-Z0-9]{3})?(?![A-Za-z0-9])")


def find_bank_codes(text: str, lower: str) -> Iterator[Finding]:
    """Codes of banks (ISO 9362) beside the words "BIC" or "SWIFT"; most have no digit."""
    if "bic" not in lower and "swift" not in lower:
        return
    for n, word in enumerate(_BANK_WORD.finditer(lower)):
        if n % _MANY == 0:
            check_time()
        found = _BANK_CODE.match(text, word.end())
        if found and check_of("bic")(found.group()):
            yield Finding(found.start(), found.end(), "SWIFT_CODE", 0.8)


def find_mrz(text: str) -> Iterator[Finding]:
    """Machine-readable zones by ICAO 9303: lines of one length that follow each other, or the line with the numbers."""
    if "<<" not in text:
        return
    lines = [m for m in _MRZ_LINE.finditer(text) if len(m.group()) in _MRZ_LENGTHS and "<" in m.group()]
    at = 0
    while at < len(lines):
        last = at
        size = len(lines[at].group())
        while (
            last + 1 < len(lines)
            and len(lines[last + 1].group()) == size
            and last + 1 - at < _MRZ_LENGTHS[size]
            and lines[last + 1].start() - lines[last].end() <= 4
        ):
            last += 1
        said = [m.group() for m in lines[at : last + 1]]
        if last > at or _numbers_of(said[0]) or re.match(r"[PIACV][A-Z<][A-Z<]{3}[A-Z]{1,30}<<", said[0]):
            score = 1.0 if any(_numbers_of(line) for line in said) else 0.8
            yield Finding(lines[at].start(), lines[last].end(), "MRZ", score)
        at = last + 1


def _numbers_of(line: str) -> bool:
    if not _MRZ_NUMBERS.match(line):
        return False
    return line[9] in ("<", str(mrz_digit(line[:9]))) and line[19] == str(mrz_digit(line[13:19]))


_NAME: Final = r"[^\W\d_][\w'’.-]{0,24}+"
_CAPITAL: Final = r"[A-ZÀ-ÖØ-Þ][\w'’.-]{0,24}"
_HOUSE: Final = r"[0-9]{1,5}(?: ?[A-Za-z](?![\w]))?(?:[-/][0-9]{1,4})?"
_CITY: Final = rf"{_CAPITAL}(?:[ -]{_CAPITAL}){{0,2}}"
_ZIP_CITY: Final = rf"(?:,?\s{{1,2}}(?:[A-Z]{{1,2}}-)?[0-9]{{4,5}}(?: [A-Z]{{2}})?,? {_CITY})"
_US_TAIL: Final = rf"(?:,? (?:apt|apartment|suite|ste|unit|flat|floor|#)\.? ?[\w-]{{1,6}})?(?:,?\s{{1,2}}{_CITY})?,?\s{{1,2}}[A-Z]{{2}},? [0-9]{{5}}(?:-[0-9]{{4}})?(?![0-9])"
_UK_TAIL: Final = (
    rf"(?:,?\s{{1,2}}{_CITY}){{0,2}},?\s{{1,2}}[A-Z]{{1,2}}[0-9][A-Z0-9]? ?[0-9][A-Z]{{2}}(?![\w])"
)
_ENGLISH: Final = (
    r"(?:[Ss]treet|[Ss]t|[Aa]venue|[Aa]ve|[Rr]oad|[Rr]d|[Bb]oulevard|[Bb]lvd|[Ll]ane|[Ll]n|[Dd]rive|[Dd]r|[Cc]ourt|[Cc]t|[Ww]ay|"
    r"[Pp]lace|[Pp]l|[Ss]quare|[Ss]q|[Tt]errace|[Cc]lose|[Cc]rescent|[Pp]arkway|[Pp]kwy|[Hh]ighway|[Hh]wy|[Rr]ow|[Gg]ardens|"
    r"[Gg]rove|[Mm]ews|[Tt]rail|[Cc]ircle|[Cc]ir|[Bb]roadway|Broadway)"
)
# 1600 Pennsylvania Avenue NW, Washington, DC 20500; 10 Downing Street, London SW1A 2AA
_ENGLISH_FORM: Final = re.compile(
    rf"{_HOUSE} (?:{_CAPITAL} ){{1,4}}?{_ENGLISH}(?![\w])\.?(?: [NSEW]{{1,2}}(?![\w]))?(?P<rest>{_US_TAIL}|{_UK_TAIL})?"
)
# Hauptstraße 12, 10115 Berlin; Kalverstraat 92, 1012 PH Amsterdam; Storgatan 5, 111 51 Stockholm
_GERMANIC_FORM: Final = re.compile(
    rf"(?<![\w-]){_CAPITAL}(?: {_CAPITAL}){{0,2}}?(?:(?<=[a-zß-ÿ])|[ -])(?:stra(?:ß|ss)e|Stra(?:ß|ss)e|str\.|Str\.|weg|Weg|platz|Platz|allee|Allee|gasse|damm|ufer|ring|straat|laan|plein|gracht|kade|gatan|vägen|gata|veien|vej|gade|katu|tie)"
    rf" {_HOUSE}(?P<rest>{_ZIP_CITY}|,?\s[0-9]{{3}} [0-9]{{2}} {_CITY})?"
)
# 12 bis rue de la Paix, 75002 Paris
_FRENCH_FORM: Final = re.compile(
    rf"{_HOUSE}(?: (?:bis|ter))?,? (?:rue|avenue|av\.|boulevard|bd|place|chemin|impasse|allée|quai|cours|route|Rue|Avenue|Boulevard|Place|Chemin)"
    rf" (?:(?:de|du|des|la|le|les|l'|d') ?){{0,3}}{_NAME}(?:[ -]{_CAPITAL}){{0,4}}(?P<rest>{_ZIP_CITY})?"
)
# Calle Mayor 5, 28013 Madrid; Via Roma 10, 00184 Roma; Rua Augusta, 100; ul. Długa 5/7, 00-238 Warszawa
_ROMANCE_FORM: Final = re.compile(
    rf"(?<![\w-])(?:Calle|calle|C/|Avenida|avenida|Avda\.|Av\.|Plaza|plaza|Paseo|Via|via|Viale|Piazza|Corso|Largo|Rua|rua|Travessa|Praça|Alameda|ul\.|Ul\.|ulica|aleja|al\.) ?"
    rf"(?:(?:de|del|la|las|los|da|do|das|dos|della|dei|di|d') ?){{0,3}}{_CAPITAL}(?: (?:de|del|la|da|do|e|y)? ?{_CAPITAL}){{0,3}},? (?:n[º°.o]{{1,2}} ?)?{_HOUSE}(?P<rest>{_ZIP_CITY}|,?\s[0-9]{{2}}-[0-9]{{3}} {_CITY}|,?\s{{1,2}}[0-9]{{5}}-[0-9]{{3}})?"
)
# How the name of a street ends, and what stands before one.
_ENDINGS: Final = tuple(
    f"{word} "
    for word in (
        "straße",
        "strasse",
        "str.",
        "weg",
        "platz",
        "allee",
        "gasse",
        "damm",
        "ufer",
        "ring",
        "straat",
        "laan",
        "plein",
        "gracht",
        "kade",
        "gatan",
        "vägen",
        "gata",
        "veien",
        "vej",
        "gade",
        "katu",
        "tie",
    )
)
_BEFORE_NAMES: Final = (
    "calle",
    "c/",
    "avenida",
    "avda.",
    "av.",
    "plaza",
    "paseo",
    "via",
    "viale",
    "piazza",
    "corso",
    "largo",
    "rua",
    "travessa",
    "praça",
    "alameda",
    "ul.",
    "ulica",
    "aleja",
    "al.",
)
_NAME_REACH: Final = 40  # characters of a name between such a word and the number of the house
_MANY: Final = 64  # groups between two looks at the clock
_TOLD: Final = re.compile(
    r"(?:address|live at|lives at|living at|reside\w{0,2} at|deliver(?:ed)? to|ship(?:ped)? to|send (?:it|this|them) to|home is|located at|adresse|wohn\w{0,5}|"
    r"habite|domicil\w{0,4}|dirección|direccion|vivo en|indirizzo|abito in|endereço|moro na|adres|mieszkam|zamieszk\w{0,6})[^\n]{0,30}$"
)


def find_streets(text: str, lower: str, groups: Sequence[tuple[int, int]]) -> Iterator[Finding]:
    """Postal addresses with a street and a number; surer with a postcode or beside a word such as "address".

    Args:
        text: the text.
        lower: it in lower case, each character where it was.
        groups: those with digits; one of them is the number of the house.
    """
    done = 0
    names = sorted(
        m.end() for word in _BEFORE_NAMES if word in lower for m in re.finditer(re.escape(word), lower)
    )
    for n, (start, end) in enumerate(groups):
        if n % _MANY == 0:
            check_time()
        if end - start > 6 or start < done or not text[start].isdecimal():
            continue
        found = None
        if text[end : end + 1] in (" ", ",", "-", "/"):
            found = _ENGLISH_FORM.match(text, start) or _FRENCH_FORM.match(text, start)
        if found is None and (lower.endswith(_ENDINGS, 0, start) or _after_name(lower, names, start)):
            found = _of_house(text, max(done, start - 60), start)
        if found is None:
            continue
        done = found.end()
        if found["rest"]:
            score = 0.85
        elif _TOLD.search(lower[max(0, found.start() - 48) : found.start()]):
            score = 0.7
        else:
            score = 0.4
        yield Finding(found.start(), found.end(), "STREET_ADDRESS", score)


def _after_name(lower: str, names: Sequence[int], house: int) -> bool:
    """Whether a name of a street may stand before the house; `names` is where the words before such names end."""
    i = bisect_left(names, house) - 1
    return i >= 0 and house - names[i] <= _NAME_REACH and "\n" not in lower[names[i] : house]


def _of_house(text: str, low: int, house: int) -> re.Match[str] | None:
    """The address whose number stands at `house`, after the name of the street."""
    for form in (_GERMANIC_FORM, _ROMANCE_FORM):
        for found in form.finditer(text, low, min(len(text), house + 60)):
            if found.start() < house < found.end():
                return found
    return None
