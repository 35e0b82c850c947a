"""docs/providers.md says what becomes of a request's parameters; here Kong writes that table anew.

On the embedded host only the rows of formats that it has are checked, and what Kong's own drivers do needs a real Kong.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any, Final

import pytest

from engine_rig import EngineWorld
from tenantgate.devhost import mock_formats

from support import ROOT

pytestmark = pytest.mark.e2e

PAGE: Final = ROOT / "docs" / "providers.md"
NAME: Final = "anthropic.m1"
IMAGE: Final = "aW1hZ2U="
SCHEMA: Final = {"type": "object", "properties": {}}
PARAMETERS: Final[dict[str, tuple[dict[str, Any], Any]]] = {
    "temperature": ({"temperature": 0.4321}, 0.4321),
    "top_p": ({"top_p": 0.8765}, 0.8765),
    "top_k": ({"top_k": 43}, 43),
    "max_tokens": ({"max_tokens": 4321}, 4321),
    "max_completion_tokens": ({"max_completion_tokens": 5432}, 5432),
    "stop (text)": ({"stop": "halt"}, "halt"),
    "stop (list)": ({"stop": ["halt", "cease"]}, "cease"),
    "seed": ({"seed": 424_242}, 424_242),
    "n": ({"n": 77}, 77),
    "logprobs": ({"logprobs": True, "top_logprobs": 17}, 17),
    "presence_penalty": ({"presence_penalty": 1.234}, 1.234),
    "reasoning_effort": ({"reasoning_effort": "minimal"}, "minimal"),
    "response_format": (
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "shape", "schema": {**SCHEMA, "description": "a shape"}},
            }
        },
        "shape",
    ),
    "user": ({"user": "somebody"}, "somebody"),
    "tools": ({"tools": "weather"}, "weather"),
    "tool_choice": (
        {"tools": "clock", "tool_choice": {"type": "function", "function": {"name": "chosen"}}},
        "chosen",
    ),
    "parallel_tool_calls: false": ({"tools": "clock", "parallel_tool_calls": False}, None),
    "system message": ({"messages": [{"role": "system", "content": "S1"}]}, "S1"),
    "second system message": (
        {"messages": [{"role": "system", "content": "S1"}, {"role": "system", "content": "S2"}]},
        "S1",
    ),
    "developer message": ({"messages": [{"role": "developer", "content": "D1"}]}, "D1"),
    "image (data URL)": (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "see"},
                        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{IMAGE}"}},
                    ],
                }
            ]
        },
        IMAGE,
    ),
    "text beside a tool call": ({"tools": "clock", "turn": "beside"}, "beside"),
    "second tool call of a turn": ({"tools": "clock", "turn": None}, "Bergen"),
    "tool result (text)": ({"tools": "clock", "turn": None}, "sunny there"),
}
"""By its name in the table a request's members, and the value that is looked for in what the provider gets."""


def request(members: dict[str, Any]) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": "Hello"}], **members}
    if "messages" in members:
        body["messages"] = [*members["messages"], {"role": "user", "content": "Hello"}]
    if "tools" in members:
        functions = [{"name": members["tools"], "parameters": SCHEMA}]
        if "tool_choice" in members:
            functions.append({"name": "chosen-tool", "parameters": SCHEMA})
        body["tools"] = [{"type": "function", "function": function} for function in functions]
    if "turn" in members:
        text = body.pop("turn")
        calls = [
            {
                "id": f"c{i}",
                "type": "function",
                "function": {"name": "clock", "arguments": f'{{"at": "{at}"}}'},
            }
            for i, at in enumerate(("Oslo", "Bergen"))
        ]
        body["messages"] += [
            {"role": "assistant", "content": text, "tool_calls": calls},
            *({"role": "tool", "tool_call_id": f"c{i}", "content": "sunny there"} for i in range(2)),
        ]
    return body


def places(value: Any, wanted: Any, path: str = "") -> Iterator[str]:
    """Where a value stands: the path's names, without numbers."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, wanted, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for inner in value:
            yield from places(inner, wanted, path)
    elif type(value) is type(wanted) and (
        value == wanted or (isinstance(wanted, str) and wanted in value and len(wanted) > 1)
    ):
        yield path


def cell(body: dict[str, Any] | None, name: str, wanted: Any) -> str:
    if body is None:
        return "400"
    if wanted is None:
        flags = [f"{path}" for path in places(body, False) if "parallel" in path]
        flags += [f"{path}" for path in places(body, True) if "parallel" in path]
        return f"`{flags[0]}`" if flags else "—"
    found = sorted({*places(body, wanted)})
    if name == "tool_choice":
        found = [path for path in found if "hoice" in path]
    return f"`{found[0]}`" if found else "—"


FORMATS: Final = ("openai", "anthropic", "bedrock")
DRIVERS: Final = ("anthropic", "bedrock", "gemini", "cohere", "huggingface")


class Table:
    """What Kong sends, by format."""

    def __init__(self, world: EngineWorld) -> None:
        self._world = world

    def sent(self, driver: str, members: dict[str, Any], *, ours: bool) -> dict[str, Any] | None:
        world, seen = self._world, self._world.provider.formats
        options: dict[str, Any] = {"upstream_url": f"http://127.0.0.1:{world.mock}/strict/any"}
        if ours:
            options["tenantgate"] = {"stream_usage": "asked"}
        if driver == "anthropic":
            options["anthropic_version"] = "2023-06-01"
        auth: dict[str, Any] = {"header_name": "Authorization", "header_value": "k", "bearer": False}
        if driver == "bedrock":
            options["bedrock"] = {"aws_region": mock_formats.AWS_REGION}
            auth = {
                "secrets": {
                    "aws_access_key_id": "{vault://env/AWS_ID}",
                    "aws_secret_access_key": "{vault://env/AWS_SECRET}",
                }
            }
        world.decision = world.decide(
            target={"provider": driver, "name": NAME, "options": options, "auth": auth}
        )
        seen.last.pop("any", None)
        world.send({"model": NAME, **request(members)})
        return seen.last.get("any")

    def row(self, name: str, driver: str, *, ours: bool) -> str:
        members, wanted = PARAMETERS[name]
        return cell(self.sent(driver, members, ours=ours), name, wanted)


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineWorld]:
    if request.config.getoption("--gateway-url"):
        pytest.skip("starts a gateway of its own")
    folder = tmp_path_factory.mktemp("table")
    with EngineWorld(folder, request.config.getoption("--kong-bin")) as made:
        yield made


def written() -> dict[str, list[str]]:
    """The rows of the page's table."""
    text = PAGE.read_text("utf-8").partition("<!-- parameters -->")[2].partition("<!-- /parameters -->")[0]
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {cells[0].strip("`"): [c.strip() for c in cells[1:]] for cells in lines[1:]}


def test_the_page_says_what_becomes_of_each_parameter(world: EngineWorld) -> None:
    table, found = Table(world), {}
    for name in PARAMETERS:
        found[name] = [
            table.row(name, driver, ours=True) if world.kong or driver != "bedrock" else "?"
            for driver in FORMATS
        ]
        found[name] += [table.row(name, driver, ours=False) if world.kong else "?" for driver in DRIVERS]
    if os.environ.get("PROVIDER_TABLE"):  # the lines for the page
        for name, cells in found.items():
            sys.stdout.write(f"| `{name}` | {' | '.join(cells)} |\n")
    page = written()
    assert page.keys() == found.keys()
    for name, cells in found.items():
        for now, then in zip(cells, page[name], strict=True):
            assert now in (then, "?"), (name, cells, page[name])
