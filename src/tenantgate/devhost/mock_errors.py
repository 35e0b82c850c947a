"""Errors as providers word them.

Sources: https://platform.openai.com/docs/guides/error-codes, https://docs.anthropic.com/en/api/errors,
https://ai.google.dev/gemini-api/docs/troubleshooting
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

__all__ = ["ERRORS", "anthropic", "gemini", "openai"]

_OPENAI: Final = {
    400: "invalid_request_error",
    401: "invalid_request_error",
    403: "invalid_request_error",
    404: "invalid_request_error",
    413: "invalid_request_error",
    429: "requests",
}
_OPENAI_CODES: Final = {
    401: "invalid_api_key",
    403: "unsupported_country_region_territory",
    429: "rate_limit_exceeded",
}
_ANTHROPIC: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_GEMINI: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_FAILED: Final = "the mock provider was told to fail"


def openai(status: int, message: str = _FAILED, *, context_length: bool = False) -> Any:
    """OpenAI's error object."""
    kind, code, param = _OPENAI.get(status, "server_error"), _OPENAI_CODES.get(status), None
    if context_length:
        kind, code, param = "invalid_request_error", "context_length_exceeded", "messages"
        message = (
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens. "
            "Please reduce the length of the messages."
        )
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def anthropic(status: int, message: str = _FAILED, *, context_length: bool = False) -> Any:
    """Anthropic's error object."""
    kind = _ANTHROPIC.get(status, "api_error")
    if context_length:
        message = (
            "Request exceeds the maximum size"
            if status == 413
            else "prompt is too long: 9001 tokens > 8192 maximum"
        )
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_mock"}


def gemini(status: int, message: str = _FAILED, *, context_length: bool = False) -> Any:
    """Google's error object."""
    if context_length:
        message = "The input token count (9001) exceeds the maximum number of tokens allowed (8192)."
    return {"error": {"code": status, "message": message, "status": _GEMINI.get(status, "INTERNAL")}}


ERRORS: Final[Mapping[str, Callable[..., Any]]] = {"openai": openai, "anthropic": anthropic, "gemini": gemini}
