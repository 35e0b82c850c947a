"""Records of the policy directory: one a tenant, compiled from tenants.yaml, read by the engine.

A record is JSON in ASCII with sorted keys, so that equal policies are equal bytes. It holds no secret: credentials of
providers are vault references, which Kong resolves for the request that needs them.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

from tenantgate.errors import ConfigError
from tenantgate.prices.core.price_list import KINDS, PriceList, Prices, Tier
from tenantgate.tenant import TenantId

__all__ = [
    "CATALOG",
    "FAILURES",
    "FORMAT",
    "Blocked",
    "Catalog",
    "ModelPolicy",
    "Routing",
    "Target",
    "TenantPolicy",
    "price_tree",
    "read_catalog",
    "read_price_list",
    "read_record",
    "write_catalog",
    "write_record",
]

CATALOG: Final = "~catalog"
"""Name of the record of all models, beside the tenants' ids, none of which begins so."""

FORMAT: Final = 1
"""Version of a record's format."""

_WEIGHT: Final = 100
"""Of a tenant's share, where it isn't given."""

_OVERLAID: Final = ("token_limits", "budgets")
"""Lists in whose place the platform's may stand."""


FAILURES: Final[Mapping[str, bool]] = {
    "error": True,
    "http_401": True,
    "http_403": True,
    "http_408": True,
    "http_429": True,
    "http_500": True,
    "http_503": True,
    "http_529": True,
    "context_length": True,
    "timeout": False,
    "reset": False,
    "http_502": False,
    "http_504": False,
}
"""Classes of a failed try, and whether the next target is tried by default.

The names are those of ai-proxy-advanced's ``failover_criteria``. ``error``: nothing was sent (name, connection, TLS).
``timeout``, ``reset``, ``http_502`` and ``http_504``: the provider may have done the work and bill it. ``http_529`` is
Anthropic's ``overloaded_error``; ``context_length``: a 400 or 413 that says that the prompt is too long.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """How a request finds its target among several, or within limits of time."""

    balance: str = "priority"
    """priority, round-robin, least-busy, lowest-latency, lowest-cost or consistent-hashing."""
    hash_on_header: str | None = None
    """With consistent-hashing, the header whose value decides; None: the beginning of the conversation."""
    retries: int = 2
    """Further tries at most; each goes to another target."""
    failover_criteria: tuple[str, ...] = tuple(name for name, default in FAILURES.items() if default)
    """Failures after which the next target is tried; of `FAILURES`."""
    max_fails: int = 3
    """Failures in a row after which a target is left out; 0: never."""
    fail_timeout_ms: int = 10_000
    """How long a target is left out, before one request tries it again."""
    connect_ms: int = 5_000
    ttft_ms: int = 60_000
    """Longest wait for a stream's first byte, of each try (time to first token)."""
    streaming_total_ms: int = 600_000
    """Longest time of a streamed reply, over all tries."""
    non_streaming_total_ms: int = 300_000
    """Longest time of another reply, over all tries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A model at a provider, as Kong's ai-proxy is configured for it (kong/llm/schemas/init.lua)."""

    provider: str
    """ai-proxy's ``model.provider``."""
    name: str
    """The model's name at the provider."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """ai-proxy's ``model.options``."""
    header_name: str | None = None
    """The request header of the credential; None: none is sent."""
    credential: str | None = None
    """A vault reference, ``{vault://…}``."""
    bearer: bool = False
    """Whether ``Bearer`` stands before the credential."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Where the credential isn't a key: vault references by ai-proxy's names (``aws_secret_access_key``)."""
    response_streaming: str = "allow"
    """allow, deny or always."""
    accept_encoding: str | None = None
    """``Accept-Encoding`` to the provider, where ai-proxy's driver would let the client's own pass."""
    id: str = ""
    """``provider/model`` as in tenants.yaml, with ``#2`` for a second credential: the name in replies, records,
    metrics and the health of targets. Of one model each once."""
    weight: int = 100
    """Share of the requests, relative to the other targets'."""
    context_window: int | None = None
    """Tokens of prompt and reply together, at most; None: not known."""
    region: str | None = None
    prices: PriceList | None = None
    """What its tokens cost; None: not known, and no rule of the tenant counts it."""
    max_output_tokens: int | None = None
    """Most tokens of a reply that the model gives; None: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPolicy:
    """What holds for one model of a tenant."""

    provider: str
    """The provider's name in tenants.yaml."""
    model: str
    """The model's name in tenants.yaml."""
    route_name: str
    """``llm.{provider}.{model}.{tenant}``, the partition of the cache and the route of audit records."""
    aliases: tuple[str, ...] = ()
    """Further names by which the tenant's clients may ask for it."""
    targets: tuple[Target, ...] = ()
    """Where requests go, the first choice first; at least one."""
    routing: Routing | None = None
    """None: one target, asked directly."""
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By section of tenants.yaml (``guardrails``, ``cache`` …, ``limits``) the stage's configuration, without what
    the gateway has for all tenants (Redis, encryption key)."""
    fail_closed: bool = False
    """Whether requests are refused while there is no engine to check them."""
    reply_guard: bool = False
    """Whether replies are held back until the engine has checked them."""
    log_payloads: bool = False
    """Whether the log phase needs the reply's text."""

    @property
    def qualified(self) -> str:
        """``provider/model``."""
        return f"{self.provider}/{self.model}"


class Blocked(enum.StrEnum):
    """Reason why all requests of a tenant are refused."""

    DISABLED = "disabled"  # by the platform
    STALE = "stale"  # what the platform last said is too old


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantPolicy:
    """One tenant's record."""

    tenant: TenantId
    models: tuple[ModelPolicy, ...] = ()
    egress: tuple[str, ...] | None = None
    """Hosts that its requests may go to, within the gateway's own; None: all of these."""
    weight: int = _WEIGHT
    """Share of a limit that a provider sets for several tenants, relative to the others'."""
    token_limits: tuple[Mapping[str, Any], ...] = ()
    """As `tenantgate.limit_config.TokenLimit`, without defaults; models by their ``provider/model``."""
    budgets: tuple[Mapping[str, Any], ...] = ()
    """As `tenantgate.limit_config.Budget`, in the same way."""
    end_user_header: str | None = None
    """The request header that names the end user; None: the request's ``user``."""
    blocked: Blocked | None = None
    """Why all requests are refused; None: they aren't."""
    platform: Mapping[str, Any] | None = None
    """What the platform has laid over the file's part (`tenantgate.policy.core.overlay`)."""
    mcp: tuple[Mapping[str, Any], ...] = ()
    """The MCP servers, as `tenantgate.mcp.core.stored` reads them."""
    mcp_stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Stages of calls of their tools, as `ModelPolicy.stages`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """The models of the whole gateway, so that a model of others can be told from one that doesn't exist."""

    models: frozenset[str] = frozenset()
    """Names, and ``provider/model``; no aliases, which are their tenants' own words."""
    egress: tuple[str, ...] | None = None
    """Hosts that the gateway may ask; None: any. In force is what the plugin tenantgate-failover has: here it is kept
    with its version, for who reads records of that time."""


def write_catalog(catalog: Catalog) -> bytes:
    """The bytes of the catalog's record."""
    tree = {"format": FORMAT, "models": sorted(catalog.models), "egress": catalog.egress}
    return json.dumps(_without_none(tree), separators=(",", ":"), sort_keys=True).encode("ascii")


def read_catalog(raw: bytes) -> Catalog:
    """The catalog in a record.

    Raises:
        ConfigError: it is no record of this format; names the member and its problem.
    """
    members = _read(raw)
    models = frozenset(members.texts("models"))
    egress = members.texts("egress") if members.has("egress") else None
    members.end()
    return Catalog(models=models, egress=egress)


def write_record(policy: TenantPolicy) -> bytes:
    """The bytes of a record; equal policies have equal bytes."""
    tree = {
        "format": FORMAT,
        "tenant": str(policy.tenant),
        "models": policy.models,
        "egress": policy.egress,
        # An equal share goes without saying, so that records of earlier versions stay the same bytes.
        "weight": None if policy.weight == _WEIGHT else policy.weight,
        "token_limits": policy.token_limits or None,
        "budgets": policy.budgets or None,
        "end_user_header": policy.end_user_header,
        "blocked": None if policy.blocked is None else policy.blocked.value,
        "platform": policy.platform,
        "mcp_stages": policy.mcp_stages or None,
    }
    made = _without_none(tree)
    if policy.mcp:
        made["mcp"] = policy.mcp  # with their null, which is a value in a schema
    return json.dumps(made, separators=(",", ":"), sort_keys=True).encode("ascii")


def read_record(tenant: str, raw: bytes) -> TenantPolicy:
    """The policy in a record of the tenant with this id.

    Raises:
        ConfigError: it is no record of this format, or another tenant's; names the member and its problem.
    """
    members = _read(raw)
    if members.get("tenant", str) != tenant:
        raise ConfigError("record.tenant: is another tenant's id")
    models = tuple(_model(m) for m in members.records("models"))
    egress = members.texts("egress") if members.has("egress") else None
    weight = members.get("weight", int, _WEIGHT)
    mcp = members.objects("mcp")
    mcp_stages = _stages(members, "mcp_stages")
    made = TenantPolicy(
        tenant=TenantId(tenant),
        models=models,
        egress=egress,
        weight=weight,
        token_limits=members.objects("token_limits"),
        budgets=members.objects("budgets"),
        end_user_header=members.get("end_user_header", str, None),
        blocked=_blocked(members.get("blocked", str, None)),
        platform=_platform(members.record("platform")) if members.has("platform") else None,
        mcp=mcp,
        mcp_stages=mcp_stages,
    )
    members.end()
    return made


def _blocked(text: str | None) -> Blocked | None:
    if text is None:
        return None
    try:
        return Blocked(text)
    except ValueError:
        raise ConfigError(f"record.blocked: {text[:40]!r} is no reason") from None


def _platform(members: _Members) -> Mapping[str, Any]:
    made: dict[str, Any] = {n: list(members.objects(n)) for n in _OVERLAID if members.has(n)}
    if members.has("own"):
        covered = members.record("own")
        made["own"] = {n: list(covered.objects(n)) for n in _OVERLAID if covered.has(n)}
        covered.end()
    if members.has("fail_closed"):
        made["fail_closed"] = list(members.texts("fail_closed"))
    kinds = {"enabled": bool, "closed": bool, "part": float}
    made |= {n: members.get(n, kind) for n, kind in kinds.items() if members.has(n)}
    members.end()
    return made


def price_tree(price_list: PriceList) -> dict[str, Any]:
    """A price list as JSON's values, as in a record."""
    return {"book": price_list.book, "periods": [_period_tree(p) for p in price_list.periods]}


def read_price_list(tree: Any, where: str) -> PriceList:
    """What `price_tree` gave; `where` is its name in errors.

    Raises:
        ConfigError: it is no price list; names the member and its problem.
    """
    return _price_list(_Members(tree, where))


def _period_tree(period: Prices) -> dict[str, Any]:
    found: dict[str, Any] = {"prices": period.prices}
    if period.valid_from_ms:
        found["valid_from_ms"] = period.valid_from_ms
    if period.daily_s is not None:
        found["daily_s"] = period.daily_s
    if period.tiers:
        found["tiers"] = [{"above": tier.above, "prices": tier.prices} for tier in period.tiers]
    return found


def _read(raw: bytes) -> _Members:
    try:
        tree = json.loads(raw)
    except (ValueError, RecursionError):
        raise ConfigError("record: isn't JSON") from None
    members = _Members(tree, "record")
    if (found := members.get("format", int, 0)) != FORMAT:
        raise ConfigError(f"record.format: {found} can't be read by this version, which reads {FORMAT}")
    return members


def _model(members: _Members) -> ModelPolicy:
    made = ModelPolicy(
        provider=members.get("provider", str),
        model=members.get("model", str),
        route_name=members.get("route_name", str),
        aliases=members.texts("aliases"),
        targets=tuple(_target(t) for t in members.records("targets")),
        routing=_routing(members.record("routing")) if members.has("routing") else None,
        stages=_stages(members),
        fail_closed=members.get("fail_closed", bool, False),
        reply_guard=members.get("reply_guard", bool, False),
        log_payloads=members.get("log_payloads", bool, False),
    )
    members.end()
    if not made.targets:
        raise ConfigError(f"{members.where}.targets: needs one at least")
    return made


def _target(members: _Members) -> Target:
    made = Target(
        provider=members.get("provider", str),
        name=members.get("name", str),
        options=members.get("options", dict, {}),
        header_name=members.get("header_name", str, None),
        credential=members.get("credential", str, None),
        bearer=members.get("bearer", bool, False),
        secrets=members.references("secrets"),
        response_streaming=members.get("response_streaming", str, "allow"),
        accept_encoding=members.get("accept_encoding", str, None),
        id=members.get("id", str, ""),
        weight=members.get("weight", int, 100),
        context_window=members.get("context_window", int, None),
        region=members.get("region", str, None),
        prices=_price_list(members.record("prices")) if members.has("prices") else None,
        max_output_tokens=members.get("max_output_tokens", int, None),
    )
    members.end()
    return made


def _price_list(members: _Members) -> PriceList:
    made = PriceList(
        book=members.get("book", str), periods=tuple(_prices(m) for m in members.records("periods"))
    )
    members.end()
    if not made.periods:
        raise ConfigError(f"{members.where}.periods: needs one at least")
    return made


def _prices(members: _Members) -> Prices:
    made = Prices(
        valid_from_ms=members.get("valid_from_ms", int, 0),
        daily_s=members.pair("daily_s"),
        prices=members.amounts("prices"),
        tiers=tuple(_tier(m) for m in members.records("tiers")),
    )
    members.end()
    if not {"input", "output"} <= made.prices.keys():
        raise ConfigError(f"{members.where}.prices: needs input and output")
    return made


def _tier(members: _Members) -> Tier:
    made = Tier(above=members.get("above", int), prices=members.amounts("prices"))
    members.end()
    return made


def _routing(members: _Members) -> Routing:
    made = Routing(
        balance=members.get("balance", str, "priority"),
        hash_on_header=members.get("hash_on_header", str, None),
        retries=members.get("retries", int, 2),
        failover_criteria=members.texts("failover_criteria"),
        max_fails=members.get("max_fails", int, 3),
        fail_timeout_ms=members.get("fail_timeout_ms", int, 10_000),
        connect_ms=members.get("connect_ms", int, 5_000),
        ttft_ms=members.get("ttft_ms", int, 60_000),
        streaming_total_ms=members.get("streaming_total_ms", int, 600_000),
        non_streaming_total_ms=members.get("non_streaming_total_ms", int, 300_000),
    )
    if unknown := sorted({*made.failover_criteria}.difference(FAILURES)):
        raise ConfigError(f"{members.where}.failover_criteria: {unknown[0]} is no class of failure")
    members.end()
    return made


def _stages(members: _Members, name: str = "stages") -> Mapping[str, Mapping[str, Any]]:
    found: Mapping[str, Any] = members.get(name, dict, {})
    for section, values in found.items():
        if not isinstance(values, dict):
            raise ConfigError(f"{members.where}.{name}.{section}: must be an object")
    return found


_REQUIRED: Final = object()


class _Members:
    """An object of the record, whose members are taken one by one; what is left over at `end` is an error."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: must be an object")
        self.where = where
        self._left = dict(value)

    def get(self, name: str, kind: type, default: Any = _REQUIRED) -> Any:
        value = self._left.pop(name, _REQUIRED)
        if value is _REQUIRED:
            if default is _REQUIRED:
                raise ConfigError(f"{self.where}.{name}: required")
            return default
        # bool is an int in Python, and no number here.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ConfigError(f"{self.where}.{name}: must be {_KINDS[kind]}")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        found: Sequence[Any] = self.get(name, list, [])
        if not all(isinstance(text, str) for text in found):
            raise ConfigError(f"{self.where}.{name}: must be a list of texts")
        return tuple(found)

    def objects(self, name: str) -> tuple[Mapping[str, Any], ...]:
        found: Sequence[Any] = self.get(name, list, [])
        if not all(isinstance(value, dict) for value in found):
            raise ConfigError(f"{self.where}.{name}: must be a list of objects")
        return tuple(found)

    def references(self, name: str) -> Mapping[str, str]:
        found: Mapping[str, Any] = self.get(name, dict, {})
        if not all(isinstance(text, str) for text in found.values()):
            raise ConfigError(f"{self.where}.{name}: must be an object of texts")
        return dict(found)

    def amounts(self, name: str) -> Mapping[str, int]:
        """Prices by kind."""
        found: Mapping[str, Any] = self.get(name, dict, {})
        for kind, value in found.items():
            if kind not in KINDS or type(value) is not int or value < 0:
                raise ConfigError(f"{self.where}.{name}.{kind[:40]}: is no price")
        return found

    def pair(self, name: str) -> tuple[int, int] | None:
        found = self.get(name, list, None)
        if found is None:
            return None
        if len(found) != 2 or not all(type(value) is int for value in found):
            raise ConfigError(f"{self.where}.{name}: must be two whole numbers")
        return found[0], found[1]

    def has(self, name: str) -> bool:
        return name in self._left

    def record(self, name: str) -> _Members:
        return _Members(self.get(name, dict), f"{self.where}.{name}")

    def records(self, name: str) -> list[_Members]:
        found: Sequence[Any] = self.get(name, list, [])
        return [_Members(value, f"{self.where}.{name}[{i}]") for i, value in enumerate(found)]

    def end(self) -> None:
        for name in self._left:
            raise ConfigError(f"{self.where}.{name}: unknown member")


_KINDS: Final[Mapping[type, str]] = {
    bool: "true or false",
    dict: "an object",
    float: "a number",
    int: "a whole number",
    list: "a list",
    str: "a text",
}


_FIELDS: Final = {cls: tuple(f.name for f in fields(cls)) for cls in (Target, Routing, ModelPolicy)}


_PLAIN: Final = frozenset({str, int, bool, float})


def _without_none(value: Any) -> Any:
    """JSON's values, without members that are None; `dataclasses.asdict` would copy the stages deeply.

    Plain values are told before the call, not after it: a record has two hundred of them.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if (names := _FIELDS.get(kind)) is not None:
        given = {name: v for name in names if (v := getattr(value, name)) is not None}
    elif kind is PriceList:
        return price_tree(value)
    elif kind is dict or isinstance(value, Mapping):
        given = value
    elif isinstance(value, list | tuple):
        return [v if type(v) in _PLAIN else _without_none(v) for v in value]
    else:
        return value
    return {k: v if type(v) in _PLAIN else _without_none(v) for k, v in given.items() if v is not None}
