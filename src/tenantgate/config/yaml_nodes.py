"""YAML text to PyYAML's nodes, from the events of libyaml's parser.

PyYAML's own composers are several times as slow. This one also hands out a list of the root entry by entry, so that a
file of many tenants is never in memory as a whole; refuses deep nesting before it could exhaust the stack; and refuses
aliases that stand for more values than any file has.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import yaml

__all__ = ["MAX_DEPTH", "compose"]

MAX_DEPTH: Final = 200
"""Levels of nesting that are read."""
_MAX_NODES: Final = 20_000_000
"""Values of one file, those behind aliases counted each time: ten thousand tenants have about a million."""

_MAP: Final = "tag:yaml.org,2002:map"
_SEQ: Final = "tag:yaml.org,2002:seq"
_STR: Final = "tag:yaml.org,2002:str"


def compose(text: str) -> yaml.Node | None:
    """The root of the one document in `text`, or None for an empty one.

    Where the root is a mapping, its ``value`` is an iterator, and so is the ``value`` of each list directly in it: they
    are read as they are asked for, each once.

    Raises:
        yaml.YAMLError: it isn't YAML, here or while an iterator is read; `problem` says what, `problem_mark` where.
    """
    return _Composer(text).root()


class _Composer:
    def __init__(self, text: str) -> None:
        self._next = yaml.CSafeLoader(text).get_event
        self._anchors: dict[str, tuple[yaml.Node, int]] = {}
        self._nodes = 0

    def root(self) -> yaml.Node | None:
        event: Any
        self._next()  # the stream's start
        if isinstance(self._next(), yaml.StreamEndEvent):
            return None
        event = self._next()
        if not isinstance(event, yaml.MappingStartEvent):
            node = self._node(event, 0)
            self._finish()
            return node
        node = yaml.MappingNode(_tag(event, _MAP), [], _start(event))
        if event.anchor is not None:
            self._anchors[event.anchor] = node, 1
        node.value = self._entries()
        return node

    def _finish(self) -> None:
        self._next()  # the document's end
        event: Any = self._next()
        if not isinstance(event, yaml.StreamEndEvent):
            raise yaml.composer.ComposerError(
                "expected a single document in the stream",
                None,
                "but found another document",
                event.start_mark,
            )

    def _entries(self) -> Iterator[tuple[yaml.Node, yaml.Node]]:
        """Keys and values of the root."""
        event: Any
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key, event = self._node(event, 1), self._next()
            if isinstance(event, yaml.SequenceStartEvent) and event.anchor is None:
                value = yaml.SequenceNode(_tag(event, _SEQ), [], _start(event))
                value.value = items = self._items()
                yield key, value
                for _ in items:  # whoever got it may not have read it to its end
                    pass
            else:
                yield key, self._node(event, 1)
        self._finish()

    def _items(self) -> Iterator[yaml.Node]:
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            yield self._node(event, 2)

    def _node(self, event: Any, depth: int) -> yaml.Node:
        kind = type(event)
        if kind is yaml.AliasEvent:
            return self._alias(event)
        self._count(1, event)
        anchor = event.anchor
        if anchor is not None and anchor in self._anchors:
            raise yaml.composer.ComposerError(
                None, None, f"found duplicate anchor {anchor!r}", event.start_mark
            )
        node: yaml.Node
        before = self._nodes
        if kind is yaml.ScalarEvent:
            tag = event.tag
            if tag is None or tag == "!":
                tag = _resolved(event.value) if event.implicit[0] else _STR
            node = yaml.ScalarNode(tag, event.value, event.start_mark, None, event.style)
        elif depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, "is nested too deeply", event.start_mark)
        elif kind is yaml.SequenceStartEvent:
            node = yaml.SequenceNode(_tag(event, _SEQ), [], event.start_mark)
            self._announce(anchor, node)
            while type(event := self._next()) is not yaml.SequenceEndEvent:
                node.value.append(self._node(event, depth + 1))
        else:
            node = yaml.MappingNode(_tag(event, _MAP), [], event.start_mark)
            self._announce(anchor, node)
            while type(event := self._next()) is not yaml.MappingEndEvent:
                key = self._node(event, depth + 1)
                node.value.append((key, self._node(self._next(), depth + 1)))
        if anchor is not None:
            self._anchors[anchor] = node, self._nodes - before + 1
        return node

    def _announce(self, anchor: str | None, node: yaml.Node) -> None:
        """A list or mapping may hold an alias of itself."""
        if anchor is not None:
            self._anchors[anchor] = node, 1

    def _alias(self, event: Any) -> yaml.Node:
        found = self._anchors.get(event.anchor)
        if found is None:
            raise yaml.composer.ComposerError(
                None, None, f"found undefined alias {event.anchor!r}", event.start_mark
            )
        node, nodes = found
        self._count(nodes, event)
        return node

    def _count(self, nodes: int, event: Any) -> None:
        self._nodes += nodes
        if self._nodes > _MAX_NODES:
            raise yaml.composer.ComposerError(None, None, "has too many values", event.start_mark)


def _start(event: Any) -> Any:
    return event.start_mark


def _tag(event: Any, usual: str) -> str:
    tag = event.tag
    return usual if tag is None or tag == "!" else str(tag)


_RESOLVER: Final = yaml.resolver.Resolver()


@lru_cache(maxsize=65_536)
def _resolved(value: str) -> str:
    """The tag of a scalar without quotes."""
    return str(_RESOLVER.resolve(yaml.ScalarNode, value, (True, False)))  # type: ignore[no-untyped-call]
