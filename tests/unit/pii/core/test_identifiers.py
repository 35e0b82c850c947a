"""Identifiers of many countries: numbers made with valid check digits, written in several ways, and what only looks alike."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Iterator

import pytest

from tenantgate.pii.core import DEFAULT_KINDS, PERSONAL_KINDS, find_personal, find_secrets
from tenantgate.pii.core.identifier_checks import check_of
from tenantgate.pii.core.identifier_table import IDENTIFIERS
from tenantgate.time_left import OutOfTimeError, limited

ALL = frozenset(PERSONAL_KINDS)
R = random.Random(19)


def digits(n: int, first: str = "123456789") -> str:
    return R.choice(first) + "".join(R.choice("0123456789") for _ in range(n - 1))


def date(form: str = "%y%m%d") -> str:
    year, month, day = R.randint(1950, 2004), R.randint(1, 12), R.randint(1, 28)
    return (
        form.replace("%Y", str(year))
        .replace("%y", f"{year % 100:02d}")
        .replace("%m", f"{month:02d}")
        .replace("%d", f"{day:02d}")
    )


def until(check: str, make: Callable[[], str]) -> Iterator[str]:
    """Numbers that pass the check."""
    passes = check_of(check)
    while True:
        made = make()
        if passes(made):
            yield made


def with_check_digit(module: str, make: Callable[[], str]) -> Callable[[], str]:
    """Numbers whose last digits are python-stdnum's own."""
    stdnum = importlib.import_module(f"stdnum.{module}")
    calculate = getattr(stdnum, "calc_check_digits", None) or stdnum.calc_check_digit

    def one() -> str:
        while True:
            number = make()
            made: str = number + str(calculate(number))
            if stdnum.is_valid(made):
                return made

    return one


# kind: a word before it, a maker of valid numbers, and how it is written.
MADE: dict[str, tuple[str, Callable[[], str], Callable[[str], str]]] = {
    "FR_SIRET": (
        "SIRET :",
        lambda: next(until("fr.siret", lambda: digits(14))),
        lambda n: f"{n[:3]} {n[3:6]} {n[6:9]} {n[9:]}",
    ),
    "FR_SIREN": ("SIREN", with_check_digit("luhn", lambda: digits(8)), lambda n: f"{n[:3]} {n[3:6]} {n[6:]}"),
    "FR_NIR": (
        "numéro de sécurité sociale",
        lambda: next(until("fr.nir", lambda: "1" + date("%y%m") + "75" + digits(8, "0123456789"))),
        lambda n: n,
    ),
    "AU_ABN": (
        "ABN",
        lambda: next(until("au.abn", lambda: digits(11))),
        lambda n: f"{n[:2]} {n[2:5]} {n[5:8]} {n[8:]}",
    ),
    "AU_TFN": (
        "my tax file number is",
        lambda: next(until("au.tfn", lambda: digits(9))),
        lambda n: f"{n[:3]} {n[3:6]} {n[6:]}",
    ),
    "AU_ACN": ("ACN", with_check_digit("au.acn", lambda: digits(8)), lambda n: n),
    "BR_CNPJ": (
        "CNPJ",
        with_check_digit("br.cnpj", lambda: digits(12)),
        lambda n: f"{n[:2]}.{n[2:5]}.{n[5:8]}/{n[8:12]}-{n[12:]}",
    ),
    "BR_CPF": (
        "CPF",
        lambda: next(until("cpf", lambda: digits(11))),
        lambda n: f"{n[:3]}.{n[3:6]}.{n[6:9]}-{n[9:]}",
    ),
    "AR_CUIT": (
        "CUIT",
        with_check_digit("ar.cuit", lambda: "20" + digits(8)),
        lambda n: f"{n[:2]}-{n[2:10]}-{n[10:]}",
    ),
    "CL_RUT": (
        "RUT",
        with_check_digit("cl.rut", lambda: digits(8, "12")),
        lambda n: f"{n[:2]}.{n[2:5]}.{n[5:8]}-{n[8:]}",
    ),
    "US_EIN": ("EIN:", lambda: next(until("us.ein", lambda: digits(9))), lambda n: f"{n[:2]}-{n[2:]}"),
    "CA_SIN": (
        "SIN:",
        lambda: next(until("ca.sin", lambda: digits(9))),
        lambda n: f"{n[:3]}-{n[3:6]}-{n[6:]}",
    ),
    "CH_AHV": (
        "AHV-Nummer",
        with_check_digit("ean", lambda: "756" + digits(9)),
        lambda n: f"{n[:3]}.{n[3:7]}.{n[7:11]}.{n[11:]}",
    ),
    "DE_TAX_ID": (
        "Steuer-ID",
        with_check_digit("iso7064.mod_11_10", lambda: digits(10)),
        lambda n: f"{n[:2]} {n[2:5]} {n[5:8]} {n[8:]}",
    ),
    "AT_SVNR": (
        "SV-Nummer",
        lambda: next(until("at.vnr", lambda: digits(4) + date("%d%m%y"))),
        lambda n: f"{n[:4]} {n[4:]}",
    ),
    "NL_BSN": ("BSN", lambda: next(until("bsn", lambda: digits(9))), lambda n: f"{n[:4]}.{n[4:6]}.{n[6:]}"),
    "BE_NATIONAL_NUMBER": (
        "rijksregisternummer",
        lambda: next(until("be.nn", lambda: date() + digits(5, "0123456789"))),
        lambda n: f"{n[:2]}.{n[2:4]}.{n[4:6]}-{n[6:9]}.{n[9:]}",
    ),
    "ES_NIF": (
        "DNI",
        lambda: (n := digits(8)) + "TRWAGMYFPDXBNJZSQVHLCKE"[int(n) % 23],
        lambda n: f"{n[:8]}-{n[8]}",
    ),
    "PT_NIF": (
        "NIF",
        with_check_digit("pt.nif", lambda: digits(8, "12")),
        lambda n: f"{n[:3]} {n[3:6]} {n[6:]}",
    ),
    "IT_VAT_CODE": ("partita IVA", with_check_digit("luhn", lambda: "0" + digits(6) + "010"), lambda n: n),
    "GR_AFM": ("ΑΦΜ", with_check_digit("gr.vat", lambda: digits(8)), lambda n: n),
    "SE_PERSONNUMMER": (
        "personnummer",
        with_check_digit("luhn", lambda: date() + digits(3)),
        lambda n: f"{n[:6]}-{n[6:]}",
    ),
    "NO_FODSELSNUMMER": (
        "fødselsnummer",
        lambda: next(until("no.fodselsnummer", lambda: date("%d%m%y") + digits(5))),
        lambda n: f"{n[:6]} {n[6:]}",
    ),
    "FI_PERSONAL_IDENTITY_CODE": (
        "henkilötunnus",
        lambda: (
            d := date("%d%m%y"),
            s := digits(3, "123456789"),
            d + "-" + s + "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(d + s) % 31],
        )[2],
        lambda n: n,
    ),
    "PL_PESEL": ("PESEL", with_check_digit("pl.pesel", lambda: date() + digits(4)), lambda n: n),
    "PL_NIP": (
        "NIP",
        lambda: next(until("pl.nip", lambda: digits(10))),
        lambda n: f"{n[:3]}-{n[3:6]}-{n[6:8]}-{n[8:]}",
    ),
    "CZ_BIRTH_NUMBER": (
        "rodné číslo",
        lambda: next(until("cz.rc", lambda: date() + digits(4))),
        lambda n: f"{n[:6]}/{n[6:]}",
    ),
    "RO_CNP": ("CNP", lambda: next(until("ro.cnp", lambda: "1" + date() + "40" + digits(4))), lambda n: n),
    "HR_OIB": ("OIB", with_check_digit("iso7064.mod_11_10", lambda: digits(10)), lambda n: n),
    "BG_EGN": ("ЕГН", lambda: next(until("bg.egn", lambda: date() + digits(4))), lambda n: n),
    "EE_IK": ("isikukood", with_check_digit("ee.ik", lambda: "3" + date() + digits(3)), lambda n: n),
    "RU_INN": ("ИНН", lambda: next(until("ru.inn", lambda: digits(10))), lambda n: n),
    "RU_SNILS": (
        "СНИЛС",
        lambda: next(until("ru_snils", lambda: digits(11))),
        lambda n: f"{n[:3]}-{n[3:6]}-{n[6:9]} {n[9:]}",
    ),
    "TR_TCKN": ("TC Kimlik No:", lambda: next(until("tr.tckimlik", lambda: digits(11))), lambda n: n),
    "IL_ID": ("תעודת זהות", with_check_digit("luhn", lambda: digits(8)), lambda n: n),
    "ZA_ID": (
        "ID number",
        lambda: next(until("za.idnr", lambda: date() + digits(4) + "08" + digits(1, "0123456789"))),
        lambda n: f"{n[:6]} {n[6:10]} {n[10:]}",
    ),
    "IN_PAN": ("PAN", lambda: "ABCP" + R.choice("KLM") + digits(4) + "X", lambda n: n),
    "IN_AADHAAR": (
        "Aadhaar",
        lambda: next(until("aadhaar", lambda: digits(12, "23456789"))),
        lambda n: f"{n[:4]} {n[4:8]} {n[8:]}",
    ),
    "CN_RIC": (
        "身份证号",
        with_check_digit("cn.ric", lambda: "110105" + date("%Y%m%d") + digits(3)),
        lambda n: n,
    ),
    "KR_RRN": ("주민등록번호", lambda: date() + "1" + digits(6), lambda n: f"{n[:6]}-{n[6:]}"),
    "JP_MY_NUMBER": (
        "マイナンバー",
        with_check_digit("jp.in_", lambda: digits(11)),
        lambda n: f"{n[:4]} {n[4:8]} {n[8:]}",
    ),
    "SG_NRIC_FIN": (
        "NRIC",
        lambda: next(until("sg_nric", lambda: "S" + digits(7) + R.choice("ABCDEFGHIZJ"))),
        lambda n: n,
    ),
    "TH_TNIN": (
        "เลขประจำตัวประชาชน",
        with_check_digit("th.pin", lambda: digits(12, "12345678")),
        lambda n: f"{n[0]}-{n[1:5]}-{n[5:10]}-{n[10:12]}-{n[12]}",
    ),
    "MX_CURP": (
        "CURP",
        lambda: next(until("mx.curp", lambda: "BOXW" + date() + "HNERXN0" + R.choice("0123456789"))),
        lambda n: n,
    ),
    "UK_NHS": (
        "NHS number",
        lambda: next(until("nhs", lambda: digits(10))),
        lambda n: f"{n[:3]} {n[3:6]} {n[6:]}",
    ),
    "IMEI": ("IMEI", with_check_digit("luhn", lambda: "35" + digits(12)), lambda n: n),
    "BANK_ACCOUNT": ("CLABE", lambda: next(until("clabe", lambda: "012" + digits(15))), lambda n: n),
}


@pytest.mark.parametrize("kind", MADE)
def test_numbers_with_valid_check_digits_are_found_beside_their_word(kind: str) -> None:
    word, make, write = MADE[kind]
    for n in range(6):
        value = make() if n % 2 else write(make())
        text = f"Bonjour, {word} {value}, thanks."
        found = [f for f in find_personal(text, ALL) if text[f.start : f.end] == value and f.score >= 0.5]
        assert found, (text, find_personal(text, ALL))
        if n == 0:
            assert find_personal(text, frozenset({kind})), text


@pytest.mark.parametrize("kind", sorted(k for k in MADE if k not in ("IN_PAN", "KR_RRN", "BANK_ACCOUNT")))
def test_a_wrong_check_digit_is_no_finding_of_that_kind(kind: str) -> None:
    word, make, _ = MADE[kind]
    rows = [row for row in IDENTIFIERS if row.kind == kind]
    for _ in range(20):
        value = make()
        wrong = value[:-1] + R.choice("0123456789")
        if wrong != value and not any(check_of(row.check)(wrong) for row in rows):
            assert not find_personal(f"{word} {wrong}", frozenset({kind}))


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("UK_NINO", "national insurance number AB123456C", "AB123456C"),
        ("ES_NIE", "NIE X-1234567-L", "X-1234567-L"),
        ("IT_FISCAL_CODE", "codice fiscale RSS MRA 85T10 A562S", "RSS MRA 85T10 A562S"),
        ("DE_SOCIAL_SECURITY", "Rentenversicherungsnummer 15 070649 C 103", "15 070649 C 103"),
        ("HK_ID", "HKID A123456(3)", "A123456(3)"),
        ("DK_CPR", "CPR-nummer 211062-5629", "211062-5629"),
        ("MX_RFC", "RFC GODE561231GR8", "GODE561231GR8"),
        ("VIN", "WVWZZZ1KZ6W386752 is the Fahrgestellnummer, chassis WVWZZZ1KZ6W386752", "WVWZZZ1KZ6W386752"),
        ("VIN", "the car 1M8GDM9AXKP042788 was sold", "1M8GDM9AXKP042788"),
        ("LICENSE_PLATE", "Kennzeichen B-MW 1234", "B-MW 1234"),
        ("LICENSE_PLATE", "number plate AB12 CDE", "AB12 CDE"),
        ("LICENSE_PLATE", "plaque d'immatriculation AB-123-CD", "AB-123-CD"),
        ("PASSPORT", "Reisepass C01X00T47", "C01X00T47"),
        ("PASSPORT", "护照号码 E12345678", "E12345678"),
        ("DRIVER_LICENSE", "Führerschein: B072RRE2I55", "B072RRE2I55"),
        ("BANK_ACCOUNT", "Kontonummer 1234567890", "1234567890"),
        ("NATIONAL_ID", "national id card AB-9876543", "AB-9876543"),
        ("SWIFT_CODE", "BIC: DEUTDEFF500", "DEUTDEFF500"),
        ("SWIFT_CODE", "the SWIFT code is COBADEFF", "COBADEFF"),
        (
            "MRZ",
            "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<\nL898902C36UTO7408122F1204159ZE184226B<<<<<10",
            None,
        ),
        ("STREET_ADDRESS", "1600 Pennsylvania Avenue NW, Washington, DC 20500", None),
        ("STREET_ADDRESS", "10 Downing Street, London SW1A 2AA", None),
        ("STREET_ADDRESS", "Hauptstraße 12, 10115 Berlin", None),
        ("STREET_ADDRESS", "12 bis rue de la Paix, 75002 Paris", None),
        ("STREET_ADDRESS", "Calle Mayor 5, 28013 Madrid", None),
        ("STREET_ADDRESS", "my address is 221B Baker Street", "221B Baker Street"),
        ("MAC_ADDRESS", "card 001b.4411.3ab7", "001b.4411.3ab7"),
        (
            "CRYPTO",
            "send to bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq",
            "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq",
        ),
    ],
)
def test_forms_of_their_own(kind: str, text: str, value: str | None) -> None:
    found = {f.kind: text[f.start : f.end] for f in find_personal(text, ALL) if f.score >= 0.5}
    assert found.get(kind) == (value or text)


@pytest.mark.parametrize(
    "born",
    [
        "born on the «3rd of March 1985»",
        "née le «12 mars 1990»",
        "né le «1er janvier 1990»",
        "DOB: «03/04/1985»",
        "geboren am «5. Mai 1979»",
        "Geburtsdatum: «5.5.1979»",
        "nació el «4 de julio de 1980»",
        "nata il «7 giugno 1991»",
        "nascido em «3 de maio de 1988»",
        "生年月日：«1985年3月12日»",
        "생년월일 «1985년 3월 12일»",
        "дата рождения: «12 марта 1985»",
        "date of birth «1985-03-12»",
        "urodzona «4 maja 1990»",
        "born «March 3rd, 1985»",
        "born on the «third of March, nineteen eighty-five»",
        "doğum tarihi «5 Mayıs 1988»",
        "fecha de nacimiento: «12/03/1985»",
    ],
)
def test_dates_of_birth_in_numbers_and_words(born: str) -> None:
    text = born.replace("«", "").replace("»", "")
    (found,) = find_personal(text, frozenset({"DATE_OF_BIRTH"}))
    assert (found.start, found.end) == (born.index("«"), born.index("»") - 1)


@pytest.mark.parametrize(
    "written",
    [
        "call me at «06 12 34 56 78»",
        "mon numéro est le «06.12.34.56.78»",
        "Telefon: «0151 23456789»",
        "ruf mich an: «030/901820»",
        "mi móvil es «612 345 678»",
        "meu celular é «(11) 91234-5678»",
        "cellulare «347 123 4567»",
        "bel me op «06-12345678»",
        "zadzwoń pod «601-234-567»",
        "tlf. «40 61 23 45»",
        "ring mig på «070-123 45 67»",
        "puhelin «040 1234567»",
        "мой телефон «8 (912) 345-67-89»",
        "电话：«138 1234 5678»",
        "手机«13812345678»",
        "携帯は«090-1234-5678»です",
        "전화 «010-1234-5678»",
        "my mobile is «98765 43210»",
        "โทร «081-234-5678»",
        "sđt «0912 345 678»",
        "telp «0812-3456-7890»",
        "هاتف «050 123 4567»",
        "cep telefonum «0532 123 45 67»",
        "Mobile: «07700 900123»",
        "«+33 6 12 34 56 78»",
        "«0033 6 12 34 56 78»",
        "«+7 912 345-67-89»",
        "contact no «91234567»",
        "«02 9876 5432»",
        "τηλ. «694 123 4567»",
        "מספר טלפון «052-1234567»",
    ],
)
def test_phone_numbers_as_they_are_written_at_home(written: str) -> None:
    text = written.replace("«", "").replace("»", "")
    (found,) = find_personal(text, DEFAULT_KINDS)
    assert found.kind == "PHONE_NUMBER"
    assert found.score >= 0.5
    assert (found.start, found.end) == (written.index("«"), written.index("»") - 1)


@pytest.mark.parametrize(
    "text",
    [
        "See section 3.14.15.92 of the spec.",
        "Upgrade from 10.15.7.2 to 10.15.7.3.",
        "macOS 10.15.7.2 is out",
        "git clone git@github.com:acme/app.git",
        "git@gitlab.example.com:group/project",
        "ssh deploy@host.example.com",
        "scp file root@server.example.com:/tmp",
        "npm i @types/node@18.0.0 react@18.2.0",
        "image app@sha256:9f86d081884c7d65",
        "@app.route('/x')",
        "icon@2x.png",
        "foo@1.2.3",
        "Order #0123456789 shipped",
        "order number 123-456-7890",
        "ISBN 0-306-40615-2",
        "tracking 1Z999AA10123456784",
        "1700000000123456789",
        "2024-01-05T10:15:30.123Z",
        "01.02.2024 - 05.02.2024",
        "population 67 390 000",
        "pi = 3.14159265358979323846",
        "sha 3f2504e04f8911d39a0c0305e82c3301",
        "uuid 550e8400-e29b-41d4-a716-446655440000",
        "RFC 2119 and RFC 8259",
        "ein Haus mit 123456789 Fenstern",
        "pan 12 times",
        "12-34-56",
        "part number 12-3456789",
        "S1234567A",
        "ABCDE1234F",
        "Chrome/118.0.5993.70",
        "serial 12345678",
        "std::vector<int>::iterator",
        "12:34:56",
        "item 529982247",
        "my dog was born in March",
        "10 Close friends",
        "1 2 3 4 5 6 7 8 9 10 11 12",
        "10 20 30 40 50",
        "1000 2000 3000",
        "2019 2020 2021 2022",
        "call 911",
        "123456789",
        "1234567890",
        "11122233344",
        "plate 12345",
        "RGB 255 255 255",
        "the passport was renewed in 2019",
        "lat 52.520008 lon 13.404954",
        "x = a[1:10:2]",
        "12 345 678 people",
        "Your ticket number is 4471220983",
        "The meeting id is 873 4521 9087",
        "192.168.0.0/16 is private",
        "a distance of 1200-1000=<<1200-1000=200>>200 km",
        "30,000-3000=27000",
        "(3600/6000)*100% = 60%",
    ],
)
def test_numbers_and_signs_that_only_look_alike(text: str) -> None:
    assert [
        (f.kind, text[f.start : f.end]) for f in find_personal(text, DEFAULT_KINDS) if f.score >= 0.5
    ] == []


@pytest.mark.parametrize("check", sorted({row.check for row in IDENTIFIERS}))
def test_every_check_of_the_table_can_be_had(check: str) -> None:
    assert callable(check_of(check))


@pytest.mark.parametrize("unit", ["12 34 56 ", "a1 ", "4111111111111111 ", "born 1.2.1980 ", "ssn 123 "])
def test_personal_data_in_a_long_text_is_looked_for_until_the_deadline(unit: str) -> None:
    with limited(-1), pytest.raises(OutOfTimeError):
        find_personal(unit * 500)


@pytest.mark.parametrize("unit", ["password=a ", "sk-ant-api03-aaaaaaaaaaaaaaaaaaaa1 ", "://a:b@c "])
def test_secrets_in_a_long_text_are_looked_for_until_the_deadline(unit: str) -> None:
    with limited(-1), pytest.raises(OutOfTimeError):
        find_secrets(unit * 500)
