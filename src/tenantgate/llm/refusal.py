"""Why a request isn't read, and what its client is told: the problem and its place, never the content."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from tenantgate.llm.errors import Code, ErrorType, error_body

__all__ = ["Reason", "Refusal"]


class Reason(enum.Enum):
    """Kinds of refusals; the value is the ``code`` of the error that the client gets."""

    MEDIA_TYPE = Code.UNSUPPORTED_MEDIA_TYPE
    NOT_UTF8 = Code.INVALID_ENCODING
    NOT_JSON = Code.INVALID_JSON
    TOO_DEEP = Code.NESTED_TOO_DEEPLY
    TOO_LARGE = Code.REQUEST_TOO_LARGE
    NOT_CHAT = Code.INVALID_REQUEST

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
        return error_body(
            self.message,
            kind=ErrorType.INVALID_REQUEST,
            code=self.reason.value,
            param=self.param,
            request_id=request_id,
        )
