"""Lua that makes Kong's file-log write the audit log's journal."""

from typing import Final

from tenantgate.lua_files import script

__all__ = ["journal"]

_LEFT_OUT: Final = (
    "ai.proxy.payload",
    "request.headers",
    "request.querystring",
    "request.uri",
    "request.url",
    "upstream_uri",
    "response.headers",
)


def journal(correlation_header: str) -> dict[str, str]:
    """``custom_fields_by_lua`` of the file-log that writes the audit log's journal.

    A line for each request, whatever became of it and of our plugins, without anything that the client or the provider
    wrote, but for the end user that the request names. In its place our plugins' verdicts, which hold no text.
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
        "tenantgate.usage": "return kong.ctx.shared.tenantgate_usage",
        "tenantgate.guardrails": "return kong.ctx.shared.tenantgate_tenant_guardrails",
        "tenantgate.response_guardrails": "return kong.ctx.shared.tenantgate_tenant_response_guardrails",
        "tenantgate.compression": "return kong.ctx.shared.tenantgate_tenant_prompt_compressor",
        "tenantgate.routing": "return kong.ctx.shared.tenantgate_routing",
        "tenantgate.tries": script("audit", "tries"),
        "tenantgate.limits": "return kong.ctx.shared.tenantgate_limits",
        "tenantgate.route": "return kong.ctx.shared.tenantgate_route",
        "tenantgate.tenant": script("audit", "caller", MEMBER="tenant"),
        "tenantgate.key": script("audit", "caller", MEMBER="credential"),
        "tenantgate.end_user": "return kong.ctx.shared.tenantgate_end_user",
        "tenantgate.operation": "return kong.ctx.shared.tenantgate_operation",
        "tenantgate.mcp": "return kong.ctx.shared.tenantgate_mcp",
        "tenantgate.policy": "return kong.ctx.shared.tenantgate_audit_policy",
    }
