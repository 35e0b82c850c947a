"""Dates of birth: a date, in numbers or in words, near a word that tells of a birth."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from tenantgate.pii.core.finding import Finding
from tenantgate.time_left import check_time

__all__ = ["find_births"]

_REACH: Final = 40  # characters between the word and the date
_LONGEST: Final = 48
_WORD: Final = 24  # characters of a word that tells of a birth
_MANY: Final = 64

_WORDS: Final = re.compile(
    r"(?<![^\W_])(?:born|birth\w{0,8}|d\.?o\.?b\b|geb(?:oren|\.|urts\w{0,8})|née?\b|naissance|naci\w{0,6}|nasc\w{0,8}|nat[oa]\b|"
    r"urodz\w{0,6}|(?<= )ur\.|født|fødsels\w{0,6}|född|födelse\w{0,6}|synty\w{0,8}|geboorte\w{0,8}|narozen\w{0,4}|született|születés\w{0,4}|"
    r"născut\w{0,2}|naștere|rođen\w{0,3}|rojen\w{0,3}|doğum\w{0,4}|doğdu\w{0,2}|lahir|tanggal lahir|sinh|γεννήθηκα|γεννησ\w{0,4}|γέννησης|"
    r"родил\w{0,4}|рожд\w{0,6}|народ\w{0,8}|роден\w{0,4})|生年月日|出生|生日|생년월일|태어|생일|เกิด|ولد|الميلاد|מולד|נולד|जन्म"
)
_MONTHS: Final = (
    "jan|januar|january|janvier|enero|ene|gennaio|gen|janeiro|januari|jänner|stycznia|tammikuu|tammikuuta|ledna|január|ianuarie|ocak|января|січня|janúar|"
    "feb|februar|february|février|févr|fevrier|febrero|febbraio|fevereiro|fev|februari|lutego|helmikuuta|února|február|februarie|şubat|февраля|лютого|"
    "mar|mär|mrz|märz|march|mars|marzo|março|maart|mrt|marca|maaliskuuta|března|március|martie|mart|марта|березня|"
    "apr|april|avril|avr|abril|abr|aprile|kwietnia|huhtikuuta|dubna|április|aprilie|nisan|апреля|квітня|"
    "may|mai|mayo|maggio|mag|maio|mei|maj|maja|toukokuuta|května|május|mayıs|мая|травня|"
    "jun|june|juni|juin|junio|giugno|giu|junho|czerwca|kesäkuuta|června|június|iunie|haziran|июня|червня|"
    "jul|july|juli|juillet|juil|julio|luglio|lug|julho|lipca|heinäkuuta|července|július|iulie|temmuz|июля|липня|"
    "aug|august|août|aout|agosto|ago|augustus|augusti|sierpnia|elokuuta|srpna|augusztus|ağustos|августа|серпня|"
    "sep|sept|september|septembre|septiembre|settembre|set|setembro|września|syyskuuta|září|szeptember|septembrie|eylül|сентября|вересня|"
    "oct|okt|october|oktober|octobre|octubre|ottobre|ott|outubro|out|października|lokakuuta|října|október|octombrie|ekim|октября|жовтня|"
    "nov|november|novembre|noviembre|novembro|listopada|marraskuuta|listopadu|noiembrie|kasım|ноября|листопада|"
    "dec|dez|dic|december|dezember|décembre|decembre|diciembre|dicembre|dezembro|desember|grudnia|joulukuuta|prosince|decembrie|aralık|декабря|грудня"
)
_MONTH: Final = rf"(?:{'|'.join(sorted(set(_MONTHS.split('|')), key=len, reverse=True))})(?![^\W\d_])\.?"
_YEAR: Final = r"(?:(?:19|20)[0-9]{2}(?![0-9])|nineteen[ -][a-z]{3,9}(?:[ -][a-z]{3,5})?|two thousand(?: and)?(?:[ -][a-z]{3,9}){0,2})"
_ORDINAL: Final = (
    r"(?:(?:twenty|thirty)[ -])?(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth)|tenth|eleventh|twelfth|"
    r"thirteenth|fourteenth|fifteenth|sixteenth|seventeenth|eighteenth|nineteenth|twentieth|thirtieth"
)
_DAY: Final = rf"(?:[0-3]?[0-9](?:st|nd|rd|th|er|\.|º|ª|-го|e)?|{_ORDINAL})"
_OF: Final = r"(?:,? ?(?:of|de|del|di|do|den|the|-|/|'n) ?|[ ,.-]{1,2})"
_DATE: Final = re.compile(
    r"(?<![0-9])(?:[0-9]{1,2}[-./ ][0-9]{1,2}[-./ ](?:(?:19|20)[0-9]{2}|[0-9]{2})(?![0-9])|"
    r"(?:19|20)[0-9]{2}[-./ ][0-9]{1,2}[-./ ][0-9]{1,2}(?![0-9])|"
    r"(?:19|20)[0-9]{2}[01][0-9][0-3][0-9](?![0-9])|[0-3][0-9][01][0-9](?:19|20)[0-9]{2}(?![0-9])|"
    r"(?:19|20)[0-9]{2} ?[年년] ?[0-9]{1,2} ?[月월] ?[0-9]{1,2} ?[日일]?)|"
    rf"(?<![\w])(?:{_DAY}{_OF}{_MONTH}{_OF}{_YEAR}|{_MONTH} ?{_DAY},? {_YEAR}|{_YEAR}[ -]{_MONTH}[ -][0-3]?[0-9](?![0-9]))"
)


# One of these is in each of the words.
_STEMS: Final = (
    "born",
    "birth",
    "dob",
    "d.o",
    "geb",
    "né",
    "naissance",
    "naci",
    "nasc",
    "nato ",
    "nata ",
    "urodz",
    "ur. ",
    "fød",
    "föd",
    "synty",
    "narozen",
    "szül",
    "născ",
    "naș",
    "rođen",
    "rojen",
    "doğ",
    "lahir",
    "sinh",
    "γενν",
    "γέν",
    "ро",
    "生",
    "생",
    "태어",
    "เกิด",
    "ول",
    "ميلاد",
    "מולד",
    "נולד",
    "जन्म",
)
_ASCII_STEMS: Final = tuple(stem for stem in _STEMS if stem.isascii())


def find_births(text: str, lower: str) -> Iterator[Finding]:
    """Dates near a word that tells of a birth; `lower` is `text` in lower case, each character where it was.

    Raises:
        OutOfTimeError: the text is longer than there is time for (`time_left.limited`).
    """
    stems = [stem for stem in (_ASCII_STEMS if lower.isascii() else _STEMS) if stem in lower]
    for n, word in enumerate(word for a, b in _near(lower, stems) for word in _WORDS.finditer(lower, a, b)):
        if n % _MANY == 0:
            check_time()
        end = min(len(text), word.end() + _REACH + _LONGEST)
        date = _DATE.search(lower, word.end(), end)
        if date and date.start() - word.end() <= _REACH:
            yield Finding(date.start(), date.end(), "DATE_OF_BIRTH", 0.75)


def _near(lower: str, stems: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where a word that holds one of `stems` may stand, in order and apart."""
    high = low = -1
    for at in sorted(m.start() for stem in stems for m in re.finditer(re.escape(stem), lower)):
        if at - _WORD > high:
            if high >= 0:
                yield low, high
            low = max(0, at - _WORD)
        high = at + 2 * _WORD
    if high >= 0:
        yield low, high
