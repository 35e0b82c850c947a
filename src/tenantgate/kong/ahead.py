"""Values of ``kong.ctx.shared`` that come with an event's first message, and those that go with its last.

By Kong's own protocol each is a message and an answer. ``plugins/kong/plugins/tenantgate-request/trips.lua`` adds
members to the argument of HandleEvent: ``Shared``, what the phase will ask for; ``Record``, Kong's log record;
``Takes``, that the answer may have a member ``Shared``, too; ``Alone``, that Kong answers no call. Each value travels
as JSON, which Lua reads and writes in C, with a table's `body` beside it as bytes: ``{name: [text, body]}``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["Ahead"]

_MOST: Final = 256 * 1024  # in one message; what is larger goes by itself
_BODY: Final = "body"


class Ahead:
    """What an event's phase knows without asking, and what it will tell.

    Attributes:
        record: Kong's log record, JSON; None: it must be asked for.
        alone: whether Kong answers no call.
    """

    __slots__ = ("_given", "_known", "_size", "_takes", "_told", "alone", "record")

    def __init__(
        self, given: Mapping[str, Any], *, takes: bool = False, record: str | None = None, alone: bool = False
    ) -> None:
        """`given` as it came, `takes`: whether the answer may have values."""
        self.record, self.alone = record, alone
        self._given = dict(given)
        self._known: dict[str, Any] = {}
        self._takes = takes
        self._told: dict[str, list[Any]] = {}
        self._size = 0

    @classmethod
    def of(cls, argument: Mapping[str, Any]) -> Ahead | None:
        """What the argument of a HandleEvent has of it; None: nothing, as from a Kong without our Lua."""
        given, takes, alone = (
            argument.get("Shared"),
            argument.get("Takes") is True,
            argument.get("Alone") is True,
        )
        if not (given or takes or alone):
            return None
        record = argument.get("Record")
        return cls(
            given if isinstance(given, Mapping) else {},
            takes=takes,
            record=record if isinstance(record, str) else None,
            alone=alone,
        )

    def knows(self, name: object) -> bool:
        """Whether `get` can tell."""
        return name in self._known or name in self._given

    def get(self, name: str) -> Any:
        """The value of that name, which is known."""
        if name not in self._known:
            self._known[name] = _read(self._given.pop(name))
        return self._known[name]

    def set(self, name: object, value: Any) -> bool:
        """Keep a value for the last message; False: it must go by itself.

        Raises:
            TypeError, ValueError: it can't be sent.
        """
        if not self._takes or not isinstance(name, str):
            return False
        text, body = _written(value)
        size = len(text) + len(body or b"")
        if self._size + size > _MOST:
            if self._told.pop(name, None) is not None:  # what comes last holds
                self._given.pop(name, None)
            return False
        self._size += size
        self._told[name] = [text] if body is None else [text, body]
        self._known[name] = value
        return True

    def told(self) -> Mapping[str, Any]:
        """For the last message: what was kept."""
        return self._told


def _read(packed: Any) -> Any:
    text, body = (*packed, None)[:2] if isinstance(packed, list) and packed else (None, None)
    if not isinstance(text, str):
        return None
    value = json.loads(text)
    if body is not None and isinstance(value, dict):
        value[_BODY] = body
    return value


def _written(value: Any) -> tuple[str, bytes | None]:
    body = None
    if isinstance(value, dict) and isinstance(value.get(_BODY), bytes):
        body = value[_BODY]
        value = {name: held for name, held in value.items() if name != _BODY}
    text = _dump(value)
    if "null" in text:  # a table of Lua's holds no nil
        text = _dump(_without_none(value))
    return text, body


def _text(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} can't be sent")


_dump: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_text
).encode


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_none(held) for name, held in value.items() if held is not None}
    if isinstance(value, list | tuple):
        return [_without_none(held) for held in value]
    return value
