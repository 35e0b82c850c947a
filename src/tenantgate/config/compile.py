"""tenants.yaml to the records of the policy directory. Pure: the same file and options give the same bytes.

A stage of a model is what the operator's settings say, merged over the levels: without what all tenants have from
``gateway`` (each manifest's `filled`), which the engine has from its own configuration.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any, Final

from tenantgate import features, fields
from tenantgate.config import catalog, egress, money, names
from tenantgate.config import deck_variables as placeholders
from tenantgate.config.egress import endpoint_region
from tenantgate.config.model import Defaults, Endpoint, Model, ModelTarget, Tenant, TenantsFile
from tenantgate.config.provider_options import model_options, name_at_provider
from tenantgate.config.providers import MOCK_URL, PROVIDERS
from tenantgate.config.targets import Failover, ModelTimeouts
from tenantgate.errors import ConfigError
from tenantgate.keys.core.register import IssuedKey
from tenantgate.manifest import PluginManifest, resolve
from tenantgate.mcp_config import McpServer
from tenantgate.policy.core.records import (
    CATALOG,
    Catalog,
    ModelPolicy,
    Routing,
    Target,
    TenantPolicy,
    write_catalog,
    write_record,
)
from tenantgate.prices.core.price_list import PriceList
from tenantgate.prices.pricing import PriceBook, Unpriced
from tenantgate.tenant import TenantId

__all__ = ["LIMITS", "CompileOptions", "compile_records", "server_problems", "stage_references"]

LIMITS: Final = "limits"
"""The stage of the rate limits, which has no section of its own in tenants.yaml."""
_REPLY_GUARD: Final = "response_guardrails"

_RETRIES: Final = 2
"""Further targets of a request, where tenants.yaml says nothing."""

# ai-proxy unpacks nothing but gzip, and lets the client's Accept-Encoding pass for some providers.
_PACKED: Final = "gzip, identity"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileOptions:
    """What depends on where the records are used, not on the tenants."""

    mock_url: str = MOCK_URL
    """The chat operation of models whose provider is ``mock``."""
    documents: Mapping[str, bytes] = field(default_factory=dict)
    """Contents of what the MCP servers name (`tenantgate.config.documents`), by that name."""


def compile_records(file: TenantsFile, options: CompileOptions | None = None) -> dict[str, bytes]:
    """The record of each tenant by its id, in the order of the ids, and the catalog of all models.

    Raises:
        ConfigError: a secret that Kong can't reach by a reference; names the tenant, the model and the field.
    """
    compiler = _Compiler(file, options or CompileOptions())
    tenants = sorted(file.tenants, key=lambda t: t.id)
    all_models = Catalog(
        models=frozenset(n for t in tenants for m in t.models for n in _model_names(m)),
        egress=egress.gateway_allow(file, mock_url=compiler.options.mock_url),
    )
    records = {tenant.id: write_record(compiler.policy(tenant)) for tenant in tenants}
    return {**records, CATALOG: write_catalog(all_models)}


def _model_names(m: Model) -> tuple[str, str]:
    provider, model = m.known_as
    return model, f"{provider}/{model}"


def stage_references(file: TenantsFile) -> list[str]:
    """The vault references in the records' stages, sorted; the targets' credentials aren't among them.

    Raises:
        ConfigError: a secret that Kong can't reach by a reference; names the section and the field.
    """
    secrets = _referenceable(features.FEATURES)
    levels: list[Defaults | Tenant | Model] = [file.defaults, *file.tenants]
    levels += [m for tenant in file.tenants for m in tenant.models]
    found: set[str] = set()
    for level in levels:
        for section, values in level.plugins.items():
            for secret in secrets.get(section, ()):
                at = f"{section}.{'.'.join(secret.path)}"
                found.update(_reference(t, where=at, plain=secret.plain) for t in _texts(values, secret.path))
    return sorted(filter(placeholders.is_vault_reference, found))


@dataclass(frozen=True, slots=True)
class _Stage:
    """A section's settings for a model, as written and as an object of the plugin's class."""

    plugin: PluginManifest[Any]
    values: Json
    config: Any


@dataclass(frozen=True, slots=True)
class _Stages:
    """All sections of a model together."""

    values: Mapping[str, Json]
    fail_closed: bool
    reply_guard: bool
    log_payloads: bool


class _Compiler:
    """What was worked out once for the sections of a model holds for all models with the same sections."""

    def __init__(self, file: TenantsFile, options: CompileOptions) -> None:
        self._file = file
        self.options = options
        self._plugins = features.by_section()
        # The route's name alone differs by model, and it decides nothing here.
        gateway = file.gateway
        self._filled = {s: p.fill(catalog.settings(gateway, "route", p)) for s, p in self._plugins.items()}
        self._prices = tuple(sorted({name for p in self._plugins.values() for name in p.prices}))
        self._known: dict[tuple[Any, ...], _Stages] = {}
        self._models: dict[tuple[Any, ...], ModelPolicy] = {}
        self._made_servers: dict[tuple[int, ...], list[Json]] = {}
        self._tool_stages_known: dict[tuple[int, ...], Mapping[str, Json]] = {}
        self._book = PriceBook(gateway.prices)
        # A platform may set budgets for any model, so each must have the price that a budget would count.
        self._mirrors = getattr(gateway.plugins.get("platform"), "url", None) is not None

    def policy(self, tenant: Tenant) -> TenantPolicy:
        """A tenant's policy; its models in the file's order, which decides where one name means two."""
        rules = money.rules_of(self._file, tenant)
        return TenantPolicy(
            tenant=TenantId(tenant.id),
            models=tuple(self._model(tenant, m, rules) for m in tenant.models),
            egress=egress.tenant_allow(self._file, tenant, mock_url=self.options.mock_url),
            weight=tenant.weight,
            token_limits=tuple(map(money.plain, rules.token_limits)),
            budgets=tuple(map(money.plain, rules.budgets)),
            end_user_header=tenant.end_user_header or self._file.defaults.end_user_header,
            mcp=tuple(self._servers(tenant)),
            mcp_stages=self._tool_stages(tenant) if tenant.mcp else {},
        )

    def _servers(self, tenant: Tenant) -> Iterator[Json]:
        """The tenant's MCP servers, by the feature that knows them."""
        if not tenant.mcp:
            return
        where = f"tenant {tenant.id}"
        key = tuple(map(id, tenant.mcp))
        if (found := self._made_servers.get(key)) is None:
            servers = [_with_references(server, where) for server in tenant.mcp]
            limiting = self._file.gateway.rate_limiting
            settings = {"policy": limiting.policy, "on_error": limiting.on_error}
            try:
                found = [
                    server
                    for feature in features.features()
                    if feature.servers is not None
                    for server in resolve(feature.servers)(servers, self.options.documents, settings)
                ]
            except ConfigError as error:
                raise ConfigError(f"{where}: {error}") from None
            self._made_servers[key] = found
        ids = _key_ids(tenant, self._file.keys_of(tenant))
        yield from (_with_keys(server, ids) for server in found)

    def _tool_stages(self, tenant: Tenant) -> Mapping[str, Json]:
        """Stages of calls of MCP tools, by the settings of the tenant."""
        levels = self._file.defaults.plugins, tenant.plugins
        key = tuple(id(level.get(section)) for section in self._plugins for level in levels)
        if (found := self._tool_stages_known.get(key)) is None:
            found = self._tool_stages_known[key] = self._tool_stages_of(tenant)
        return found

    def _tool_stages_of(self, tenant: Tenant) -> Mapping[str, Json]:
        stages: dict[str, Json] = {}
        for section, plugin in self._plugins.items():
            levels = self._file.defaults.plugins, tenant.plugins
            given = [level[section] for level in levels if section in level]
            values = {k: v for level in given for k, v in level.items()}
            if plugin.of_tools and given and values.pop("enabled", True):
                stages[section] = self._stage(plugin, values, f"tenant {tenant.id}, mcp").values
        return stages

    def _model(self, tenant: Tenant, m: Model, rules: money.TenantRules) -> ModelPolicy:
        provider, model = m.known_as
        where = f"tenant {tenant.id}, {provider}/{model}"
        stages = self._stages(tenant, m, where)
        counted = tuple(self._mirrors or rules.cost_counted(m, e) is not None for e in m.endpoints)
        closes = rules.closes(m)
        # The file keeps these objects while this runs; equal ones are one (`NodeReader.read`).
        limits = m.rate_limit or tenant.rate_limit, tenant.key_rate_limit
        key = (id(m), id(stages), *map(id, limits), counted, closes)
        found = self._models.get(key)
        if found is None:
            made = self._limits(tenant, m)
            targets = tuple(self._targets(m, counted, where=where))
            found = self._models[key] = ModelPolicy(
                provider=provider,
                model=model,
                route_name="",
                aliases=m.aliases,
                targets=targets,
                routing=self._routing(m, len(targets)),
                stages={**stages.values, **({LIMITS: made} if made else {})},
                fail_closed=stages.fail_closed or made.get("on_error") == "reject" or closes,
                reply_guard=stages.reply_guard,
                log_payloads=stages.log_payloads,
            )
        return replace(found, route_name=names.route_name(provider=provider, model=model, tenant=tenant.id))

    def _routing(self, m: Model, targets: int) -> Routing | None:
        """None where a request's only target is asked directly."""
        if targets == 1 and not (m.failover or m.timeouts or self._file.gateway.egress):
            return None
        usual, failover, times = (
            self._file.gateway.timeouts,
            m.failover or Failover(),
            m.timeouts or ModelTimeouts(),
        )
        retries = min(_RETRIES, targets - 1) if failover.retries is None else failover.retries
        total_s = times.non_streaming.total_s or usual.read_s
        given = (
            {} if failover.failover_criteria is None else {"failover_criteria": failover.failover_criteria}
        )
        return Routing(
            balance=m.balance,
            hash_on_header=m.hash_on_header,
            retries=retries,
            **given,
            max_fails=failover.max_fails,
            fail_timeout_ms=failover.fail_timeout_s * 1000,
            connect_ms=(times.connect_s or usual.connect_s) * 1000,
            ttft_ms=times.streaming.ttft_s * 1000,
            streaming_total_ms=times.streaming.total_s * 1000,
            non_streaming_total_ms=total_s * 1000,
        )

    def _targets(self, m: Model, counted: Sequence[bool], *, where: str) -> Iterator[Target]:
        """A target for each endpoint, whose cost counts or not, and each of its credentials, in their order."""
        count: Counter[str] = Counter()
        for i, (endpoint, cost_counted) in enumerate(zip(m.endpoints, counted, strict=True)):
            prices = self._prices_of(endpoint, counted=cost_counted)
            at = f"{where}: targets[{i}]." if m.targets else f"{where}: "
            for credential in endpoint.keys or (None,):
                name = f"{endpoint.provider}/{endpoint.model}"
                count[name] += 1
                yield self._target(
                    endpoint,
                    credential if credential is None else _reference(credential, where=f"{at}credential"),
                    where=at,
                    name=name if count[name] == 1 else f"{name}#{count[name]}",
                    streaming=m.streaming,
                    prices=prices,
                )

    def _prices_of(self, m: Endpoint, *, counted: bool) -> PriceList | None:
        """What an endpoint costs; None where that isn't known, and nothing counts it."""
        asked = money.asked(m)
        try:
            return self._book.counted(asked) if counted else self._book.find(asked)
        except Unpriced:
            return None  # `money.problems` has refused the file where it is counted

    def _target(
        self,
        m: Endpoint,
        credential: str | None,
        *,
        where: str,
        name: str,
        streaming: str,
        prices: PriceList | None,
    ) -> Target:
        provider = PROVIDERS[m.provider or ""]
        if not provider.auth_header:
            credential = None
        secrets = {
            secret: _reference(value, where=f"{where}{secret}")
            for secret in provider.secrets
            if (value := getattr(m, secret)) is not None
        }
        return Target(
            provider=provider.kong,
            name=name_at_provider(m),
            options=model_options(m, self.options.mock_url),
            header_name=provider.auth_header if credential else None,
            credential=credential,
            bearer=provider.bearer and credential is not None,
            secrets=secrets if credential is None else {},
            response_streaming=streaming,
            accept_encoding=None if provider.sets_encoding else _PACKED,
            id=name,
            weight=m.weight if isinstance(m, ModelTarget) else 100,
            context_window=m.context_window,
            region=endpoint_region(m).name,
            prices=prices,
            max_output_tokens=m.max_output_tokens,
        )

    def _limits(self, tenant: Tenant, m: Model) -> Json:
        """The limits of a model's requests: its own stands in place of the tenant's."""
        limits = {
            "tenant": None if m.rate_limit else tenant.rate_limit or self._file.defaults.rate_limit,
            "model": m.rate_limit,
            "key": tenant.key_rate_limit,
        }
        found: Json = {name: fields.plain(limit) for name, limit in limits.items() if limit is not None}
        if not found:
            return {}
        limiting = self._file.gateway.rate_limiting
        return {
            **found,
            "model_name": "/".join(m.known_as),
            "policy": limiting.policy,
            "on_error": limiting.on_error,
        }

    def _stages(self, tenant: Tenant, m: Model, where: str) -> _Stages:
        levels = self._file.defaults.plugins, tenant.plugins, m.plugins
        # The file keeps its sections while this runs, so that an id stays one section's; equal ones are mostly one.
        key = (
            *(id(level.get(section)) for section in self._plugins for level in levels),
            *(getattr(m, name) for name in self._prices),
        )
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._worked_out(levels, m, where)
        return found

    def _worked_out(self, levels: tuple[Mapping[str, Json], ...], m: Model, where: str) -> _Stages:
        stages: dict[str, _Stage] = {}
        for section, plugin in self._plugins.items():
            given = [level[section] for level in levels if section in level]
            values = {k: v for level in given for k, v in level.items()}
            if given and values.pop("enabled", True):
                prices = {name: value for name in plugin.prices if (value := getattr(m, name)) is not None}
                whole = {**(prices if len(prices) == len(plugin.prices) else {}), **values}
                stages[section] = self._stage(plugin, whole, where)
        for stage in tuple(stages.values()):
            for section, needed in stage.plugin.brings(stage.config).items():
                before = stages[section].values if section in stages else {}
                stages[section] = self._stage(self._plugins[section], {**before, **needed}, where)
        ordered = [stages[section] for section in self._plugins if section in stages]
        gates = [stage.plugin.name for stage in ordered if stage.plugin.gate(stage.config)]
        for section, stage in tuple(stages.items()):
            if gates and (name := stage.plugin.gates_field):
                stages[section] = self._stage(stage.plugin, {**stage.values, name: gates}, where)
        return _Stages(
            values={section: stage.values for section, stage in stages.items()},
            fail_closed=any(stage.plugin.rejects(stage.config) for stage in stages.values()),
            reply_guard=_REPLY_GUARD in stages,
            log_payloads=any(stage.plugin.needs_replies(stage.config) for stage in stages.values()),
        )

    def _stage(self, plugin: PluginManifest[Any], values: Json, where: str) -> _Stage:
        section = plugin.section
        kept = json.loads(json.dumps(values))
        for secret in _referenceable(features.FEATURES).get(section, ()):
            at = f"{where}: {section}.{'.'.join(secret.path)}"
            _change(kept, secret.path, partial(_reference, where=at, plain=secret.plain))
        config = fields.parse(plugin.config_class, {**kept, **self._filled[section]}, where=section)
        return _Stage(plugin, kept, config)


def server_problems(
    file: TenantsFile, documents: Mapping[str, bytes], unread: Mapping[str, str]
) -> Iterator[tuple[int, str, str]]:
    """What keeps MCP servers from being made: the tenant's number, the path of the field in it, and the problem.

    Of a server the first one.

    Args:
        file: whose servers they are.
        documents: what servers name, by that name. Servers of another one are left out.
        unread: why some of the others can't be read.
    """
    limiting = file.gateway.rate_limiting
    settings = {"policy": limiting.policy, "on_error": limiting.on_error}
    compilers = [resolve(f.servers) for f in features.features() if f.servers is not None]
    known: dict[int, tuple[str, str] | None] = {}
    for i, tenant in enumerate(file.tenants):
        for j, server in enumerate(tenant.mcp):
            if id(server) not in known:  # equal ones are one object (`NodeReader.read`)
                known[id(server)] = _server_problem(server, compilers, settings, documents, unread)
            if (found := known[id(server)]) is not None:
                field_, what = found
                yield i, f"mcp[{j}]{field_}", what


def _server_problem(
    server: McpServer,
    compilers: Sequence[Callable[..., Any]],
    settings: Json,
    documents: Mapping[str, bytes],
    unread: Mapping[str, str],
) -> tuple[str, str] | None:
    """The path of a field in the server, and what is wrong there."""
    named = {"openapi": server.openapi, "tools_file": server.tools_file}
    for name, location in named.items():
        if location is not None and location in unread:
            return f".{name}", unread[location]
    if any(location is not None and location not in documents for location in named.values()):
        return None
    try:
        for compiled in compilers:
            compiled([_with_references(server, "")], documents, settings)
    except ConfigError as error:
        what = str(error).removeprefix(f", mcp {server.name}: ").removeprefix(f"mcp {server.name}: ")
    else:
        return None
    tools = [f".tools[{k}]" for k, tool in enumerate(server.tools) if what.startswith(f"tool {tool.name}: ")]
    if not tools and server.tools_file and what.startswith("tool "):
        tools.append(".tools_file")
    files = [f".{name}" for name, location in named.items() if location and what.startswith(location)]
    return next(iter((*tools, *files)), ""), what


def _key_ids(tenant: Tenant, issued: Sequence[IssuedKey]) -> Mapping[str, Sequence[str]]:
    """By the names of a tenant's keys their ids in Kong: those of their variables, and of keys that were issued."""
    username = names.consumer_name(tenant.id)
    ids: dict[str, list[str]] = {
        placeholders.names(key)[0]: [names.entity_id("keyauth_credentials", f"{username}:{key}")]
        for key in tenant.api_keys
    }
    for key in issued:
        ids.setdefault(key.name, []).append(names.issued_id(key.tenant, key.sha256))
    return ids


def _with_keys(server: Json, ids: Mapping[str, Sequence[str]]) -> Json:
    """A compiled server whose lists of access have ids of keys in the place of their names."""

    def acl(found: Any) -> Any:
        if not isinstance(found, Mapping):
            return found
        return {
            kind: [id_ for name in listed for id_ in ids.get(name, [name])] for kind, listed in found.items()
        }

    tools = [{**tool, "acl": acl(tool.get("acl"))} for tool in server["tools"]]
    return {**server, "default_acl": acl(server["default_acl"]), "tools": tools}


def _with_references(server: McpServer, where: str) -> McpServer:
    """A server whose secrets are vault references."""
    at = f"{where}, mcp {server.name}"
    headers = {
        name: _reference(value, where=f"{at}: headers.{name}", plain=True)
        for name, value in server.headers.items()
    }
    credential = server.credential
    if credential is not None:
        credential = _reference(credential, where=f"{at}: credential")
    return replace(server, credential=credential, headers=headers)


def _reference(text: str, *, where: str, plain: bool = False) -> str:
    """A vault reference, or decK's placeholder as the reference by which Kong reads the same variable."""
    if placeholders.is_vault_reference(text):
        return text
    if not placeholders.is_placeholder(text):
        if plain:
            return text
        raise ConfigError(f"{where}: is no vault reference")
    (name,) = placeholders.names(text)
    if name != name.upper():
        # kong/vaults/env/init.lua, get: it asks for the name in capitals
        raise ConfigError(
            f"{where}: Kong reads only variables in capitals, so none is {name}; call it {name.upper()}"
        )
    return f"{{vault://env/{name}}}"


@dataclass(frozen=True, slots=True)
class _Secret:
    """A field that may be a vault reference.

    Attributes:
        path: its steps, with ``[]`` after the name of a list or table.
        plain: whether it may also be a plain value: an address has a form, and may be a secret and may not.
    """

    path: tuple[str, ...]
    plain: bool


@cache
def _referenceable(_packages: tuple[str, ...]) -> Mapping[str, tuple[_Secret, ...]]:
    found = {}
    for section, plugin in features.by_section().items():
        own = fields.fields_of(plugin.config_class)
        secrets = tuple(_secrets({name: f for name, f in own.items() if name not in plugin.hidden}))
        if secrets:
            found[section] = secrets
    return found


def _secrets(known: Mapping[str, fields.Field]) -> Iterator[_Secret]:
    for name, f in known.items():
        shape, step = f.shape, name
        if isinstance(shape, fields.Many | fields.Table):
            shape, step = (shape.element if isinstance(shape, fields.Many) else shape.values), f"{name}[]"
        if isinstance(shape, fields.Record):
            inner = _secrets(fields.fields_of(shape.cls))
            yield from (_Secret((step, *secret.path), secret.plain) for secret in inner)
        elif f.spec.referenceable:
            yield _Secret((step,), plain=bool(f.spec.match))


def _texts(values: Any, path: tuple[str, ...]) -> list[str]:
    found: list[str] = []

    def keep(text: str) -> str:
        found.append(text)
        return text

    _change(values, path, keep)
    return found


def _change(values: Any, path: tuple[str, ...], change: Callable[[str], str]) -> None:
    """Put `change(text)` in place of each text at `path`."""
    name = path[0].removesuffix("[]")
    if not isinstance(values, dict) or name not in values:
        return
    holder: Any = values
    keys: list[Any] = [name]
    if path[0].endswith("[]"):
        holder = values[name]
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    for key in keys:
        if len(path) > 1:
            _change(holder[key], path[1:], change)
        elif isinstance(holder[key], str):
            holder[key] = change(holder[key])
