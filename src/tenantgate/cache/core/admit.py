"""What is stored: whole, successful, final answers of the provider, and nothing else."""

from __future__ import annotations

import dataclasses
import enum
import json
from typing import Final

from tenantgate.cache.core.entry import Entry, encode
from tenantgate.llm.chat import ChatReply, parse_reply
from tenantgate.llm.log_record import LogRecord

__all__ = ["STORED", "NotStored", "admit", "admit_vectors", "new_entry"]

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
    record: LogRecord, *, stream: bool, stream_reason: str | None = None, tool_calls: bool = False
) -> ChatReply | NotStored:
    """The reply in Kong's log record, if it may be stored.

    Args:
        record: of the request, with ai-proxy's ``log_statistics`` and ``log_payloads``.
        stream: whether the reply came as a stream, or should have.
        stream_reason: the finish reason that was noted from a stream's chunks, if its end was seen. Kong's record
            has none, and without it a stream's text can't be trusted.
        tool_calls: whether a reply that calls tools may be stored. From a stream it never is: Kong's record
            holds a stream's text only.
    """
    if record.status != 200:
        return NotStored.STATUS
    if _forbids(record.response_header("cache-control")):
        return NotStored.NO_STORE
    payload = record.reply
    if not isinstance(payload, str | dict):
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
    model = reply.model or record.response_model or record.request_model
    finish = "tool_calls" if reply.tool_calls else "stop"
    return dataclasses.replace(reply, finish_reason=finish, model=model)


def admit_vectors(record: LogRecord) -> ChatReply | NotStored:
    """The reply of an embeddings request in Kong's log record, as the text that it is, if it may be stored."""
    if record.status != 200:
        return NotStored.STATUS
    if _forbids(record.response_header("cache-control")):
        return NotStored.NO_STORE
    if not isinstance(text := record.reply, str):
        return NotStored.NO_REPLY
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return NotStored.NOT_TEXT
    data = body.get("data") if isinstance(body, dict) else None
    if (
        not isinstance(data, list)
        or not data
        or not all(isinstance(d, dict) and d.get("embedding") for d in data)
    ):
        return NotStored.INCOMPLETE
    return ChatReply(text, "stop", record.response_model or record.request_model)


def new_entry(
    question: str | None,
    reply: ChatReply,
    now: float,
    *,
    ttl_s: int,
    max_bytes: int,
    bucket: str | None = None,
) -> Entry | NotStored:
    """The entry for a reply, or why it isn't stored: it takes more than `max_bytes` with its question."""
    entry = Entry(question, reply, now, ttl_s, bucket)
    return NotStored.TOO_LARGE if len(encode(entry)) > max_bytes else entry


def _forbids(cache_control: tuple[str, ...]) -> bool:
    directives = ",".join(cache_control).lower().split(",")
    return "no-store" in (directive.strip() for directive in directives)
