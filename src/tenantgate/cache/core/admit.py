"""What may be stored: whole, successful, final answers of the provider, and nothing else."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any, Final

from tenantgate.llm.chat import ChatReply, parse_reply

__all__ = ["NotStored", "admit", "is_stream"]

# How providers say that an answer is complete; Kong 3.9 passes on Anthropic's and Gemini's own words.
_COMPLETE: Final = frozenset({"stop", "end_turn", "stop_sequence", "complete", "eos", "eos_token"})
_CALLS: Final = frozenset({"tool_calls", "tool_use"})


class NotStored(enum.StrEnum):
    """Why a reply isn't kept; in metrics and tests."""

    NO_REPLY = "no_reply"
    NO_STORE = "reply_no_store"
    STATUS = "status"
    TOOL_CALL = "tool_call"
    INCOMPLETE = "incomplete"
    NOT_TEXT = "not_plain_text"
    TOO_LARGE = "too_large"


def admit(
    record: Mapping[str, Any],
    *,
    stream: bool,
    stream_reason: str | None = None,
    tool_calls: bool = False,
) -> ChatReply | NotStored:
    """The reply in Kong's log record, if it may be stored.

    Args:
        record: what `kong.log.serialize` gave, with ai-proxy's ``log_statistics`` and ``log_payloads``.
        stream: whether the reply came as a stream, or should have.
        stream_reason: the finish reason that was noted from a stream's chunks, if its end was seen. Kong's record
            has none, and without it a stream's text can't be trusted.
        tool_calls: whether a reply that calls tools may be stored. From a stream it never is: Kong's record
            holds a stream's text only.
    """
    if _at(record, "response", "status") != 200:
        return NotStored.STATUS
    if _forbids(_at(record, "response", "headers", "cache-control")):
        return NotStored.NO_STORE
    payload = _at(record, "ai", "proxy", "payload", "response")
    if not isinstance(payload, str | Mapping):
        return NotStored.NO_REPLY  # also when the client left in mid-stream: Kong's record has no `ai` then
    reply = parse_reply(payload)
    if reply is None:
        return NotStored.NOT_TEXT
    reason = ((stream_reason if stream else reply.finish_reason) or "").lower()
    if reply.tool_calls or reason in _CALLS:
        if not tool_calls or stream or reason not in _CALLS | _COMPLETE or not reply.tool_calls:
            return NotStored.TOOL_CALL
    elif reason not in _COMPLETE:
        return NotStored.INCOMPLETE
    meta = ("ai", "proxy", "meta")
    model = reply.model or _at(record, *meta, "response_model") or _at(record, *meta, "request_model") or ""
    finish = "tool_calls" if reply.tool_calls else "stop"
    return dataclasses.replace(reply, finish_reason=finish, model=str(model))


def is_stream(record: Mapping[str, Any]) -> bool:
    """Whether the reply in Kong's log record was sent as server-sent events."""
    kind = _at(record, "response", "headers", "content-type")
    return isinstance(kind, str) and kind.startswith("text/event-stream")


def _at(record: Any, *path: str) -> Any:
    for step in path:
        record = record.get(step) if isinstance(record, Mapping) else None
    return record


def _forbids(header: Any) -> bool:
    lines = header if isinstance(header, list) else [header]
    directives = ",".join(line for line in lines if isinstance(line, str)).lower().split(",")
    return "no-store" in (directive.strip() for directive in directives)
