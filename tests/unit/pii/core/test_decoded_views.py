"""What a text may be read as: escapes of every kind, nested, and the way back to the characters that stand there."""

from __future__ import annotations

import base64
import contextlib
import html
import json
import quopri
import re
import urllib.parse
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantgate.pii.core import (
    PERSONAL_REACH,
    SECRETS_REACH,
    Finding,
    Reach,
    Readings,
    TooDeepError,
    find_at_last,
    find_in_views,
    find_personal,
    find_secrets,
    normalise,
    readings,
)
from tenantgate.pii.core import decoded_views as views
from tenantgate.pii.core.decoded_views import DEPTH

MAIL = "nina.roe@example.com"
KEY = "ghp_" + "aB3" * 12
VALUES = (MAIL, "4111 1111 1111 1111", "DE89370400440532013000", KEY, "+49 30 901820")


def find(text: str) -> tuple[Finding, ...]:
    return (*find_personal(text), *find_secrets(text))


def found(text: str) -> list[str]:
    return [text[f.start : f.end] for f in find_in_views(text, find, reach=SECRETS_REACH)]


def each(form: str) -> Callable[[str], str]:
    return lambda text: "".join(form.format(ord(c)) for c in text)


def styled(text: str, first: int) -> str:
    """With capitals of another alphabet."""
    return "".join(chr(first + ord(c) - ord("A")) if "A" <= c <= "Z" else c for c in text)


def wrapped(text: str, width: int, between: str) -> str:
    """In base64, in lines of so many letters."""
    whole = base64.b64encode(("the value that you asked for is " + text + " and no more").encode()).decode()
    return "\n" + between.join(whole[i : i + width] for i in range(0, len(whole), width)) + "\n"


ENCODINGS: dict[str, Callable[[str], str]] = {
    "json": lambda t: json.dumps(t)[1:-1],
    "unicode": each("\\u{:04x}"),
    "braces": each("\\u{{{:x}}}"),
    "long": each("\\U{:08X}"),
    "hex": each("\\x{:02x}"),
    "octal": each("\\{:03o}"),
    "percent": each("%{:02X}"),
    "percent u": each("%u{:04x}"),
    "query": urllib.parse.quote_plus,
    "decimal": each("&#{:d};"),
    "decimal open": each("&#{:d}"),
    "hexadecimal": each("&#x{:X};"),
    "named": lambda t: t.replace("@", "&commat;").replace(".", "&period;").replace(" ", "&nbsp;"),
    "html": html.escape,
    "mail": each("={:02X}"),
    "mail lines": lambda t: quopri.encodestring(("x" * 68 + " " + t).encode()).decode(),
    "code points": each("U+{:04X}"),
    "java": each("\\uuu{:04x}"),
    "zeros": each("&#x00000000{:x};"),
    "tags": lambda t: t[:6] + "<b></b><!-- no -->" + t[6:],
    "tag fillers": "\U000e0020".join,
    "on black": lambda t: styled(t, 0x1F170),
    "in brackets": lambda t: styled(t, 0x1F110),
    "of flags": lambda t: styled(t, 0x1F1E6),
    "cdata": lambda t: "<![CDATA[" + t[:6] + "]]><![CDATA[" + t[6:] + "]]>",
    "coloured": lambda t: "\x1b[01;31m\x1b[K" + t[:6] + "\x1b[1m" + t[6:] + "\x1b[m\x1b[K",
    "name": lambda t: t.replace("@", "\\N{COMMERCIAL AT}"),
    "markdown": lambda t: t.replace("@", "\\@").replace(".", "\\.").replace("_", "\\_"),
    "base64": lambda t: base64.b64encode(t.encode()).decode(),
    "base64 url": lambda t: base64.urlsafe_b64encode(f"mail: {t}?".encode()).decode().rstrip("="),
    "base64 wide": lambda t: base64.b64encode(t.encode("utf-16-le")).decode(),
    "base64 lines": lambda t: base64.encodebytes(
        ("the value that you asked for is " + t).encode() * 3
    ).decode(),
    "base64 narrow": lambda t: wrapped(t, 20, "\n"),
    "base64 indented": lambda t: wrapped(t, 64, "\n    "),
    "base64 quoted": lambda t: wrapped(t, 40, "\r\n> "),
    "base64 comment": lambda t: wrapped(t, 32, "\n// "),
    "base64 marked": lambda t: base64.b64encode(("the value: " + t).encode("utf-16")).decode(),
    "base64 big endian": lambda t: base64.b64encode(t.encode("utf-16-be")).decode(),
    "base64 widest": lambda t: base64.b64encode(t.encode("utf-32-le")).decode(),
    "base64 glued": lambda t: "/a/b" + base64.b64encode(t.encode()).decode(),
    "base32": lambda t: base64.b32encode(t.encode()).decode(),
    "hex bytes": lambda t: t.encode().hex(),
    "hex dump": lambda t: t.encode().hex(" "),
    "binary": lambda t: " ".join(f"{b:08b}" for b in t.encode()),
    "codes": lambda t: ", ".join(str(b) for b in t.encode()),
}


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("value", VALUES)
def test_every_encoding_shows_what_it_holds(name: str, value: str) -> None:
    text = f"The value is {ENCODINGS[name](value)} indeed."
    assert any(value in f.view.text for f in readings(text)) or name == "named"
    assert found(text)


@given(st.lists(st.sampled_from(list(ENCODINGS)), min_size=2, max_size=3), st.sampled_from(VALUES[:4]))
@settings(max_examples=200, deadline=None)
def test_encodings_nest(names: list[str], value: str) -> None:
    text = value
    for name in names:
        text = ENCODINGS[name](text)
    doubted = {"octal", "tags", "cdata", "coloured", "query", "mail", "mail lines", "code points"}
    beyond_16_bits = {"tag fillers", "on black", "in brackets", "of flags"}
    if (doubted | beyond_16_bits).isdisjoint(names):
        assert found(f"It is {text} indeed.")


@pytest.mark.parametrize("last", ["codes", "java", "hex bytes", "base64", "base64 glued", "base64 lines"])
@pytest.mark.parametrize("first", ["hex bytes", "hex dump", "binary", "codes", "base64", "base32"])
def test_text_within_a_run_does_not_go_on_in_what_is_text_by_chance(first: str, last: str) -> None:
    for value in VALUES:
        inner = ENCODINGS["base64 glued"](ENCODINGS[first](value))
        assert found(f"It is {inner} indeed.")
        assert found(f"It is {ENCODINGS[last](inner)} indeed.")


def test_a_dump_of_bytes_may_begin_as_codes_do() -> None:
    dump = ENCODINGS["hex dump"]("christies@example.com")  # "63 68 72 69 …"
    assert found(f"It is {dump} indeed.") == [dump]


@pytest.mark.parametrize("levels", range(1, DEPTH))
def test_json_in_json_in_json(levels: int) -> None:
    text = f"Regards\n{MAIL}"
    for _ in range(levels):
        text = json.dumps({"text": text, "list": ["\\", 'a "b"']})
    assert found(text) == [MAIL]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'"Best regards\nnina@example.com"', "nina@example.com"),
        (r"Best regards\nnina@example.com", "nina@example.com"),
        (r'{"a": "x\tnina@example.com\r\n"}', "nina@example.com"),
        (r'{"a": "x\u000anina@example.com"}', "nina@example.com"),
        (r'["pw: ", {"password": "hunter22\nNext line"}]', "hunter22"),
        ("'nina@example.com'", "nina@example.com"),
        ("o'brien@example.com", "o'brien@example.com"),
        (r"{'a': 'x\nnina@example.com'}", "nina@example.com"),
        ("<a href='mailto:nina%40example.com'>", "nina%40example.com"),
        ("nina&#64;example.com", "nina&#64;example.com"),
        ("\uff4e\uff49\uff4e\uff41%40example.com", "\uff4e\uff49\uff4e\uff41%40example.com"),
        ("%EF%BD%8Enina@example.com", "%EF%BD%8Enina@example.com"),
        ("ni\\u200bna@example.com", "ni\\u200bna@example.com"),
    ],
)
def test_a_finding_is_the_value_and_whole_escapes(text: str, value: str) -> None:
    assert found(text) == [value]


def test_a_plain_text_has_no_other_reading() -> None:
    plain = "What is the capital of France, and how do I get there by train (with 2 children)?"
    assert len(list(readings(plain))) == 1


def test_escapes_below_the_depth_are_refused() -> None:
    text = MAIL
    for _ in range(DEPTH + 1):
        text = urllib.parse.quote(text)
    with pytest.raises(TooDeepError):
        found(text)


@given(
    st.text(alphabet=st.one_of(st.sampled_from("\\%&=+U;#xu0aAnN{}\"' 41/"), st.characters()), max_size=80)
)
@settings(max_examples=300, deadline=None)
def test_every_span_of_a_reading_lies_in_the_text(text: str) -> None:
    try:
        for reading in readings(text):
            view = reading.view
            assert len(view.text) <= 4 * len(text)
            last = 0
            for i in range(len(view.text)):
                start, end = view.span(i, i + 1)
                assert last <= end <= len(text)
                assert start < end
                assert view.span(0, i + 1)[1] == end
                last = end
                low, high = view.around(start, end)
                assert low <= i < high
                low, high = view.inside(start, end)
                assert low <= i < high
    except TooDeepError:
        pass


@given(st.text(max_size=40), st.sampled_from(VALUES[:4]), st.text(max_size=40))
@settings(max_examples=150, deadline=None)
def test_a_finding_in_json_is_found_as_it_would_be_outside(before: str, value: str, after: str) -> None:
    inner = f"{before} {value} {after}"
    plain = {f.kind for f in find(normalise(inner).text)} | {f.kind for f in find(inner)}
    with contextlib.suppress(TooDeepError):
        assert plain <= {f.kind for f in find_in_views(json.dumps([inner]), find)}


def test_readings_are_made_once_and_a_failure_stays() -> None:
    asked = []

    def between() -> None:
        asked.append(1)
        if len(asked) == 3:
            raise ValueError("over")

    made = Readings(json.dumps(json.dumps(json.dumps("a\n"))), between)
    for _ in range(2):
        with pytest.raises(ValueError, match="over"):
            find_in_views(made, find)
    assert len(asked) == 3


def test_a_costly_detector_reads_the_text_and_what_is_near_an_escape() -> None:
    text = "x " * 500 + "a%2540b" + " y" * 500 + " &lt;b&gt;"
    read: list[str] = []
    find_at_last(text, lambda t: read.append(t) or (), around=5)  # type: ignore[func-returns-value]
    assert read == [text, "x x a@b y y", " y y <b>"]
    ((start, end),) = [
        (f.start, f.end)
        for f in find_at_last(
            text,
            lambda t: tuple(Finding(t.index("a@b"), t.index("a@b") + 3, "X") for _ in [0] if "a@b" in t),
            around=5,
        )
    ]
    assert text[start:end] == "a%2540b"


def test_a_costly_detector_reads_a_doubtful_escape_and_not_the_others_twice() -> None:
    text = "x " * 500 + "a%40b" + " y" * 500 + " 1+1" + " z" * 500
    read: list[str] = []
    find_at_last(text, lambda t: read.append(t) or (), around=5)  # type: ignore[func-returns-value]
    assert read == [text, "x x a@b y y", "y y 1 1 z z"]


@pytest.mark.parametrize(
    "piece",
    [
        "\\",
        "\\n",
        "\\\\n",
        "%",
        "%25",
        "&",
        "&amp;",
        "&#",
        "=",
        "=3D",
        "=\n",
        "+",
        "a+",
        "U+0041",
        "41 ",
        "41",
        "aGVsbG8g",
        "{",
        "[",
        '"',
        '\\"',
        '{"a":',
        "QUJD\n",
        "0x41, ",
        "01000001 ",
        "65, ",
        "\u0430",
        "a\u0430",
    ],
)
def test_readings_are_no_longer_than_the_text_and_few(piece: str) -> None:
    text = piece * 400
    try:
        made = list(readings(text))
    except TooDeepError:
        return
    assert len(made) <= 4 * DEPTH
    assert all(len(r.view.text) <= len(text) for r in made)


TOLD = (
    f"write to {MAIL}, please",
    "card 4111 1111 1111 1111 exp 12/27",
    "IBAN DE89370400440532013000",
    f"GITHUB_TOKEN={KEY}",
    "call +49 30 901820 or (030) 901820",
    "born on 7 May 1981 in Rome",
    "my password is hunter2",
    'password: "correct horse battery"',
    "order number 4111111111111112",
    "DB_PASSWORD=letmein\nDB_USER=me",
    "postgres://me:s3cr3t@db.example.com/x",
    "NHS number 943 476 5919",
    "Hauptstraße 12, 10115 Berlin",
    "aws secret wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXAMPLEKEY1",
    "192.168.10.254",
    "driver's license number U62928788",
    "version 10.0.19.45",
    "Authorization: Bearer abcdef0123456789abcdef",
    "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<\nL898902C36UTO7408122F1204159ZE184226B<<<<<10",
    "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0" * 8 + ".c2lnbmF0dXJl",
    "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA\n" * 9 + "-----END RSA PRIVATE KEY-----",
)
PROSE = (
    "and so on ",
    "The next line, then. ",
    "x\n",
    "a b ",
    '{"k": "v"} ',
    "f(x) + g(y)\n",
    "“quoted” – ",
    "аdmin ",
    "1 2 3 ",
)
MARKS = (
    "&amp;",
    "%20",
    "\\n",
    '\\"',
    "&nbsp;",
    "a+b",
    "<b>",
    "\\u0041",
    "\\101",
    "=3D",
    "%2B1",
    "\\\\n",
    "QWxsIGlzIHdlbGwsIHRoYW5rIHlvdQ==",
)
PARTS = st.one_of(
    st.sampled_from(TOLD),
    st.sampled_from(MARKS),
    st.tuples(st.sampled_from(PROSE), st.integers(1, 60)).map(lambda p: p[0] * p[1]),
    st.tuples(st.sampled_from(list(ENCODINGS)), st.sampled_from(TOLD)).map(lambda p: ENCODINGS[p[0]](p[1])),
    st.tuples(st.sampled_from(TOLD), st.sampled_from(MARKS), st.integers(0, 40)).map(
        lambda p: p[0][: p[2]] + p[1] + p[0][p[2] :]
    ),
)
FINDERS = {"personal data": (find_personal, PERSONAL_REACH), "secrets": (find_secrets, SECRETS_REACH)}


def searched(text: str, name: str, reach: Reach | None) -> tuple[Finding, ...] | None:
    try:
        return find_in_views(text, FINDERS[name][0], reach=reach)
    except TooDeepError:
        return None


@pytest.mark.parametrize("name", FINDERS)
@given(st.lists(PARTS, min_size=1, max_size=8), st.sampled_from(("", "json", "query", "html", "percent")))
@settings(max_examples=100, deadline=None)
def test_the_search_near_changes_finds_what_the_search_of_all_readings_finds(
    name: str, parts: list[str], outer: str
) -> None:
    text = "".join(parts)
    text = ENCODINGS[outer](text) if outer else text
    assert searched(text, name, FINDERS[name][1]) == searched(text, name, None)


@pytest.mark.parametrize("mark", MARKS[::3])
@pytest.mark.parametrize("far", [0, 105, 400])
@pytest.mark.parametrize("name", FINDERS)
def test_the_search_near_a_change_finds_what_is_there(name: str, far: int, mark: str) -> None:
    filler = ("word " * 200)[:far]
    for told in TOLD:
        for text in (
            f"{mark}{filler}{told}",
            f"{told}{filler}{mark}",
            f"{told[:9]}{mark}{told[9:]}{filler}",
            f"{told[:-4]}{mark}{told[-4:]}",
        ):
            whole = f"{'so ' * 250}{text}{' so' * 250}"
            assert searched(whole, name, FINDERS[name][1]) == searched(whole, name, None)


def test_a_search_too_near_finds_less() -> None:
    text = "I was b&#111;rn on 7 May 1981 in Rome."
    assert searched(text, "personal data", Reach(0, 0)) != searched(text, "personal data", None)


def test_where_words_end_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0

    class Counting:
        def search(self, text: str, at: int) -> re.Match[str] | None:
            nonlocal looked
            found = re.compile(r"\s").search(text, at)
            looked += (found.start() if found else len(text)) - at
            return found

    monkeypatch.setattr(views, "_BLANK", Counting())
    text = ("x" * 1000 + "%41") * 100
    find_in_views(text, lambda _: (), reach=PERSONAL_REACH)
    assert looked <= len(text)


def test_what_is_far_from_a_change_is_read_once() -> None:
    read: list[int] = []
    text = "so " * 3000 + "a%2540b" + " so" * 3000

    def count(piece: str) -> tuple[Finding, ...]:
        read.append(len(piece))
        return ()

    find_in_views(text, count, reach=PERSONAL_REACH)
    assert sum(read) < 1.2 * len(text)
