"""Streamed replies: server-sent events, parsed so that nothing of them is left unread, and written again.

Each event is a mapping: ``data``, parsed where it is JSON, and ``lines``, all its other lines as they came (names,
ids, comments, what no standard knows). Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

__all__ = ["DONE", "finished_chunks", "loads", "parse_events", "parse_lines", "write_events", "write_lines"]

DONE: Final[Mapping[str, Any]] = {"data": "[DONE]"}
"""The event that ends OpenAI's streams."""

_dumps: Final = json.JSONEncoder(separators=(",", ":")).encode
_LINE_END: Final = re.compile(r"\r\n|\n|\r")


def loads(text: str) -> Any:
    """JSON whose objects have no name twice: which of the two counts, each reader decides for itself.

    Raises:
        ValueError: it is none.
        RecursionError: it is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_once)


def parse_events(text: str) -> list[dict[str, Any]]:
    """The events; one without its empty line at the end counts, too."""
    events: list[dict[str, Any]] = []
    data: list[str] = []
    lines: list[str] = []
    for line in (*_LINE_END.split(text.removeprefix("\ufeff")), ""):
        name, _, value = line.partition(":")
        if name == "data":
            data.append(value.removeprefix(" "))
        elif line:
            lines.append(line)
        elif data or lines:
            events.append(
                ({"data": _parsed("\n".join(data))} if data else {}) | ({"lines": lines} if lines else {})
            )
            data, lines = [], []
    return events


def finished_chunks(text: str) -> list[Any] | None:
    """The data of OpenAI's stream without the event that ends it; None for a stream that was cut off before it."""
    events = [event for event in parse_events(text) if "data" in event]
    return [event["data"] for event in events[:-1]] if events and events[-1]["data"] == DONE["data"] else None


def parse_lines(text: str) -> list[dict[str, Any]] | None:
    """JSON values, one a line; None if some line is none."""
    events = []
    for line in text.removeprefix("\ufeff").splitlines():
        if line.strip():
            try:
                events.append({"data": loads(line)})
            except (ValueError, RecursionError):
                return None
    return events or None


def write_events(events: Iterable[Mapping[str, Any]]) -> bytes:
    """The events as they are sent."""
    return "".join(["\n".join(_lines(e)) + "\n\n" for e in events]).encode("utf-8", "replace")


def write_lines(events: Sequence[Mapping[str, Any]]) -> bytes:
    """The values, one a line."""
    return "".join(_dumps(e["data"]) + "\n" for e in events).encode("ascii")


def _lines(event: Mapping[str, Any]) -> list[str]:
    lines = list(event.get("lines", ()))
    if "data" in event:
        data = event["data"]
        if isinstance(data, str):
            lines += [f"data: {line}" for line in _LINE_END.split(data)]
        else:
            lines.append("data: " + _dumps(data))  # one line: JSON's texts escape their line ends
    return lines


def _parsed(text: str) -> Any:
    try:
        value = loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, list | dict) else text


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found
