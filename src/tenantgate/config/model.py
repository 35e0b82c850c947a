"""What tenants.yaml may say.

Each class is one mapping in the file. The loader, the JSON Schema and the documentation's tables are made
from these fields.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from tenantgate import upstream_headers
from tenantgate.alert_config import Alerts
from tenantgate.config import target_checks
from tenantgate.config.endpoints import MODEL_PATTERN, NAME_MAX, Endpoint, ModelTarget
from tenantgate.config.redis_model import RateLimiting, Redis
from tenantgate.config.targets import BALANCES, REGION_PATTERN, ROUTED, Egress, Failover, ModelTimeouts
from tenantgate.config.tls import Tls
from tenantgate.fields import config_class, field
from tenantgate.keys.core.register import IssuedKey
from tenantgate.limit_config import Budget, TokenLimit
from tenantgate.mcp_config import McpServer
from tenantgate.prices.config import Pricing
from tenantgate.rate_limit import RateLimit

__all__ = [
    "SECTIONS",
    "Cors",
    "Defaults",
    "Endpoint",
    "FilePart",
    "Gateway",
    "Limits",
    "Model",
    "ModelTarget",
    "Policy",
    "RateLimit",
    "Tenant",
    "TenantsFile",
    "Timeouts",
]

SECTIONS: Final = "plugins"
"""The attribute of `Defaults`, `Tenant`, `Model` and `Gateway` that holds the features' sections; in the file each is
a key of its own (``cache``)."""

ID_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_PREFIX: Final = r"^(/[A-Za-z0-9][A-Za-z0-9._-]*)*$"
_ORIGIN: Final = r"^(\*|https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?)$"
_RULES: Final = 50
"""Limits, and budgets, of one tenant: each is counted at every request."""
_VAULT: Final = r"^[A-Za-z0-9_-]+$"
_STORE: Final = r"^((rediss?|postgresql)://([^\s:@/]+@)?[^\s@]+|\{vault://(env|file)/[A-Za-z0-9._-]+\})$"


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
        "{vault://env/NAME} or {vault://file/NAME}. Default: the file at `path`, for one node.",
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
class Responses:
    """Replies of `/v1/responses`."""

    keep_s: int = field(
        "How long a reply's items are kept in Redis, with the tenant's key, for requests that refer to them "
        "(`item_reference`). 0: not at all; such requests are refused.",
        default=3600,
        between=(0, 2_592_000),
        unit="s",
    )


@config_class
class Cors:
    """Browsers that may call the gateway (cross-origin resource sharing)."""

    origins: tuple[str, ...] = field(
        "Origins whose pages may, such as https://app.example.com, or `*` for all.",
        match=_ORIGIN,
        len_min=1,
        len_max=100,
    )
    max_age_s: int = field(
        "How long a browser may remember the answer to its preflight request.",
        default=600,
        between=(0, 86_400),
        unit="s",
    )


@config_class
class Gateway:
    """What all tenants share."""

    redis: Redis = field(
        "Redis of the plugins, and of the rate limits unless those have their own.", default=Redis()
    )
    rate_limiting: RateLimiting = field("Counters of the rate limits.", default=RateLimiting())
    prices: Pricing = field("What tokens cost.", default=Pricing())
    policy: Policy = field("Storage of the tenants' policies.", default=Policy())
    encryption_key: str = field(
        "Secret from which each tenant's own encryption key is derived: 32 random bytes or more.",
        default="{vault://env/TENANTGATE_CACHE_KEY}",
        referenceable=True,
    )
    vaults: tuple[str, ...] = field(
        "Vaults of your own in Kong, beside env and file, that references may name: prefixes of its entities `vaults`.",
        default=(),
        match=_VAULT,
        len_max=50,
    )
    path_prefix: str = field("Prefix of each route's path, such as /llm.", default="", match=_PREFIX)
    correlation_header: str = field(
        "Header with the request's id. Kong creates the id where the client sends none, and returns it to the "
        "client.",
        default="X-Request-ID",
        match=upstream_headers.HEADER,
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
        match=upstream_headers.HEADER,
        len_max=50,
    )
    timeouts: Timeouts = field("Time-outs of requests to a provider.", default=Timeouts())
    egress: Egress | None = field(
        "Where requests may go, checked in this file and at each try. Default: anywhere that this file names.",
        default=None,
    )
    responses: Responses = field("Replies of `/v1/responses`.", default=Responses())
    cors: Cors | None = field(
        "Browsers that may call the gateway: pages of other sites (stock cors). Default: none.", default=None
    )
    alerts: Alerts = field("Who is told what happens to budgets.", default=Alerts())
    tls: Tls = field("TLS of the gateway's clients.", default=Tls())
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
        if self.correlation_header.lower() in upstream_headers.TAKEN:
            yield (
                "correlation_header",
                "this header has a meaning of its own; take another, such as X-Request-ID",
            )
        yield from upstream_headers.problems(self.upstream_headers)


@config_class
class Defaults:
    """What holds for each tenant that says nothing else."""

    rate_limit: RateLimit | None = field("Rate limit of each tenant, over all of its models.", default=None)
    token_limits: tuple[TokenLimit, ...] = field(
        "Limits on tokens, requests or money of each tenant; a tenant's own list replaces it.",
        default=(),
        len_max=_RULES,
    )
    budgets: tuple[Budget, ...] = field(
        "Budgets of each tenant; a tenant's own list replaces it.", default=(), len_max=_RULES
    )
    end_user_header: str | None = field(
        "Request header that names the end user, for limits and budgets per end_user. Default: the request's `user`.",
        default=None,
        match=upstream_headers.HEADER,
    )
    residency: tuple[str, ...] = field(
        "Regions where each tenant's models must run; a tenant's own list replaces it.",
        default=(),
        match=REGION_PATTERN,
        len_max=32,
    )
    egress: Egress | None = field(
        "Where each tenant's requests may go, within the gateway's list; a tenant's own list replaces it.",
        default=None,
    )
    plugins: dict[str, dict[str, Any]] = field("Settings of Tenantgate's plugins, by section.", default={})


@config_class
class Model(Endpoint):
    """A model that a tenant may use: at one provider, or under a name of its own at several targets."""

    name: str | None = field(
        "Name by which clients ask for a model with `targets`, in place of `provider` and `model`.",
        default=None,
        match=MODEL_PATTERN,
        len_max=NAME_MAX,
    )
    aliases: tuple[str, ...] = field(
        "Further names by which the tenant's clients may ask for this model, such as fast.",
        default=(),
        match=MODEL_PATTERN,
        len_max=16,
    )
    targets: tuple[ModelTarget, ...] = field(
        "Places that answer for this model, the first choice first. A request that fails at one goes on to the next.",
        default=(),
        len_min=1,
        len_max=32,
    )
    balance: str = field(
        "Order of the targets: priority, as they stand; round-robin, by weight; least-busy; lowest-latency; "
        "lowest-cost; consistent-hashing, the same conversation at the same target.",
        default="priority",
        one_of=BALANCES,
    )
    hash_on_header: str | None = field(
        "With consistent-hashing, the header whose value decides. Default: the beginning of the conversation.",
        default=None,
        match=upstream_headers.HEADER,
    )
    failover: Failover | None = field("When a request goes on to the next target.", default=None)
    timeouts: ModelTimeouts | None = field(
        "Time-outs of this model's requests, over all tries.", default=None
    )
    streaming: str = field(
        "Streaming of replies: allow, as the client asks; deny, never; always. Cached replies are sent as the "
        "client asks.",
        default="allow",
        one_of=("allow", "deny", "always"),
    )
    rate_limit: RateLimit | None = field(
        "Rate limit of this model. Its requests don't count for the tenant's limit.", default=None
    )
    plugins: dict[str, dict[str, Any]] = field("Settings of Tenantgate's plugins, by section.", default={})

    @property
    def known_as(self) -> tuple[str, str]:
        """Provider and model as records, paths and metrics have them."""
        return (self.provider or ROUTED, self.model or self.name or "")

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The targets, or the model itself."""
        return self.targets or (self,)

    def problems(self) -> Iterator[tuple[str, str]]:
        """As those of its endpoint, and what holds between targets and the rest."""
        if not self.targets:
            yield from Endpoint.problems(self)
        yield from target_checks.problems(self)


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
        "Keys of the tenant's clients that the environment has. Two keys at once allow a change of keys without "
        "interruption. Default: none; its keys are issued (`tenantgate keys`).",
        default=(),
        referenceable=True,
        vault=False,
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
    token_limits: tuple[TokenLimit, ...] | None = field(
        "Limits on tokens, requests or money of the tenant, a key, a model, a provider or an end user.",
        default=None,
        len_max=_RULES,
    )
    budgets: tuple[Budget, ...] | None = field(
        "Money for spans of time, and what happens as it is used up.", default=None, len_max=_RULES
    )
    end_user_header: str | None = field(
        "Request header that names the end user, for limits and budgets per end_user. Default: the request's `user`.",
        default=None,
        match=upstream_headers.HEADER,
    )
    residency: tuple[str, ...] | None = field(
        "Regions where the tenant's models must run: eu, eea, us, a country's code such as de, or a cloud's name of a "
        "region. A target outside, without a known region, or global is refused.",
        default=None,
        match=REGION_PATTERN,
        len_max=32,
    )
    egress: Egress | None = field(
        "Where the tenant's requests may go, within the gateway's list.", default=None
    )
    weight: int = field(
        "The tenant's share of a limit that a provider sets for several tenants with one key, relative to the others' "
        "weights. It counts while the limit is scarce and others ask.",
        default=100,
        between=(1, 10_000),
    )
    mcp: tuple[McpServer, ...] = field(
        "MCP servers of the tenant: tools that its clients' models may call.", default=(), len_max=32
    )
    plugins: dict[str, dict[str, Any]] = field("Settings of Tenantgate's plugins, by section.", default={})

    def problems(self) -> Iterator[tuple[str, str]]:
        """A model stands once, and a name means one model; so it is with MCP servers."""
        seen: dict[tuple[str, str], int] = {}
        names: dict[str, str] = {}
        own = [(i, m) for i, m in enumerate(self.models) if m.targets]
        # Two providers may have models of one name, and the first is meant. A name of one's own is nobody else's.
        for i, m in (*((i, m) for i, m in enumerate(self.models) if not m.targets), *own):
            provider, model = m.known_as
            first = seen.setdefault(m.known_as, i)
            if first != i and not m.targets:
                yield f"models[{i}]", f"{provider} {model} is models[{first}] already"
            if m.targets and model in names:
                yield f"models[{i}].name", f"{model!r} is {names[model]} already; a name means one model"
            names.setdefault(model, f"the name of models[{i}]")
            names.setdefault(f"{provider}/{model}", f"the name of models[{i}] with its provider")
        for i, m in enumerate(self.models):
            for k, alias in enumerate(m.aliases):
                at = f"models[{i}].aliases[{k}]"
                if len(alias) > NAME_MAX:
                    yield at, f"{len(alias)} characters, takes at most {NAME_MAX}"
                if alias in names:
                    yield at, f"{alias!r} is {names[alias]} already; a name means one model"
                names.setdefault(alias, at)
        yield from _server_problems(self.mcp, names)


def _server_problems(servers: tuple[McpServer, ...], names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """`names`: of the tenant's models."""
    seen: dict[str, int] = {}
    for i, server in enumerate(servers):
        if (other := seen.setdefault(server.name, i)) != i:
            yield f"mcp[{i}].name", f"{server.name!r} is mcp[{other}] already"
        for k, name in enumerate(server.models):
            if name not in names:
                yield f"mcp[{i}].models[{k}]", f"the tenant has no model or alias {name[:80]!r}"


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
    keys: dict[str, Any] = field("Register of issued keys, by tenant.", default={})

    def keys_of(self, tenant: Tenant) -> tuple[IssuedKey, ...]:
        """The tenant's issued keys that aren't gone."""
        found: tuple[IssuedKey, ...] = self.keys.get(tenant.id, ())
        return found

    def rate_limits(self) -> Iterator[RateLimit | None]:
        """All limits of all levels, and None where a level has none."""
        yield self.defaults.rate_limit
        for tenant in self.tenants:
            yield tenant.rate_limit
            yield tenant.key_rate_limit
            yield from (m.rate_limit for m in tenant.models)
