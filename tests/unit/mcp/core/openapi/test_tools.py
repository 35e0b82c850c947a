"""Operations as tools: a table of documents by kind, each with its tools or its error and place."""

from __future__ import annotations

import json
from typing import Any, Final

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.mcp.core.openapi.document import Document, DocumentError
from tenantgate.mcp.core.openapi.operations import default_acl, listed
from tenantgate.mcp.core.openapi.tools import Made, Overrides, ToolMaker
from tenantgate.mcp.core.tool import Acl, Annotations

Json = dict[str, Any]


def document(paths: Json, version: str = "3.0.3", **more: Any) -> Document:
    return Document({"openapi": version, "info": {"title": "t"}, "paths": paths, **more})


def made_of(found: Document, **overrides: Any) -> Made:
    (op,) = listed(found)
    return ToolMaker(found).tool(op, Overrides(**overrides))


def body_schema(schema: Any, version: str = "3.0.3", **components: Any) -> Json:
    """What the schema of a body becomes in a tool."""
    node = {"requestBody": {"content": {"application/json": {"schema": schema}}}}
    found = document({"/x": {"post": node}}, version, components={"schemas": components})
    made: Json = dict(made_of(found).tool.input_schema["properties"]["body"])
    return made


REF: Final = {"$ref": "#/components/schemas/A"}

SCHEMAS: Final[dict[str, tuple[str, Any, Json, Any]]] = {
    "nullable": ("3.0.3", {"type": "string", "nullable": True}, {}, {"type": ["string", "null"]}),
    "nullable enum": (
        "3.0.3",
        {"type": "string", "nullable": True, "enum": ["a"]},
        {},
        {"type": ["string", "null"], "enum": ["a", None]},
    ),
    "nullable reference": (
        "3.0.3",
        {"nullable": True, "allOf": [REF]},
        {"A": {"type": "object", "properties": {"a": {"type": "integer"}}}},
        {"anyOf": [{"type": "object", "properties": {"a": {"type": "integer"}}}, {"type": "null"}]},
    ),
    "nullable means nothing in 3.1": ("3.1.0", {"type": "string", "nullable": True}, {}, {"type": "string"}),
    "types in 3.1": ("3.1.0", {"type": ["string", "null"]}, {}, {"type": ["string", "null"]}),
    "const": ("3.1.0", {"const": None}, {}, {"const": None}),
    "bounds as flags": (
        "3.0.3",
        {"type": "number", "minimum": 1, "exclusiveMinimum": True, "maximum": 2, "exclusiveMaximum": False},
        {},
        {"type": "number", "exclusiveMinimum": 1, "maximum": 2},
    ),
    "bounds of their own": ("3.1.0", {"exclusiveMinimum": 1}, {}, {"exclusiveMinimum": 1}),
    "example": ("3.0.3", {"type": "string", "example": "x"}, {}, {"type": "string", "examples": ["x"]}),
    "default": ("3.0.3", {"type": "integer", "default": 3}, {}, {"type": "integer", "default": 3}),
    "no extensions": (
        "3.0.3",
        {
            "type": "object",
            "x-a": 1,
            "xml": {},
            "discriminator": {},
            "externalDocs": {},
            "$schema": "http://x",
        },
        {},
        {"type": "object"},
    ),
    "allOf as one": (
        "3.0.3",
        {"allOf": [REF, {"required": ["b"], "properties": {"b": {"type": "string"}}}], "description": "both"},
        {"A": {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}},
        {
            "type": "object",
            "required": ["a", "b"],
            "properties": {"a": {"type": "integer"}, "b": {"type": "string"}},
            "description": "both",
        },
    ),
    "allOf of closed parts": (
        "3.0.3",
        {"allOf": [REF, {"properties": {"b": {}}, "additionalProperties": False}]},
        {"A": {"properties": {"a": {}}, "additionalProperties": False}},
        {"type": "object", "properties": {"a": {}, "b": {}}},
    ),
    "allOf that takes two": (
        "3.0.3",
        {"allOf": [{"pattern": "a"}, {"pattern": "b"}]},
        {},
        {"allOf": [{"pattern": "a"}, {"pattern": "b"}]},
    ),
    "oneOf": (
        "3.0.3",
        {"oneOf": [{"type": "string"}, REF]},
        {"A": {"type": "integer"}},
        {"oneOf": [{"type": "string"}, {"type": "integer"}]},
    ),
    "choice of one": (
        "3.0.3",
        {"anyOf": [{"type": "string"}], "title": "T"},
        {},
        {"type": "string", "title": "T"},
    ),
    "read-only members aren't sent": (
        "3.0.3",
        {"required": ["id", "a"], "properties": {"id": {"readOnly": True}, "a": {"type": "string"}}},
        {},
        {"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}},
    ),
    "a description beside a reference": (
        "3.0.3",
        {"$ref": "#/components/schemas/A", "description": "mine"},
        {"A": {"type": "integer", "description": "its"}},
        {"type": "integer", "description": "mine"},
    ),
    "keywords beside a reference in 3.1": (
        "3.1.0",
        {"$ref": "#/components/schemas/A", "maximum": 3},
        {"A": {"type": "integer", "minimum": 1}},
        {"type": "integer", "minimum": 1, "maximum": 3},
    ),
    "a tree": (
        "3.0.3",
        REF,
        {"A": {"type": "object", "description": "a node", "properties": {"next": REF}}},
        {
            "type": "object",
            "description": "a node",
            "properties": {"next": {"type": "object", "description": "a node"}},
        },
    ),
    "a circle through a list": (
        "3.1.0",
        REF,
        {"A": {"type": "array", "items": {"anyOf": [REF, {"type": "null"}]}}},
        {"type": "array", "items": {"anyOf": [{"type": "array"}, {"type": "null"}]}},
    ),
    "true": ("3.1.0", True, {}, {}),
    "false": (
        "3.1.0",
        {"properties": {"a": False}},
        {},
        {"type": "object", "properties": {"a": {"not": {}}}},
    ),
    "no schema": ("3.0.3", None, {}, {}),
    "tuples": ("3.1.0", {"prefixItems": [{"type": "string"}]}, {}, {"prefixItems": [{"type": "string"}]}),
    "additional properties": (
        "3.0.3",
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {},
        {"type": "object", "additionalProperties": {"type": "integer"}},
    ),
    "required that is a flag": (
        "3.0.3",
        {"type": "object", "required": True, "properties": {"a": {"type": "string", "required": True}}},
        {},
        {"type": "object", "properties": {"a": {"type": "string"}}},
    ),
    "an unknown type": ("3.0.3", {"type": "int", "minimum": 1}, {}, {"minimum": 1}),
    "a bound that is a text": ("3.0.3", {"type": "string", "maxLength": "5"}, {}, {"type": "string"}),
    "a pattern that looks around": ("3.0.3", {"type": "string", "pattern": "(?=a)"}, {}, {"type": "string"}),
    "a pattern": ("3.0.3", {"type": "string", "pattern": "^a+$"}, {}, {"type": "string", "pattern": "^a+$"}),
    "hidden characters": ("3.0.3", {"description": "a\u200b\U000e0041\u202eb\0"}, {}, {"description": "ab"}),
    "an encoded name in a reference": (
        "3.0.3",
        {"$ref": "#/components/schemas/a~1b%20%7Bc%7D"},
        {"a/b {c}": {"type": "integer"}},
        {"type": "integer"},
    ),
}


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_schema_stands_by_itself(kind: str) -> None:
    version, schema, components, expected = SCHEMAS[kind]
    made = body_schema(schema, version, **components)
    assert made == expected
    jsonschema_rs.Draft202012Validator(made)


OUTSIDE: Final = "#/paths/~1x/post/requestBody/content/application~1json/schema"
BROKEN_SCHEMAS: Final = {
    "a network reference": ({"$ref": "https://example.com/a.json"}, OUTSIDE),
    "a reference to a file": ({"properties": {"a": {"$ref": "other.yaml#/A"}}}, f"{OUTSIDE}/properties/a"),
    "a reference to nothing": ({"$ref": "#/components/schemas/B"}, OUTSIDE),
    "a reference by an anchor": ({"$ref": "#here"}, OUTSIDE),
    "a reference to itself": ({"$ref": "#/components/schemas/Loop"}, OUTSIDE),
    "a text": ("string", OUTSIDE),
}


@pytest.mark.parametrize("kind", BROKEN_SCHEMAS)
def test_what_is_no_schema_is_an_error_with_its_place(kind: str) -> None:
    schema, place = BROKEN_SCHEMAS[kind]
    with pytest.raises(DocumentError) as caught:
        body_schema(schema, Loop={"$ref": "#/components/schemas/Loop"})
    assert caught.value.place == place
    assert "example.com" not in str(caught.value)


def test_a_large_schema_is_read_from_its_nearest_levels_on() -> None:
    wide = {
        "type": "object",
        "properties": {f"p{i}": {"type": "object", "properties": {"d": REF}} for i in range(400)},
    }
    deep: Json = {"type": "string"}
    for _ in range(60):
        deep = {"type": "object", "properties": {"d": deep}}
    made = body_schema({"properties": {"wide": wide, "deep": deep}}, A=wide)
    assert len(made["properties"]["wide"]["properties"]) == 400
    assert len(json.dumps(made)) < 100_000
    jsonschema_rs.Draft202012Validator(made)
    nested: Json = {}
    for _ in range(100):
        nested = {"d": nested}
    assert jsonschema_rs.is_valid(made, {"deep": nested["d"], "wide": {}})


def parameter(**more: Any) -> Json:
    return {"name": "a", "in": "query", "schema": {"type": "string"}, **more}


def test_a_tool_has_all_that_clients_and_calls_need() -> None:
    post = {
        "operationId": "createPet",
        "summary": "Create\na pet",
        "description": "Long.",
        "parameters": [
            parameter(description="Of the query.", example="e"),
            parameter(**{"in": "path"}, name="id", required=True),
            parameter(**{"in": "header"}, name="X-Trace"),
            parameter(**{"in": "header"}, name="Authorization"),
            parameter(name="api_key"),
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
        "responses": {
            "default": {"content": {"application/json": {"schema": {"type": "string"}}}},
            "201": {
                "content": {
                    "application/xml": {},
                    "application/json": {
                        "schema": {
                            "required": ["id"],
                            "properties": {"id": {"type": "integer", "minimum": 3}},
                        }
                    },
                }
            },
        },
    }
    schemes = {"securitySchemes": {"k": {"type": "apiKey", "in": "query", "name": "api_key"}}}
    tool = made_of(document({"/pets/{id}": {"post": post}}, components=schemes)).tool
    assert (tool.name, tool.title, tool.description) == ("create-pet", "Create a pet", "Long.")
    assert tool.input_schema == {
        "type": "object",
        "properties": {
            "a": {"type": "string", "description": "Of the query.", "examples": ["e"]},
            "id": {"minLength": 1, "type": "string"},
            "X-Trace": {"type": "string"},
            "body": {"type": "object"},
        },
        "required": ["id", "body"],
        "additionalProperties": False,
    }
    # A reply that lacks something is none the less one.
    assert tool.output_schema == {"type": "object", "properties": {"id": {"type": "integer"}}}
    assert tool.annotations == Annotations(read_only=False, destructive=True, idempotent=False)
    assert tool.operation.accept == "application/json"
    assert tool.fingerprint.startswith("sha256:")


@pytest.mark.parametrize(
    ("method", "hints"),
    [
        ("get", Annotations(read_only=True, destructive=False, idempotent=True)),
        ("put", Annotations(idempotent=True)),
        ("delete", Annotations(idempotent=True)),
        ("patch", Annotations()),
        ("post", Annotations()),
    ],
)
def test_hints_are_those_of_the_method_unless_the_operator_knows_better(
    method: str, hints: Annotations
) -> None:
    found = document({"/x": {method: {}}})
    assert made_of(found).tool.annotations == hints
    assert made_of(found, read_only=True, destructive=False).tool.annotations.read_only


def test_a_reply_that_is_no_object_is_wrapped() -> None:
    content = {"application/json": {"schema": {"type": "array", "items": {"type": "string"}}}}
    tool = made_of(document({"/x": {"get": {"responses": {"200": {"content": content}}}}})).tool
    assert tool.wraps_output
    assert tool.output_schema == {
        "type": "object",
        "properties": {"result": {"type": "array", "items": {"type": "string"}}},
    }


BROKEN: Final[dict[str, tuple[Json, str]]] = {
    "no path": ({"x": {"get": {}}}, "#/paths/x"),
    "a query in the path": ({"/x?a=b": {"get": {}}}, "#/paths/~1x?a=b"),
    "a relative path": ({"/a/../b": {"get": {}}}, "#/paths/~1a~1..~1b"),
    "an open brace": ({"/a{b": {"get": {}}}, "#/paths/~1a{b"),
    "a variable without parameter": ({"/{a}": {"get": {}}}, "#/paths/~1{a}"),
    "a parameter without variable": (
        {"/x": {"get": {"parameters": [parameter(**{"in": "path"})]}}},
        "#/paths/~1x/get/parameters",
    ),
    "parameters that are no list": ({"/x": {"get": {"parameters": {}}}}, "#/paths/~1x/get/parameters"),
    "a parameter without name": (
        {"/x": {"get": {"parameters": [{"in": "query"}]}}},
        "#/paths/~1x/get/parameters/0",
    ),
    "a parameter nowhere": (
        {"/x": {"get": {"parameters": [parameter(**{"in": "body"})]}}},
        "#/paths/~1x/get/parameters/0/in",
    ),
    "a style of another place": (
        {"/x": {"get": {"parameters": [parameter(style="matrix")]}}},
        "#/paths/~1x/get/parameters/0/style",
    ),
    "a header's name": (
        {"/x": {"get": {"parameters": [parameter(**{"in": "header"}, name="a b")]}}},
        "#/paths/~1x/get/parameters/0/name",
    ),
    "content that can't be written": (
        {"/x": {"get": {"parameters": [{"name": "a", "in": "query", "content": {"application/xml": {}}}]}}},
        "#/paths/~1x/get/parameters/0/content",
    ),
    "a body that isn't sent": (
        {"/x": {"post": {"requestBody": {"required": True, "content": {"image/png": {}}}}}},
        "#/paths/~1x/post/requestBody/content",
    ),
    "a form that is a list": (
        {
            "/x": {
                "post": {"requestBody": {"content": {"multipart/form-data": {"schema": {"type": "array"}}}}}
            }
        },
        "#/paths/~1x/post/requestBody/content/multipart~1form-data/schema",
    ),
    "an operation elsewhere": ({"/x": {"get": {"$ref": "a.yaml"}}}, "#/paths/~1x/get"),
    "a path elsewhere": ({"/x": {"$ref": "https://example.com"}}, "#/paths/~1x"),
    "an operation that is a text": ({"/x": {"get": "x"}}, "#/paths/~1x/get"),
    "a name that clients don't take": (
        {"/x": {"get": {"x-kong-mcp-tool-name": "a b"}}},
        "#/paths/~1x/get/x-kong-mcp-tool-name",
    ),
    "an access list that is none": (
        {"/x": {"get": {"x-kong-mcp-acl": {"allow": 3}}}},
        "#/paths/~1x/get/x-kong-mcp-acl/allow",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_can_be_no_tool_is_an_error_with_its_place_and_no_others_affair(kind: str) -> None:
    paths, place = BROKEN[kind]
    found = document({**paths, "/good": {"get": {"operationId": "good"}}})
    *_, good = ops = listed(found)
    assert ToolMaker(found).tool(good).tool.name == "good"
    with pytest.raises(DocumentError) as caught:
        ToolMaker(found).tool(ops[0])
    assert caught.value.place == place


@pytest.mark.parametrize(
    ("tree", "place"),
    [
        ([], "#"),
        ({}, "#/openapi"),
        ({"swagger": "2.0"}, "#/swagger"),
        ({"openapi": "4.0.0"}, "#/openapi"),
        ({"openapi": 3}, "#/openapi"),
    ],
)
def test_what_is_no_document_of_openapi_3(tree: Any, place: str) -> None:
    with pytest.raises(DocumentError) as caught:
        Document(tree)
    assert caught.value.place == place


def test_an_optional_body_that_is_not_sent_leaves_the_rest_of_the_tool() -> None:
    found = made_of(document({"/x": {"post": {"requestBody": {"content": {"image/png": {}}}}}}))
    assert found.tool.operation.body is None
    assert found.notes


def test_a_reply_that_can_not_be_read_leaves_the_rest_of_the_tool() -> None:
    content = {"application/json": {"schema": {"$ref": "https://example.com/x"}}}
    found = made_of(document({"/x": {"get": {"responses": {"200": {"content": content}}}}}))
    assert found.tool.output_schema is None
    assert found.notes


def test_arguments_keep_their_names_where_they_fit_and_are_told_apart_elsewhere() -> None:
    nodes = [
        parameter(name="id"),
        parameter(name="id", **{"in": "header"}),
        parameter(name="filter[name]"),
        parameter(name="filter.name"),
        parameter(name="body"),
        parameter(name="日"),
    ]
    expected = {"id", "id_header", "filter_name", "filter.name", "body", "value", "body_body"}
    for order in (nodes, nodes[::-1]):
        node = {"parameters": order, "requestBody": {"content": {"application/json": {}}}}
        tool = made_of(document({"/x": {"post": node}})).tool
        assert set(tool.input_schema["properties"]) == expected
        api = {p.argument: (p.location, p.name) for p in tool.operation.parameters}
        assert api["id_header"] == ("header", "id")
        assert api["filter_name"] == ("query", "filter[name]")


def test_the_operations_parameters_stand_in_place_of_the_paths() -> None:
    item = {
        "parameters": [parameter(schema={"type": "integer"}), parameter(name="b")],
        "get": {"parameters": [parameter(schema={"type": "boolean"})]},
    }
    properties = made_of(document({"/x": item})).tool.input_schema["properties"]
    assert properties == {"a": {"type": "boolean"}, "b": {"type": "string"}}


def test_headers_that_the_operator_sets_are_no_arguments() -> None:
    found = document({"/x": {"get": {"parameters": [parameter(name="X-Version", **{"in": "header"})]}}})
    (op,) = listed(found)
    maker = ToolMaker(found, fixed=frozenset({("header", "x-version")}))
    assert maker.tool(op).tool.input_schema["properties"] == {}


# names


@pytest.mark.parametrize(
    ("node", "path", "name"),
    [
        ({"operationId": "getUserById"}, "/x", "get-user-by-id"),
        ({"operationId": "list_all pets"}, "/x", "list-all-pets"),
        ({"operationId": "Pets::Index"}, "/x", "pets-index"),
        ({}, "/users/{userId}/posts", "get-users-user-id-posts"),
        ({"operationId": "日本"}, "/x", "get"),
        ({"operationId": "a", "x-kong-mcp-tool-name": "Own_Name"}, "/x", "Own_Name"),
    ],
)
def test_a_name_is_the_one_that_deck_gives(node: Json, path: str, name: str) -> None:
    (op,) = listed(document({path: {"get": node}}))
    assert op.name == name


IDS: Final = st.sampled_from(["getUser", "get_user", "get-user", "a" * 80, "a" * 70, "A" * 80, "", "é", "x"])


@given(st.lists(st.tuples(IDS, st.sampled_from(["get", "post"])), min_size=1, max_size=12), st.randoms())
def test_names_are_short_unique_and_no_matter_of_order(wanted: list[tuple[str, str]], random: Any) -> None:
    paths = [
        (f"/p{i}", {method: {"operationId": name} if name else {}}) for i, (name, method) in enumerate(wanted)
    ]
    first = {op.path: op.name for op in listed(document(dict(paths)))}
    random.shuffle(paths)
    assert {op.path: op.name for op in listed(document(dict(paths)))} == first
    assert len(set(first.values())) == len(first)
    assert all(0 < len(name) <= 64 and name.isascii() for name in first.values())
    # An operation more changes no name but that of its equals, and gives nobody's name to another.
    more = listed(document(dict([*paths, ("/more", {"get": {"operationId": "getUser"}})])))
    for op in more:
        if op.path != "/more":
            assert op.name == first[op.path] or op.name.startswith("get-user-")
        else:
            assert op.name not in {n for n in first.values() if n != "get-user"}


def test_two_operations_of_one_given_name_are_none() -> None:
    same = {"x-kong-mcp-tool-name": "same"}
    found = document({"/a": {"get": same}, "/b": {"get": same}, "/c": {"get": {"operationId": "same"}}})
    problems = [op.problem for op in listed(found)]
    assert [p is None for p in problems] == [False, False, True]
    assert listed(found)[2].name.startswith("same-")


# decK's extensions


def test_decks_extensions() -> None:
    paths = {
        "/a": {
            "get": {
                "x-kong-mcp-tool-description": "Own.",
                "description": "Other.",
                "x-kong-mcp-exclude": True,
            }
        },
        "/b": {"get": {"x-kong-mcp-acl": {"allow": ["team"], "deny": "eve"}}},
        "/c": {"get": {"security": [{"oauth": ["write", "read"]}]}},
        "/d": {"get": {"security": []}},
        "/e": {"get": {"security": [{"oauth": ["a"]}, {"oauth": ["b"]}]}},
    }
    schemes = {"oauth": {"type": "oauth2", "x-kong-mcp-acl": {"acl_attribute_type": "oauth_access_token"}}}
    more = {
        "x-kong-mcp-default-acl": [{"scope": "tools", "allow": ["read"]}, {"scope": "other", "deny": ["x"]}]
    }
    found = document(paths, components={"securitySchemes": schemes}, **more)
    a, b, c, d, e = listed(found)
    maker = ToolMaker(found)
    assert (a.description, a.excluded) == ("Own.", True)
    assert maker.tool(b).tool.acl == Acl(allow=("team",), deny=("eve",))
    assert maker.tool(c).tool.acl == Acl(allow=("read", "write"))
    assert maker.tool(d).tool.acl is None
    assert default_acl(found) == Acl(allow=("read",))
    with pytest.raises(DocumentError) as caught:
        maker.tool(e)
    assert caught.value.place == "#/paths/~1e/get/security"


# pins


CHANGES: Final = [{"description": "other"}, {"title": "other"}, {"read_only": True}, {"name": "other"}]


def test_a_fingerprint_is_the_tools_and_no_order_of_its_document() -> None:
    node = {"operationId": "x", "parameters": [parameter(), parameter(name="b")]}
    first = made_of(document({"/x": {"post": node}})).tool.fingerprint
    other_way = dict(reversed(node.items()))
    assert made_of(document({"/x": {"post": other_way}}, "3.1.0")).tool.fingerprint == first
    changed = [made_of(document({"/x": {"post": node}}), **c).tool.fingerprint for c in CHANGES]
    changed.append(made_of(document({"/y": {"post": node}})).tool.fingerprint)
    narrower = {**node, "parameters": [parameter(required=True), parameter(name="b")]}
    changed.append(made_of(document({"/x": {"post": narrower}})).tool.fingerprint)
    assert len({first, *changed}) == len(changed) + 1
