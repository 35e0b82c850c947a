"""Arguments that headers repeat."""

from __future__ import annotations

from typing import Any

import pytest

from tenantgate.mcp.core.protocol.params import mismatch

SCHEMA = {
    "type": "object",
    "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "deep": {"type": "object", "properties": {"n": {"type": "integer", "x-mcp-header": "N"}}},
        "flag": {"type": "boolean", "x-mcp-header": "Flag"},
        "free": {"type": "string"},
    },
}


@pytest.mark.parametrize(
    ("arguments", "headers", "wrong"),
    [
        ({}, {}, None),
        ({"free": "x"}, {}, None),
        ({"region": "eu"}, {"mcp-param-region": ["eu"]}, None),
        ({"region": "eu"}, {"mcp-param-region": [" eu "]}, None),
        ({"region": "ü"}, {"mcp-param-region": ["=?base64?w7w=?="]}, None),
        ({"deep": {"n": 42}}, {"mcp-param-n": ["42.0"]}, None),
        ({"flag": True}, {"mcp-param-flag": ["true"]}, None),
        ({"region": None}, {}, None),
        ({"region": "eu"}, {}, "Mcp-Param-Region"),
        ({"region": "eu"}, {"mcp-param-region": ["us"]}, "Mcp-Param-Region"),
        ({"region": "eu"}, {"mcp-param-region": ["eu", "eu"]}, "Mcp-Param-Region"),
        ({}, {"mcp-param-region": ["eu"]}, "Mcp-Param-Region"),
        ({"deep": {"n": 42}}, {"mcp-param-n": ["x"]}, "Mcp-Param-N"),
        ({"flag": True}, {"mcp-param-flag": ["True"]}, "Mcp-Param-Flag"),
    ],
)
def test_a_header_is_the_same_as_its_argument(
    arguments: dict[str, Any], headers: dict[str, list[str]], wrong: str | None
) -> None:
    assert mismatch(SCHEMA, arguments, headers) == wrong
