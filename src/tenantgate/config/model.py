"""What tenants.yaml may say.

Each class is one mapping in the file. The loader, the JSON Schema and the documentation's tables are made
from these fields.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tenantgate.config import spelling, target_checks
from tenantgate.config.providers import PROVIDERS, SECRETS, Provider
from tenantgate.config.redis_model import RateLimiting, Redis
from tenantgate.config.targets import BALANCES, REGION_PATTERN, ROUTED, Egress, Failover, ModelTimeouts
from tenantgate.fields import COUNT_MAX, config_class, field
from tenantgate.rate_limit import RateLimit

__all__ = [
    "SECTIONS",
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
MODEL_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._:@+-]*(/[A-Za-z0-9][A-Za-z0-9._:@+-]*)*$"
_NAME_MAX: Final = 128
_HEADER: Final = r"^[A-Za-z0-9_-]+$"
_REGION: Final = r"^[a-z][a-z0-9-]*[a-z0-9]$"
_PROJECT: Final = r"^[a-z][a-z0-9.:-]*[a-z0-9]$"
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
    egress: Egress | None = field(
        "Where requests may go, checked in this file and at each try. Default: anywhere that this file names.",
        default=None,
    )
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
class Endpoint:
    """A model at a provider: what a model with one, and each target of a model with several, may say."""

    provider: str | None = field("Provider of the model.", default=None, one_of=tuple(PROVIDERS))
    model: str | None = field(
        "Name of the model at its provider, and a name by which clients may ask for it.",
        default=None,
        match=MODEL_PATTERN,
        len_max=_NAME_MAX,
    )
    credential: str | None = field("The tenant's own key at the provider.", default=None, referenceable=True)
    credentials: tuple[str, ...] = field(
        "Several keys at the provider, in place of `credential`: one that is refused or limited is followed by the "
        "next.",
        default=(),
        referenceable=True,
        len_max=16,
    )
    upstream_url: str | None = field(
        "Full address of an OpenAI-compatible chat operation, or of a private endpoint of the provider. For bedrock "
        "the address before /model, such as https://vpce-1.bedrock-runtime.eu-central-1.vpce.amazonaws.com/.",
        default=None,
        match=_URL,
        len_max=1024,
    )
    max_tokens: int | None = field(
        "Value of max_tokens, in place of the client's.", default=None, between=(1, COUNT_MAX)
    )
    temperature: float | None = field(
        "Value of temperature, in place of the client's.", default=None, between=(0.0, 5.0)
    )
    top_p: float | None = field("Value of top_p, in place of the client's.", default=None, between=(0, 1))
    top_k: int | None = field(
        "Value of top_k, in place of the client's; for anthropic, bedrock, huggingface, vllm and openai-compatible.",
        default=None,
        between=(0, 500),
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
    aws_access_key_id: str | None = field(
        "Amazon Bedrock: id of the access key that signs requests; or give a Bedrock API key as `credential`.",
        default=None,
        referenceable=True,
    )
    aws_secret_access_key: str | None = field(
        "Amazon Bedrock: the secret access key.", default=None, referenceable=True
    )
    aws_region: str | None = field(
        "Amazon Bedrock: the region, such as eu-central-1.", default=None, match=_REGION, len_max=64
    )
    gcp_service_account_json: str | None = field(
        "Vertex AI: key file of the service account, its JSON text.", default=None, referenceable=True
    )
    gcp_project_id: str | None = field(
        "Vertex AI: id of the project.", default=None, match=_PROJECT, len_max=100
    )
    gcp_location_id: str | None = field(
        "Vertex AI: location, such as europe-west4, or global.", default=None, match=_REGION, len_max=64
    )
    include_usage: bool = field(
        "Ask for the usage of streams by `stream_options`, where the provider wants to be asked. Off for a server that "
        "refuses it; tokens of streams are then estimates.",
        default=True,
    )
    region: str | None = field(
        "Where the model runs, for `residency`: eu, a country's code, or a cloud's name of a region such as "
        "eu-central-1. Default: what provider, address and name of the model say.",
        default=None,
        match=REGION_PATTERN,
        len_max=64,
    )
    context_window: int | None = field(
        "Tokens of prompt and reply together that the model takes at most. A prompt that is too long for one target "
        "goes on to a larger one.",
        default=None,
        between=(1, COUNT_MAX),
        unit="tokens",
    )

    @property
    def keys(self) -> tuple[str, ...]:
        """The credentials, whichever way they are given."""
        return self.credentials if self.credential is None else (self.credential,)

    def problems(self) -> Iterator[tuple[str, str]]:
        """A provider's own needs."""
        if self.provider is None:
            return
        provider = PROVIDERS[self.provider]
        yield from self._key_problems(provider)
        if provider.needs_upstream_url and self.upstream_url is None:
            yield "upstream_url", f"required for {self.provider}"
        named = self.upstream_url is None or provider.base_url
        if not named and spelling.names_no_operation(self.upstream_url or ""):
            yield (
                "upstream_url",
                "ends before the operation; give the full address, such as https://host/v1/chat/completions",
            )
        if provider.upstream_url is not None and spelling.names_googles_operation(self.upstream_url or ""):
            yield (
                "upstream_url",
                f"is an operation of Google's own format; {self.provider} is asked in OpenAI's: give the address that "
                "ends in /chat/completions",
            )
        for name in provider.needs:
            if getattr(self, name) is None:
                yield name, f"required for {self.provider}"
        for name in provider.never_sent:
            if getattr(self, name) is not None:
                yield name, f"has no effect: it isn't sent to {self.provider}; take it out"

    def _key_problems(self, provider: Provider) -> Iterator[tuple[str, str]]:
        if self.credential is not None and self.credentials:
            yield "credentials", "credential is given, too; give one of the two"
        if provider.credential and not self.keys:
            yield "credential", f"required for {self.provider}"
        yield from self._secret_problems(provider)
        if provider.auth_header is None and self.keys:
            yield (
                "credential" if self.credential is not None else "credentials",
                f"{self.provider} takes none",
            )
        for i, key in enumerate(self.credentials):
            if (first := self.credentials.index(key)) != i:
                yield f"credentials[{i}]", f"is credentials[{first}] already"

    def _secret_problems(self, provider: Provider) -> Iterator[tuple[str, str]]:
        """A credential of several fields, or one that isn't a key."""
        for name in SECRETS:
            if getattr(self, name) is not None and name not in provider.secrets:
                yield name, f"isn't used with {self.provider}; take it out"
        if not provider.secrets:
            return
        given = [name for name in provider.secrets if getattr(self, name) is not None]
        if given and self.keys:
            yield given[0], "credential is given, too; give one of the two"
        elif not self.keys:
            for name in provider.secrets:
                if name not in given:
                    yield name, f"required for {self.provider}"


@config_class
class ModelTarget(Endpoint):
    """One of the places to which a model's requests may go."""

    provider: str = field("Provider of the model.", one_of=tuple(PROVIDERS))
    model: str = field("Name of the model at its provider.", match=MODEL_PATTERN, len_max=_NAME_MAX)
    weight: int = field(
        "Share of the requests, relative to the other targets'; with priority, lowest-latency and lowest-cost it has "
        "no effect.",
        default=100,
        between=(1, 65_535),
    )


@config_class
class Model(Endpoint):
    """A model that a tenant may use: at one provider, or under a name of its own at several targets."""

    name: str | None = field(
        "Name by which clients ask for a model with `targets`, in place of `provider` and `model`.",
        default=None,
        match=MODEL_PATTERN,
        len_max=_NAME_MAX,
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
        match=_HEADER,
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
        "Keys of the tenant's clients. Two keys at once allow a change of keys without interruption.",
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
    plugins: dict[str, dict[str, Any]] = field("Settings of Tenantgate's plugins, by section.", default={})

    def problems(self) -> Iterator[tuple[str, str]]:
        """A model stands once, and a name means one model."""
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
