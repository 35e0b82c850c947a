"""Documents as texts: JSON and YAML mean what YAML 1.2 says, and nothing large comes of a small one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tenantgate.errors import ConfigError
from tenantgate.mcp.documents import parse_yaml, read_document


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: no", "no"),
        ("a: on", "on"),
        ("a: true", True),
        ("a: 2023-06-01", "2023-06-01"),
        ("a: 12:30:45", "12:30:45"),
        ("a: 010", 10),
        ("a: 0o10", 8),
        ("a: 0x1F", 31),
        ("a: 1e3", 1000.0),
        ("a: 1_000", "1_000"),
        ("a: ~", None),
        ("a:", None),
        ("a: '1'", "1"),
        ("{a: [1, x]}", [1, "x"]),
        ("b: &b {c: 1}\na: {<<: *b, d: 2}", {"c": 1, "d": 2}),
        ("a: {200: ok, no: 1}", {"200": "ok", "no": 1}),
        ('{"a": "\\ud83d\\ude00"}', "😀"),
    ],
)
def test_values_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    assert parse_yaml(text.encode(), "x")["a"] == value


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 10)}]\n" for i in range(9)
)


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"\xff", "x: isn't UTF-8: byte 1"),
        (b"a: [", "x:2: isn't YAML"),
        (b"a: 1\nb: [}", "x:2: isn't YAML"),
        (b'{"a": ]', "x:1: isn't JSON"),
        (b"[" * 1_000 + b"]" * 1_000, "nested"),
        (b'{"a":' * 10_000, "x"),
        (b"a: !!python/object/apply:os.system [ls]", "isn't YAML"),
        (b"a: &a [*a]", "x"),
        (json.dumps({"swagger": "2.0"}).encode(), "x: #/swagger: version 2"),
        (b"", "x: #: an OpenAPI document is an object"),
    ],
)
def test_what_is_no_document_is_an_error_that_names_it(raw: bytes, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_document(raw, "x")
    assert problem in str(caught.value)


def test_anchors_make_nothing_large_of_a_small_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenantgate.mcp.documents._NODES", 10_000)
    with pytest.raises(ConfigError, match="more than 10000 values"):
        read_document(BOMB.encode(), "x")
