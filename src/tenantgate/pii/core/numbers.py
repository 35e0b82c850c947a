"""Runs of digits read as a card, a social security number of the US, or a phone number.

Phone numbers are searched for by their writing and by words nearby; whether a number could be one at all is asked of
the library phonenumbers (https://github.com/daviddrysdale/python-phonenumbers), for candidates only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final

import phonenumbers

from tenantgate.pii.core import checksums
from tenantgate.pii.core.finding import Finding
from tenantgate.time_left import check_time

__all__ = ["find_numbers"]

_NEAR: Final = 60  # characters before a number in which a word tells what it is
_MANY: Final = 4  # runs, or groups of one, between two looks at the clock
_DIGITS: Final = re.compile(r"[0-9]++")
_RUN: Final = re.compile(r"(?<![0-9A-Za-z])(?:\+|\(\+?+)?+[0-9](?:[ .()/\u00a0-]{0,3}+[0-9]){5,60}+")
_EXTENSION: Final = re.compile(r" ?(?:x|ext\.? ?|extension |durchwahl |poste |int\. ?)[0-9]{1,6}+(?![0-9])")
_DATE: Final = re.compile(
    r"[0-9]{4}([-.])[0-9]{1,2}\1[0-9]{1,2}(?![0-9])|(?:19|20)[0-9]{2}[/ ][0-9]{1,2}[/ ][0-9]{1,2}(?![0-9])|[0-9]{1,2}([-./ ])[0-9]{1,2}\2(?:19|20)[0-9]{2}(?![0-9])"
)
_PHONE: Final = re.compile(
    "phone|call|tel|mobile|cell|fax|text me|sms|whatsapp|signal|viber|reach|contact|dial|number is|number:|my number|ring|"
    "registered|answering|messages to|message to|office|handy|ruf|numéro|appel|joindre|portable|teléfono|móvil|movil|celular|"
    "llám|ligue|ligar|cellulare|chiama|bel |bellen|mobiel|gsm|telefo|komórk|zadzwoń|mobil|puhelin|soita|tlf|ring |cep|numaram|"
    "телефон|звон|тел|моб|電話|电话|手机|手機|携帯|전화|휴대폰|핸드폰|โทร|เบอร์|điện thoại|sđt|telp|ponsel|hubungi|nomor|هاتف|جوال|موبايل|"
    "اتصل|رقم|טלפון|נייד|τηλ|κινητό|फोन|फ़ोन|मोबाइल|नंबर|फोन|ফোন|simu|pager|hotline|helpline|landline"
)
_PHONE_AFTER: Final = re.compile(r"fax|mobile|office|phone|\(home|\(cell|\(work|\(mobil|\(tel")
_OTHER: Final = re.compile(
    r"(?:isbn|issn|order|invoice|ticket|tracking|serial|sku|part|item|article|ref|reference|id|version|case|model|doi|"
    r"section|bestell\w{0,12}|rechnung\w{0,10}|commande|facture|pedido|factura|epoch|timestamp|ean|upc|gtin|asin|"
    r"page|pages|lot|batch|code|error|port|number of|total|pi|zip|score|range|numbers?|list|array)"
    r"[ .:#]{0,3}(?:no|nr|number|num|id)?[ .:#\"'=-]{0,4}$"
)
# What is named so is no phone number, whatever else stands before it.
_NAMED: Final = re.compile(
    r"\b(?:isbn|issn|order|invoice|ticket|tracking|serial|sku|meeting|case|booking|reservation|confirmation|shipment|flight)"
    r"(?: ?(?:no|nr|number|num|id|code))?\.?(?: is)?[ .:#\"'=-]{0,4}$"
)
_CARD: Final = re.compile(
    "cc |card|visa|mastercard|amex|credit|debit|karte|carte|tarjeta|cartão|kort|karta|карт|カード|카드|信用卡|卡号"
)
_SUMS: Final = tuple("=%*^<>")
_AMOUNTS: Final = tuple("$€£¥₹#=@%-")
# Regions whose local numbers begin with the 0 that is left out after a country's code.
_TRUNK: Final = (
    "GB",
    "DE",
    "FR",
    "IT",
    "NL",
    "BE",
    "AT",
    "CH",
    "SE",
    "FI",
    "IE",
    "AU",
    "NZ",
    "JP",
    "KR",
    "IN",
    "ID",
    "MY",
    "TH",
    "VN",
    "CN",
    "TW",
    "TR",
    "IL",
    "ZA",
    "NG",
    "KE",
    "EG",
    "PK",
    "AE",
    "SA",
    "BR",
    "AR",
    "RO",
    "RS",
    "HR",
    "SI",
    "SK",
    "BG",
    "UA",
    "PH",
)


def find_numbers(text: str, lower: str, taken: Sequence[Finding]) -> Iterator[Finding]:
    """Cards, social security numbers and phone numbers outside of what is `taken`, which is in order and apart.

    Raises:
        OutOfTimeError: the text is longer than there is time for (`time_left.limited`).
    """
    at = 0
    for n, match in enumerate(_RUN.finditer(text)):
        if n % _MANY == 0:
            check_time()
        while at < len(taken) and taken[at].end <= match.start():
            at += 1
        if at < len(taken) and taken[at].start < match.end():
            continue
        yield from _numbers(text, lower, match.start(), match.end())


def _numbers(text: str, lower: str, start: int, end: int) -> Iterator[Finding]:
    """A run of digits and separators as what it is."""
    tokens = [m.span() for m in _DIGITS.finditer(text, start, end)]
    before = lower[max(0, start - _NEAR) : start]
    told = _CARD.search(before) is not None
    i, rest = 0, tokens[0][0]
    while i < len(tokens):
        if i % _MANY == 0:
            check_time()
        j = _card(text, tokens, i, told=told)
        if j:
            if number := _number(text, lower, before, tokens, (rest, tokens[i][0])):
                yield number
            sure = told or tokens[j - 1][1] - tokens[i][0] > 13
            yield Finding(tokens[i][0], tokens[j - 1][1], "CREDIT_CARD", 1.0 if sure else 0.7)
            i, rest = j, tokens[j - 1][1]
        else:
            i += 1
    if number := _number(text, lower, before, tokens, (rest if rest != tokens[0][0] else start, end)):
        yield number


def _card(text: str, tokens: list[tuple[int, int]], first: int, *, told: bool) -> int:
    """The index after the last token of a card that begins with the token `first`, or 0."""
    digits, best = "", 0
    for j in range(first, min(len(tokens), first + 19)):
        if j > first and text[tokens[j - 1][1] : tokens[j][0]] not in (
            " ",
            "-",
            " - ",
            ".",
            "/",
            "\u00a0",
            "  ",
        ):
            break
        digits += text[tokens[j][0] : tokens[j][1]]
        if len(digits) > 19:
            break
        if (
            len(digits) >= 12
            and (checksums.card(digits) or (told and checksums.luhn(digits)))
            and (j == first or (2 <= j - first <= 7) or told)
        ):
            best = j + 1
    return best


@dataclass(frozen=True, slots=True)
class _Figures:
    """Groups of digits that belong together.

    Attributes:
        tokens: each group's span.
        start: where the groups begin, with a plus or a bracket before them.
        digits: all digits.
        sizes: how many each group has.
        gaps: what stands between groups.
    """

    tokens: list[tuple[int, int]]
    start: int
    digits: str
    sizes: tuple[int, ...]
    gaps: frozenset[str]

    @classmethod
    def of(cls, text: str, tokens: list[tuple[int, int]], start: int) -> _Figures:
        """The groups `tokens` of `text`; there is one at least."""
        return cls(
            tokens,
            start,
            "".join(text[a:b] for a, b in tokens),
            tuple(b - a for a, b in tokens),
            frozenset(text[a[1] : b[0]] for a, b in pairwise(tokens)),
        )


def _number(
    text: str, lower: str, before: str, tokens: list[tuple[int, int]], bounds: tuple[int, int]
) -> Finding | None:
    """The social security or phone number among the tokens inside `bounds`."""
    start, end = bounds
    tokens = [t for t in tokens if t[0] >= start and t[1] <= end]
    if not tokens:
        return None
    figures = _Figures.of(text, tokens, start)
    if number := _security_number(text, figures):
        return number
    told = _PHONE.search(before) is not None or _PHONE_AFTER.search(lower, end, end + 16) is not None
    score = _phone(text, figures, before, told=told)
    if not score:
        return None
    first, last = tokens[0][0], tokens[-1][1]
    extension = _EXTENSION.match(lower, last)
    return Finding(
        start if text[start] in "+(" else first, extension.end() if extension else last, "PHONE_NUMBER", score
    )


def _security_number(text: str, figures: _Figures) -> Finding | None:
    tokens, sizes = figures.tokens, figures.sizes
    for n in range(len(tokens) - 2):  # also at the end of a longer run, as after a date
        three = tokens[n : n + 3]
        if sizes[n : n + 3] != (3, 2, 4) or any(text[a[1] : b[0]] != "-" for a, b in pairwise(three)):
            continue
        if checksums.ssn("".join(text[a:b] for a, b in three)):
            return Finding(three[0][0], three[2][1], "US_SSN", 0.85)
    return None


@lru_cache(maxsize=256)
def _valid(number: str, region: str | None) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number, region))
    except phonenumbers.NumberParseException:
        return False


def _phone(text: str, figures: _Figures, before: str, *, told: bool) -> float:
    """How sure it is that this is a phone number; 0 if it isn't."""
    first, start, digits = figures.tokens[0][0], figures.start, figures.digits
    n, sizes = len(digits), figures.sizes
    if text[start] == "+" or text[start : start + 2] == "(+":
        return _international(text, figures, told=told)
    if n > 14 or _is_other(text, figures, before, told=told):
        return 0.0
    if digits.startswith("00") and n >= 10 and _valid("+" + digits[2:], None):
        return 0.85
    if score := _phone_by_form(figures, told=told):
        return score
    if "(" in text[start : first + 1] or any("(" in g or ")" in g for g in figures.gaps):
        return 0.6 if 7 <= n <= 13 and len(sizes) > 1 and (told or "/" not in "".join(figures.gaps)) else 0.0
    if told and n >= 6 and (_grouped(sizes) or (len(sizes) == 1 and 7 <= n <= 12)):
        return 0.65
    return 0.5 if _grouped(sizes) and _by_groups(text, figures) else 0.0


def _international(text: str, figures: _Figures, *, told: bool) -> float:
    """A number after a plus; the 0 of "+49 (0)30 …" is left out."""
    digits, sizes = figures.digits, figures.sizes
    if not 7 <= len(digits) <= 15:
        return 0.0
    bracketed = "(0)" in text[figures.start : figures.tokens[-1][1]]
    if _valid("+" + (digits.replace("0", "", 1) if bracketed else digits), None):
        return 0.95
    return 0.9 if told or (len(digits) >= 9 and (len(sizes) == 1 or _grouped(sizes))) else 0.0


def _is_other(text: str, figures: _Figures, before: str, *, told: bool) -> bool:
    """Whether it is a date, an amount, or a number that the word before names as another."""
    first, last = figures.tokens[0][0], figures.tokens[-1][1]
    return (
        figures.sizes == (3, 2, 4)
        or _DATE.match(text, first) is not None
        or text[first - 1 : first] in _AMOUNTS
        or text[last : last + 1] in _SUMS
        or (text[first - 1 : first] == "," and text[first - 2 : first - 1].isdecimal())
        or _NAMED.search(before[-40:]) is not None
        or (not told and _OTHER.search(before[-40:]) is not None)
    )


def _by_groups(text: str, figures: _Figures) -> bool:
    """Whether groups alone look like a phone number, and not like thousands or a list."""
    sizes, n = figures.sizes, len(figures.digits)
    if figures.gaps == {"-"}:
        return 7 <= n <= 12 and sizes[-1] == 4 and sizes[0] == 3
    thousands = sizes[0] <= 3 and all(s == 3 for s in sizes[1:])
    series = len(set(sizes)) == 1 and _series(text, figures.tokens)
    return figures.gaps == {" "} and 8 <= n <= 12 and 3 <= len(sizes) <= 5 and not thousands and not series


def _series(text: str, tokens: list[tuple[int, int]]) -> bool:
    """Whether the groups grow, as years and lists do."""
    numbers = [int(text[a:b]) for a, b in tokens]
    return all(a <= b for a, b in pairwise(numbers))


def _grouped(sizes: tuple[int, ...]) -> bool:
    return len(sizes) > 1 and all(2 <= s <= 8 for s in sizes[1:]) and sizes[0] <= 6


def _phone_by_form(figures: _Figures, *, told: bool) -> float:
    digits, sizes, gaps = figures.digits, figures.sizes, figures.gaps
    n = len(digits)
    nanp = digits[-10:-9] > "1" and digits[-7:-6] > "1" and (n == 10 or (n == 11 and digits[0] == "1"))
    if nanp and sizes[-3:] == (3, 3, 4):
        return 0.85
    if sizes == (3, 3, 4) and digits[0] > "1" and len(gaps) == 1:
        return 0.7
    if nanp and (sizes[-2:] == (3, 7) or sizes[-2:] == (6, 4)):
        return 0.6
    zero = digits[0] == "0" and 8 <= n <= 12 and _grouped(sizes)
    if zero and ("." not in gaps or sizes == (2,) * 5):
        return 0.75 if told or any(_valid(digits, region) for region in _TRUNK) else 0.4
    return 0.0
