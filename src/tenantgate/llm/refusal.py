"""Why a request isn't read, and what its client is told: the problem and its place, never the content."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass

__all__ = ["Reason", "Refusal"]


class Reason(enum.Enum):
    """Kinds of refusals; the value is the ``code`` of the error that the client gets."""

    MEDIA_TYPE = "unsupported_media_type"
    NOT_UTF8 = "invalid_encoding"
    NOT_JSON = "invalid_json"
    TOO_DEEP = "nested_too_deeply"
    TOO_LARGE = "request_too_large"
    NOT_CHAT = "invalid_request"

    @property
    def status(self) -> int:
        """The HTTP status: 415 for a media type, 413 for what is too large, else 400."""
        return {Reason.MEDIA_TYPE: 415, Reason.TOO_LARGE: 413}.get(self, 400)


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refusal.

    Attributes:
        message: for the client, in a sentence; names places and limits.
        param: the member that is wrong, as ``messages[2].role``, where it is a member.
    """

    reason: Reason
    message: str
    param: str | None = None

    def body(self, *, request_id: str | None = None) -> bytes:
        """The error in OpenAI's shape."""
        error = {
            "message": self.message,
            "type": "invalid_request_error",
            "param": self.param,
            "code": self.reason.value,
        }
        if request_id:
            error["request_id"] = request_id
        return json.dumps({"error": error}, separators=(",", ":")).encode("ascii")
