"""The few lines of Lua that the renderer gives to the stock ``pre-function`` and ``post-function`` plugins.

Kong runs them in its sandbox (``untrusted_lua = sandbox``). The embedded host runs no Lua: it knows these
texts and does the same, so a change here is a change there.
"""

from collections.abc import Iterable
from typing import Final

__all__ = [
    "ANTHROPIC_STOP_REASON",
    "ANY_BEARER",
    "BEARER",
    "BESIDE_TEXT",
    "COMPLETE",
    "CORRELATION",
    "END_OF_STREAM",
    "ERRORS",
    "ERROR_BODY",
    "ERROR_HEAD",
    "ERROR_HEAD_EARLY",
    "ERROR_HEAD_ELSEWHERE",
    "FINISH_REASON",
    "GUARD_CHECK",
    "HIDE_CALLER",
    "NO_QUERY",
    "ONLY_HEADERS",
    "OTHER_ERROR",
    "PACKED",
    "PLAIN_REPLY",
    "REPLY_GUARD_BODY",
    "REPLY_GUARD_CHECK",
    "TRACEPARENT",
    "WITHOUT_PAYLOAD",
    "journal",
    "only_headers",
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

ANY_BEARER: Final = (
    'local v = kong.request.get_headers()["authorization"] '
    'local k = type(v) == "string" and v:match("^[Bb][Ee][Aa][Rr][Ee][Rr] +(%S+)$") '
    'if k then kong.service.request.set_header("Authorization", "Bearer " .. k) end'
)
"""pre-function, access: before key-auth, which compares the whole value. The scheme's case doesn't count (RFC 9110,
section 11.1)."""

NO_QUERY: Final = 'kong.service.request.set_raw_query("")'
"""pre-function, access: the client's query string ends here. ai-proxy may still set one of its own (Azure)."""

HIDE_CALLER: Final = (
    'for _, n in ipairs({"for", "host", "path", "port", "prefix", "proto"}) do '
    'ngx.var["upstream_x_forwarded_" .. n] = "" end ngx.var.upstream_via = ""'
)
"""post-function, access. Kong tells the upstream the client's address and path (X-Forwarded-*), which names the tenant,
and what proxies the client has named (Via); that isn't the provider's business."""

_SECRET: Final = ("api-key", "authorization", "proxy-authorization", "x-api-key", "x-goog-api-key")
_NEEDED: Final = (
    "accept-encoding", "connection", "content-length", "content-type", "expect", "host", "transfer-encoding",
)  # fmt: skip
"""Headers that HTTP, nginx and ai-proxy set or read themselves on the way upstream."""

ONLY_HEADERS: Final = (
    "local h, keep, log, n = ngx.req.get_headers(0), {KEEP}, {}, 0 "
    "for k, v in pairs(h) do n = n + 1 if n <= 100 then log[k] = v end "
    "if not keep[k] then kong.service.request.clear_header(k) end end "
    "for _, k in ipairs({" + ", ".join(f'"{name}"' for name in _SECRET) + "}) do "
    'if log[k] then log[k] = "REDACTED" end end '
    'kong.log.set_serialize_value("request.headers", log) '
    'kong.ctx.shared.tenantgate_correlation = h["CORRELATION"] '
    'kong.ctx.shared.tenantgate_traceparent = h["traceparent"] '
    'if not keep["accept"] then kong.service.request.set_header("Accept", "*/*") end '
    'if not keep["user-agent"] then kong.service.request.set_header("User-Agent", "Tenantgate") end'
)
"""post-function, access: the text of `only_headers`, before its two words in capitals are replaced."""


def only_headers(keep: Iterable[str], *, correlation_header: str) -> str:
    """post-function, access: of the request's headers only those in `keep` reach the provider, beside HTTP's own.

    Log plugins and our own log phases still see the others, in Kong's log record. Without a limit on their number
    (``ngx.req.get_headers(0)``): else the headers behind the hundredth would pass.
    """
    kept = ", ".join(f'["{name}"] = true' for name in sorted({*_NEEDED, *(k.lower() for k in keep)}))
    return ONLY_HEADERS.replace("KEEP", kept).replace("CORRELATION", correlation_header.lower())


PACKED: Final = 'kong.service.request.set_header("Accept-Encoding", "gzip, identity")'
"""post-function, access, where ai-proxy would let the client's own value pass: it unpacks nothing but gzip."""

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
    'local v = kong.ctx.shared.tenantgate_correlation or kong.request.get_header("HEADER") if type(v) == "string" and '
    f'(v:match("{_UUID}$") or v:match("{_UUID}#%d+$")) then return v end'
)
"""In a log plugin's ``custom_fields_by_lua``, with the header's name for HEADER: the request's id, if it has the form
that Kong gives it. The client may send any text in its place. `only_headers` has taken it out of the request, where
that went on to the provider."""

TRACEPARENT: Final = (
    'local v = kong.ctx.shared.tenantgate_traceparent or kong.request.get_header("traceparent") '
    'if type(v) == "string" and #v == 55 and '
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

_INVALID: Final = "invalid_request_error"
ERRORS: Final = {
    400: ("The request is not valid.", _INVALID, "invalid_request"),
    401: ("The API key is missing, or not known here. Send Authorization: Bearer KEY.", _INVALID, "invalid_api_key"),
    403: ("This API key may not use this route.", _INVALID, "permission_denied"),
    404: ("There is no such route. Check the base URL, and that the request is a POST.", _INVALID, "unknown_url"),
    405: ("This method is not allowed here.", _INVALID, "method_not_allowed"),
    408: ("The request took too long to arrive.", _INVALID, "request_timeout"),
    413: ("The request is larger than this gateway takes.", _INVALID, "request_too_large"),
    429: ("Rate limit reached. Try again later.", "requests", "rate_limit_exceeded"),
    500: ("The gateway failed at this request.", "server_error", "internal_error"),
    502: ("The provider could not be reached, or its answer was not valid.", "server_error", "bad_gateway"),
    503: ("The provider can not be reached right now. Try again later.", "server_error", "service_unavailable"),
    504: ("The provider took too long to answer.", "server_error", "gateway_timeout"),
}  # fmt: skip
"""By status (message, type, code) of errors that Kong itself answers with, as OpenAI's API would word them."""
OTHER_ERROR: Final = ("The request failed.", _INVALID, "error")

_ERROR: Final = (
    'kong.response.get_source() ~= "service" and kong.response.get_status() >= 400 and '
    'not (kong.response.get_header("Content-Type") or ""):find("text/event-stream", 1, true) then '
    "kong.ctx.shared.tenantgate_error = {} "
    'kong.response.set_header("Content-Type", "application/json; charset=utf-8") '
    'kong.response.clear_header("Content-Length") end'
)
ERROR_HEAD: Final = f"if {_ERROR}"
"""post-function, header_filter: an answer of the gateway's own that is an error. Its body is `ERROR_BODY`'s."""

ERROR_HEAD_EARLY: Final = f"if kong.response.get_status() == 413 and {_ERROR}"
"""pre-function, header_filter: the same where nginx ends a request in the middle of a plugin's access, since a body
without a length turns out too large; then Kong runs the filters of the plugins up to that one only."""

ERROR_HEAD_ELSEWHERE: Final = f'if ngx.var.request_uri:find("^[^?]*/chat/completions") and {_ERROR}'
"""The same for all of the gateway, so only where a client of an LLM was wrong: no such route, or a body that nginx
didn't take."""

_TABLE: Final = ", ".join(
    f"[{status}] = {{'{message}', '{kind}', '{code}'}}" for status, (message, kind, code) in ERRORS.items()
)
ERROR_BODY: Final = (
    "local e = kong.ctx.shared.tenantgate_error if e then e[#e + 1] = ngx.arg[1] "
    'if not ngx.arg[2] then ngx.arg[1] = "" else '
    "local b = table.concat(e) kong.ctx.shared.tenantgate_error = nil "
    "if not b:find('\"code\":', 1, true) then "
    f"local t = ({{{_TABLE}}})[ngx.status] or {{'{OTHER_ERROR[0]}', '{OTHER_ERROR[1]}', '{OTHER_ERROR[2]}'}} "
    'b = \'{"error":{"message":\' .. (b:match(\'^{"error":{"message":(".*")}}$\') or \'"\' .. t[1] .. \'"\') .. '
    '\',"type":"\' .. t[2] .. \'","param":null,"code":"\' .. t[3] .. \'"}}\' end '
    "ngx.arg[1] = b end end"
)
"""post-function, body_filter, beside `ERROR_HEAD`: OpenAI's shape with a code, for what has none yet. Kong's plugins
answer in shapes of their own, by the client's Accept; of ai-proxy's the message is kept."""
