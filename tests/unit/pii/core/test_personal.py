from __future__ import annotations

import pytest

from tenantgate.pii.core import PERSONAL_KINDS, find_personal
from tenantgate.pii.core.checksums import card, iban, luhn, ssn

ALL = frozenset(PERSONAL_KINDS)


@pytest.mark.parametrize(
    ("kind", "before", "value"),
    [
        ("EMAIL_ADDRESS", "write to ", "jane.doe+x@mail.example.co.uk"),
        ("EMAIL_ADDRESS", "", "müller@bücher.example"),
        ("EMAIL_ADDRESS", "at ", "jane (at) example (dot) com"),
        ("CREDIT_CARD", "card ", "4111 1111 1111 1111"),
        ("CREDIT_CARD", "card ", "4111-1111-1111-1111"),
        ("CREDIT_CARD", "", "378282246310005"),
        ("CREDIT_CARD", "pay with ", "5555555555554444"),
        ("IBAN_CODE", "to ", "DE89 3704 0044 0532 0130 00"),
        ("IBAN_CODE", "to ", "GB82WEST12345698765432"),
        ("US_SSN", "", "078-05-1120"),
        ("US_SSN", "social security number ", "078051120"),
        ("PHONE_NUMBER", "call ", "+49 (0)30 901820"),
        ("PHONE_NUMBER", "", "(212) 555-0187"),
        ("PHONE_NUMBER", "my number is ", "212-555-0187x42"),
        ("PHONE_NUMBER", "call me on ", "0490 39 07 81"),
        ("IP_ADDRESS", "host ", "192.168.10.254"),
        ("IP_ADDRESS", "host ", "2001:db8:85a3::8a2e:370:7334"),
        ("MAC_ADDRESS", "", "00:1B:44:11:3A:B7"),
        ("UK_NINO", "", "AB 12 34 56 C"),
        ("UK_NHS", "NHS number ", "943 476 5919"),
        ("ES_NIF", "DNI ", "12345678Z"),
        ("IT_FISCAL_CODE", "", "RSSMRA85T10A562S"),
        ("BR_CPF", "", "529.982.247-25"),
        ("FR_NIR", "", "2 55 08 14 168 025 38"),
        ("NL_BSN", "BSN ", "111222333"),
        ("PL_PESEL", "PESEL ", "44051401359"),
        ("CRYPTO", "to ", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"),
        ("DATE_OF_BIRTH", "born on ", "7/5/1981"),
        ("US_DRIVER_LICENSE", "driver's license number is ", "U62928788"),
        ("PASSPORT", "passport number ", "X12345678"),
        ("URL", "see ", "https://example.com/jane"),
    ],
)
def test_finds_what_has_a_form(kind: str, before: str, value: str) -> None:
    text = f"Please {before}{value}, thanks."
    found = [f for f in find_personal(text, ALL) if f.kind == kind]
    assert found, find_personal(text, ALL)
    assert text[found[0].start : found[0].end] == value


@pytest.mark.parametrize(
    "text",
    [
        "The total of 1 234 567 dollars was paid on 2024-02-24 at 12:45:18.",
        "Version 3.9.3 follows 3.9.2.",
        "In 2016-2017 there were 10000 visitors and 250000 calls.",
        "The order 4111111111111112 was shipped.",  # fails Luhn's check
        "DE89 3704 0044 0532 0130 01 is no account.",
        "000-12-3456 and 666-12-3456 were never given out.",
        "user@localhost and a@b",
        "std::vector<int> and a::b",
        "timestamp 1700000000123",
        "pi is 3.14159265358979",
        "ISBN 978-3-16-148410-0",
        "2^64 is 18446744073709551616",
        "It listens on 127.0.0.1:8000 and 0.0.0.0, with the mask 255.255.255.0; call it there.",
        "Version 4.18.2.1 and release: 10.0.19.45, build 192.168.10.254",
    ],
)
def test_leaves_other_numbers_alone(text: str) -> None:
    assert find_personal(text) == ()


def test_a_card_is_found_before_another_number() -> None:
    text = "4111 1111 1111 1111 12/27 123"
    (found,) = find_personal(text)
    assert text[found.start : found.end] == "4111 1111 1111 1111"


def test_only_the_kinds_that_are_asked_for() -> None:
    text = "jane@example.com, 192.168.10.254, +49 30 901820"
    assert [f.kind for f in find_personal(text, frozenset({"IP_ADDRESS"}))] == ["IP_ADDRESS"]


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (luhn, "79927398713", "79927398710"),
        (card, "6011111111111117", "1234567812345670"),
        (iban, "FR1420041010050500013M02606", "FR1420041010050500013M02607"),
        (ssn, "078051120", "900123456"),
    ],
)
def test_check_digits(check: object, good: str, bad: str) -> None:
    assert callable(check)
    assert check(good)
    assert not check(bad)
