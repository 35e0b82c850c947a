"""Lua that the renderer gives to stock plugins of the service; features' own is named in their manifests."""

import json
from collections.abc import Sequence
from typing import Any, Final

from tenantgate.llm.errors import BY_STATUS, OTHER_STATUS, ErrorText
from tenantgate.lua_files import script, where

__all__ = [
    "ANY_BEARER",
    "END_OF_STREAM",
    "ERROR_BODY",
    "ERROR_HEAD",
    "ERROR_HEAD_EARLY",
    "ERROR_HEAD_ELSEWHERE",
    "FINISH_REASON",
    "MCP_METADATA_PATH",
    "NO_QUERY",
    "WITHOUT_PAYLOAD",
    "hsts",
    "mcp_challenge",
    "mcp_metadata",
    "mcp_options",
    "where_decided",
    "where_held",
]


ANY_BEARER: Final = script("config", "any_bearer")
NO_QUERY: Final = script("config", "no_query")
FINISH_REASON: Final = script("config", "finish_reason")
END_OF_STREAM: Final = script("config", "end_of_stream")


def _lua(error: ErrorText) -> str:
    return "{" + ", ".join(f"'{text}'" for text in error) + "}"  # none of the texts needs an escape


_BY_STATUS: Final = ", ".join(f"[{status}] = {_lua(error)}" for status, error in BY_STATUS.items())
ERROR_BODY: Final = script("config", "error_body", BY_STATUS=_BY_STATUS, OTHER_STATUS=_lua(OTHER_STATUS))
ERROR_HEAD: Final = script("config", "error_head")


ERROR_HEAD_EARLY: Final = where("kong.response.get_status() == 413", ERROR_HEAD)
"""pre-function: the same where nginx ends a request in the middle of a plugin's access, since a body without a
length turns out too large; then Kong runs the filters of the plugins up to that one only."""

_OPERATIONS: Final = (
    "batches completions count_tokens embeddings generations messages models moderations responses "
    "speech transcriptions translations"
)
"""Ends of paths by which a client of an LLM is known (OpenAI's API reference; ``messages`` is Anthropic's)."""

_NAMES_OPERATION: Final = (
    "({" + ", ".join(f"{name} = true" for name in _OPERATIONS.split()) + "})"
    '[(ngx.var.request_uri or ""):match("^[^?]*/([%a_]+)/?")]'
)
ERROR_HEAD_ELSEWHERE: Final = where(
    f'({_NAMES_OPERATION} or (ngx.var.request_uri or ""):find("^[^?]*/chat/completions"))', ERROR_HEAD
)
"""The same for all of the gateway, so only where a client of an LLM was wrong: no such route, or a body that nginx
didn't take. Of a request line that nginx refuses there is no URI."""


def hsts(max_age_s: int) -> str:
    """Strict-Transport-Security in what is sent over TLS."""
    return script("config", "hsts", SECONDS=str(max_age_s))


def where_decided(member: str, code: str) -> str:
    """`code`, where the engine's decision on the request has a true value in `member` (``target.log_payloads``).

    What a request needs is in its decision, so that no rule changes Kong's entities.
    """
    steps = ["d", *member.split(".")]
    condition = " and ".join(".".join(steps[: i + 1]) for i in range(len(steps)))
    return f"local d = kong.ctx.shared.tenantgate_decision if {condition} then {code} end"


def where_held(code: str) -> str:
    """`code`, where the reply is held back for the engine; tenantgate-target notes that for each request."""
    return where("kong.ctx.shared.tenantgate_reply_held", code)


MCP_METADATA_PATH: Final = "/.well-known/oauth-protected-resource"
"""RFC 9728, section 3; before a resource's own path."""


def mcp_options(*, cors: bool) -> str:
    """The answer to OPTIONS of an MCP endpoint. `cors`: whether the plugin of that name answers preflight requests."""
    return script("config", "mcp_options", CORS=str(cors).lower())


def mcp_challenge(base: str, prefix: str) -> str:
    """What a 401 of an MCP endpoint has. `base`: the gateway's URL; `prefix`: of its paths."""
    return script("config", "mcp_challenge", URL=f"{base}{MCP_METADATA_PATH}{prefix}/v1/mcp")


def mcp_metadata(base: str, prefix: str, issuers: Sequence[str], scopes: Sequence[str]) -> str:
    """The metadata of the MCP endpoints."""
    members: dict[str, Any] = {"authorization_servers": issuers, "bearer_methods_supported": ["header"]}
    if scopes:
        members["scopes_supported"] = scopes
    text = json.dumps(members, separators=(",", ":"))[1:-1]
    # Within quotes of Lua; JSON's own escapes must reach the client.
    text = text.replace("\\", "\\\\").replace("'", "\\'")
    return script("config", "mcp_metadata", RESOURCE=f"{base}{prefix}/v1/mcp", MEMBERS=text)


WITHOUT_PAYLOAD: Final = {
    "ai.proxy.payload": "return nil",
    "request.headers.api-key": "return nil",
    "request.headers.apikey": "return nil",
    "request.headers.x-api-key": "return nil",
    "request.headers.x-goog-api-key": "return nil",
}
"""``custom_fields_by_lua`` of a stock log plugin: takes prompts and replies out of the record, and credentials
in headers of their own (Kong itself hides Authorization only). Our own
plugins have read them by then (priorities above 770 against 14 and below)."""
