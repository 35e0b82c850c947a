"""Server-sent events as Kong cuts them out of a chunk (`frame_to_events` in `kong/llm/drivers/shared.lua`).

Kept with its ways: an event is pushed at each empty line, also an empty one, and a last line without an end
waits for the next chunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["SUPPORTED_TYPES", "TERMINATOR", "Event", "Frames"]

TERMINATOR: Final = b"[DONE]"
SUPPORTED_TYPES: Final = frozenset(
    {"text/event-stream", "application/json", "application/stream+json", "application/x-ndjson"}
)


@dataclass(slots=True)
class Event:
    """One event; None where it has no such line."""

    data: bytes | None = None
    event: bytes | None = None


class Frames:
    """The parser of one stream."""

    def __init__(self) -> None:
        self._truncated = b""
        self._array: _JsonArray | None = None

    def feed(self, frame: bytes, content_type: str | None) -> list[Event]:
        """The events that this chunk completes."""
        if content_type == "application/json":
            self._array = self._array or _JsonArray()
            return self._array.feed(frame)
        if not self._truncated and frame.lstrip().startswith(b"{"):
            return [Event(data=line) for line in frame.replace(b"\r", b"\n").split(b"\n") if line]
        events: list[Event] = []
        current = Event()
        lines = frame.split(b"\n")
        for i, given in enumerate(lines):
            line = given
            if not line:
                events.append(current)
                current = Event()
            elif i == len(lines) - 1:
                self._truncated += line
                break
            if self._truncated:
                line, self._truncated = self._truncated + line, b""
            field, colon, value = line.partition(b":")
            if colon and field == b"data":
                current.data = value.lstrip()
            elif colon and field == b"event":
                current.event = value.lstrip()
        return events


class _JsonArray:
    """Elements of a JSON array that arrives in pieces (`json_array_iterator`), as Gemini streams."""

    def __init__(self) -> None:
        self._rest = b""
        self._started = False

    def feed(self, frame: bytes) -> list[Event]:
        self._rest += frame
        if not self._started:
            head = self._rest.lstrip()
            if not head:
                return []
            self._started, self._rest = True, head[1:]
        events: list[Event] = []
        start = depth = 0
        in_string = escaped = False
        last = len(self._rest) - 1
        for i, byte in enumerate(self._rest):
            c = chr(byte)
            if in_string:
                in_string = escaped or c != '"'
                escaped = c == "\\" and not escaped
                continue
            in_string = c == '"'
            if c in "{[":
                depth += 1
            elif c in "}]" and depth:
                depth -= 1
            elif not depth and (c in ",]" or i == last):
                # An element ends at a comma, at the array's end, or where the chunk ends after it.
                end = i + 1 if i == last and c not in ",]" else i
                if element := self._rest[start:end].strip():
                    events.append(Event(data=element))
                    if c == "]":
                        events.append(Event(data=TERMINATOR))
                start = i + 1
        self._rest = self._rest[start:]
        return events
