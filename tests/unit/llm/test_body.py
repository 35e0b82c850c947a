"""The one reading of a request body: tables of spellings, and the laws that hold for all of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bodies
from bodies import said
from tenantgate.devhost import lua
from tenantgate.llm import Document, Limits, Reason, Refusal, media_problem, read, write


def document(raw: bytes) -> Document:
    found = read(raw)
    assert isinstance(found, Document), found
    return found


@pytest.mark.parametrize("name", bodies.REFUSED)
def test_what_two_parsers_could_read_differently_is_refused(name: str) -> None:
    raw, status, code = bodies.REFUSED[name]
    refused = read(raw)
    assert isinstance(refused, Refusal)
    assert (refused.reason.status, refused.reason.value) == (status, code)


@pytest.mark.parametrize("name", bodies.MISTYPED)
def test_a_member_of_another_type_is_named(name: str) -> None:
    raw, param = bodies.MISTYPED[name]
    refused = read(raw)
    assert isinstance(refused, Refusal)
    assert (refused.reason, refused.param) == (Reason.NOT_CHAT, param)
    assert refused.message.startswith(param)


@pytest.mark.parametrize("name", bodies.KEPT)
def test_what_an_sdk_writes_stays_to_the_byte(name: str) -> None:
    found = document(bodies.KEPT[name])
    assert (found.raw, found.rewritten, found.altered) == (bodies.KEPT[name], False, False)


@pytest.mark.parametrize("name", bodies.REWRITTEN)
def test_the_same_in_other_words_becomes_the_same(name: str) -> None:
    raw, written = bodies.REWRITTEN[name]
    found = document(raw)
    assert (found.raw, found.rewritten) == (written, True)
    assert found.altered == ("null" in name)
    assert not document(written).rewritten


@pytest.mark.parametrize("kind", bodies.TYPES)
def test_only_plain_json_is_read(kind: str) -> None:
    problem = media_problem([kind], [])
    assert (problem is None) == bodies.TYPES[kind]
    assert problem is None or problem.reason.status == 415


@pytest.mark.parametrize(
    ("types", "encodings", "fine"),
    [
        ([], [], True),
        ([""], [], False),
        (["application/json"] * 2, [], False),
        (["application/json", "text/plain"], [], False),
        (["application/json"], ["identity"], True),
        (["application/json"], [""], True),
        (["application/json"], ["gzip"], False),
        (["application/json"], ["identity, br"], False),
        (["application/json"], ["identity", "deflate"], False),
        (["application/json;" + " ;" * 4000 + "x"], [], False),
    ],
)
def test_types_and_encodings_together(types: list[str], encodings: list[str], fine: bool) -> None:
    assert (media_problem(types, encodings) is None) == fine


def test_a_refusal_has_openais_shape_and_none_of_the_content() -> None:
    canary = "canary-pelican"
    raws = [
        said(f'"{canary}'),
        said(f'"{canary}","{canary}":1,"{canary}":2'),
        said(f'"{canary}\ud800"'),
        said(f'{{"{canary}":1}}'),
        said(more=f',"{canary}":NaN'),
        said(f'"{canary}\\q"'),
        said(f"{canary}"),
        said(more=f',"x":{"9" * 500}'),
        said(role=f'["{canary}"]'),
        canary.encode(),
    ]
    for raw in raws:
        refused = read(raw)
        assert isinstance(refused, Refusal)
        error = json.loads(refused.body(request_id="r-1"))["error"]
        assert set(error) == {"message", "type", "param", "code", "request_id"}
        assert canary not in json.dumps(error)
        assert "999" not in error["message"]


def test_limits_hold_to_the_number() -> None:
    few = Limits(size=200, depth=4, nodes=9, messages=2, name=9, digits=5)

    def refused(raw: bytes) -> Reason | None:
        found = read(raw, few)
        return found.reason if isinstance(found, Refusal) else None

    assert refused(said()) is None
    assert refused(said('"' + "a" * 200 + '"')) is Reason.TOO_LARGE
    assert refused(said(more=',"x":[[]]')) is None
    assert refused(said(more=',"x":[[1,2,3,4]]')) is Reason.TOO_LARGE
    assert refused(said(more=',"x":[[[]]]')) is None
    assert refused(said(more=',"x":[[[[]]]]')) is Reason.TOO_DEEP
    assert refused(said('",,,,[[[["')) is None
    assert refused(said(more=',"123456789":1')) is None
    assert refused(said(more=',"1234567890":1')) is Reason.TOO_LARGE
    assert refused(said(more=',"x":1.345')) is None
    assert refused(said(more=',"x":1.3456')) is Reason.NOT_JSON
    assert refused(b'{"messages":[' + b",".join([b'{"role":"u"}'] * 2) + b"]}") is None
    assert refused(b'{"messages":[' + b",".join([b'{"role":"u"}'] * 3) + b"]}") is Reason.TOO_LARGE


# -- laws --------------------------------------------------------------------------------------------------


@given(bodies.mutated() | st.binary(max_size=60))
@settings(max_examples=150, deadline=None)
def test_the_reading_of_what_was_written_is_the_same(raw: bytes) -> None:
    found = read(raw)
    if isinstance(found, Document):
        again = document(found.raw)
        assert (again.raw, again.body, again.rewritten, again.altered) == (
            found.raw,
            found.body,
            False,
            False,
        )


@given(bodies.mutated())
@settings(max_examples=150, deadline=None)
def test_kong_reads_and_sends_what_we_read(raw: bytes) -> None:
    """lua-cjson reads what we have written as we do, and what it writes is the same document again."""
    found = read(raw)
    if isinstance(found, Document):
        theirs = lua.decode(found.raw)
        assert theirs == found.body
        sent = json.loads(lua.encode(theirs))
        assert same(sent, found.body)
        # Where a large body is left as the client wrote it, they read the same in that.
        if not found.altered:
            assert same(json.loads(lua.encode(lua.decode(raw))), found.body)


@given(bodies.DOCUMENTS)
@settings(max_examples=60, deadline=None)
def test_any_spelling_of_a_document_is_written_alike(value: Any) -> None:
    tidy = read(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass"))
    for options in ({}, {"indent": 2}, {"ensure_ascii": True, "separators": (" , ", " :\n")}):
        other = read(json.dumps(value, **options).encode())
        if isinstance(tidy, Document):
            assert isinstance(other, Document)
            assert other.raw == tidy.raw
        else:
            assert isinstance(other, Refusal)


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers())
def test_a_number_is_what_lua_makes_of_it(number: float) -> None:
    found = read(said(more=f',"x":{number!r}'))
    if isinstance(found, Document):
        assert float(found.body["x"]) == float(f"{float(number):.16g}")
    else:
        assert abs(number) > 1.7e308


def test_every_digit_that_kong_sends_of_a_whole_number_is_read() -> None:
    for digits in range(1, 21):
        for raw in ("9" * digits, "1" + "0" * (digits - 1), "4111111111111111222"[:digits]):
            value = document(said(more=f',"x":{raw}')).body["x"]
            assert isinstance(value, int)
            assert write(value) == (str(value)).encode()


def same(a: Any, b: Any) -> bool:
    """Equal, numbers as doubles, and a flag is no number."""
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, int | float) and isinstance(b, int | float):
        return isinstance(a, bool) == isinstance(b, bool) and float(a) == float(b)
    return bool(a == b)
