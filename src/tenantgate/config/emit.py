"""YAML text for kong.yml: the same tree gives the same bytes."""

from __future__ import annotations

from typing import Any

import yaml

__all__ = ["dump"]


class _Dumper(yaml.SafeDumper):
    """Indented lists, no anchors, and placeholders always in single quotes, since decK replaces text."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        del indentless
        super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="'" if "${{" in value else None)


_Dumper.add_representer(str, _text)


def dump(tree: Any, *, header: str = "") -> str:
    """`tree` in block style, keys in the order given, under the comment lines of `header`."""
    body: str = yaml.dump(
        tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**6, default_flow_style=False
    )
    return header + body
