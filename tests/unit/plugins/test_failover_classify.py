from __future__ import annotations

import pytest

from failover_lua import Module
from tenantgate.devhost import mock_aws
from tenantgate.policy.core.records import FAILURES

CLASSIFY = Module("classify")

TOO_LONG = {
    "openai": (
        400,
        """{"error": {"message": "This model's maximum context length is 8192 tokens. However, your messages resulted
        in 9000 tokens.", "type": "invalid_request_error", "param": "messages", "code": null}}""",
    ),
    "openai, the code alone": (400, '{"error": {"message": "", "code": "context_length_exceeded"}}'),
    "vllm": (
        400,
        """{"object": "error", "message": "This model's maximum context length is 4096 tokens. However, you requested
        5000 tokens", "code": 400}""",
    ),
    "anthropic": (
        400,
        """{"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 208310 tokens
        > 200000 maximum"}}""",
    ),
    "anthropic, with the reply": (
        400,
        """{"type": "error", "error": {"type": "invalid_request_error", "message": "input length and `max_tokens`
        exceed context limit: 190000 + 20000 > 200000"}}""",
    ),
    "gemini": (
        400,
        """{"error": {"code": 400, "message": "The input token count (1048577) exceeds the maximum number of tokens
        allowed (1048576).", "status": "INVALID_ARGUMENT"}}""",
    ),
    "mistral": (
        400,
        """{"object": "error", "message": "Prompt contains 40000 tokens and 0 draft tokens, too large for model with
        32768 maximum context length", "type": "invalid_request_error", "code": 3051}""",
    ),
    "bedrock": (400, '{"message": "Input is too long for requested model."}'),
    "cohere": (
        400,
        '{"message": "too many tokens: total number of tokens in the prompt cannot exceed 4081"}',
    ),
    "xai": (
        400,
        """{"error": "This model's maximum prompt length is 131072 but the request contains 200000 tokens."}""",
    ),
    "groq": (413, '{"error": {"message": "Please reduce the length of the messages or completion."}}'),
    "llama.cpp": (400, '{"error": {"code": 400, "type": "exceed_context_size_error"}}'),
    "text generation inference": (
        422,
        """{"error": "Input validation error: `inputs` must have less than 1024 tokens. Given: 2000"}""",
    ),
}


@pytest.mark.parametrize(("status", "body"), TOO_LONG.values(), ids=TOO_LONG.keys())
def test_a_prompt_that_is_too_long(status: int, body: str) -> None:
    assert CLASSIFY.needs_body(status) is True
    assert CLASSIFY.reply(status, body) == "context_length"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, '{"error": {"message": "messages is required", "code": null}}'),
        (400, '{"error": {"message": "max_tokens is too large: 99999. This model supports at most 4096"}}'),
        (
            413,
            '{"type": "error", "error": {"type": "request_too_large", "message": "Request exceeds the maximum size"}}',
        ),
        (413, '{"error": {"message": "Request too large for model on tokens per minute (TPM): Limit 6000"}}'),
        (422, "{}"),
        (400, None),
        (404, TOO_LONG["openai"][1]),
    ],
)
def test_other_wrong_requests(status: int, body: str | None) -> None:
    assert CLASSIFY.reply(status, body) == f"http_{status}"


def test_a_request_that_alone_is_above_a_limit_is_tried_elsewhere_and_says_nothing_of_its_target() -> None:
    body = (
        '{"error": {"message": "Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit'
        ' 30000, Requested 45000.", "type": "tokens", "code": "rate_limit_exceeded"}}'
    )
    assert CLASSIFY.needs_body(429) is True
    assert CLASSIFY.reply(429, body) == ("http_413", "http_429")
    assert CLASSIFY.reply(429, body.replace("Request too large", "Rate limit reached")) == "http_429"


@pytest.mark.parametrize("status", [401, 403, 408, 429, 500, 502, 503, 504, 529])
def test_statuses_that_are_classes(status: int) -> None:
    assert CLASSIFY.reply(status, None) == f"http_{status}"
    assert f"http_{status}" in FAILURES


@pytest.mark.parametrize("status", [302, 307, 404, 405, 410, 451, 501, 505, 599])
def test_statuses_that_are_no_class(status: int) -> None:
    assert CLASSIFY.reply(status, None) == f"http_{status}"
    assert f"http_{status}" not in FAILURES


@pytest.mark.parametrize("status", [200, 201, 204])
def test_success(status: int) -> None:
    assert CLASSIFY.reply(status, None) == "ok"


@pytest.mark.parametrize(
    ("step", "problem", "expected"),
    [
        ("resolve", "timeout", "error"),
        ("connect", "connection refused", "error"),
        ("connect", "timeout", "error"),
        ("tls", "certificate host mismatch", "error"),
        ("tls", "timeout", "error"),
        ("send", "timeout", "timeout"),
        ("send", "broken pipe", "reset"),
        ("receive", "timeout", "timeout"),
        ("receive", "closed", "reset"),
        ("receive", "connection reset by peer", "reset"),
    ],
)
def test_failures_without_a_reply(step: str, problem: str, expected: str) -> None:
    assert CLASSIFY.failure(step, problem) == expected
    assert expected in FAILURES


SSE = "text/event-stream; charset=utf-8"
AWS = "application/vnd.amazon.eventstream"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('event: error\ndata: {"type": "error", "error": {"type": "overloaded_error"}}\n\n', "http_529"),
        ('event: error\r\ndata: {"type":"error","error":{"type":"rate_limit_error"}}\r\n\r\n', "http_429"),
        ('event: error\ndata: {"type":"error","error":{"type":"api_error"}}\n\n', "http_500"),
        ('event: error\ndata: {"type":"error","error":{"type":"invalid_request_error"}}\n\n', "http_400"),
        ("event: error\ndata: no\n\n", "http_500"),
        ('data: {"error": {"message": "The server had an error", "type": "server_error"}}\n\n', "http_500"),
        ('data: {"error": {"code": 503, "message": "Busy"}}\n\n', "http_503"),
        ('data: {"error": {"code": "429"}}\n\n', "http_429"),
        ('data: {"error": {"code": 42900}}\n\n', "http_500"),
        (
            'data: {"error": {"type": "invalid_request_error", "code": "context_length_exceeded"}}\n\n',
            "context_length",
        ),
        ('data: {"error":"x"}\n\n', "http_500"),
        (': OPENROUTER PROCESSING\n\n: more\n\ndata: {"error": {"code": 502}}\n\n', "http_502"),
        ('id: 1\nretry: 5\ndata:{"error":{"type":"overloaded_error"}}\n\n', "http_529"),
        ('\xef\xbb\xbfdata: {"error":{"type":"overloaded_error"}}\n\n', "http_529"),
        ('{"error":{"type":"overloaded_error"}}', "http_529"),
        ('data: {"error": null, "choices": []}\n\n', "ok"),
        ('data: {"id": "1", "choices": [{"delta": {"content": "data: {\\"error\\": {"}}]}\n\n', "ok"),
        ('event: message_start\ndata: {"type": "message_start"}\n\nevent: error\n', "ok"),
        ("data: [DONE]\n", "ok"),
        ("data: " + "x" * 20_000, "ok"),
    ],
)
def test_a_streams_first_event(text: str, expected: str) -> None:
    assert CLASSIFY.first_event(text, SSE) == expected


@pytest.mark.parametrize("text", ['data: {"error":{"type":"overloaded_error"}}\n\n', "data: [DONE]\n\n"])
def test_an_event_in_pieces_is_waited_for(text: str) -> None:
    whole = CLASSIFY.first_event(text, SSE)
    for end in range(len(text) - 2):
        assert CLASSIFY.first_event(text[:end], SSE) in ((None, True), whole)
    assert CLASSIFY.first_event(text[:8], SSE) == (None, True)


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ('[{"candidates": []}', "application/json", "ok"),
        ('[{"error": {"code": 503, "status": "UNAVAILABLE"}}', "application/json", "http_503"),
        ('{"error": {"code": 429}}', "application/json", "http_429"),
        ('{"type": "error", "error": {"type": "overloaded_error"}}', "", "http_529"),
        ('{"id": "1", "choices": []}', "application/json", (None, False)),
        ('{"id": "1", "choices": []}', SSE, (None, False)),
        ('{"is_finished": false, "text": "a"}\n', "application/stream+json", "ok"),
        (": ping\n\n", SSE, (None, True)),
        ("", SSE, (None, True)),
        ("", "application/json", (None, True)),
    ],
)
def test_replies_in_place_of_streams(text: str, kind: str, expected: object) -> None:
    assert CLASSIFY.first_event(text, kind) == expected


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("messageStart", '{"role": "assistant"}', "ok"),
        ("throttlingException", '{"message": "Too many requests"}', "http_429"),
        ("serviceUnavailableException", "{}", "http_503"),
        ("modelStreamErrorException", "{}", "http_500"),
        ("validationException", '{"message": "no"}', "http_400"),
        ("validationException", '{"message": "Input is too long for requested model."}', "context_length"),
    ],
)
def test_amazons_first_message(name: str, data: str, expected: str) -> None:
    raw = mock_aws.message(name, data.encode(), failed=expected != "ok").decode("latin-1")
    assert CLASSIFY.first_event(raw, AWS) == expected
    assert CLASSIFY.first_event(raw[:-1], AWS) == (None, True)
    assert CLASSIFY.first_event("no event stream", AWS) == (None, False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"id": "1", "choices": []}', "ok"),
        (' {"a": {}}\r\n', "ok"),
        ('{"error": null, "choices": []}', "ok"),
        ('{"id": "1", "choices": [{"message": {"content": "{\\"error\\": {"}}]}', "ok"),
        ('{"error": {"message": "Overloaded", "type": "overloaded_error", "code": 529}}', "http_529"),
        ('{"error": {"message": "Provider returned error", "code": 502}}', "http_502"),
        ('{"type": "error", "error": {"type": "api_error"}}', "http_500"),
        ("", None),
        ("[]", None),
        ("<html></html>", None),
        ('{"id": "1", "choices": [', None),
    ],
)
def test_a_whole_reply_with_status_200(text: str, expected: str | None) -> None:
    assert CLASSIFY.object(text) == expected
