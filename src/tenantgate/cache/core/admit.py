"""What is stored: whole, successful, final answers of the provider, and nothing else."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any, Final

from tenantgate.cache.core.entry import Entry, encode
from tenantgate.llm.chat import ChatReply, parse_reply

__all__ = ["STORED", "NotStored", "admit", "is_stream", "new_entry"]

# How providers say that an answer is complete; Kong 3.9 passes on Anthropic's and Gemini's own words.
_COMPLETE: Final = frozenset({"stop", "end_turn", "stop_sequence", "complete", "eos", "eos_token"})
_CALLS: Final = frozenset({"tool_calls", "tool_use"})


STORED: Final = "stored"


class NotStored(enum.StrEnum):
    """Why a reply isn't stored."""

    NO_REPLY = "no_reply"
    NO_STORE = "reply_no_store"
    STATUS = "status"
    TOOL_CALL = "tool_call"
    INCOMPLETE = "incomplete"
    NOT_TEXT = "not_plain_text"
    TOO_LARGE = "too_large"
    GUARD = "guard"
    REDIS = "redis_failed"


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


def new_entry(
    question: str | None, reply: ChatReply, now: float, *, ttl_s: int, max_bytes: int
) -> Entry | NotStored:
    """The entry for a reply, or why it isn't stored: it takes more than `max_bytes` with its question.

    What the embedder knows of the question comes later, and doesn't count: it is bounded by the question's tokens.
    """
    entry = Entry(question, reply, now, ttl_s)
    return NotStored.TOO_LARGE if len(encode(entry)) > max_bytes else entry


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
