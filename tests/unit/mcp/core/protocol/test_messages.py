"""Messages of clients: what is read, in which revision, and what is refused with which error."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.mcp.core.protocol.errors import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    INVALID_REQUEST,
    PARSE_ERROR,
    UNSUPPORTED_VERSION,
    Failure,
)
from tenantgate.mcp.core.protocol.messages import Notification, Request, decoded, read, strict_json
from tenantgate.mcp.core.protocol.revisions import CAPABILITIES, MODERN, SUPPORTED, VERSION

META = {VERSION: MODERN, CAPABILITIES: {}}
HEADERS = {"mcp-protocol-version": [MODERN], "mcp-method": ["tools/call"], "mcp-name": ["find"]}


def body(method: str = "tools/call", **more: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, **more}).encode()


def call(meta: Any = META, name: str = "find") -> bytes:
    return body(params={"name": name, "_meta": meta})


@pytest.mark.parametrize("version", [None, "2025-11-25", "2025-06-18", "2025-03-26"])
def test_an_earlier_revision_asks_for_no_headers_beyond_its_own(version: str | None) -> None:
    headers = {} if version is None else {"mcp-protocol-version": [version]}
    found = read(body(params={"name": "find"}), headers)
    assert isinstance(found, Request)
    assert not found.modern


def test_a_stateless_request_is_told_by_its_meta() -> None:
    found = read(call(), HEADERS)
    assert isinstance(found, Request)
    assert found.modern
    assert found.params["name"] == "find"


WRONG: Sequence[tuple[str, bytes, Mapping[str, Sequence[str]], int]] = [
    ("no JSON", b"{", {}, PARSE_ERROR),
    ("a name twice", b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"x"}', {}, PARSE_ERROR),
    ("not UTF-8", b'"\xff"', {}, PARSE_ERROR),
    ("deep", b"[" * 100_000, {}, PARSE_ERROR),
    ("too large", b'{"jsonrpc":"2.0","id":1e999,"method":"ping"}', {}, PARSE_ERROR),
    ("NaN", b'{"jsonrpc":"2.0","id":NaN,"method":"ping"}', {}, PARSE_ERROR),
    ("a batch", b"[" + body() + b"]", {}, INVALID_REQUEST),
    ("no JSON-RPC", b'{"id":1,"method":"ping"}', {}, INVALID_REQUEST),
    ("an id that is none", b'{"jsonrpc":"2.0","id":true,"method":"ping"}', {}, INVALID_REQUEST),
    (
        "a long id",
        json.dumps({"jsonrpc": "2.0", "id": "i" * 1001, "method": "ping"}).encode(),
        {},
        INVALID_REQUEST,
    ),
    ("parameters by place", b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}', {}, INVALID_REQUEST),
    (
        "a version nobody knows",
        call({**META, VERSION: "1900-01-01"}),
        {**HEADERS, "mcp-protocol-version": ["1900-01-01"]},
        UNSUPPORTED_VERSION,
    ),
    ("no header of the version", call(), {**HEADERS, "mcp-protocol-version": []}, HEADER_MISMATCH),
    (
        "another version in the header",
        call(),
        {**HEADERS, "mcp-protocol-version": ["2025-11-25"]},
        HEADER_MISMATCH,
    ),
    ("no meta", body(params={"name": "find"}), HEADERS, INVALID_PARAMS),
    ("no capabilities", call({VERSION: MODERN}), HEADERS, INVALID_PARAMS),
    ("another method in the header", call(), {**HEADERS, "mcp-method": ["tools/list"]}, HEADER_MISMATCH),
    ("two methods in headers", call(), {**HEADERS, "mcp-method": ["tools/call"] * 2}, HEADER_MISMATCH),
    ("no name in the header", call(), {**HEADERS, "mcp-name": []}, HEADER_MISMATCH),
    ("another name in the header", call(name="other"), HEADERS, HEADER_MISMATCH),
    ("broken base64", call(), {**HEADERS, "mcp-name": ["=?base64?Zm!?="]}, HEADER_MISMATCH),
]


@pytest.mark.parametrize(("raw", "headers", "code"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_what_is_wrong_has_its_code(raw: bytes, headers: Mapping[str, Sequence[str]], code: int) -> None:
    found = read(raw, headers)
    assert isinstance(found, Failure)
    assert (found.status, found.code) == (400, code)
    assert json.loads(found.body())["error"]["code"] == code


def test_an_unknown_version_is_told_the_known_ones() -> None:
    found = read(call({**META, VERSION: "1900-01-01"}), {**HEADERS, "mcp-protocol-version": ["1900-01-01"]})
    assert isinstance(found, Failure)
    assert (found.id, found.data) == (1, {"supported": list(SUPPORTED), "requested": "1900-01-01"})


@pytest.mark.parametrize(
    "raw",
    [
        b'{"jsonrpc":"2.0","method":"notifications/initialized"}',
        b'{"jsonrpc":"2.0","id":1,"result":{}}',
        b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}',
    ],
)
def test_what_wants_no_answer(raw: bytes) -> None:
    assert isinstance(read(raw, {}), Notification)


@given(st.text())
def test_a_name_in_base64_is_read_as_it_was(name: str) -> None:
    packed = base64.b64encode(name.encode("utf-8", "surrogatepass")).decode()
    if name.isprintable() or not any("\ud800" <= c <= "\udfff" for c in name):
        assert decoded(f"=?base64?{packed}?=") == name


@given(st.binary(max_size=200))
def test_no_body_raises(raw: bytes) -> None:
    read(raw, HEADERS)


@given(st.integers(min_value=-(10**30), max_value=10**30))
def test_whole_numbers_stay_exact(n: int) -> None:
    assert strict_json(b'{"n":%d}' % n) == {"n": n}
