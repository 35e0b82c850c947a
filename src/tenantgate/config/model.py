"""What tenants.yaml may say.

Each class is one mapping in the file. The loader, the JSON Schema and the documentation's tables are made
from these fields.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tenantgate.config import spelling
from tenantgate.config.providers import PROVIDERS
from tenantgate.fields import COUNT_MAX, config_class, field
from tenantgate.rate_limit import RateLimit
from tenantgate.store.config import LOCALHOST, PORT, cluster_problems

__all__ = [
    "SECTIONS",
    "ClusterNode",
    "Defaults",
    "FilePart",
    "Gateway",
    "Limits",
    "Model",
    "Policy",
    "RateLimit",
    "RateLimitRedis",
    "RateLimiting",
    "Redis",
    "Tenant",
    "TenantsFile",
    "Timeouts",
]

SECTIONS: Final = "plugins"
"""The attribute of `Defaults`, `Tenant`, `Model` and `Gateway` that holds the features' sections; in the file each is
a key of its own (``cache``)."""

ID_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
MODEL_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._:@+-]*(/[A-Za-z0-9][A-Za-z0-9._:@+-]*)*$"
_NAME_MAX: Final = 128
_HOST: Final = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$|^\[?[0-9A-Fa-f:.]+\]?$"
_HEADER: Final = r"^[A-Za-z0-9_-]+$"
# Headers that hold keys, or that HTTP needs.
_TAKEN: Final = frozenset(
    "apikey authorization connection content-encoding content-length content-type cookie host proxy-authorization "
    "set-cookie te transfer-encoding upgrade".split()
)
# Beside them, what a provider takes for a credential, and what Kong or ai-proxy sets.
_OURS: Final = frozenset(
    "accept-encoding api-key anthropic-version expect via x-api-key x-goog-api-key x-real-ip".split()
)
_OURS_BEGIN: Final = ("x-consumer-", "x-forwarded-", "x-kong-")
_PREFIX: Final = r"^(/[A-Za-z0-9][A-Za-z0-9._-]*)*$"
_STORE: Final = r"^((rediss?|postgresql)://([^\s:@/]+@)?[^\s@]+|\{vault://env/[A-Za-z0-9_-]+\})$"
_URL: Final = r"^https?://[A-Za-z0-9\[][^\s/?#@]*/[^\s?#]*$"


@config_class
class RateLimitRedis:
    """A Redis server of the rate limits."""

    host: str = field("Host name or address of the Redis server.", default=LOCALHOST, match=_HOST)
    port: int = field("Port of the Redis server.", default=PORT, between=(1, 65535))
    username: str | None = field(
        "Redis user, where access control lists are in use.", default=None, len_min=1
    )
    password: str | None = field("Redis password.", default=None, referenceable=True)
    database: int = field("Number of the Redis database.", default=0, between=(0, 1023))
    ssl: bool = field("Use TLS for the connection to Redis.", default=False)
    ssl_verify: bool = field("Verify the certificate of Redis.", default=True)
    timeout_ms: int = field(
        "Longest wait of a rate limit for Redis. After this `gateway.rate_limiting.on_error` applies.",
        default=100,
        between=(1, 10_000),
        unit="ms",
    )


@config_class
class ClusterNode:
    """One node of a Redis Cluster."""

    ip: str = field("Host name or address of the node.", default=LOCALHOST, match=_HOST)
    port: int = field("Port of the node.", default=PORT, between=(1, 65535))


@config_class
class Redis(RateLimitRedis):
    """The Redis of the plugins, and of the rate limits unless those have their own."""

    cluster_nodes: tuple[ClusterNode, ...] = field(
        "Some nodes of a Redis Cluster, in place of host and port. The other nodes are found through these.",
        default=(),
        len_max=100,
    )
    plugin_timeout_ms: int = field(
        "Longest wait of Tenantgate's plugins for Redis at each round trip. After this they continue without "
        "Redis.",
        default=20,
        between=(1, 1000),
        unit="ms",
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """One Redis or a cluster, not both."""
        return cluster_problems(self.cluster_nodes, self.host, self.port, self.database)


@config_class
class RateLimiting:
    """Where the rate limits count."""

    policy: str = field(
        "Place of the counters: redis, shared by all Kong nodes; or local, in each process of the engine, so that "
        "with n processes a tenant may send up to n times its limit.",
        default="redis",
        one_of=("redis", "local"),
    )
    on_error: str = field(
        "What happens to a request that can't be counted, as when Redis is gone: pass, uncounted; or reject, with "
        "status 503.",
        default="pass",
        one_of=("pass", "reject"),
    )
    redis: RateLimitRedis | None = field(
        "A Redis server of the rate limits' own. Default: `gateway.redis`, which may be a cluster.",
        default=None,
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """No Redis for counters that don't lie in one."""
        if self.policy == "local" and self.redis is not None:
            yield "redis", "isn't used with policy local; give one of the two"


@config_class
class Policy:
    """Where the tenants' policies lie: models, rules, limits, compiled from this file by `tenantgate apply`."""

    path: str = field(
        "SQLite file on each node from which its engine reads policies. With a `store` it is the node's copy.",
        default="/var/lib/tenantgate/policy/policy.sqlite",
        match=r"^/[^\s]+$",
    )
    store: str | None = field(
        "Store that all nodes follow: redis://…, rediss://… or postgresql://…. A URL with a password is a secret: "
        "{vault://env/NAME}. Default: the file at `path`, for one node.",
        default=None,
        match=_STORE,
    )


@config_class
class Limits:
    """Sizes that are refused."""

    max_request_body_mb: int = field(
        "Largest request body; larger ones get 413. Kong keeps bodies up to this size in memory, so none is "
        "written to disk.",
        default=4,
        between=(1, 64),
        unit="MiB",
    )


@config_class
class Timeouts:
    """How long Kong waits for a provider."""

    connect_s: int = field("Time-out of connecting to a provider.", default=5, between=(1, 300), unit="s")
    write_s: int = field(
        "Longest pause between two writes to a provider.", default=60, between=(1, 3600), unit="s"
    )
    read_s: int = field(
        "Longest pause between two reads from a provider, and so the longest wait for a reply that isn't streamed.",
        default=300,
        between=(1, 3600),
        unit="s",
    )


@config_class
class Gateway:
    """What all tenants share."""

    redis: Redis = field(
        "Redis of the plugins, and of the rate limits unless those have their own.", default=Redis()
    )
    rate_limiting: RateLimiting = field("Counters of the rate limits.", default=RateLimiting())
    policy: Policy = field("Storage of the tenants' policies.", default=Policy())
    encryption_key: str = field(
        "Secret from which each tenant's own encryption key is derived: 32 random bytes or more.",
        default="{vault://env/TENANTGATE_CACHE_KEY}",
        referenceable=True,
    )
    path_prefix: str = field("Prefix of each route's path, such as /llm.", default="", match=_PREFIX)
    correlation_header: str = field(
        "Header with the request's id. Kong creates the id where the client sends none, and returns it to the "
        "client.",
        default="X-Request-ID",
        match=_HEADER,
    )
    limits: Limits = field("Largest sizes that are accepted.", default=Limits())
    strict_requests: bool = field(
        "Answer 400 to requests that aren't a chat request in strict JSON, on every route with Tenantgate's "
        "plugins. If off, only where a rule blocks or masks; elsewhere such requests pass unread, and their audit "
        "records say so.",
        default=True,
    )
    upstream_headers: tuple[str, ...] = field(
        "Headers of the client that reach the provider, such as anthropic-beta or OpenAI-Organization. All others "
        "end at the gateway. The cache keeps answers apart by their values.",
        default=(),
        match=_HEADER,
        len_max=50,
    )
    timeouts: Timeouts = field("Time-outs of requests to a provider.", default=Timeouts())
    access_log: str | None = field(
        "File that gets one JSON line for each request (stock file-log), without prompts and replies.",
        default=None,
        match=r"^/[^\s]+$",
    )
    plugins: dict[str, Any] = field(
        "Settings of Tenantgate's plugins for the whole gateway, by section.", default={}
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """The request's id is written to logs and sent back, so it has a header that means nothing else."""
        if self.correlation_header.lower() in _TAKEN:
            yield (
                "correlation_header",
                "this header has a meaning of its own; take another, such as X-Request-ID",
            )
        for i, name in enumerate(self.upstream_headers):
            if name.lower() in _TAKEN | _OURS or name.lower().startswith(_OURS_BEGIN):
                what = f"{name} holds a credential, or is set on the way; it can't be the client's"
                yield f"upstream_headers[{i}]", what


@config_class
class Defaults:
    """What holds for each tenant that says nothing else."""

    rate_limit: RateLimit | None = field("Rate limit of each tenant, over all of its models.", default=None)
    plugins: dict[str, dict[str, Any]] = field("Settings of Tenantgate's plugins, by section.", default={})


@config_class
class Model:
    """A model that a tenant may use."""

    provider: str = field("Provider of the model.", one_of=tuple(PROVIDERS))
    model: str = field(
        "Name of the model at its provider, and a name by which clients may ask for it.",
        match=MODEL_PATTERN,
        len_max=_NAME_MAX,
    )
    aliases: tuple[str, ...] = field(
        "Further names by which the tenant's clients may ask for this model, such as fast.",
        default=(),
        match=MODEL_PATTERN,
        len_max=16,
    )
    credential: str | None = field("The tenant's own key at the provider.", default=None, referenceable=True)
    upstream_url: str | None = field(
        "Full address of an OpenAI-compatible chat operation, or of a private endpoint of the provider.",
        default=None,
        match=_URL,
        len_max=1024,
    )
    streaming: str = field(
        "Streaming of replies: allow, as the client asks; deny, never; always. Cached replies are sent as the "
        "client asks.",
        default="allow",
        one_of=("allow", "deny", "always"),
    )
    max_tokens: int | None = field(
        "Value of max_tokens, in place of the client's.", default=None, between=(1, COUNT_MAX)
    )
    temperature: float | None = field(
        "Value of temperature, in place of the client's.", default=None, between=(0.0, 5.0)
    )
    top_p: float | None = field(
        "Value of top_p, in place of the client's; not for anthropic.", default=None, between=(0, 1)
    )
    top_k: int | None = field(
        "Value of top_k, in place of the client's; gemini only.", default=None, between=(0, 500)
    )
    input_cost: float | None = field("Price of a million prompt tokens.", default=None, gt=0)
    output_cost: float | None = field("Price of a million completion tokens.", default=None, gt=0)
    anthropic_version: str | None = field(
        "Version of Anthropic's API.", default="2023-06-01", match=r"^[\w.-]+$"
    )
    azure_instance: str | None = field("Azure OpenAI: name of the instance.", default=None, match=r"^[\w-]+$")
    azure_deployment_id: str | None = field(
        "Azure OpenAI: id of the deployment.", default=None, match=r"^[\w.-]+$"
    )
    azure_api_version: str | None = field(
        "Azure OpenAI: version of the API.", default="2024-10-21", match=r"^[\w.-]+$"
    )
    rate_limit: RateLimit | None = field(
        "Rate limit of this model. Its requests don't count for the tenant's limit.", default=None
    )
    plugins: dict[str, dict[str, Any]] = field("Settings of Tenantgate's plugins, by section.", default={})

    def problems(self) -> Iterator[tuple[str, str]]:
        """A provider's own needs."""
        provider = PROVIDERS[self.provider]
        if provider.credential and self.credential is None:
            yield "credential", f"required for {self.provider}"
        if provider.auth_header is None and self.credential is not None:
            yield "credential", f"{self.provider} takes none"
        if provider.needs_upstream_url and self.upstream_url is None:
            yield "upstream_url", f"required for {self.provider}"
        if self.upstream_url is not None and spelling.names_no_operation(self.upstream_url):
            yield (
                "upstream_url",
                "ends before the operation; give the full address, such as https://host/v1/chat/completions",
            )
        for name in provider.needs:
            if getattr(self, name) is None:
                yield name, f"required for {self.provider}"
        for name in provider.never_sent:
            if getattr(self, name) is not None:
                yield name, f"has no effect: Kong doesn't send it to {self.provider}; take it out"


@config_class
class Tenant:
    """Whose requests, keys, models and limits are kept apart from all others'."""

    id: str = field(
        "Id of the tenant: the custom_id of its Kong consumer, and part of the paths of version 0.1. Letters, digits, "
        "dot, hyphen and underscore.",
        match=ID_PATTERN,
        len_max=64,
    )
    api_keys: tuple[str, ...] = field(
        "Keys of the tenant's clients. Two keys at once allow a change of keys without interruption.",
        referenceable=True,
        len_min=1,
        len_max=16,
    )
    key_rate_limit: RateLimit | None = field("Rate limit of each key of the tenant by itself.", default=None)
    models: tuple[Model, ...] = field(
        "Models that the tenant may use. Default: a mock provider for development.",
        default=(Model(provider="mock", model="mock-small"),),
        len_min=1,
    )
    rate_limit: RateLimit | None = field(
        "Rate limit of the tenant, over all of its models together.", default=None
    )
    plugins: dict[str, dict[str, Any]] = field("Settings of Tenantgate's plugins, by section.", default={})

    def problems(self) -> Iterator[tuple[str, str]]:
        """A model stands once, and a name means one model."""
        seen: dict[tuple[str, str], int] = {}
        names: dict[str, str] = {}
        for i, m in enumerate(self.models):
            first = seen.setdefault((m.provider, m.model), i)
            if first != i:
                yield f"models[{i}]", f"{m.provider} {m.model} is models[{first}] already"
            names.setdefault(m.model, f"the name of models[{i}]")
            names.setdefault(f"{m.provider}/{m.model}", f"the name of models[{i}] with its provider")
        for i, m in enumerate(self.models):
            for k, alias in enumerate(m.aliases):
                at = f"models[{i}].aliases[{k}]"
                if len(alias) > _NAME_MAX:
                    yield at, f"{len(alias)} characters, takes at most {_NAME_MAX}"
                if alias in names:
                    yield at, f"{alias!r} is {names[alias]} already; a name means one model"
                names.setdefault(alias, at)


@config_class
class FilePart:
    """One file: tenants.yaml, or a file of a folder."""

    version: int = field("Version of this format: 1.", between=(1, 1))
    gateway: Gateway | None = field(
        "Settings that all tenants share. Of several files one may have them.", default=None
    )
    defaults: Defaults | None = field(
        "Settings of each tenant that doesn't set its own. Of several files one may have them.", default=None
    )
    tenants: tuple[Tenant, ...] = field(
        "Tenants, each with its own keys, models and limits.", default=(), len_min=1
    )
    tenant: Tenant | None = field("One tenant, in place of a list, for a file of its own.", default=None)


@config_class
class TenantsFile:
    """The whole: tenants.yaml, or a folder's files together."""

    version: int = field("Version of this format: 1.", between=(1, 1))
    gateway: Gateway = field("Settings that all tenants share.", default=Gateway())
    defaults: Defaults = field("Settings of each tenant that doesn't set its own.", default=Defaults())
    tenants: tuple[Tenant, ...] = field("Tenants, each with its own keys, models and limits.", len_min=1)

    def rate_limits(self) -> Iterator[RateLimit | None]:
        """All limits of all levels, and None where a level has none."""
        yield self.defaults.rate_limit
        for tenant in self.tenants:
            yield tenant.rate_limit
            yield tenant.key_rate_limit
            yield from (m.rate_limit for m in tenant.models)
