"""OpenAI's error object: its bytes, and that nobody else builds one."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tenantgate.kong.policy import UNAVAILABLE
from tenantgate.llm import Reason, Refusal
from tenantgate.llm.errors import (
    BY_STATUS,
    OTHER_STATUS,
    Code,
    ErrorText,
    ErrorType,
    error_body,
    error_object,
)

from support import ROOT

HEAD = b'{"error":{"message":"m","type":"server_error","param":null,"code":"bad_gateway"'


@pytest.mark.parametrize(
    ("more", "body"),
    [
        ({}, HEAD + b"}}"),
        ({"request_id": None}, HEAD + b"}}"),
        ({"request_id": ""}, HEAD + b"}}"),
        ({"request_id": "r-1"}, HEAD + b',"request_id":"r-1"}}'),
        ({"rules": {}}, HEAD + b',"rules":{}}}'),
        (
            {"rules": {"r": ["EMAIL", "URL"]}, "request_id": "i"},
            HEAD + b',"request_id":"i","rules":{"r":["EMAIL","URL"]}}}',
        ),
        ({"param": "messages[0].role"}, HEAD.replace(b"null", b'"messages[0].role"') + b"}}"),
        ({"message": 'ü "q" \ud800'}, HEAD.replace(b'"m"', rb'"\u00fc \"q\" \ud800"') + b"}}"),
    ],
)
def test_an_error_has_openais_shape(more: dict[str, Any], body: bytes) -> None:
    options = {"message": "m", "kind": ErrorType.SERVER, "code": Code.BAD_GATEWAY, **more}
    assert error_body(**options) == body
    assert error_object(**options) == json.loads(body)


def test_a_plain_object_holds_no_enum() -> None:
    """Whatever writes the object writes the same text."""
    found = error_object("m", kind=ErrorType.SERVER, code=Code.ERROR)["error"]
    assert {type(value) for value in found.values()} == {str, type(None)}


@pytest.mark.parametrize("reason", Reason)
def test_a_refusal_is_an_error_with_its_reason(reason: Reason) -> None:
    made = json.loads(Refusal(reason, "m", "messages").body())
    assert made == {
        "error": {"message": "m", "type": "invalid_request_error", "param": "messages", "code": reason.value}
    }


def test_a_failed_plugin_answers_with_an_error_too() -> None:
    status, body, _ = UNAVAILABLE
    found = json.loads(body)["error"]
    assert (status, found["type"], found["code"]) == (503, "server_error", "tenantgate_unavailable")


def test_codes_are_no_less_than_they_were() -> None:
    """Applications compare them: a code may come, but none may go or change."""
    assert {code.value for code in Code} >= {
        "unsupported_media_type",
        "invalid_encoding",
        "invalid_json",
        "nested_too_deeply",
        "request_too_large",
        "invalid_request",
        "invalid_api_key",
        "permission_denied",
        "unknown_url",
        "method_not_allowed",
        "request_timeout",
        "rate_limit_exceeded",
        "internal_error",
        "bad_gateway",
        "service_unavailable",
        "gateway_timeout",
        "error",
        "content_policy_violation",
        "reply_policy_violation",
        "guard_unavailable",
        "only_if_cached",
        "cache_only",
        "tenantgate_unavailable",
        "credential_unavailable",
    }


@pytest.mark.parametrize("text", [*BY_STATUS.values(), OTHER_STATUS], ids=lambda t: t.code)
def test_texts_by_status_need_no_escape(text: ErrorText) -> None:
    """The rendered Lua has them between single quotes, and writes them between double ones."""
    assert not set("'\"\\\n") & set("".join(text))
    assert "".join(text).isascii()


def test_there_is_one_builder() -> None:
    """The embedded host's provider has an error object of its own, as a provider has."""
    source = ROOT / "src" / "tenantgate"
    written = re.compile(r'"param":\s*(None|null|param|self)')
    builders = {
        str(path.relative_to(source))
        for path in source.rglob("*.py")
        if written.search(path.read_text("utf-8"))
    }
    assert builders == {"llm/errors.py", "devhost/mock_errors.py"}
