"""Personal data that has a form: addresses, numbers and identifiers, proved by check digits where they have any.

What each sort looks like is in modules of their own; here is what is looked for when, and what goes before what.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from tenantgate.pii.core import checksums
from tenantgate.pii.core.birth import find_births
from tenantgate.pii.core.documents import find_bank_codes, find_mrz, find_streets
from tenantgate.pii.core.finding import Finding, Reach, lower_in_place, outermost
from tenantgate.pii.core.identifiers import IDENTIFIER_KINDS, digit_groups, find_identifiers
from tenantgate.pii.core.numbers import find_numbers
from tenantgate.pii.core.online import find_computers, find_mail, find_urls, find_wallets
from tenantgate.time_left import check_time

__all__ = ["DEFAULT_KINDS", "PERSONAL_KINDS", "PERSONAL_REACH", "find_personal"]

_MANY: Final = 8  # groups between two looks at the clock
_DIGIT: Final = re.compile("[0-9]")

PERSONAL_REACH: Final = Reach(200, 112)
"""Of `find_personal`: a postal address is the longest, a date of birth is told from farthest."""

PERSONAL_KINDS: Final = (
    "EMAIL_ADDRESS",
    "CREDIT_CARD",
    "IBAN_CODE",
    "PHONE_NUMBER",
    "IP_ADDRESS",
    "MAC_ADDRESS",
    "CRYPTO",
    "DATE_OF_BIRTH",
    "MRZ",
    "STREET_ADDRESS",
    *IDENTIFIER_KINDS,
    "URL",
)
"""All kinds that `find_personal` knows, named as Presidio names them where it has them."""

DEFAULT_KINDS: Final = frozenset(PERSONAL_KINDS) - {"URL"}
"""An address on the web is personal data in few texts only; ask for ``URL`` where it is."""


def find_personal(text: str, kinds: frozenset[str] = DEFAULT_KINDS) -> tuple[Finding, ...]:
    """What of `kinds` is in the text, in order, without overlaps.

    Raises:
        OutOfTimeError: the text is longer than there is time for (`time_left.limited`).
    """
    found: list[Finding] = []
    lower = lower_in_place(text)
    if "EMAIL_ADDRESS" in kinds:
        found += find_mail(text, lower)
    if "URL" in kinds:
        found += find_urls(text)
    if "DATE_OF_BIRTH" in kinds:
        found += find_births(text, lower)
    if "MRZ" in kinds:
        found += find_mrz(text)
    if "SWIFT_CODE" in kinds:
        found += find_bank_codes(text, lower)
    if _DIGIT.search(text):
        found += _with_digits(text, lower, kinds)
    return outermost(f for f in found if f.kind in kinds)


def _with_digits(text: str, lower: str, kinds: frozenset[str]) -> Iterator[Finding]:
    check_time()
    groups = digit_groups(text)
    taken: list[Finding] = []
    if "IBAN_CODE" in kinds:
        taken += _ibans(text, groups)
    check_time()
    taken += find_computers(text, lower, groups, kinds)
    if "CRYPTO" in kinds:
        taken += find_wallets(text, groups)
    check_time()
    taken += find_identifiers(text, lower, groups, kinds)
    if "STREET_ADDRESS" in kinds:
        yield from find_streets(text, lower, groups)
    yield from taken
    if not kinds.isdisjoint(("CREDIT_CARD", "PHONE_NUMBER", "US_SSN")):
        yield from find_numbers(text, lower, outermost(taken))


def _ibans(text: str, groups: Sequence[tuple[int, int]]) -> Iterator[Finding]:
    for n, (start, end) in enumerate(groups):
        if n % _MANY == 0:
            check_time()
        if end - start < 4 or not text[start : start + 2].isalpha():
            continue
        length = checksums.IBAN_LENGTHS.get(text[start : start + 2].upper())
        if length is None or not text[start + 2 : start + 4].isdecimal():
            continue
        chars: list[str] = []
        at = start
        while len(chars) < length and at < len(text):
            c = text[at]
            if c.isascii() and c.isalnum():
                chars.append(c)
            elif c not in " -.\u00a0" or (chars and text[at - 1] in " -.\u00a0"):
                break
            at += 1
        if len(chars) == length and checksums.iban("".join(chars)) and not _goes_on(text[at : at + 1]):
            yield Finding(start, at, "IBAN_CODE")


def _goes_on(c: str) -> bool:
    """Whether an identifier goes on with this character: no other script's letter does so."""
    return c.isascii() and c.isalnum()
