"""Answer to a refused client: OpenAI's error shape, a stable code, the request's id; the reason only if asked for."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from tenantgate.guard.core.inspection import Decision

__all__ = ["CODE_REPLY", "CODE_REQUEST", "blocked", "safe_id"]

CODE_REQUEST: Final = "content_policy_violation"
CODE_REPLY: Final = "reply_policy_violation"
_MESSAGES: Final = {
    CODE_REQUEST: "This request was refused by the content policy of your organisation.",
    CODE_REPLY: "The reply to this request was refused by the content policy of your organisation.",
}
_ID: Final = re.compile(r"[A-Za-z0-9._:#-]{1,128}")


def blocked(
    code: str,
    *,
    request_id: str | None,
    decision: Decision | None = None,
    show_reason: bool = False,
) -> bytes:
    """The body, for a status of 400 or above.

    JSON also where the client asked for a stream: the SDKs look at the status, then read an error as JSON, and find no
    code in events (`_make_status_error_from_response` of openai-python, `createJsonErrorResponseHandler` of Vercel's).
    """
    message = (
        next((h.rule.message for h in decision.blocking() if h.rule.message), None) if decision else None
    )
    error: dict[str, Any] = {
        "message": message or _MESSAGES[code],
        "type": "invalid_request_error",
        "param": None,
        "code": code,
    }
    # The client may have chosen the id; only a harmless one is repeated.
    if safe_id(request_id):
        error["request_id"] = request_id
    if show_reason and decision is not None:
        error["rules"] = {h.rule.name: sorted({f.kind for f in h.findings}) for h in decision.blocking()}
    return json.dumps({"error": error}, separators=(",", ":")).encode()


def safe_id(request_id: str | None) -> str | None:
    """The request's id, if it is a harmless one: the client may have chosen it."""
    return request_id if request_id and _ID.fullmatch(request_id) else None
