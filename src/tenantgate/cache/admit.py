"""What may be stored: whole, successful, final answers of the provider, and nothing else."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final

from tenantgate.chat import ChatReply, parse_reply

__all__ = ["NotStored", "admit"]

# How providers say that an answer is complete; Kong 3.9 passes on Anthropic's and Gemini's own words.
_COMPLETE: Final = frozenset({"stop", "end_turn", "stop_sequence", "complete", "eos", "eos_token"})


class NotStored(enum.StrEnum):
    """Why a reply isn't kept; in metrics and tests."""

    NO_REPLY = "no_reply"
    STATUS = "status"
    INCOMPLETE = "incomplete"
    NOT_TEXT = "not_plain_text"
    TOO_LARGE = "too_large"


def admit(
    record: Mapping[str, Any], *, stream: bool, stream_reason: str | None = None
) -> ChatReply | NotStored:
    """The reply in Kong's log record, if it may be stored.

    Args:
        record: what `kong.log.serialize` gave, with ai-proxy's ``log_statistics`` and ``log_payloads``.
        stream: whether the client asked for a stream.
        stream_reason: the finish reason that was noted from a stream's chunks, if its end was seen. Kong's record
            has none, and without it a stream's text can't be trusted.
    """
    response = record.get("response")
    status = response.get("status") if isinstance(response, Mapping) else None
    if status != 200:
        return NotStored.STATUS
    payload: Any = record
    for step in ("ai", "proxy", "payload", "response"):
        payload = payload.get(step) if isinstance(payload, Mapping) else None
    if not isinstance(payload, str | Mapping):
        return NotStored.NO_REPLY  # also when the client left in mid-stream: Kong's record has no `ai` then
    reply = parse_reply(payload)
    if reply is None:
        return NotStored.NOT_TEXT
    reason = stream_reason if stream else reply.finish_reason
    if reason is None or reason.lower() not in _COMPLETE:
        return NotStored.INCOMPLETE
    model = reply.model or _model(record)
    return ChatReply(text=reply.text, finish_reason="stop", model=model, usage=reply.usage)


def _model(record: Mapping[str, Any]) -> str:
    meta: Any = record
    for step in ("ai", "proxy", "meta"):
        meta = meta.get(step) if isinstance(meta, Mapping) else None
    if not isinstance(meta, Mapping):
        return ""
    return str(meta.get("response_model") or meta.get("request_model") or "")
