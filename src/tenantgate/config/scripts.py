"""Lua that the renderer gives to stock plugins: read from the ``.lua`` files beside each feature.

Kong runs these texts in its sandbox (``untrusted_lua = sandbox``), and so does the embedded host. Each file says
in which plugin and phase its text runs. A file holds comments on lines of their own, and names in capitals that
are filled in here.
"""

import re
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Final

__all__ = [
    "ANTHROPIC_STOP_REASON",
    "ANY_BEARER",
    "BEARER",
    "END_OF_STREAM",
    "ERROR_BODY",
    "ERROR_HEAD",
    "ERROR_HEAD_EARLY",
    "ERROR_HEAD_ELSEWHERE",
    "FINISH_REASON",
    "GUARD_CHECK",
    "HIDE_CALLER",
    "NO_QUERY",
    "PACKED",
    "PLAIN_REPLY",
    "REPLY_GUARD_BODY",
    "REPLY_GUARD_CHECK",
    "WITHOUT_PAYLOAD",
    "journal",
    "only_headers",
    "script",
]


def script(area: str, name: str, **words: str) -> str:
    """Text of ``tenantgate/AREA/lua/NAME.lua`` on one line, without its comments.

    Args:
        area: a package of tenantgate.
        name: the file's name without its suffix.
        words: by name in capitals its value; each must occur in the text.
    """
    text = _on_one_line(area, name)
    for word, value in words.items():
        text, found = re.subn(rf"\b{word}\b", value.replace("\\", "\\\\"), text)
        if not found:
            raise ValueError(f"{area}/lua/{name}.lua: has no {word}")
    return text


@cache
def _on_one_line(area: str, name: str) -> str:
    file = resources.files(f"tenantgate.{area}").joinpath("lua", f"{name}.lua")
    lines = (line.strip() for line in file.read_text("utf-8").splitlines())
    return " ".join(line for line in lines if line and not line.startswith("--"))


ANY_BEARER: Final = script("config", "any_bearer")
NO_QUERY: Final = script("config", "no_query")
HIDE_CALLER: Final = script("config", "hide_caller")
PACKED: Final = script("config", "packed")
PLAIN_REPLY: Final = script("config", "plain_reply")
BEARER: Final = script("config", "bearer")
FINISH_REASON: Final = script("config", "finish_reason")
ANTHROPIC_STOP_REASON: Final = script("config", "anthropic_stop_reason")
END_OF_STREAM: Final = script("config", "end_of_stream")

ERROR_BODY: Final = script("config", "error_body")
ERROR_HEAD: Final = script("config", "error_head")


def _error_head_where(condition: str) -> str:
    return ERROR_HEAD.replace("if ", f"if {condition} and ", 1)


ERROR_HEAD_EARLY: Final = _error_head_where("kong.response.get_status() == 413")
"""pre-function: the same where nginx ends a request in the middle of a plugin's access, since a body without a
length turns out too large; then Kong runs the filters of the plugins up to that one only."""

ERROR_HEAD_ELSEWHERE: Final = _error_head_where('ngx.var.request_uri:find("^[^?]*/chat/completions")')
"""The same for all of the gateway, so only where a client of an LLM was wrong: no such route, or a body that nginx
didn't take."""

_UNCHECKED: Final = (
    '{"error":{"message":"The content policy can not be checked right now. Try again later.",'
    '"type":"server_error","param":null,"code":"guard_unavailable"}}'
)
GUARD_CHECK: Final = script("guard", "check", UNCHECKED=_UNCHECKED)
REPLY_GUARD_CHECK: Final = script("guard", "reply_head")
REPLY_GUARD_BODY: Final = script("guard", "reply_body", UNCHECKED=_UNCHECKED)

_NEEDED: Final = frozenset(
    ["accept-encoding", "connection", "content-length", "content-type", "expect", "host", "transfer-encoding"]
)
"""Headers that HTTP, nginx and ai-proxy set or read themselves on the way upstream."""


def only_headers(keep: Iterable[str], *, correlation_header: str) -> str:
    """Of the request's headers only those in `keep` reach the provider, beside HTTP's own."""
    kept = ", ".join(f'["{name}"] = true' for name in sorted(_NEEDED | {k.lower() for k in keep}))
    return script("config", "only_headers", KEEP=kept, CORRELATION=correlation_header.lower())


WITHOUT_PAYLOAD: Final = {
    "ai.proxy.payload": "return nil",
    "request.headers.x-api-key": "return nil",
    "request.headers.x-goog-api-key": "return nil",
}
"""``custom_fields_by_lua`` of a stock log plugin: takes prompts and replies out of the record, and the credentials
of providers that have a header of their own (Kong itself hides Authorization only). Our own
plugins have read them by then (priorities above 770 against 14 and below)."""

_LEFT_OUT: Final = (
    "ai.proxy.payload",
    "request.headers",
    "request.querystring",
    "request.uri",
    "request.url",
    "upstream_uri",
    "response.headers",
    "authenticated_entity",
)


def journal(correlation_header: str) -> dict[str, str]:
    """``custom_fields_by_lua`` of the file-log that writes the audit log's journal.

    A line for each request, whatever became of it and of our plugins, without anything that the client or the provider
    wrote. In its place our plugins' verdicts, which hold no text.
    """
    return {
        **dict.fromkeys(_LEFT_OUT, "return nil"),
        # Kong puts the client's own value there.
        "correlation_id": script("audit", "correlation", HEADER=correlation_header),
        "tenantgate.traceparent": script("audit", "traceparent"),
        "tenantgate.complete": script("audit", "complete"),
        "tenantgate.cache_status": 'return kong.response.get_header("X-Cache-Status")',
        "tenantgate.cache_key": 'return kong.response.get_header("X-Cache-Key")',
        "tenantgate.finish_reason": "return kong.ctx.shared.tenantgate_finish_reason",
        "tenantgate.guardrails": "return kong.ctx.shared.tenantgate_tenant_guardrails",
        "tenantgate.response_guardrails": "return kong.ctx.shared.tenantgate_tenant_response_guardrails",
        "tenantgate.compression": "return kong.ctx.shared.tenantgate_tenant_prompt_compressor",
    }
