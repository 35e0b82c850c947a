"""Answer to a refused client: OpenAI's error shape, a stable code, the request's id; the reason only if asked for."""

from __future__ import annotations

import re
from typing import Final

from tenantgate.guard.core.decision import Decision
from tenantgate.llm.errors import Code, ErrorType, error_body

__all__ = ["blocked", "safe_id"]

_MESSAGES: Final = {
    Code.CONTENT_POLICY_VIOLATION: "This request was refused by the content policy of your organisation.",
    Code.REPLY_POLICY_VIOLATION: "The reply to this request was refused by the content policy of your organisation.",
}
_ID: Final = re.compile(r"[A-Za-z0-9._:#-]{1,128}")


def blocked(
    code: Code, *, request_id: str | None, decision: Decision | None = None, show_reason: bool = False
) -> bytes:
    """The body, for a status of 400 or above.

    JSON also where the client asked for a stream: the SDKs look at the status, then read an error as JSON, and find no
    code in events (`_make_status_error_from_response` of openai-python, `createJsonErrorResponseHandler` of Vercel's).
    """
    message = (
        next((h.rule.message for h in decision.blocking() if h.rule.message), None) if decision else None
    )
    rules = None
    if show_reason and decision is not None:
        rules = {h.rule.name: sorted({f.kind for f in h.findings}) for h in decision.blocking()}
    return error_body(
        message or _MESSAGES[code],
        kind=ErrorType.INVALID_REQUEST,
        code=code,
        request_id=safe_id(request_id),
        rules=rules,
    )


def safe_id(request_id: str | None) -> str | None:
    """The request's id, if it is a harmless one: the client may have chosen it."""
    return request_id if request_id and _ID.fullmatch(request_id) else None
