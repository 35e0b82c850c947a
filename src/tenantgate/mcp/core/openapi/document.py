"""An OpenAPI document as a tree: its version, and references within it. No reference leaves the document."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from typing import Any, Final

from tenantgate.errors import ConfigError

__all__ = ["Document", "DocumentError", "child"]

_VERSION: Final = re.compile(r"3\.([012])(\.|$)")
_CHAIN: Final = 64
"""References that may follow one another."""


class DocumentError(ConfigError):
    """A place in a document that can't be used.

    Attributes:
        place: a JSON pointer, ``#/paths/~1pets/get``.
    """

    def __init__(self, place: str, what: str) -> None:
        super().__init__(f"{place}: {what}")
        self.place = place
        self.what = what


def child(place: str, *steps: str | int) -> str:
    """The JSON pointer of what stands below `place`."""
    return "/".join([place, *(str(step).replace("~", "~0").replace("/", "~1") for step in steps)])


class Document:
    """A parsed document.

    Args:
        tree: JSON's values; names of members are texts.

    Raises:
        DocumentError: it is no OpenAPI 3.0 or 3.1 document.
    """

    def __init__(self, tree: Any) -> None:
        if not isinstance(tree, Mapping):
            raise DocumentError("#", "an OpenAPI document is an object")
        version = tree.get("openapi")
        found = _VERSION.match(str(version)) if isinstance(version, str | float) else None
        if found is None:
            if "swagger" in tree:
                raise DocumentError("#/swagger", "version 2 isn't read; convert the document to OpenAPI 3")
            raise DocumentError("#/openapi", "must be a version of OpenAPI 3, such as 3.0.3 or 3.1.0")
        self.tree: Mapping[str, Any] = tree
        self.is_30: Final = found[1] == "0"
        """Whether schemas are those of OpenAPI 3.0, else JSON Schema's 2020-12."""
        self._found: dict[str, Any] = {}

    def mapping(self, node: Any, place: str) -> Mapping[str, Any]:
        """`node`, which must be an object; nothing counts as an empty one.

        Raises:
            DocumentError: it is none.
        """
        if node is None:
            return {}
        if not isinstance(node, Mapping):
            raise DocumentError(place, "must be an object")
        return node

    def follow(self, node: Any, place: str) -> tuple[Any, str]:
        """`node`, or what its reference leads to, and where that stands.

        Raises:
            DocumentError: the reference leads out of the document, nowhere, or in a circle.
        """
        passed: set[str] = set()
        while isinstance(node, Mapping) and isinstance(node.get("$ref"), str):
            pointer = node["$ref"]
            if pointer in passed or len(passed) > _CHAIN:
                raise DocumentError(place, "the reference leads back to itself")
            passed.add(pointer)
            node, place = self.at(pointer, place), pointer
        return node, place

    def at(self, pointer: str, place: str) -> Any:
        """What stands at a reference that `place` has.

        Raises:
            DocumentError: the reference leads out of the document, or nowhere.
        """
        if pointer not in self._found:
            self._found[pointer] = self._at(pointer, place)
        return self._found[pointer]

    def _at(self, pointer: str, place: str) -> Any:
        if not pointer.startswith("#"):
            what = "a reference to another document isn't followed; put both into one ($ref: bundle first)"
            raise DocumentError(place, what)
        if pointer != "#" and not pointer.startswith("#/"):
            raise DocumentError(place, "a reference must be a JSON pointer, #/components/…")
        node: Any = self.tree
        for raw in pointer.split("/")[1:]:
            step = urllib.parse.unquote(raw).replace("~1", "/").replace("~0", "~")
            if isinstance(node, Mapping) and step in node:
                node = node[step]
            elif isinstance(node, list) and step.isdecimal() and int(step) < len(node):
                node = node[int(step)]
            else:
                raise DocumentError(place, "the reference leads to nothing")
        return node
