"""What tenants.yaml may say.

Each class is one mapping in the file. The loader, the JSON Schema and the documentation's tables are made
from these fields.
"""

from __future__ import annotations

from typing import Any, Final

from tenantgate.audit.config import SinkConfig
from tenantgate.config.providers import PROVIDERS
from tenantgate.fields import COUNT_MAX, MEGABYTES_MAX, config_class, field
from tenantgate.store.config import LOCALHOST, PORT

__all__ = [
    "SECTIONS", "Audit", "ClusterNode", "Defaults", "Gateway", "Limits", "Model", "RateLimit", "RateLimitRedis",
    "RateLimiting", "Redis", "Tenant", "TenantsFile", "Timeouts",
]  # fmt: skip

SECTIONS: Final = "plugins"
"""The attribute of `Defaults`, `Tenant` and `Model` that holds the plugins' sections; in the file each is
a key of its own (``cache``)."""

ID_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
MODEL_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._:@+-]*(/[A-Za-z0-9][A-Za-z0-9._:@+-]*)*$"
_HOST: Final = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$|^\[?[0-9A-Fa-f:.]+\]?$"
_HEADER: Final = r"^[A-Za-z0-9_-]+$"
_PREFIX: Final = r"^(/[A-Za-z0-9][A-Za-z0-9._-]*)*$"
_URL: Final = r"^https?://[A-Za-z0-9\[][^\s/?#@]*/[^\s?#]*$"


@config_class
class RateLimitRedis:
    """A Redis that Kong's rate-limiting can use."""

    host: str = field("Host name or address of the Redis server.", default=LOCALHOST, match=_HOST)
    port: int = field("Port of the Redis server.", default=PORT, between=(1, 65535))
    username: str | None = field(
        "Redis user, where access control lists are in use.", default=None, len_min=1
    )
    password: str | None = field("Redis password.", default=None, referenceable=True)
    database: int = field("Number of the Redis database.", default=0, between=(0, 1023))
    ssl: bool = field("Whether to speak TLS to Redis.", default=False)
    ssl_verify: bool = field("Whether to verify the certificate of Redis.", default=True)
    timeout_ms: int = field(
        "How long a rate limit may wait for Redis; then the request passes uncounted.",
        default=100, between=(1, 10_000), unit="ms",
    )  # fmt: skip


@config_class
class ClusterNode:
    """One node of a Redis Cluster."""

    ip: str = field("Host name or address of the node.", default=LOCALHOST, match=_HOST)
    port: int = field("Port of the node.", default=PORT, between=(1, 65535))


@config_class
class Redis(RateLimitRedis):
    """The Redis of the plugins, and of the rate limits unless those have their own."""

    cluster_nodes: tuple[ClusterNode, ...] = field(
        "Nodes of a Redis Cluster, in place of host and port; some are enough, they know the others. Kong's "
        "rate-limiting can't use a cluster: see `gateway.rate_limiting`.",
        default=(), len_max=100,
    )  # fmt: skip
    plugin_timeout_ms: int = field(
        "How long a request waits for Redis at each trip of Tenantgate's plugins; then it passes uncached.",
        default=20, between=(1, 1000), unit="ms",
    )  # fmt: skip


@config_class
class RateLimiting:
    """Where the rate limits count."""

    policy: str = field(
        "In Redis, for all Kong nodes together; or in each Kong node for itself, so that with n nodes a tenant may "
        "send up to n times its limit.",
        default="redis", one_of=("redis", "local"),
    )  # fmt: skip
    redis: RateLimitRedis | None = field(
        "Their own Redis, which is no cluster; left out, `gateway.redis`.", default=None
    )


@config_class
class Limits:
    """Sizes that are refused."""

    max_request_body_mb: int = field(
        "Largest request body; larger ones get 413. Kong keeps bodies up to this size in memory, so none is "
        "written to disk.",
        default=4, between=(1, 64), unit="MiB",
    )  # fmt: skip


@config_class
class Timeouts:
    """How long Kong waits for a provider."""

    connect_s: int = field("For the connection to a provider.", default=5, between=(1, 300), unit="s")
    write_s: int = field("Between two writes to a provider.", default=60, between=(1, 3600), unit="s")
    read_s: int = field(
        "Between two reads from a provider; a reply that isn't streamed may take as long.",
        default=300, between=(1, 3600), unit="s",
    )  # fmt: skip


@config_class
class Audit:
    """The audit log's way from Kong to the operator's systems, one for each node."""

    dir: str = field(
        "A folder of this node's own, which Kong may write to: Kong's journal of requests (stock file-log, without any "
        "content), and what must outlive a restart.",
        default="/var/lib/tenantgate/audit", match=r"^/[^\s]+$",
    )  # fmt: skip
    node: str | None = field(
        "The node's name in its chains of records; left out, the host's name.",
        default=None,
        len_min=1,
        len_max=200,
    )
    spool: str = field(
        "Where records wait for their sinks: Redis Streams, or files in `dir`.",
        default="file",
        one_of=("redis", "file"),
    )
    max_records: int = field(
        "How many records may wait; beyond that the oldest lose their content, then go.",
        default=1_000_000,
        between=(1, COUNT_MAX),
    )
    max_megabytes: int = field(
        "How much waiting records may take; beyond that the oldest lose their content, then go.",
        default=1024, between=(1, MEGABYTES_MAX), unit="MiB",
    )  # fmt: skip
    sinks: tuple[SinkConfig, ...] = field(
        "Where records go, each sink at its own pace.", default=(), len_max=20
    )


@config_class
class Gateway:
    """What all tenants share."""

    redis: Redis = field(
        "The Redis of the plugins, and of the rate limits unless those have their own.", default=Redis()
    )
    rate_limiting: RateLimiting = field("Where the rate limits count.", default=RateLimiting())
    encryption_key: str = field(
        "Key from which each tenant's own is derived, to seal what is stored: 32 random bytes or more.",
        default="{vault://env/TENANTGATE_CACHE_KEY}", referenceable=True,
    )  # fmt: skip
    path_prefix: str = field("Goes before each route's path, such as /llm.", default="", match=_PREFIX)
    correlation_header: str = field(
        "Header with the request's id, made where the client sends none, and sent back to the client.",
        default="X-Request-ID", match=_HEADER,
    )  # fmt: skip
    limits: Limits = field("Sizes that are refused.", default=Limits())
    strict_requests: bool = field(
        "Whether a request that is no chat in strict JSON gets 400 on every route of Tenantgate's plugins. Switched "
        "off, it does only where a rule blocks or masks, and passes elsewhere unread, which its audit record says.",
        default=True,
    )
    upstream_headers: tuple[str, ...] = field(
        "Headers of the client's that reach the provider, such as anthropic-beta or OpenAI-Organization. All "
        "others end at the gateway. The cache keeps answers apart by their values.",
        default=(), match=_HEADER, len_max=50,
    )  # fmt: skip
    timeouts: Timeouts = field("How long Kong waits for a provider.", default=Timeouts())
    access_log: str | None = field(
        "File for a line of JSON per request (stock file-log), without prompts and replies.",
        default=None, match=r"^/[^\s]+$",
    )  # fmt: skip
    audit: Audit = field("Where the records of tenants with an `audit` section go.", default=Audit())


@config_class
class RateLimit:
    """Requests that a tenant may send; at least one period."""

    per_second: int | None = field("Requests per second.", default=None, between=(1, COUNT_MAX))
    per_minute: int | None = field("Requests per minute.", default=None, between=(1, COUNT_MAX))
    per_hour: int | None = field("Requests per hour.", default=None, between=(1, COUNT_MAX))
    per_day: int | None = field("Requests per day.", default=None, between=(1, COUNT_MAX))


@config_class
class Defaults:
    """What holds for each tenant that says nothing else."""

    rate_limit: RateLimit | None = field("Each tenant's own limit, over all of its models.", default=None)
    plugins: dict[str, dict[str, Any]] = field("Settings of Tenantgate's plugins, by section.", default={})


@config_class
class Model:
    """A model that a tenant may use: one route."""

    provider: str = field("Who serves the model.", one_of=tuple(PROVIDERS))
    model: str = field(
        "The model's name, as its provider has it. A client's `model` must be the same.",
        match=MODEL_PATTERN, len_max=128,
    )  # fmt: skip
    credential: str | None = field("The tenant's own key at the provider.", default=None, referenceable=True)
    upstream_url: str | None = field(
        "Full address of an OpenAI-compatible chat operation, or of a private endpoint of the provider.",
        default=None, match=_URL, len_max=1024,
    )  # fmt: skip
    streaming: str = field(
        "Whether replies may be streamed: as the client asks, never, or always. A cached one comes as the client asks.",
        default="allow", one_of=("allow", "deny", "always"),
    )  # fmt: skip
    max_tokens: int | None = field(
        "Sets max_tokens, whatever the client sent.", default=None, between=(1, COUNT_MAX)
    )
    temperature: float | None = field(
        "Sets the temperature, whatever the client sent.", default=None, between=(0.0, 5.0)
    )
    top_p: float | None = field(
        "Sets top_p, whatever the client sent; not for anthropic.", default=None, between=(0, 1)
    )
    top_k: int | None = field(
        "Sets top_k, whatever the client sent; gemini only.", default=None, between=(0, 500)
    )
    input_cost: float | None = field("Cost of a million prompt tokens.", default=None, gt=0)
    output_cost: float | None = field("Cost of a million completion tokens.", default=None, gt=0)
    anthropic_version: str | None = field(
        "Anthropic's API version.", default="2023-06-01", match=r"^[\w.-]+$"
    )
    azure_instance: str | None = field("Azure OpenAI: the instance's name.", default=None, match=r"^[\w-]+$")
    azure_deployment_id: str | None = field("Azure OpenAI: the deployment.", default=None, match=r"^[\w.-]+$")
    azure_api_version: str | None = field(
        "Azure OpenAI: the api-version.", default="2024-10-21", match=r"^[\w.-]+$"
    )
    rate_limit: RateLimit | None = field(
        "This model's own limit; such requests don't count for the tenant's.", default=None
    )
    plugins: dict[str, dict[str, Any]] = field("Settings of Tenantgate's plugins, by section.", default={})


@config_class
class Tenant:
    """Whose requests, keys, models and limits are kept apart from all others'."""

    id: str = field(
        "The tenant's id: the custom_id of its Kong consumer, and part of its routes' paths. Letters, "
        "digits, dot, hyphen and underscore.",
        match=ID_PATTERN, len_max=64,
    )  # fmt: skip
    api_keys: tuple[str, ...] = field(
        "The keys of the tenant's clients; two at once make a change of keys possible without a gap.",
        referenceable=True, len_min=1, len_max=16,
    )  # fmt: skip
    models: tuple[Model, ...] = field(
        "What the tenant may use; left out, a mock provider for development.",
        default=(Model(provider="mock", model="mock-small"),), len_min=1,
    )  # fmt: skip
    rate_limit: RateLimit | None = field(
        "The tenant's own limit, over all of its models together.", default=None
    )
    plugins: dict[str, dict[str, Any]] = field("Settings of Tenantgate's plugins, by section.", default={})


@config_class
class TenantsFile:
    """The whole of tenants.yaml."""

    version: int = field("Version of this format: 1.", between=(1, 1))
    gateway: Gateway = field("What all tenants share.", default=Gateway())
    defaults: Defaults = field("What holds for each tenant that says nothing else.", default=Defaults())
    tenants: tuple[Tenant, ...] = field("The tenants, each with its own keys, models and limits.", len_min=1)
