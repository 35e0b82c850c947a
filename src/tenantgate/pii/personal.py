"""Personal data that has a form: addresses, numbers and identifiers, proved by check digits where they have any.

Runs of digits are found once and then read as a card, an identifier or a phone number. All expressions here
are possessive or of fixed length, so the time is linear in the text.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from tenantgate.checkpoints import checkpoint
from tenantgate.pii import checksums
from tenantgate.pii.finding import Finding, lower_in_place, outermost

__all__ = ["DEFAULT_KINDS", "PERSONAL_KINDS", "find_personal"]

_NEAR: Final = 60  # characters before a number in which a word tells what it is
_DIGITS: Final = re.compile(r"[0-9]++")
_RUN: Final = re.compile(r"(?<![0-9A-Za-z_])(?:\+|\(\+?+)?+[0-9](?:[ .()-]{0,3}+[0-9]){6,60}+")
_EMAIL: Final = re.compile(
    r"(?<![\w.%+'-])[\w.%+'-]{1,64}+@(?:[^\W_](?:[\w-]{0,62}+)\.(?=[\w])){1,8}+[^\W\d_]{2,24}+"
)
_EMAIL_TOLD: Final = re.compile(
    r"(?<![\w.%+-])[\w.%+-]{1,64}+ ?[\[(] ?(?:at|AT|@) ?[\])] ?"
    r"(?:[\w-]{1,63}+(?: ?[\[(] ?(?:dot|DOT|\.) ?[\])] ?|\.(?=\w))){1,6}+[^\W\d_]{2,24}+"
)
_IBAN_HEAD: Final = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?=[ -]?[A-Za-z0-9]{2})")
_IP4: Final = re.compile(r"(?<![\w.])[0-9]{1,3}+\.[0-9]{1,3}+\.[0-9]{1,3}+\.[0-9]{1,3}+(?![\w]|\.[0-9])")
_IP6: Final = re.compile(r"(?<![\w:.])[0-9A-Fa-f:]{4,39}+(?:\.[0-9]{1,3}){0,3}+(?![\w:])")
_MAC: Final = re.compile(r"(?<![\w:-])[0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}(?![\w:-])")
_URL: Final = re.compile(r"(?<![\w])(?:https?://|www\.)[^\s<>\"'\[\](){}|\\^`]{3,2000}+")
_EXTENSION: Final = re.compile(r" ?(?:x|ext\.? ?|extension )[0-9]{1,6}+(?![0-9])")
_DATE: Final = re.compile(
    r"[0-9]{4}([-.])[0-9]{1,2}\1[0-9]{1,2}(?![0-9])|[0-9]{1,2}([-.])[0-9]{1,2}\2[0-9]{4}(?![0-9])"
)
_BIRTH: Final = re.compile(
    r"[0-9]{1,2}[-./][0-9]{1,2}[-./](?:[0-9]{4}|[0-9]{2})(?![0-9])|[0-9]{4}[-./][0-9]{1,2}[-./][0-9]{1,2}(?![0-9])"
)  # fmt: skip
_TOKEN: Final = re.compile(r"(?<![A-Za-z0-9])[A-Za-z0-9-]{5,24}+(?![A-Za-z0-9])")


@dataclass(frozen=True, slots=True)
class _Told:
    """An identifier that a word nearby tells, and a form."""

    kind: str
    words: tuple[str, ...]
    digits: range
    check: Callable[[str], bool] = lambda _digits: True


# Numbers without a form of their own: the word before them and the check digit make them certain.
_TOLD: Final = (
    _Told("US_SSN", ("ssn", "social security"), range(9, 10), checksums.ssn),
    _Told("US_ITIN", ("itin", "taxpayer identification"), range(9, 10), lambda d: d[0] == "9"),
    _Told("UK_NHS", ("nhs",), range(10, 11), checksums.nhs),
    _Told("NL_BSN", ("bsn", "burgerservice"), range(9, 10), checksums.bsn),
    _Told("PL_PESEL", ("pesel",), range(11, 12), checksums.pesel),
    _Told("DE_TAX_ID", ("steuer", "idnr", "tax id"), range(11, 12), checksums.steuer_id),
    _Told("FR_NIR", ("sécurité sociale", "securite sociale", "nir", "insee"), range(15, 16), checksums.nir),
    _Told("BR_CPF", ("cpf",), range(11, 12), checksums.cpf),
    _Told("IN_AADHAAR", ("aadhaar", "aadhar", "uidai"), range(12, 13), checksums.aadhaar),
    _Told("US_BANK_NUMBER", ("account number", "account no", "acct", "account #", "bank account"), range(8, 18)),
)  # fmt: skip
# Letters and digits in a form of their own.
_FORMS: Final = (
    ("UK_NINO", re.compile(r"(?<![A-Za-z0-9])[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D](?![A-Za-z0-9])"),
     lambda _t: True),
    ("ES_NIF", re.compile(r"(?<![A-Za-z0-9])[XYZxyz]?[0-9]{7,8}+-?[A-Za-z](?![A-Za-z0-9])"),
     lambda t: checksums.dni(t.replace("-", ""))),
    ("IT_FISCAL_CODE", re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{6}[0-9]{2}[A-Za-z][0-9]{2}[A-Za-z][0-9]{3}[A-Za-z](?![A-Za-z0-9])"),
     checksums.codice_fiscale),
    ("CRYPTO", re.compile(r"(?<![A-Za-z0-9])(?:0x[0-9a-fA-F]{40}|bc1[02-9ac-hj-np-z]{25,59}+)(?![A-Za-z0-9])"),
     lambda _t: True),
    ("CRYPTO", re.compile(r"(?<![A-Za-z0-9])[13][1-9A-HJ-NP-Za-km-z]{25,34}+(?![A-Za-z0-9])"), checksums.base58check),
)  # fmt: skip
_PHONE_WORDS: Final = (
    "phone", "call", "tel", "mobile", "cell", "fax", "text me", "sms", "whatsapp", "reach", "contact", "dial",
    "number is", "number:", "my number", "ring", "registered", "answering", "messages to", "message to", "office", "telefon", "handy", "numéro", "teléfono", "móvil",
)  # fmt: skip
_PHONE_AFTER: Final = ("fax", "mobile", "office", "phone", "(home", "(cell", "(work")
_CARD_WORDS: Final = (
    "cc ",
    "card",
    "visa",
    "mastercard",
    "amex",
    "credit",
    "debit",
    "karte",
    "carte",
    "tarjeta",
)
_VERSION_WORDS: Final = ("version", "release", "build")
_BIRTH_WORDS: Final = ("born", "birth", "dob", "geboren", "née", "nacid")
_LICENCE_WORDS: Final = ("driver's licen", "driver’s licen", "drivers licen", "driver licen", "driving licen")
_PASSPORT_WORDS: Final = ("passport",)

_KIND_GROUPS: Final = {
    "form": frozenset(kind for kind, _, _ in _FORMS),
    "number": frozenset(("CREDIT_CARD", "PHONE_NUMBER", *(t.kind for t in _TOLD))),
}
PERSONAL_KINDS: Final = (
    "EMAIL_ADDRESS", "CREDIT_CARD", "IBAN_CODE", "PHONE_NUMBER", "IP_ADDRESS", "MAC_ADDRESS",
    *(t.kind for t in _TOLD), *dict.fromkeys(kind for kind, _, _ in _FORMS),
    "DATE_OF_BIRTH", "US_DRIVER_LICENSE", "PASSPORT", "URL",
)  # fmt: skip
"""All kinds that `find_personal` knows, named as Presidio names them where it has them."""

DEFAULT_KINDS: Final = frozenset(PERSONAL_KINDS) - {"URL"}
"""An address on the web is personal data in few texts only; ask for ``URL`` where it is."""


def find_personal(text: str, kinds: frozenset[str] = DEFAULT_KINDS) -> tuple[Finding, ...]:
    """What of `kinds` is in the text, in order, without overlaps. Never raises."""
    found: list[Finding] = []
    lower = lower_in_place(text)
    if "@" in text and "EMAIL_ADDRESS" in kinds:
        found += (Finding(m.start(), m.end(), "EMAIL_ADDRESS") for m in _EMAIL.finditer(text))
    if "EMAIL_ADDRESS" in kinds and (
        "at)" in lower or "at]" in lower or "at )" in lower or "@)" in lower or "@]" in lower
    ):
        found += (Finding(m.start(), m.end(), "EMAIL_ADDRESS", 0.9) for m in _EMAIL_TOLD.finditer(text))
    if "URL" in kinds and ("://" in text or "www." in text):
        found += (
            Finding(m.start(), m.start() + len(m.group().rstrip(".,;:!?")), "URL", 0.9)
            for m in _URL.finditer(text)
        )
    if ":" in text or "-" in text:
        found += _addresses(text, kinds)
    if _DIGITS.search(text):
        found += _with_digits(text, lower, kinds)
    return outermost(f for f in found if f.kind in kinds)


def _with_digits(text: str, lower: str, kinds: frozenset[str]) -> Iterator[Finding]:
    taken: list[Finding] = []
    if "IBAN_CODE" in kinds:
        taken += _ibans(text)
    if "." in text:
        taken += (
            Finding(m.start(), m.end(), "IP_ADDRESS", 0.95)
            for m in _IP4.finditer(text)
            if _of_somebody(m.group(), lower[max(0, m.start() - 12) : m.start()])
        )
    if not _KIND_GROUPS["form"].isdisjoint(kinds):
        for kind, form, check in _FORMS:
            taken += (
                Finding(m.start(), m.end(), kind, 0.9)
                for m in form.finditer(text)
                if check(m.group().replace(" ", ""))
            )
    yield from taken
    yield from _told_by_word(text, lower, kinds)
    if _KIND_GROUPS["number"].isdisjoint(kinds):
        return
    covered = outermost(taken)
    at = 0
    for match in _RUN.finditer(text):
        checkpoint()
        while at < len(covered) and covered[at].end <= match.start():
            at += 1
        if at < len(covered) and covered[at].start < match.end():
            continue
        yield from _numbers(text, lower, match.start(), match.end())


def _of_somebody(address: str, before: str) -> bool:
    """Whether four numbers are an address of a computer, and not of every computer, a mask, or a version."""
    parts = [int(part) for part in address.split(".")]
    common = parts[0] == 127 or parts[:2] == [255, 255] or not any(parts)
    return max(parts) <= 255 and not common and not before.rstrip(" :=").endswith(_VERSION_WORDS)


def _numbers(text: str, lower: str, start: int, end: int) -> Iterator[Finding]:
    """A run of digits and separators as what it is."""
    tokens = [m.span() for m in _DIGITS.finditer(text, start, end)]
    before = lower[max(0, start - _NEAR) : start]
    i, rest = 0, tokens[0][0]
    while i < len(tokens):
        told = any(w in before for w in _CARD_WORDS)
        j = _card(text, tokens, i, told=told)
        if j:
            if number := _identifier(text, lower, before, tokens, (rest, tokens[i][0])):
                yield number
            sure = told or tokens[j - 1][1] - tokens[i][0] > 13
            yield Finding(tokens[i][0], tokens[j - 1][1], "CREDIT_CARD", 1.0 if sure else 0.7)
            i, rest = j, tokens[j - 1][1]
        else:
            i += 1
    if number := _identifier(text, lower, before, tokens, (rest if rest != tokens[0][0] else start, end)):
        yield number


def _card(text: str, tokens: list[tuple[int, int]], first: int, *, told: bool) -> int:
    """The index after the last token of a card that begins with the token `first`, or 0."""
    digits, best = "", 0
    for j in range(first, min(len(tokens), first + 8)):
        if j > first and text[tokens[j - 1][1] : tokens[j][0]] not in (" ", "-", " - "):
            break
        digits += text[tokens[j][0] : tokens[j][1]]
        if len(digits) > 19:
            break
        if (
            len(digits) >= 12
            and (checksums.card(digits) or (told and checksums.luhn(digits)))
            and (j == first or j - first >= 2)
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
            tokens, start, "".join(text[a:b] for a, b in tokens), tuple(b - a for a, b in tokens),
            frozenset(text[a[1] : b[0]] for a, b in pairwise(tokens)),
        )  # fmt: skip

    def found(self, kind: str, score: float) -> Finding:
        """All groups as a finding."""
        return Finding(self.tokens[0][0], self.tokens[-1][1], kind, score)


def _identifier(
    text: str, lower: str, before: str, tokens: list[tuple[int, int]], bounds: tuple[int, int]
) -> Finding | None:
    """The identifier or phone number among the tokens inside `bounds`."""
    start, end = bounds
    tokens = [t for t in tokens if t[0] >= start and t[1] <= end]
    if not tokens:
        return None
    figures = _Figures.of(text, tokens, start)
    number = _told_number(figures, before) or _security_number(text, figures) or _by_groups(figures)
    if number:
        return number
    after = lower[end : end + 16]
    told = any(w in before for w in _PHONE_WORDS) or any(w in after for w in _PHONE_AFTER)
    score = _phone(text, figures, told=told)
    if not score:
        return None
    first, last = tokens[0][0], tokens[-1][1]
    extension = _EXTENSION.match(text, last)
    return Finding(
        start if text[start] in "+(" else first, extension.end() if extension else last, "PHONE_NUMBER", score
    )


def _told_number(figures: _Figures, before: str) -> Finding | None:
    digits = figures.digits
    told = [
        t for t in _TOLD if len(digits) in t.digits and any(w in before for w in t.words) and t.check(digits)
    ]
    if not told:
        return None
    best = max(told, key=lambda t: max(before.rfind(w) for w in t.words))
    return figures.found(best.kind, 0.85 if best.kind != "US_BANK_NUMBER" else 0.6)


def _security_number(text: str, figures: _Figures) -> Finding | None:
    tokens, sizes = figures.tokens, figures.sizes
    for n in range(len(tokens) - 2):  # also at the end of a longer run, as after a date
        three = tokens[n : n + 3]
        if sizes[n : n + 3] != (3, 2, 4) or any(text[a[1] : b[0]] != "-" for a, b in pairwise(three)):
            continue
        number = "".join(text[a:b] for a, b in three)
        if checksums.ssn(number):
            return Finding(three[0][0], three[2][1], "US_SSN", 0.85)
        if number[0] == "9":
            return Finding(three[0][0], three[2][1], "US_ITIN", 0.6)
    return None


def _by_groups(figures: _Figures) -> Finding | None:
    sizes, digits = figures.sizes, figures.digits
    if sizes == (3, 3, 3, 2) and checksums.cpf(digits):
        return figures.found("BR_CPF", 0.9)
    if sizes == (4, 4, 4) and figures.gaps <= {" ", "-"} and checksums.aadhaar(digits):
        return figures.found("IN_AADHAAR", 0.7)
    if len(sizes) >= 6 and checksums.nir(digits):
        return figures.found("FR_NIR", 0.8)
    return None


def _phone(text: str, figures: _Figures, *, told: bool) -> float:
    """How sure it is that this is a phone number; 0 if it isn't."""
    first, start, digits = figures.tokens[0][0], figures.start, figures.digits
    n, sizes = len(digits), figures.sizes
    if text[start] == "+" or text[start : start + 2] == "(+":
        return 0.9 if 7 <= n <= 15 else 0.0
    if n > 13 or sizes == (3, 2, 4) or _DATE.match(text, first):
        return 0.0
    if (first and text[first - 1] in "$€£¥#=") or text[max(0, first - 1) : first] == "-":
        return 0.0
    if score := _phone_by_form(figures):
        return score
    if "(" in text[start : first + 1] or any("(" in g or ")" in g for g in figures.gaps):
        return 0.6 if 7 <= n <= 13 else 0.0
    grouped = _grouped(sizes)
    if told and (grouped or (len(sizes) == 1 and 7 <= n <= 12)):
        return 0.65
    thousands = sizes[0] <= 3 and all(s == 3 for s in sizes[1:])
    if grouped and figures.gaps == {" "} and 8 <= n <= 12 and not thousands and 3 <= len(sizes) <= 5:
        return 0.5
    if grouped and figures.gaps == {"-"} and 7 <= n <= 12 and sizes[-1] == 4 and sizes[0] == 3:
        return 0.5
    return 0.0


def _grouped(sizes: tuple[int, ...]) -> bool:
    return len(sizes) > 1 and all(2 <= s <= 8 for s in sizes[1:]) and sizes[0] <= 5


def _phone_by_form(figures: _Figures) -> float:
    digits, sizes, gaps = figures.digits, figures.sizes, figures.gaps
    n = len(digits)
    nanp = digits[-10:-9] > "1" and digits[-7:-6] > "1" and (n == 10 or (n == 11 and digits[0] == "1"))
    if nanp and sizes[-3:] == (3, 3, 4):
        return 0.85
    if sizes == (3, 3, 4) and digits[0] > "1" and len(gaps) == 1:
        return 0.7
    if nanp and (sizes[-2:] == (3, 7) or sizes[-2:] == (6, 4)):
        return 0.6
    if _grouped(sizes) and digits[0] == "0" and 8 <= n <= 12 and "." not in gaps:
        return 0.75
    return 0.0


def _told_by_word(text: str, lower: str, kinds: frozenset[str]) -> Iterator[Finding]:
    for kind, words, form, reach in (
        ("DATE_OF_BIRTH", _BIRTH_WORDS, _BIRTH, 40),
        ("US_DRIVER_LICENSE", _LICENCE_WORDS, _TOKEN, 50),
        ("PASSPORT", _PASSPORT_WORDS, _TOKEN, 40),
    ):
        if kind not in kinds:
            continue
        for word in words:
            at = lower.find(word)
            while at >= 0:
                end = at + len(word)
                for m in form.finditer(text, end, min(len(text), end + reach + 24)):
                    if m.start() <= end + reach and sum(c.isdecimal() for c in m.group()) >= 5:
                        yield Finding(m.start(), m.end(), kind, 0.7)
                        break
                at = lower.find(word, end)


def _ibans(text: str) -> Iterator[Finding]:
    for match in _IBAN_HEAD.finditer(text):
        checkpoint()
        length = checksums.IBAN_LENGTHS.get(match.group()[:2].upper())
        if length is None:
            continue
        chars: list[str] = []
        at = match.start()
        while len(chars) < length and at < len(text):
            c = text[at]
            if c.isascii() and c.isalnum():
                chars.append(c)
            elif c not in " -" or (chars and text[at - 1] in " -"):
                break
            at += 1
        if len(chars) == length and checksums.iban("".join(chars)) and not text[at : at + 1].isalnum():
            yield Finding(match.start(), at, "IBAN_CODE")


def _addresses(text: str, kinds: frozenset[str]) -> Iterator[Finding]:
    if "MAC_ADDRESS" in kinds:
        for m in _MAC.finditer(text):
            yield Finding(m.start(), m.end(), "MAC_ADDRESS", 0.9)
    if "IP_ADDRESS" in kinds and text.count(":") >= 2:
        for m in _IP6.finditer(text):
            value = m.group()
            if (
                value.count(":") < 2
                or not any(c.isdecimal() for c in value)
                or sum(1 for p in value.split(":") if p) < 3
            ):
                continue
            try:
                ipaddress.IPv6Address(value)
            except ValueError:
                continue
            yield Finding(m.start(), m.end(), "IP_ADDRESS", 0.9)
