"""Endpoints: which tools a caller sees, under which names, in which order."""

from __future__ import annotations

import json
import string
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tenantgate.mcp.core.offers import Endpoint, endpoints, permits
from tenantgate.mcp.core.protocol.messages import Request
from tenantgate.mcp.core.protocol.results import is_media, page
from tenantgate.mcp.core.stored import from_record, to_record
from tenantgate.mcp.core.tool import Acl, Annotations, Operation, RemoteTool, Server, Tool


def tool(name: str, **more: Any) -> Tool:
    made: dict[str, Any] = {
        "name": name,
        "title": "",
        "description": "What it does.",
        "input_schema": {"type": "object"},
        "output_schema": None,
        "annotations": Annotations(),
        "operation": Operation(method="GET", path="/"),
        "fingerprint": "sha256:now",
    }
    return Tool(**{**made, **more})


def server(name: str, *tools: Tool, **more: Any) -> Server:
    return Server(name=name, upstream="https://api.example", tools=tools, **more)


def names(endpoint: Endpoint, *principals: str) -> list[str]:
    return [name for name, _ in endpoint.visible({"acme", *principals})]


def request(*, modern: bool = False, **params: Any) -> Request:
    return Request(id=1, method="tools/list", params=params, modern=modern)


NAMES = st.text("ab_-", min_size=1, max_size=40)


@given(st.sets(st.tuples(NAMES, st.text("ab_-", min_size=1, max_size=64)), max_size=30))
def test_joined_names_are_unique_and_short_and_stay(pairs: set[tuple[str, str]]) -> None:
    by_server: dict[str, list[Tool]] = {}
    for s, t in pairs:
        by_server.setdefault(s, []).append(tool(t))
    made = endpoints([server(s, *tools) for s, tools in by_server.items()], version="1")
    joined = made[""]
    assert len(joined.by_name) == len(pairs)
    assert all(len(name) <= 64 for name in joined.by_name)
    for s, tools in by_server.items():  # whatever other servers there are
        alone = endpoints([server(s, *tools)], version="1")[""]
        assert alone.by_name.keys() <= joined.by_name.keys()


@given(st.sets(NAMES), st.sets(NAMES), st.sets(NAMES))
def test_lists_of_access_are_kongs(allow: set[str], deny: set[str], who: set[str]) -> None:
    found = permits(Acl(allow=tuple(allow), deny=tuple(deny)), who)
    assert found == (not who & deny and (not allow or bool(who & allow)))


def test_what_nobody_may_call_nobody_sees() -> None:
    made = endpoints(
        [
            server(
                "s",
                tool("open"),
                tool("own", acl=Acl(allow=("key-1",))),
                tool("shut", acl=Acl(deny=("acme",))),
            )
        ],
        version="1",
    )
    assert names(made["s"]) == ["open"]
    assert names(made["s"], "key-1") == ["open", "own"]
    assert made["s"].offer("own", {"acme"}) is None
    assert made["s"].offer("own", {"acme", "key-1"}) is not None
    assert names(made[""], "key-1") == ["s__open", "s__own"]


def test_a_tool_that_changed_since_it_was_approved_is_gone() -> None:
    made = endpoints(
        [server("s", tool("same"), tool("other"), pins={"same": "sha256:now", "other": "sha256:then"})],
        version="1",
    )
    assert names(made["s"]) == ["same"]
    assert made["s"].offer("other", {"acme"}) is None
    assert names(made[""]) == ["s__same"]


@settings(max_examples=20)
@given(st.integers(0, 250), st.booleans())
def test_pages_hold_each_tool_once_in_order(count: int, modern: bool) -> None:
    endpoint = endpoints([server("s", *(tool(f"t{i:03}") for i in range(count)))], version="1")["s"]
    seen: list[str] = []
    params: dict[str, Any] = {}
    while True:
        raw = page(request(modern=modern, **params), endpoint.identity, endpoint.visible({"acme"}))
        assert raw is not None
        result = json.loads(raw)
        seen += [t["name"] for t in result["tools"]]
        assert ("resultType" in result, "ttlMs" in result, "cacheScope" in result) == (modern, modern, modern)
        if "nextCursor" not in result:
            break
        params = {"cursor": result["nextCursor"]}
    assert seen == [f"t{i:03}" for i in range(count)]


def test_a_cursor_that_is_none() -> None:
    endpoint = endpoints([server("s", tool("t"))], version="1")["s"]
    for cursor in ("%", 5, "\u00fc", ["x"]):
        assert page(request(cursor=cursor), endpoint.identity, endpoint.visible(set())) is None


def test_a_remote_tool_is_for_those_whom_its_list_names() -> None:
    tools = (RemoteTool(name="free"), RemoteTool(name="private", acl=Acl(allow=("a",))))
    server = Server(name="r", upstream="https://r.example", remote=True, allowed=tools)
    assert from_record(json.loads(json.dumps(to_record(server)))) == server
    found = endpoints([server], version="1")["r"]
    assert found.remote_tool("private", {"b"}) is None
    assert found.remote_tool("private", {"a"}) == tools[1]
    assert found.remote_tool("other", {"a"}) is None


@given(st.sampled_from(["image", "audio", "text", "resource", None]), st.text() | st.just("aGk="))
def test_only_data_of_media_is_not_read_by_guards(kind: str | None, data: str) -> None:
    plain = set(data) <= set(string.ascii_letters + string.digits + "+/=")
    if is_media({"type": kind, "data": data, "text": "x"}):
        assert kind in ("image", "audio")
        assert plain
