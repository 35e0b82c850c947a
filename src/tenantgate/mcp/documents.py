"""OpenAPI documents as texts: JSON and YAML, read as YAML 1.2 means it, within bounds."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import yaml

from tenantgate.errors import ConfigError
from tenantgate.mcp.core.openapi.document import Document

__all__ = ["DOCUMENT_BYTES", "parse_yaml", "read_document"]

DOCUMENT_BYTES: Final = 64 * 1024 * 1024
_DEPTH: Final = 400
_NODES: Final = 3_000_000


def read_document(raw: bytes, name: str) -> Document:
    """The document in a text that `name` is the place of.

    Raises:
        ConfigError: it is no JSON or YAML, is too large or too deep, or no OpenAPI 3 document; names the place.
    """
    tree = parse_yaml(raw, name)
    try:
        return Document(tree)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None


def parse_yaml(raw: bytes, name: str) -> Any:
    """The values in a JSON or YAML text that `name` is the place of; names of members are texts.

    Raises:
        ConfigError: it is neither, or too large or too deep.
    """
    if len(raw) > DOCUMENT_BYTES:
        raise ConfigError(f"{name}: more than {DOCUMENT_BYTES} bytes")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: isn't UTF-8: byte {error.start + 1} is wrong") from None
    tree = _tree(text, name)
    _check(tree, name)
    return tree


def _tree(text: str, name: str) -> Any:
    if text.lstrip()[:1] == "{":
        try:
            return json.loads(text)
        except RecursionError:
            raise ConfigError(f"{name}: is nested too deeply") from None
        except json.JSONDecodeError as error:
            json_problem = f"{name}:{error.lineno}: isn't JSON: {error.msg.lower()}"
        # YAML's flow style begins so, too.
        try:
            return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
        except (yaml.YAMLError, ValueError, RecursionError):
            raise ConfigError(json_problem) from None
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        raise ConfigError(f"{where}: isn't YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError):
        raise ConfigError(f"{name}: isn't YAML") from None
    except RecursionError:
        raise ConfigError(f"{name}: is nested too deeply") from None


def _check(tree: Any, name: str) -> None:
    """Bounds of what anchors make of a small text: a tree is walked as if nothing in it were shared."""
    level = [tree]
    nodes = 0
    for _ in range(_DEPTH):
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
        nodes += len(level)
        if nodes > _NODES:
            raise ConfigError(f"{name}: more than {_NODES} values")
        if not level:
            return
    raise ConfigError(f"{name}: is nested more than {_DEPTH} deep")


class _Loader(yaml.CSafeLoader):
    """YAML 1.2's core schema: `no` and `on` are texts, dates are texts, and so are names of members."""

    # The resolvers of the base class are YAML 1.1's.
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - as the library has it

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As the library does it, but names are texts: ``200:`` is a status."""
        if isinstance(node, yaml.MappingNode):
            self.flatten_mapping(node)
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                    key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)


_RESOLVERS: Final = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf)|\.(nan|NaN)", "-+0123456789."),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
)  # fmt: skip


def _whole(loader: _Loader, node: yaml.ScalarNode) -> int:
    """A whole number; ``010`` is ten, as YAML 1.2 has it."""
    text = str(loader.construct_scalar(node))
    sign = -1 if text[:1] == "-" else 1
    digits = text.lstrip("+-")
    base = {"0o": 8, "0x": 16}.get(digits[:2], 10)
    if len(digits) > 4_000:
        raise ValueError("a number of thousands of digits")
    return sign * int(digits[2:] if base != 10 else digits, base)


for _name, _pattern, _first in _RESOLVERS:
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_name}", re.compile(rf"^(?:{_pattern})$"), list(_first)
    )
_Loader.add_constructor("tag:yaml.org,2002:int", _whole)
