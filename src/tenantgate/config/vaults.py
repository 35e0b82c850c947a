"""Vaults that references may name: Kong's own, ours, and those that tenants.yaml says Kong has beside them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator
from typing import Final

import yaml

from tenantgate.config import yaml_nodes
from tenantgate.config.deck_variables import is_vault_reference
from tenantgate.config.node_reader import join

__all__ = ["KNOWN", "unknown"]

KNOWN: Final = ("env", "file")
"""`env` is the one of Kong's open-source edition (kong/constants.lua, BUNDLED_VAULTS), `file` is ours."""
_NAME: Final = re.compile(r"\{vault://([^/{}\s]*)/")


def unknown(text: str, more: Collection[str]) -> Iterator[tuple[int, str, str]]:
    """Line, path and problem of each value of a YAML text that refers to another vault than `KNOWN` and `more`."""
    known = {*KNOWN, *more}
    # Hardly a file has one, and reading it again takes as long as the first time.
    if set(_NAME.findall(text)) <= known:
        return
    root = yaml_nodes.compose(text)
    for node, path in _scalars(root, "") if root is not None else ():
        if is_vault_reference(node.value) and (name := _name(node.value)) not in known:
            close = difflib.get_close_matches(name, sorted(known), n=1)
            mean = f"did you mean {close[0]!r}?" if close else "name a vault of your own in gateway.vaults"
            what = f"there is no vault {name!r}; known are {', '.join(sorted(known))}; {mean}"
            yield node.start_mark.line + 1, path, what


def _name(reference: str) -> str:
    found = _NAME.match(reference)
    return found[1] if found else ""


def _scalars(node: yaml.Node, path: str) -> Iterator[tuple[yaml.ScalarNode, str]]:
    if isinstance(node, yaml.ScalarNode):
        yield node, path
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _scalars(value, join(path, str(key.value)))
    elif isinstance(node, yaml.SequenceNode):
        for i, child in enumerate(node.value):
            yield from _scalars(child, f"{path}[{i}]")
