"""The few lines of Lua that the renderer gives to the stock ``pre-function`` and ``post-function`` plugins.

Kong runs them in its sandbox (``untrusted_lua = sandbox``). The embedded host runs no Lua: it knows these
texts and does the same, so a change here is a change there.
"""

from typing import Final

__all__ = [
    "ANTHROPIC_STOP_REASON",
    "BEARER",
    "BESIDE_TEXT",
    "COMPLETE",
    "CORRELATION",
    "END_OF_STREAM",
    "FINISH_REASON",
    "GUARD_CHECK",
    "HIDE_AUTHORIZATION",
    "HIDE_CALLER",
    "PLAIN_REPLY",
    "REPLY_GUARD_BODY",
    "REPLY_GUARD_CHECK",
    "TRACEPARENT",
    "WITHOUT_PAYLOAD",
    "journal",
]

_REASON: Final = (
    'local c = ngx.arg[1]; if type(c) == "string" then '
    'for r in c:gmatch([["finish_reason"%s*:%s*"([%w_]+)"]]) do '
    "kong.ctx.shared.tenantgate_finish_reason = r end end"
)
BESIDE_TEXT: Final = (
    "tool_calls", "function_call", "refusal", "reasoning", "reasoning_content", "audio", "annotations",
)  # fmt: skip
"""What a stream's answer may hold besides its text, which is all that Kong logs of it."""

FINISH_REASON: Final = (
    f"{_REASON} "
    'if type(c) == "string" then for _, n in ipairs({'
    + ", ".join(f'"{n}"' for n in BESIDE_TEXT)
    + "}) do local k = '\"' .. n .. '\"%s*:%s*' "
    "if c:find(k .. '\"[^\"]') or c:find(k .. '[%[{]%s*[^%s%]}]') then "
    "kong.ctx.shared.tenantgate_stream_beside = true end end end "
    "if ngx.arg[2] and kong.ctx.shared.tenantgate_stream_beside then "
    "kong.ctx.shared.tenantgate_stream_end = nil end"
)
"""post-function, body_filter. Kong's log of a stream has no finish reason, and a reply that was cut off must
not be stored, nor one that was more than its text: then the mark of `END_OF_STREAM` goes again. At priority -1000 it
sees the chunks that ai-proxy has normalised. Text of a reply can't pass for it: there the quotes are escaped."""

ANTHROPIC_STOP_REASON: Final = _REASON.replace('"finish_reason"', '"stop_reason"')
"""pre-function, body_filter. Kong's Anthropic driver drops the reason, so this sees the chunks before it."""

END_OF_STREAM: Final = (
    "if ngx.arg[2] then kong.ctx.shared.tenantgate_stream_end = true "
    'if ngx.arg[1] == nil or ngx.arg[1] == "" then '
    'local t = kong.response.get_header("Content-Type") '
    'if t and t:find("text/event-stream", 1, true) == 1 then ngx.arg[1] = "\\n" end end end'
)
"""pre-function, body_filter. At a stream's end ai-proxy goes through the events of the last chunk once more and logs
their text twice (its parse-sse-chunk keeps them when the last call comes without data). With a line end as the
last chunk there are none to repeat. The mark tells the cache that the logged text can be trusted. Not for Gemini,
whose streams are no events."""

HIDE_CALLER: Final = (
    'for _, n in ipairs({"X-Consumer-ID", "X-Consumer-Custom-ID", "X-Consumer-Username", '
    '"X-Credential-Identifier"}) do kong.service.request.clear_header(n) end '
    'for _, n in ipairs({"for", "host", "path", "port", "prefix", "proto"}) do '
    'ngx.var["upstream_x_forwarded_" .. n] = "" end'
)
"""post-function, access. key-auth tells the upstream which consumer called, and Kong tells it the client's
address and path (X-Forwarded-*), which names the tenant; that isn't the provider's business."""

HIDE_AUTHORIZATION: Final = 'kong.service.request.clear_header("Authorization")'
"""post-function, access, where ai-proxy puts no Authorization of its own in place of the client's."""

PLAIN_REPLY: Final = 'kong.service.request.set_header("Accept-Encoding", "identity")'
"""post-function, access, beside `ANTHROPIC_STOP_REASON`, which can't read a compressed stream."""

BEARER: Final = (
    'local v = kong.request.get_header("Authorization"); if v and not v:find("^Bearer ") then '
    'kong.service.request.set_header("Authorization", "Bearer " .. v) end'
)
"""post-function, access. A vault reference must be the whole value of ai-proxy's field, so "Bearer " can't be
written before it. ai-proxy has replaced the client's own Authorization by then."""

WITHOUT_PAYLOAD: Final = {
    "ai.proxy.payload": "return nil",
    "request.headers.x-api-key": "return nil",
    "request.headers.x-goog-api-key": "return nil",
}
"""``custom_fields_by_lua`` of a stock log plugin: takes prompts and replies out of what it writes, and the credentials
of providers that have a header of their own (Kong itself hides Authorization only). Our own
plugins have read them by then (priorities above 770 against 14 and below)."""

_UUID: Final = (
    "^%x%x%x%x%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x"  # a Lua pattern has no counts
)
CORRELATION: Final = (
    'local v = kong.request.get_header("HEADER") if type(v) == "string" and '
    f'(v:match("{_UUID}$") or v:match("{_UUID}#%d+$")) then return v end'
)
"""In a log plugin's ``custom_fields_by_lua``, with the header's name for HEADER: the request's id, if it has the form
that Kong gives it. The client may send any text in its place."""

TRACEPARENT: Final = (
    'local v = kong.request.get_header("traceparent") if type(v) == "string" and #v == 55 and '
    'v:match("^%x%x%-%x+%-%x+%-%x%x$") then return v end'
)
"""There too: the client's trace (W3C Trace Context), if it has that form."""

COMPLETE: Final = 'return ngx.var.request_completion == "OK"'
"""There too: whether the answer was sent to its end. Who leaves in the middle of a stream has the 200 by then."""


def journal(correlation_header: str) -> dict[str, str]:
    """``custom_fields_by_lua`` of the file-log that writes the audit log's journal.

    A line for each request, whatever became of it and of our plugins, without anything that the client or the provider
    wrote. In its place our plugins' verdicts, which hold no text.
    """
    return {
        **dict.fromkeys(
            (
                "ai.proxy.payload", "request.headers", "request.querystring", "request.uri", "request.url",
                "upstream_uri", "response.headers", "authenticated_entity",
            ),
            "return nil",
        ),
        # Kong puts the client's own value there.
        "correlation_id": CORRELATION.replace("HEADER", correlation_header),
        "tenantgate.traceparent": TRACEPARENT,
        "tenantgate.complete": COMPLETE,
        "tenantgate.cache_status": 'return kong.response.get_header("X-Cache-Status")',
        "tenantgate.cache_key": 'return kong.response.get_header("X-Cache-Key")',
        "tenantgate.finish_reason": "return kong.ctx.shared.tenantgate_finish_reason",
        "tenantgate.guardrails": "return kong.ctx.shared.tenantgate_tenant_guardrails",
        "tenantgate.response_guardrails": "return kong.ctx.shared.tenantgate_tenant_response_guardrails",
        "tenantgate.compression": "return kong.ctx.shared.tenantgate_tenant_prompt_compressor",
    }  # fmt: skip


_UNCHECKED: Final = (
    '{"error":{"message":"The content policy can not be checked right now. Try again later.",'
    '"type":"server_error","param":null,"code":"guard_unavailable"}}'
)

GUARD_CHECK: Final = (
    'if kong.ctx.shared.tenantgate_guard ~= "pass" then '
    f"return kong.response.exit(503, '{_UNCHECKED}', "
    '{["Content-Type"] = "application/json"}) end'
)
"""post-function, access, where a rule blocks or masks. Kong goes on without a plugin whose process is dead; here it
must not: no mark of the guard's, no way to the provider."""

REPLY_GUARD_CHECK: Final = (
    'if kong.response.get_source() == "service" and kong.ctx.shared.tenantgate_reply_guard ~= "pass" then '
    "kong.ctx.shared.tenantgate_reply_refused = true kong.response.set_status(503) "
    'kong.response.set_header("Content-Type", "application/json") '
    'kong.response.clear_header("Content-Encoding") kong.response.clear_header("Content-Length") end'
)
"""post-function, header_filter, where a rule blocks or masks replies. The reply is held back until the response phase
is over, so its head isn't sent yet. ``kong.response.exit`` wouldn't do: ai-proxy's body_filter, which comes first, puts
the provider's reply back in its place."""

REPLY_GUARD_BODY: Final = (
    f"if kong.ctx.shared.tenantgate_reply_refused then ngx.arg[1] = ngx.arg[2] and '{_UNCHECKED}' or \"\" end"
)
"""post-function, body_filter, beside `REPLY_GUARD_CHECK`: nothing of the reply, and at its end the error."""
