"""Settings of the engine: what all tenants of a gateway share. Everything else is in the policy directory."""

from __future__ import annotations

from typing import Final

from tenantgate.audit.config import PipelineConfig
from tenantgate.fields import config_class, field
from tenantgate.mcp.config import McpGateway
from tenantgate.store.config import RedisConfig

__all__ = ["EngineConfig", "Secret"]

_HEADER: Final = r"^[A-Za-z0-9_-]+$"


@config_class
class Secret:
    """A secret that settings in the policy directory refer to."""

    name: str = field("The vault reference, as the policy directory has it.", len_min=1)
    value: str = field("The same reference, which Kong resolves.", len_min=1, referenceable=True)


@config_class
class EngineConfig:
    """Settings of the plugin `tenantgate`."""

    policy_path: str = field(
        "File of the policy directory on this node. With a store elsewhere the local copy of the directory.",
        match=r"^/[^\s]+$",
        lua_match="^/[^%s]+$",
    )
    policy_store: str | None = field(
        "Address of the store that the local copy follows: redis://, rediss:// or postgresql://. Default: none, the "
        "file is the store.",
        default=None,
        referenceable=True,
    )
    node: str | None = field(
        "Name of this node in `tenantgate status`. Default: the host's name.", default=None, len_min=1
    )
    encryption_key: str = field(
        "Secret from which each tenant's own encryption key is derived: 32 random bytes or more, as text.",
        len_min=16,
        referenceable=True,
    )
    redis: RedisConfig = field("Redis of all stages.", default=RedisConfig())
    rate_limit_redis: RedisConfig | None = field(
        "Redis of the rate limits. Default: that of the other stages.", default=None
    )
    rate_limit_policy: str = field(
        "Place of the rate limits' counters: redis, shared by all nodes; or local, in each process of the engine.",
        default="redis",
        one_of=("redis", "local"),
    )
    audit: PipelineConfig | None = field(
        "Journal, spool and sinks of the node. Default: none, where no tenant has an audit log.", default=None
    )
    correlation_header: str = field(
        "Header with the request's id.", default="X-Request-ID", match=_HEADER, lua_match="^[A-Za-z0-9_-]+$"
    )
    strict_requests: bool = field(
        "Refuse requests that aren't a chat request in strict JSON. Otherwise they pass unread where no rule blocks "
        "or masks, if their path names the model.",
        default=True,
    )
    upstream_headers: tuple[str, ...] = field(
        "Request headers that reach the provider and may change its answer.",
        default=(),
        match=_HEADER,
        lua_match="^[A-Za-z0-9_-]+$",
        len_max=50,
    )
    max_request_body_mb: int = field("Largest request body.", default=4, between=(1, 64), unit="MiB")
    keep_items_s: int = field(
        "How long the output of `/v1/responses` is kept in Redis, sealed, for clients that refer to it; 0: not at all.",
        default=3600,
        between=(0, 2_592_000),
        unit="s",
    )
    secrets: tuple[Secret, ...] = field(
        "Secrets that settings in the policy directory refer to.", default=(), len_max=1000
    )
    mcp: McpGateway = field("Requests to MCP servers.", default=McpGateway())
    deadline_ms: int = field(
        "Most time for the stages of a request. After this Kong goes on by the last decision for the same tenant and "
        "model, or refuses the request where a rule blocks or masks.",
        default=1500,
        between=(50, 1900),
        unit="ms",
    )
