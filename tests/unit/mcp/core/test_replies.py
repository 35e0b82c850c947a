"""Replies as results: nothing that the API says makes a result that a client refuses."""

from __future__ import annotations

import json
from typing import Any, Final

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.mcp.core.openapi.document import Document
from tenantgate.mcp.core.openapi.operations import listed
from tenantgate.mcp.core.openapi.tools import ToolMaker
from tenantgate.mcp.core.replies import ReplyReader
from tenantgate.mcp.core.tool import Tool

JSON: Final = "application/json"


def tool(schema: Any = None) -> Tool:
    responses = {} if schema is None else {"200": {"content": {JSON: {"schema": schema}}}}
    document = Document({"openapi": "3.1.0", "paths": {"/x": {"get": {"responses": responses}}}})
    (op,) = listed(document)
    return ToolMaker(document).tool(op).tool


PET: Final = {
    "type": "object",
    "required": ["id", "tags"],
    "properties": {
        "id": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "owner": {"type": "object", "properties": {"name": {"type": "string"}}},
    },
}


@pytest.mark.parametrize(
    ("schema", "reply", "structured"),
    [
        (PET, {"id": 1, "tags": ["a"]}, {"id": 1, "tags": ["a"]}),
        (PET, {"id": 1, "more": True}, {"id": 1, "more": True}),
        (PET, {"id": None, "tags": ["a", 2, "b", 3]}, {"tags": ["a", "b"]}),
        (PET, {"owner": {"name": 1, "x": 2}}, {"owner": {"x": 2}}),
        (PET, {"owner": "me"}, {}),
        (PET, [1], {}),
        ({"type": "array", "items": {"type": "integer"}}, [1, "x", 2], {"result": [1, 2]}),
        ({"type": "string"}, "x", {"result": "x"}),
        ({"type": "integer"}, "x", {}),
        (None, {"a": 1}, {"a": 1}),
        (None, [1], None),
    ],
)
def test_structured_content_is_what_fits_the_schema(schema: Any, reply: Any, structured: Any) -> None:
    raw = json.dumps(reply)
    found = ReplyReader(tool(schema)).result(200, JSON, raw.encode())
    assert (found.structured, found.is_error) == (structured, False)
    assert found.content == ({"type": "text", "text": raw},)


MEMBERS: Final = st.sampled_from(["id", "tags", "owner", "name"])
VALUES: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(MEMBERS, inner),
    max_leaves=12,
)


@given(VALUES, st.sampled_from([PET, {"type": "array", "items": PET}, {"anyOf": [PET, {"type": "string"}]}]))
def test_whatever_the_api_says_fits_the_schema_that_clients_were_told(value: Any, schema: Any) -> None:
    made = tool(schema)
    found = ReplyReader(made).result(200, JSON, json.dumps(value).encode())
    assert made.output_schema is not None
    assert jsonschema_rs.is_valid(dict(made.output_schema), found.structured)


@pytest.mark.parametrize(
    ("status", "kind", "body", "text", "is_error"),
    [
        (204, "", b"", "HTTP 204, without content", False),
        (404, JSON, b'{"error": "none"}', 'HTTP 404\n{"error": "none"}', True),
        (500, "text/html; charset=latin-1", b"\xe9", "HTTP 500\né", True),
        (502, "image/png", b"\0", "HTTP 502", True),
        (302, "", b"", "HTTP 302: the API asks for another address.", True),
        (200, "text/plain; charset=nonsense", "é".encode(), "é", False),
        (200, JSON, b"{", "{", False),
        (200, JSON, b"[" * 5_000, "[" * 5_000, False),
        (
            200,
            "application/pdf",
            b"%PDF\0",
            "5 bytes of application/pdf, which can't be shown as text.",
            False,
        ),
        (200, "", b"plain", "plain", False),
        (200, JSON, b'{"a": NaN}', '{"a": NaN}', False),
    ],
)
def test_what_clients_are_shown(status: int, kind: str, body: bytes, text: str, is_error: bool) -> None:
    found = ReplyReader(tool(PET)).result(status, kind, body)
    assert found.content == ({"type": "text", "text": text},)
    assert found.is_error == is_error
    assert is_error or found.structured == {}


def test_a_long_reply_is_clipped_and_says_so() -> None:
    found = ReplyReader(tool(PET), most=100).result(200, JSON, json.dumps({"id": 1, "x": "y" * 500}).encode())
    assert len(found.content[0]["text"]) < 200
    assert found.content[0]["text"].endswith("clipped: 518 characters in all")
    assert found.structured == {}
    error = ReplyReader(tool(PET)).result(500, "text/plain", b"x" * 10_000)
    assert len(error.content[0]["text"]) < 5_000


def test_an_image_is_an_image() -> None:
    found = ReplyReader(tool()).result(200, "image/png", b"\x89PNG")
    assert found.content == ({"type": "image", "data": "iVBORw==", "mimeType": "image/png"},)


@pytest.mark.parametrize(
    "kind", ["application/json", "text/plain; charset=punycode", "text/plain; charset=idna"]
)
def test_no_reply_takes_the_time_of_others(kind: str) -> None:
    reader = ReplyReader(tool(PET))
    wrong = json.dumps({"id": 1, "tags": [1] * 20_000}).encode()
    assert reader.result(200, "application/json", wrong).structured == {}
    raw = b"xn--" + b"a" * 500_000 + b"-b"
    assert str(reader.result(200, kind, raw).content[0]["text"]).startswith("xn--aaa")


def test_a_number_that_no_reader_has_is_no_structure() -> None:
    found = ReplyReader(tool(None)).result(200, JSON, b'{"a":1e999}')
    assert (found.structured, found.content[0]["text"]) == (None, '{"a":1e999}')
