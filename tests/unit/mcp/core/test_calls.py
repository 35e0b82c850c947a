"""Calls as requests: what a server that reads by the document gets is what the caller gave, or the call is refused."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import unquote

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import openapi_reader as reader
from tenantgate.mcp.core.calls import Caller, call
from tenantgate.mcp.core.openapi.document import Document
from tenantgate.mcp.core.openapi.operations import listed
from tenantgate.mcp.core.openapi.tools import ToolMaker
from tenantgate.mcp.core.tool import ArgumentError, Tool, UpstreamRequest

Json = dict[str, Any]

STYLES: Final = [
    *(("path", s, e) for s in ("simple", "label", "matrix") for e in (False, True)),
    ("query", "form", False),
    ("query", "form", True),
    ("query", "spaceDelimited", False),
    ("query", "pipeDelimited", False),
    ("query", "deepObject", True),
    ("header", "simple", False),
    ("header", "simple", True),
    ("cookie", "form", False),
    ("cookie", "form", True),
]
SCALARS: Final = {
    "string": st.text(max_size=12) | st.text("a,.;=&?#/ %+|[]{}~é日", max_size=8),
    "integer": st.integers() | st.integers(-(10**30), 10**30),
    "number": st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
}


def tool(
    *parameters: Json,
    path: str = "/x",
    method: str = "post",
    body: Json | None = None,
    version: str = "3.1.0",
) -> Tool:
    node: Json = {"operationId": "try it", "parameters": list(parameters)}
    if body is not None:
        node["requestBody"] = body
    document = Document({"openapi": version, "paths": {path: {method: node}}})
    (op,) = listed(document)
    return ToolMaker(document).tool(op).tool


def parameter(where: str, style: str, explode: bool, shape: str, kind: str, **more: Any) -> Json:
    inner = {"type": kind}
    schema = {
        "array": {"type": "array", "items": inner},
        "object": {"type": "object", "additionalProperties": inner},
    }.get(shape, inner)
    return {
        "name": "p",
        "in": where,
        "style": style,
        "explode": explode,
        "schema": schema,
        "required": where == "path",
        **more,
    }


def value_of(shape: str, kind: str) -> st.SearchStrategy[Any]:
    one = SCALARS[kind]
    if shape == "array":
        return st.lists(one, max_size=4)
    if shape == "object":
        return st.dictionaries(SCALARS["string"], one, max_size=3)
    return one


def read_back(made: UpstreamRequest, where: str, style: str, explode: bool, shape: str, kind: str) -> Any:
    path, _, query = made.url.partition("?")
    headers = dict(made.headers)
    if where == "path":
        # One segment, whatever is in it.
        assert path.count("/") == 2
        return reader.path_of(path.removeprefix("/x/"), "p", style, explode, shape, kind)
    assert path == "/x"
    if where == "query":
        return reader.query_of(query, "p", style, explode, shape, kind, set())
    if where == "header":
        return reader.header_of(headers["p"], explode, shape, kind) if "p" in headers else None
    return reader.cookie_of(headers["Cookie"], "p", explode, shape, kind) if "Cookie" in headers else None


@settings(max_examples=120)
@given(
    st.sampled_from(STYLES),
    st.sampled_from(["one", "array", "object"]),
    st.sampled_from(sorted(SCALARS)),
    st.booleans(),
    st.data(),
)
def test_what_is_sent_is_what_a_server_reads_back(
    place: tuple[str, str, bool], shape: str, kind: str, reserved: bool, data: st.DataObject
) -> None:
    where, style, explode = place
    if style == "deepObject":
        shape = "object"
    value = data.draw(value_of(shape, kind))
    path = "/x/{p}" if where == "path" else "/x"
    made = call(
        tool(parameter(where, style, explode, shape, kind, allowReserved=reserved), path=path), {"p": value}
    )
    if isinstance(made, ArgumentError):
        assert made.field.startswith("p") or not made.field
        return
    for text in (made.url, *(t for header in made.headers for t in header)):
        assert text.isascii()
        assert text.isprintable()
    found = read_back(made, where, style, explode, shape, kind)
    if value in ([], {}):
        assert found is None
    else:
        assert found == value
        assert not isinstance(value, bool) or found is value


PLAIN: Final = st.text("abcXYZ019é日 -_~", min_size=1, max_size=8).filter(lambda t: t == t.strip())


@settings(max_examples=25)
@given(st.sampled_from(STYLES), st.sampled_from(["one", "array", "object"]), st.data())
def test_plain_texts_are_refused_nowhere_but_where_no_style_has_room(
    place: tuple[str, str, bool], shape: str, data: st.DataObject
) -> None:
    where, style, explode = place
    if style == "deepObject":
        shape = "object"
    assume(not (style.endswith("Delimited") and shape == "object" and explode))
    text = PLAIN if style != "spaceDelimited" else PLAIN.map(lambda t: t.replace(" ", ""))
    text = text.filter(bool) if where not in ("header", "cookie") else st.text("abcXYZ", min_size=1)
    value: Any = data.draw(
        {"array": st.lists(text, min_size=1), "object": st.dictionaries(text, text, min_size=1)}.get(
            shape, text
        )
    )
    path = "/x/{p}" if where == "path" else "/x"
    made = call(tool(parameter(where, style, explode, shape, "string"), path=path), {"p": value})
    assert isinstance(made, UpstreamRequest), made
    assert read_back(made, where, style, explode, shape, "string") == value


NOWHERE: Final = [
    "..",
    ".",
    "",
    "a/b",
    "a\\b",
    "%2f",
    "a%2Fb",
    "%2e%2e",
    "a\r\nb",
    "a\0b",
    "\u2025",
    "a／b",
    "..;x",
    "\x7f",
]


@pytest.mark.parametrize("style", ["simple", "label", "matrix"])
@pytest.mark.parametrize("shape", ["one", "array", "object"])
@pytest.mark.parametrize("text", NOWHERE)
def test_nothing_leaves_its_segment_of_the_path(style: str, shape: str, text: str) -> None:
    value: Any = {"array": ["a", text], "object": {"k": text}}.get(shape, text)
    made = call(tool(parameter("path", style, False, shape, "string"), path="/x/{p}/y"), {"p": value})
    if text == "" and shape == "object":
        assert isinstance(made, UpstreamRequest)
    else:
        assert isinstance(made, ArgumentError)
        assert made.field.startswith("p")
        assert text not in made.message or text in ("", ".", "..")


@given(st.text(max_size=20))
def test_a_path_keeps_its_segments_however_often_it_is_decoded(text: str) -> None:
    made = call(tool(parameter("path", "simple", False, "one", "string"), path="/x/{p}/y"), {"p": text})
    if isinstance(made, UpstreamRequest):
        url = made.url
        for _ in range(4):
            segments = url.replace("\\", "/").split("/")
            assert len(segments) == 4
            assert not {".", ".."} & set(segments)
            url = unquote(url)
        assert made.url.isascii()


@pytest.mark.parametrize("text", ["a\r\nX-Admin: 1", "a\nb", "a\0", "é", " a", "a ", "\t"])
def test_headers_take_one_line_of_ascii(text: str) -> None:
    made = call(tool(parameter("header", "simple", False, "one", "string")), {"p": text})
    assert isinstance(made, ArgumentError)
    assert made.field == "p"


@settings(max_examples=25)
@given(st.text("&=;#+%?[]ab", max_size=12), st.booleans())
def test_a_value_adds_no_parameter_to_a_query(text: str, reserved: bool) -> None:
    made = call(tool(parameter("query", "form", True, "one", "string", allowReserved=reserved)), {"p": text})
    assert isinstance(made, UpstreamRequest)
    query = made.url.partition("?")[2]
    assert query.count("&") == 0
    assert not set(";#+[]") & set(query)
    assert unquote(query.partition("=")[2]) == text


@pytest.mark.parametrize(
    ("reserved", "sent"), [(False, "p=a%3A%2F%3F%40%21%24%27%28%29%2A%2C%3Db"), (True, "p=a:/?@!$'()*,=b")]
)
def test_reserved_characters_stay_where_the_document_says_so(reserved: bool, sent: str) -> None:
    made = call(
        tool(parameter("query", "form", True, "one", "string", allowReserved=reserved)),
        {"p": "a:/?@!$'()*,=b"},
    )
    assert isinstance(made, UpstreamRequest)
    assert made.url == f"/x?{sent}"


COLOURS: Final = {"one": "blue", "array": ["blue", "black"], "object": {"R": 100, "G": 200}}


@pytest.mark.parametrize(
    ("where", "style", "explode", "shape", "sent"),
    [
        ("path", "matrix", False, "one", "/x/;p=blue"),
        ("path", "matrix", False, "array", "/x/;p=blue,black"),
        ("path", "matrix", False, "object", "/x/;p=R,100,G,200"),
        ("path", "matrix", True, "array", "/x/;p=blue;p=black"),
        ("path", "matrix", True, "object", "/x/;R=100;G=200"),
        ("path", "label", False, "one", "/x/.blue"),
        ("path", "label", False, "array", "/x/.blue,black"),
        ("path", "label", False, "object", "/x/.R,100,G,200"),
        ("path", "label", True, "array", "/x/.blue.black"),
        ("path", "label", True, "object", "/x/.R=100.G=200"),
        ("path", "simple", False, "array", "/x/blue,black"),
        ("path", "simple", False, "object", "/x/R,100,G,200"),
        ("path", "simple", True, "object", "/x/R=100,G=200"),
        ("query", "form", False, "one", "/x?p=blue"),
        ("query", "form", False, "array", "/x?p=blue,black"),
        ("query", "form", False, "object", "/x?p=R,100,G,200"),
        ("query", "form", True, "array", "/x?p=blue&p=black"),
        ("query", "form", True, "object", "/x?R=100&G=200"),
        ("query", "spaceDelimited", False, "array", "/x?p=blue%20black"),
        ("query", "spaceDelimited", False, "object", "/x?p=R%20100%20G%20200"),
        ("query", "pipeDelimited", False, "array", "/x?p=blue%7Cblack"),
        ("query", "pipeDelimited", False, "object", "/x?p=R%7C100%7CG%7C200"),
        ("query", "deepObject", True, "object", "/x?p%5BR%5D=100&p%5BG%5D=200"),
    ],
)
def test_the_specifications_own_examples(
    where: str, style: str, explode: bool, shape: str, sent: str
) -> None:
    path = "/x/{p}" if where == "path" else "/x"
    kind = "integer" if shape == "object" else "string"
    made = call(tool(parameter(where, style, explode, shape, kind), path=path), {"p": COLOURS[shape]})
    assert isinstance(made, UpstreamRequest)
    assert made.url == sent


def test_nested_objects_are_written_deep_and_lists_by_their_index() -> None:
    node = {"name": "f", "in": "query", "style": "deepObject", "schema": {"type": "object"}}
    made = call(tool(node), {"f": {"a": {"b": [1, {"c": True}]}, "d": "x y"}})
    assert isinstance(made, UpstreamRequest)
    assert unquote(made.url) == "/x?f[a][b][0]=1&f[a][b][1][c]=true&f[d]=x y"
    refused = call(tool(node), {"f": {"a]": 1}})
    assert isinstance(refused, ArgumentError)
    # OpenAPI leaves open what else may stand there; APIs such as Stripe's say so, and read it like this.
    other = call(tool({**node, "schema": {}}), {"f": ["a", "b"]})
    assert isinstance(other, UpstreamRequest)
    assert unquote(other.url) == "/x?f[0]=a&f[1]=b"
    plain = call(tool({**node, "schema": {}}), {"f": ""})
    assert isinstance(plain, UpstreamRequest)
    assert plain.url == "/x?f="


@pytest.mark.parametrize(
    ("where", "style", "explode", "value", "field"),
    [
        ("query", "spaceDelimited", False, ["a", "b c"], "p[1]"),
        ("query", "pipeDelimited", False, ["a|b"], "p[0]"),
        ("query", "pipeDelimited", False, {"k": "a|b"}, "p.k"),
        ("path", "label", True, ["a.b"], "p"),
        ("header", "simple", False, ["a", "b,c"], "p[1]"),
        ("header", "simple", True, {"k=": "v"}, "p"),
        ("query", "spaceDelimited", True, {"k": "v"}, "p"),
    ],
)
def test_a_value_that_holds_its_styles_delimiter_is_refused(
    where: str, style: str, explode: bool, value: Any, field: str
) -> None:
    path = "/x/{p}" if where == "path" else "/x"
    made = call(tool(parameter(where, style, explode, "any", "string", schema={}), path=path), {"p": value})
    assert isinstance(made, ArgumentError)
    assert made.field == field


@pytest.mark.parametrize(
    ("schema", "arguments", "field"),
    [
        ({"type": "integer"}, {"p": "7"}, "p"),
        ({"type": "string", "enum": ["a", "b"]}, {"p": "c"}, "p"),
        ({"type": "array", "items": {"type": "integer"}}, {"p": [1, "x"]}, "p[1]"),
        ({"type": "object", "properties": {"a": {"type": "integer"}}}, {"p": {"a": "x"}}, "p.a"),
        ({"type": "object", "required": ["a"]}, {"p": {}}, "p.a"),
        ({"type": "array"}, {"p": [None]}, "p[0]"),
        ({"type": "array"}, {"p": [["a"]]}, "p[0]"),
        ({"type": "string"}, {"p": "a", "q": "secret"}, "q"),
        ({"type": "string"}, {}, "p"),
        ({"type": "string"}, {"p": None}, "p"),
        ({"type": "string"}, {"p": "\ud800"}, ""),
        ({"type": "string"}, [], ""),
        ({"type": "string"}, None, ""),
        ({"type": "string"}, {"p": "a" * 9_000}, ""),
    ],
)
def test_an_argument_that_does_not_fit_is_named_and_not_shown(
    schema: Json, arguments: Any, field: str
) -> None:
    made = call(tool({"name": "p", "in": "query", "required": True, "schema": schema}), arguments)
    assert isinstance(made, ArgumentError)
    assert made.field == field
    assert "secret" not in made.message


def test_a_null_counts_as_not_given_where_the_argument_is_optional() -> None:
    node = {"name": "p", "in": "query", "schema": {"type": "string"}}
    made = call(tool(node), {"p": None})
    assert isinstance(made, UpstreamRequest)
    assert made.url == "/x"


def test_depth_and_number_of_values_are_bounded() -> None:
    made: Any = 1
    for _ in range(200):
        made = [made]
    body = {"required": True, "content": {"application/json": {}}}
    assert isinstance(call(tool(body=body), {"body": made}), ArgumentError)
    assert isinstance(call(tool(body=body), {"body": [0] * 60_000}), ArgumentError)


def test_members_of_an_object_take_no_other_parameters_place() -> None:
    spread = {"name": "f", "in": "query", "schema": {"type": "object"}}
    other = {"name": "admin", "in": "query", "schema": {"type": "boolean"}}
    assert isinstance(call(tool(spread, other), {"f": {"admin": "true"}}), ArgumentError)
    caller = Caller(tool(spread), reserved=frozenset({"api_key"}))
    assert isinstance(caller.request({"f": {"api_key": "x"}}), ArgumentError)
    assert isinstance(caller.request({"f": {"q": "x"}}), UpstreamRequest)


JSON_VALUES: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(max_examples=20)
@given(JSON_VALUES)
def test_a_json_body_is_the_argument_exactly(value: Any) -> None:
    made = call(tool(body={"required": True, "content": {"application/json": {}}}), {"body": value})
    assert isinstance(made, UpstreamRequest)
    assert ("Content-Type", "application/json") in made.headers
    read = json.loads(made.body)
    assert json.dumps(read) == json.dumps(value)


def form(kind: str, encoding: Json | None = None, **properties: Json) -> Tool:
    media = {"schema": {"type": "object", "properties": properties}, "encoding": encoding or {}}
    return tool(body={"required": True, "content": {kind: media}})


URLENCODED: Final = "application/x-www-form-urlencoded"


@settings(max_examples=20)
@given(
    st.text(max_size=10), st.lists(st.text(max_size=5), min_size=1), st.dictionaries(st.text(), st.integers())
)
def test_a_form_is_read_back(one: str, many: list[str], inner: dict[str, int]) -> None:
    made = call(form(URLENCODED), {"body": {"one": one, "many": many, "inner": inner}})
    assert isinstance(made, UpstreamRequest)
    text = made.body.decode("ascii")
    assert reader.query_of(text, "one", "form", True, "one", "string", set()) == one
    assert reader.query_of(text, "many", "form", True, "array", "string", set()) == many
    assert json.loads(reader.query_of(text, "inner", "form", True, "one", "string", set())) == inner


def test_a_form_member_is_written_as_its_encoding_says() -> None:
    encoding = {
        "a": {"style": "deepObject"},
        "b": {"style": "pipeDelimited", "explode": False},
        "c": {"contentType": "application/json"},
    }
    made = call(
        form(URLENCODED, encoding, a={}, b={}, c={}),
        {"body": {"a": {"x": {"y": 1}}, "b": [1, 2], "c": [1, 2], "d": None}},
    )
    assert isinstance(made, UpstreamRequest)
    assert unquote(made.body.decode()) == "a[x][y]=1&b=1|2&c=[1,2]"


@settings(max_examples=20)
@given(st.text(), st.lists(st.integers(), min_size=1), st.text("ab\r\n-\"'", max_size=9))
def test_a_multipart_body_is_read_back(text: str, many: list[int], odd: str) -> None:
    made = call(
        form("multipart/form-data", f={"type": "string", "format": "binary"}, o={"type": "object"}),
        {"body": {"t": text, "n": many, "o": {"k": odd}, "f": odd}},
    )
    assert isinstance(made, UpstreamRequest)
    (kind,) = [v for k, v in made.headers if k == "Content-Type"]
    parts = reader.body_of(kind, made.body)
    assert [(n, f) for n, f, *_ in parts] == [
        ("t", None),
        *[("n", None)] * len(many),
        ("o", None),
        ("f", "f"),
    ]
    contents = {n: c for n, _, _, c in parts}
    # The parser of mails reads a text's line ends as one; what stands in the body are these bytes.
    assert text.encode() in made.body
    assert odd.encode() in made.body
    assert [json.loads(c) for n, _, _, c in parts if n == "n"] == many
    assert json.loads(contents["o"]) == {"k": odd}


def test_a_text_body() -> None:
    made = call(tool(body={"required": True, "content": {"text/plain": {}}}), {"body": "é\n"})
    assert isinstance(made, UpstreamRequest)
    assert made.body == "é\n".encode()
    assert ("Content-Type", "text/plain") in made.headers


def test_whole_numbers_are_exact_and_numbers_are_jsons() -> None:
    nodes = [{"name": n, "in": "query", "schema": {"type": "number"}} for n in "abcd"]
    made = call(tool(*nodes), {"a": 10**25 + 1, "b": 3.0, "c": 0.1, "d": 1e300})
    assert isinstance(made, UpstreamRequest)
    assert made.url == "/x?a=10000000000000000000000001&b=3&c=0.1&d=1e%2B300"


def test_content_of_a_parameter_is_json() -> None:
    node = {"name": "p", "in": "query", "content": {"application/json": {"schema": {"type": "object"}}}}
    made = call(tool(node), {"p": {"a": [1, None]}})
    assert isinstance(made, UpstreamRequest)
    assert json.loads(unquote(made.url.partition("p=")[2])) == {"a": [1, None]}


def test_a_path_that_only_becomes_relative_by_its_values_is_refused() -> None:
    nodes = [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in "ab"]
    whole = tool(*nodes, path="/x/{a}{b}")
    assert isinstance(call(whole, {"a": ".x", "b": "y."}), UpstreamRequest)
    refused = call(tool(*nodes, path="/x/{a}.{b}"), {"a": "a", "b": "b"})
    assert isinstance(refused, UpstreamRequest)
    label = {"name": "p", "in": "path", "required": True, "style": "label", "schema": {"type": "string"}}
    assert isinstance(call(tool(label, path="/x/{p}/y"), {"p": ".;a"}), ArgumentError)
