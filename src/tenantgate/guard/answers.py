"""What a refused client gets: OpenAI's error shape, a stable code, the request's id; the reason only if asked for."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from tenantgate.chat import JSON_TYPE, SSE_TYPE
from tenantgate.guard.verdict import Decision

__all__ = ["CODE_REPLY", "CODE_REQUEST", "CODE_UNREADABLE", "blocked", "safe_id"]

CODE_REQUEST: Final = "content_policy_violation"
CODE_REPLY: Final = "reply_policy_violation"
CODE_UNREADABLE: Final = "request_not_inspectable"
_MESSAGES: Final = {
    CODE_REQUEST: "This request was refused by the content policy of your organisation.",
    CODE_REPLY: "The reply to this request was refused by the content policy of your organisation.",
    CODE_UNREADABLE: (
        "This request can't be checked against the content policy: its body is no chat request in UTF-8 JSON."
    ),
}
_ID: Final = re.compile(r"[A-Za-z0-9._:#-]{1,128}")


def blocked(
    code: str,
    *,
    request_id: str | None,
    events: bool,
    decision: Decision | None = None,
    show_reason: bool = False,
) -> tuple[bytes, str]:
    """The body and its content type; `events` for a client that reads server-sent events."""
    message = (
        next((h.rule.message for h in decision.blocking() if h.rule.message), None) if decision else None
    )
    error: dict[str, Any] = {
        "message": message or _MESSAGES[code],
        "type": "invalid_request_error",
        "param": None,
        "code": code,
    }
    # The client may have chosen the id; only a harmless one is said back.
    if safe_id(request_id):
        error["request_id"] = request_id
    if show_reason and decision is not None:
        error["rules"] = {h.rule.name: sorted({f.kind for f in h.findings}) for h in decision.blocking()}
    body = json.dumps({"error": error}, separators=(",", ":"))
    if events:
        return f"event: error\ndata: {body}\n\ndata: [DONE]\n\n".encode(), SSE_TYPE
    return body.encode(), JSON_TYPE


def safe_id(request_id: str | None) -> str | None:
    """The request's id, if it is a harmless one: the client may have chosen it."""
    return request_id if request_id and _ID.fullmatch(request_id) else None
