"""Laws of masking: JSON stays JSON, only values change, and all comes back as it was, wherever it is put."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantgate.pii.core import (
    Finding,
    Placeholders,
    find_in_views,
    find_personal,
    find_secrets,
    mask,
    recover,
)
from tenantgate.pii.core.json_text import CellKind, cells, quoted

VALUES = ("nina.roe@example.com", "4111 1111 1111 1111", "DE89370400440532013000", "ghp_" + "aB3" * 12)
PEM = "-----BEGIN PRIVATE KEY-----\n" + "MIIEvQIBADANBgkqhkiG9w0B\n" * 3 + "-----END PRIVATE KEY-----"

words = st.sampled_from(
    ["", "a", "Best regards\n", 'say "hi" ', "C:\\new\\", "\t", "ü ", "\u2028", "{", "[1, 2] ", "it's '"]
)
texts = st.lists(st.one_of(words, st.sampled_from([f" {v} " for v in VALUES])), max_size=4).map("".join)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-9, 9), st.sampled_from([4111111111111111, 1.5]), texts
)
documents = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3) | inner.map(json.dumps)
    ),
    max_leaves=8,
)


def find(text: str) -> tuple[Finding, ...]:
    return (*find_personal(text), *find_secrets(text))


def masked(text: str) -> tuple[str, Placeholders]:
    placeholders = Placeholders()
    placeholders.avoid(text)
    return mask(text, find_in_views(text, find), placeholders).text, placeholders


def back(text: str, placeholders: Placeholders) -> str:
    known = Placeholders.loads(placeholders.dumps())
    return recover(text, known.originals, known.spellings)[0]


def same_shape(one: Any, other: Any) -> bool:
    """Whether two values differ in texts and numbers only."""
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same_shape, one, other))
    if isinstance(one, dict):
        return isinstance(other, dict) and same_shape(list(one.values()), list(other.values()))
    return one == other or (isinstance(one, str | int | float) and isinstance(other, str))


@given(documents, st.sampled_from([None, 2]), st.booleans())
@settings(max_examples=300, deadline=None)
def test_masked_json_is_json_and_comes_back(document: Any, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only)
    if not isinstance(document, list | dict):
        text = json.dumps([document])
    new, placeholders = masked(text)
    assert same_shape(json.loads(text), json.loads(new))
    assert back(new, placeholders) == text
    for value in VALUES:
        assert value not in new


@given(texts, documents, texts)
@settings(max_examples=200, deadline=None)
def test_json_within_prose_comes_back(before: str, document: Any, after: str) -> None:
    text = f"{before} {json.dumps({'a': document})} {after}"
    new, placeholders = masked(text)
    assert back(new, placeholders) == text


@pytest.mark.parametrize(
    ("text", "new"),
    [
        (r'"Best regards\nnina@example.com"', r'"Best regards\n[EMAIL_ADDRESS_1]"'),
        (r"Best regards\nnina@example.com", r"Best regards\n[EMAIL_ADDRESS_1]"),
        ("'nina@example.com'", "'[EMAIL_ADDRESS_1]'"),
        ("\u201cnina@example.com\u201d", "\u201c[EMAIL_ADDRESS_1]\u201d"),
        ('{"card":4111111111111111}', '{"card":"[CREDIT_CARD_1]"}'),
        ('{"card":[4111111111111111,"4111111111111111"]}', '{"card":["[CREDIT_CARD_1]","[CREDIT_CARD_2]"]}'),
        (r'{"a":"{\"card\":4111111111111111}"}', r'{"a":"{\"card\":\"[CREDIT_CARD_1]\"}"}'),
        (
            "cards (4111111111111111) and [4111111111111111 or so]",
            "cards ([CREDIT_CARD_1]) and [[CREDIT_CARD_1] or so]",
        ),
        (r'{"a": "x\nnina@example.com', r'{"a": "x\n[EMAIL_ADDRESS_1]'),
        (r'{"nina@example.com": "nina\u0040example.com"}', '{"[EMAIL_ADDRESS_1]": "[EMAIL_ADDRESS_2]"}'),
        ("https://x.example/?to=nina%40example.com&b=1", "https://x.example/?to=[EMAIL_ADDRESS_1]&b=1"),
    ],
)
def test_only_the_value_changes(text: str, new: str) -> None:
    made, placeholders = masked(text)
    assert made == new
    assert back(made, placeholders) == text


@pytest.mark.parametrize(
    ("text", "back_again"),
    [
        ("Use [PRIVATE_KEY_1].", f"Use {PEM}."),
        ('{"key": "[PRIVATE_KEY_1]"}', json.dumps({"key": PEM})),
        (
            json.dumps({"a": json.dumps({"key": "[PRIVATE_KEY_1]"})}),
            json.dumps({"a": json.dumps({"key": PEM})}),
        ),
        ('{"key": "[PRIVATE_KEY_1]', json.dumps({"key": PEM})[:-2]),
    ],
)
def test_an_original_is_written_as_its_new_place_needs_it(text: str, back_again: str) -> None:
    _, placeholders = masked(PEM)
    assert back(text, placeholders) == back_again


def test_what_is_found_in_json_comes_back_plain_in_prose() -> None:
    _, placeholders = masked(json.dumps({"key": PEM, "mail": "nina\u0040example.com"}))
    assert back("[PRIVATE_KEY_1]", placeholders) == PEM


def test_a_finding_over_several_values_leaves_the_structure() -> None:
    text = '{"a": "one", "b": 12, "c": true}'
    new = mask(text, [Finding(2, len(text) - 1, "X")]).text
    assert json.loads(new) == {"[X_1]": "[X_2]", "[X_3]": "[X_4]", "[X_5]": "[X_6]"}


@given(st.text(alphabet=st.sampled_from('{}[]",:\\ nu0a1-.\n'), max_size=60))
@settings(max_examples=300, deadline=None)
def test_cells_are_all_of_the_text(text: str) -> None:
    at = 0
    for cell in cells(text).all:
        assert cell.start == at
        at = cell.end
    assert at == len(text)


@given(documents)
@settings(max_examples=150, deadline=None)
def test_cells_hold_the_values(document: Any) -> None:
    text = json.dumps([document])
    found = [c for c in cells(text).all if c.kind is CellKind.SCALAR and c.depth == 0]
    assert [text[c.start : c.end] for c in found] == list(_plain_scalars(document))
    for cell in cells(text).all:
        if cell.depth == 1 and cell.kind is CellKind.TEXT and "\\u" not in text:
            low, high = cell.view.around(cell.start, cell.end)
            assert quoted(cell.view.text[low:high], 1) == text[cell.start : cell.end]


def _plain_scalars(value: Any) -> Any:
    if isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _plain_scalars(item)
    elif not isinstance(value, str):
        yield json.dumps(value)
