"""A provider's reply as Kong's response phase sees it: raw, in the provider's own shape, plain or as events.

What is sent in its place must be in OpenAI's shape, because an answer from this phase isn't normalised by ai-proxy.
A reply that has that shape keeps all that isn't changed; another is put into it (`tenantgate.guard.core.shapes`).
"""

from __future__ import annotations

import enum
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tenantgate.errors import EdgeError
from tenantgate.guard.core.passages import Edits, Passage, of_reply, rewrite
from tenantgate.guard.core.shapes import chunks, completion, completion_of_events
from tenantgate.llm.chat import JSON_TYPE, SSE_TYPE
from tenantgate.llm.stream import DONE, loads, parse_events, parse_lines, write_events, write_lines

__all__ = ["Form", "RawReply", "decompress", "parse"]

_LINES_TYPE: Final = "application/x-ndjson"
_BESIDE: Final = ("choices", "error", "usage")


class Form(enum.Enum):
    """Format of a reply's body."""

    JSON = "json"
    EVENTS = "events"
    LINES = "lines"  # a JSON value a line, or a list of them


@dataclass(frozen=True, slots=True)
class RawReply:
    """A provider's reply, parsed.

    Attributes:
        value: the reply as JSON; of a stream, its events as `tenantgate.llm.stream` gives them.
        form: format of the body it came in.
        native: whether it has OpenAI's shape.
    """

    value: Any = field(repr=False)
    form: Form = Form.JSON
    native: bool = True

    @property
    def events(self) -> bool:
        """Whether the client gets server-sent events."""
        return self.form is not Form.JSON

    def passage(self) -> Passage:
        """All texts of the reply; paths begin at `value`."""
        return of_reply(self.value)

    def passages(self, targets: Iterable[str]) -> Mapping[str, Passage]:
        """The same for all targets: a rule for replies reads the whole reply."""
        return dict.fromkeys(targets, self.passage())

    def masked(self, edits: Edits) -> RawReply:
        """`changed`, for texts that the client must not get.

        Raises:
            EdgeError: one of them is the transcript of a sound, which would still say it.
        """
        if any("audio" in path for path in edits):
            raise EdgeError("reply: what is spoken in a sound can't be masked")
        return self.changed(edits)

    def changed(self, edits: Edits) -> RawReply:
        """The reply with these texts replaced, and without the log probabilities, which repeat the old ones."""
        return RawReply(_without_logprobs(rewrite(self.value, edits)), self.form, self.native)

    def written(self, *, identifier: str, created: int, usage: bool = True) -> tuple[bytes, str] | None:
        """The body to send, and its content type; None where OpenAI's shape can't express the reply.

        Args:
            identifier: of a reply that has none.
            created: when it was made, in Unix seconds.
            usage: whether a stream may have the chunk that holds nothing but its usage.
        """
        if self.native:
            if self.form is Form.JSON:
                return _dumps(self.value), JSON_TYPE
            if self.form is Form.EVENTS:
                return write_events(
                    [e for e in self.value if usage or not _is_usage(e.get("data"))]
                ), SSE_TYPE
            return write_lines(self.value), _LINES_TYPE
        if self.form is Form.JSON:
            made = completion(self.value, identifier=identifier, created=created)
            return None if made is None else (_dumps(made), JSON_TYPE)
        values = [event.get("data") for event in self.value]
        made = completion_of_events(values, identifier=identifier, created=created)
        if made is None:
            return None
        sent = ({"data": c} for c in chunks(made) if usage or not _is_usage(c))
        return write_events([*sent, DONE]), SSE_TYPE


def _is_usage(chunk: Any) -> bool:
    return (
        isinstance(chunk, Mapping) and chunk.get("choices") == [] and isinstance(chunk.get("usage"), Mapping)
    )


def decompress(raw: bytes, encoding: str | None, most: int) -> bytes | None:
    """The body without its content encoding; None if that is unknown, broken, or gives more than `most` bytes."""
    names = [
        n.strip().lower()
        for n in (encoding or "").split(",")
        if n.strip() and n.strip().lower() != "identity"
    ]
    for name in reversed(names):
        if name not in ("gzip", "x-gzip", "deflate"):
            return None
        inflater = zlib.decompressobj(47 if "gzip" in name else 15)
        try:
            raw = inflater.decompress(raw, most + 1)
        except zlib.error:
            return None
        if not inflater.eof or inflater.unused_data:
            return None
    return raw if len(raw) <= most else None


def parse(raw: bytes, content_type: str | None) -> RawReply | None:
    """The reply; None for what is no JSON and no events, and for JSON in which a name stands twice."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if (content_type or "").strip().lower().startswith("text/event-stream"):
        return _of_events(parse_events(text), Form.EVENTS)
    try:
        body = loads(text.removeprefix("\ufeff"))
    except RecursionError:
        return None
    except ValueError:
        return _of_lines(text)
    if isinstance(body, list) and body and all(isinstance(v, Mapping) for v in body):
        return _of_events([{"data": v} for v in body], Form.LINES)
    if not isinstance(body, Mapping):
        return None
    return RawReply(body, Form.JSON, native=isinstance(body.get("choices"), list))


def _of_lines(text: str) -> RawReply | None:
    """A reply that is no JSON as a whole: a value a line, or events under another content type."""
    lines = parse_lines(text)
    if lines is not None:
        return _of_events(lines, Form.LINES) if len(lines) > 1 else None
    start = text.removeprefix("\ufeff").lstrip()
    return _of_events(parse_events(text), Form.EVENTS) if start.startswith(("data:", "event:")) else None


def _of_events(events: list[dict[str, Any]], form: Form) -> RawReply | None:
    values = [e["data"] for e in events if isinstance(e.get("data"), Mapping)]
    if not values:
        return None
    native = any(isinstance(v.get("choices"), list) for v in values) and all(
        any(name in v for name in _BESIDE) for v in values
    )
    return RawReply(events, form, native)


def _without_logprobs(value: Any) -> Any:
    if isinstance(value, list):
        return [{**e, "data": _without_logprobs(e["data"])} if "data" in e else e for e in value]
    if not isinstance(value, Mapping) or not isinstance(value.get("choices"), list):
        return value
    choices = [
        {**c, "logprobs": None} if isinstance(c, Mapping) and c.get("logprobs") else c
        for c in value["choices"]
    ]
    return {**value, "choices": choices}


def _dumps(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")
