"""OpenAI's error object: its builder, and every code and type that the gateway's clients can get.

Source: https://platform.openai.com/docs/guides/error-codes
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

__all__ = ["BY_STATUS", "OTHER_STATUS", "Code", "ErrorText", "ErrorType", "error_body", "error_object"]


class ErrorType(enum.StrEnum):
    """Kinds of errors: OpenAI's ``type``."""

    INVALID_REQUEST = "invalid_request_error"
    RATE_LIMIT = "requests"
    TOKENS = "tokens"
    QUOTA = "insufficient_quota"
    SERVER = "server_error"


class Code(enum.StrEnum):
    """Stable names of errors: OpenAI's ``code``, by which applications tell them apart."""

    # A request that can't be read (`tenantgate.llm.Reason`).
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    INVALID_ENCODING = "invalid_encoding"
    INVALID_JSON = "invalid_json"
    NESTED_TOO_DEEPLY = "nested_too_deeply"
    REQUEST_TOO_LARGE = "request_too_large"
    INVALID_REQUEST = "invalid_request"
    # Kong's own errors, by status.
    INVALID_API_KEY = "invalid_api_key"
    PERMISSION_DENIED = "permission_denied"
    UNKNOWN_URL = "unknown_url"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    REQUEST_TIMEOUT = "request_timeout"
    RATE_LIMIT_EXCEEDED = "rate_limit_exceeded"
    INTERNAL_ERROR = "internal_error"
    BAD_GATEWAY = "bad_gateway"
    SERVICE_UNAVAILABLE = "service_unavailable"
    GATEWAY_TIMEOUT = "gateway_timeout"
    ERROR = "error"
    # The plugins'.
    TENANT_DISABLED = "tenant_disabled"
    MODEL_NOT_FOUND = "model_not_found"
    MODEL_NOT_ALLOWED = "model_not_allowed"
    CONTENT_POLICY_VIOLATION = "content_policy_violation"
    REPLY_POLICY_VIOLATION = "reply_policy_violation"
    GUARD_UNAVAILABLE = "guard_unavailable"
    CREDENTIAL_UNAVAILABLE = "credential_unavailable"
    ONLY_IF_CACHED = "only_if_cached"
    CACHE_ONLY = "cache_only"
    BUDGET_EXHAUSTED = "budget_exhausted"
    BUDGET_HELD = "budget_held"
    PRICE_UNKNOWN = "price_unknown"
    TENANTGATE_UNAVAILABLE = "tenantgate_unavailable"


class ErrorText(NamedTuple):
    """An error's message for the client, its type and its code."""

    message: str
    kind: ErrorType
    code: Code


BY_STATUS: Final[Mapping[int, ErrorText]] = {
    400: ErrorText("The request is not valid.", ErrorType.INVALID_REQUEST, Code.INVALID_REQUEST),
    401: ErrorText(
        "The API key is missing, or not known here. Send Authorization: Bearer KEY.",
        ErrorType.INVALID_REQUEST,
        Code.INVALID_API_KEY,
    ),
    403: ErrorText("This API key may not use this route.", ErrorType.INVALID_REQUEST, Code.PERMISSION_DENIED),
    404: ErrorText(
        "There is no such route. Check the base URL, and that the request is a POST.",
        ErrorType.INVALID_REQUEST,
        Code.UNKNOWN_URL,
    ),
    405: ErrorText("This method is not allowed here.", ErrorType.INVALID_REQUEST, Code.METHOD_NOT_ALLOWED),
    408: ErrorText("The request took too long to arrive.", ErrorType.INVALID_REQUEST, Code.REQUEST_TIMEOUT),
    413: ErrorText(
        "The request is larger than this gateway takes.", ErrorType.INVALID_REQUEST, Code.REQUEST_TOO_LARGE
    ),
    429: ErrorText("Rate limit reached. Try again later.", ErrorType.RATE_LIMIT, Code.RATE_LIMIT_EXCEEDED),
    500: ErrorText("The gateway failed at this request.", ErrorType.SERVER, Code.INTERNAL_ERROR),
    502: ErrorText(
        "The provider could not be reached, or its answer was not valid.", ErrorType.SERVER, Code.BAD_GATEWAY
    ),
    503: ErrorText(
        "The provider can not be reached right now. Try again later.",
        ErrorType.SERVER,
        Code.SERVICE_UNAVAILABLE,
    ),
    504: ErrorText("The provider took too long to answer.", ErrorType.SERVER, Code.GATEWAY_TIMEOUT),
}
"""Errors that Kong itself answers with, by HTTP status; the rendered Lua puts them in place of Kong's own."""

OTHER_STATUS: Final = ErrorText("The request failed.", ErrorType.INVALID_REQUEST, Code.ERROR)
"""The same for any other status."""


def error_object(
    message: str,
    *,
    kind: ErrorType,
    code: Code,
    param: str | None = None,
    request_id: str | None = None,
    rules: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """An error in OpenAI's shape, ``{"error": {…}}``.

    Args:
        message: for the client, in whole sentences; never text of a prompt or a reply.
        kind: the error's ``type``.
        code: stable, for applications.
        param: the member of the request that is wrong, such as ``messages[2].role``.
        request_id: the gateway's id of the request; left out if None or empty.
        rules: names of the guard's rules that refused, each with the kinds it found; left out if None.
    """
    error: dict[str, Any] = {"message": message, "type": kind.value, "param": param, "code": code.value}
    if request_id:
        error["request_id"] = request_id
    if rules is not None:
        error["rules"] = rules
    return {"error": error}


def error_body(
    message: str,
    *,
    kind: ErrorType,
    code: Code,
    param: str | None = None,
    request_id: str | None = None,
    rules: Mapping[str, Sequence[str]] | None = None,
) -> bytes:
    """`error_object` as the body of an answer: JSON in ASCII without white space."""
    found = error_object(message, kind=kind, code=code, param=param, request_id=request_id, rules=rules)
    return json.dumps(found, separators=(",", ":")).encode("ascii")
