"""Forms that everybody reads alike, and those that are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.llm import Refusal
from tenantgate.llm.form import Form, boundary_of, parse


def part(head: bytes, content: bytes = b"v") -> bytes:
    return b"--B\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


NAME = b'Content-Disposition: form-data; name="%s"'
FILE = part(b'Content-Disposition: form-data; name="file"; filename="a"\r\nContent-Type: audio/mpeg', b"\x00")
END = b"--B--\r\n"


@given(
    st.dictionaries(
        st.from_regex(r"[a-z_]{1,9}", fullmatch=True).filter(lambda n: n != "file"),
        st.text(st.characters(exclude_categories=["Cs"])).filter(lambda t: "--B" not in t),
        max_size=4,
    )
)
def test_what_is_written_is_read_again(texts: dict[str, str]) -> None:
    made = Form(b"B", {}, (FILE[5:-2],)).written(texts)
    found = parse(made)
    assert isinstance(found, Form)
    assert found.texts == texts
    assert found.written(found.texts) == made


@given(st.binary(max_size=60))
def test_nothing_is_raised(raw: bytes) -> None:
    for body in (raw, b"--B\r\n" + raw, b"--B\r\n" + raw + b"\r\n" + END):
        assert isinstance(parse(body), Form | Refusal)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no boundary",
        b"--\r\n",
        END,
        part(NAME % b"a"),
        part(NAME % b"a") + b"--B--junk",
        part(NAME % b"a") + b"--Bjunk\r\n" + part(NAME % b"b")[5:] + END,
        part(NAME % b"a") + part(NAME % b"a") + END,
        part(NAME % b"file") + FILE + END,
        part(NAME % b"model" + b'; filename="m"') + END,
        part(b"Content-Type: text/plain") + END,
        part(NAME % b"a" + b"\r\n" + NAME % b"b") + END,
        part(b"Content-Disposition: form-data; name=a") + END,
        part(b'Content-Disposition: attachment; name="a"') + END,
        part(NAME % b"a", b"\xff") + END,
        b"--B\r\n" + NAME % b"a" + b"\r\n" + END,
        part(NAME % b"a") * 101 + END,
    ],
)
def test_other_forms_are_refused(raw: bytes) -> None:
    assert isinstance(parse(raw), Refusal)


def test_lists_pass_as_they_are() -> None:
    both = part(NAME % b"timestamp_granularities[]", b"word") + part(
        NAME % b"timestamp_granularities[]", b"segment"
    )
    found = parse(both + FILE + END)
    assert isinstance(found, Form)
    assert (found.texts, len(found.files)) == ({}, 3)
    assert found.written({}) == both + FILE + END


@pytest.mark.parametrize(
    ("kind", "boundary"),
    [
        ("multipart/form-data; boundary=B", b"B"),
        ('Multipart/Form-Data;boundary="a b"', b"a b"),
        ("multipart/form-data", None),
        ("multipart/form-data; boundary=B; boundary=C", None),
        ("multipart/mixed; boundary=B", None),
        ("application/json", None),
    ],
)
def test_the_boundary_of_a_type(kind: str, boundary: bytes | None) -> None:
    assert boundary_of(kind) == boundary
