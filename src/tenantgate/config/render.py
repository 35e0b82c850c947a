"""tenants.yaml to kong.yml, declarative and for decK. Pure: the same file and options give the same bytes.

Order of a route's plugins in Kong, whatever their order here: correlation-id, key-auth, request-size-limiting, acl,
rate-limiting, Tenantgate's (799 to 785), ai-proxy, post-function; a pre-function comes before all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tenantgate import features, fields
from tenantgate.config import catalog, emit, names, scripts
from tenantgate.config.model import Gateway, Model, RateLimit, Redis, Tenant, TenantsFile
from tenantgate.config.providers import MOCK, PROVIDERS, Provider
from tenantgate.manifest import PluginManifest, resolve

__all__ = ["RenderOptions", "render", "uses_mock"]

_HEADER: Final = "# Written by `tenantgate render` from tenants.yaml: change that file, not this one.\n"
_MIB: Final = 1024 * 1024

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderOptions:
    """What depends on where the file is used, not on the tenants."""

    mock_url: str = "http://127.0.0.1:8089/v1/chat/completions"
    """The chat operation of models whose provider is ``mock``."""
    redis_host: str | None = None
    """In place of the file's Redis: a host of its own without user, password or TLS (development)."""
    redis_port: int = 6379
    gateway: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By a feature's section of ``gateway`` the fields that come in place of the file's (development)."""


def render(file: TenantsFile, options: RenderOptions | None = None) -> str:
    """The text of kong.yml. Placeholders stay as they are."""
    options = options or RenderOptions()
    if options.redis_host is not None:
        own = Redis(host=options.redis_host, port=options.redis_port)
        limiting = replace(file.gateway.rate_limiting, redis=None)
        file = replace(file, gateway=replace(file.gateway, redis=own, rate_limiting=limiting))
    file = replace(file, gateway=_changed(file.gateway, options.gateway))
    tenants = sorted(file.tenants, key=lambda t: t.id)
    routes = [_route(file, t, m, options) for t in tenants for m in _models(t)]
    tree = {
        "_format_version": "3.0",
        "services": [_service(file, sorted(routes, key=lambda r: str(r["name"])))],
        "consumers": [_consumer(t) for t in tenants],
        "plugins": [*(limit for t in tenants for limit in _rate_limits(file, t)), _elsewhere()],
    }
    return emit.dump({k: v for k, v in tree.items() if v}, header=_HEADER)


def _changed(gateway: Gateway, changes: Mapping[str, Mapping[str, Any]]) -> Gateway:
    """`gateway` with other fields in the features' sections."""
    sections = dict(gateway.plugins)
    for feature in features.features():
        if feature.gateway is not None and (change := changes.get(feature.gateway.name)):
            name, cls = feature.gateway.name, feature.gateway.config_class
            sections[name] = replace(sections.get(name) or cls(), **change)
    return replace(gateway, plugins=sections)


def uses_mock(file: TenantsFile) -> list[str]:
    """The ids of tenants with a model whose provider is ``mock``, sorted."""
    return sorted(t.id for t in file.tenants if any(m.provider == MOCK for m in t.models))


def _models(tenant: Tenant) -> list[Model]:
    return sorted(tenant.models, key=lambda m: (m.provider, m.model))


def _service(file: TenantsFile, routes: list[Json]) -> Json:
    gateway, times = file.gateway, file.gateway.timeouts
    plugins = [
        _plugin(
            "correlation-id", header_name=gateway.correlation_header, generator="uuid", echo_downstream=True
        ),
        # In Authorization an OpenAI SDK sends its key; one that was told to send `apikey` puts something
        # there all the same, so `apikey` comes first. Keys in the query would end up in logs.
        _plugin("key-auth", key_names=["apikey", "Authorization"], hide_credentials=True, key_in_query=False),
        _plugin(
            "request-size-limiting",
            allowed_payload_size=gateway.limits.max_request_body_mb,
            size_unit="megabytes",
        ),
    ]
    used = {p["name"] for route in routes for p in route["plugins"]}
    keeper = next((p for p in features.plugins() if p.journal and p.name in used), None)
    if keeper is not None and keeper.journal is not None:
        # Opened anew for each line, so that who reads it may put it aside.
        plugins.append(
            _plugin(
                "file-log",
                path=keeper.journal.path(catalog.own_settings(gateway, keeper)),
                reopen=True,
                custom_fields_by_lua=resolve(keeper.journal.fields)(gateway.correlation_header),
            )
        )
    elif gateway.access_log:
        plugins.append(
            _plugin("file-log", path=gateway.access_log, custom_fields_by_lua=dict(scripts.WITHOUT_PAYLOAD))
        )
    return {
        "name": names.SERVICE,
        # ai-proxy names the real upstream. Without it nothing is sent anywhere: .invalid never resolves.
        "url": "https://llm.invalid",
        "connect_timeout": times.connect_s * 1000,
        "write_timeout": times.write_s * 1000,
        "read_timeout": times.read_s * 1000,
        # A prompt that is sent twice is paid twice; the SDKs try again themselves.
        "retries": 0,
        "plugins": plugins,
        "routes": routes,
    }


def _route(file: TenantsFile, tenant: Tenant, m: Model, options: RenderOptions) -> Json:
    name = names.route_name(provider=m.provider, model=m.model, tenant=tenant.id)
    provider = PROVIDERS[m.provider]
    ours = list(_ours(file, tenant, m, name))
    replies = any(o.plugin.needs_replies(o.parsed) for o in ours)
    first: Json = {
        "access": [scripts.ANY_BEARER, scripts.NO_QUERY],
        "header_filter": [scripts.ERROR_HEAD_EARLY],
        "body_filter": [scripts.ERROR_BODY],
    }
    last = _last(file, m, provider)
    for own in ours:
        if own.plugin.rejects(own.parsed):
            for phase, code in own.plugin.closing.items():
                last[phase].insert(0, resolve(code))
    if replies:
        last["body_filter"].append(scripts.FINISH_REASON)
        if provider.streams_events:
            first["body_filter"].append(scripts.END_OF_STREAM)
        if provider.hides_finish_reason:
            first["body_filter"].append(scripts.ANTHROPIC_STOP_REASON)
            last["access"].append(scripts.PLAIN_REPLY)
    plugins = [
        _plugin("pre-function", **first),
        _plugin("acl", allow=[names.group_name(tenant.id)], hide_groups_header=True),
        *(_plugin(own.plugin.name, **own.config) for own in ours),
        _plugin("ai-proxy", **_ai_proxy(file, m, provider, options, log_payloads=replies)),
        _plugin("post-function", **last),
    ]
    path = names.chat_path(
        tenant=tenant.id, provider=m.provider, model=m.model, prefix=file.gateway.path_prefix
    )
    return {
        "name": name,
        "paths": [path],
        "methods": ["POST"],
        "strip_path": True,
        "response_buffering": False,  # else a short stream arrives all at once, at its end
        "plugins": plugins,
    }


def _last(file: TenantsFile, m: Model, provider: Provider) -> dict[str, list[str]]:
    """What happens after ai-proxy: nothing of the client's goes upstream but what ai-proxy has made of its body."""
    keep = [*file.gateway.upstream_headers, *provider.sets_headers]
    if provider.auth_header and m.credential is not None:
        keep.append(provider.auth_header)
    access = [
        scripts.HIDE_CALLER,
        scripts.only_headers(keep, correlation_header=file.gateway.correlation_header),
    ]
    if provider.bearer and m.credential is not None:
        access.append(scripts.BEARER)
    if not provider.sets_encoding:
        access.append(scripts.PACKED)
    return {"access": access, "header_filter": [scripts.ERROR_HEAD], "body_filter": [scripts.ERROR_BODY]}


def _elsewhere() -> Json:
    """Errors where no route was found; a route's own post-function comes in this one's place."""
    return _plugin(
        "post-function", header_filter=[scripts.ERROR_HEAD_ELSEWHERE], body_filter=[scripts.ERROR_BODY]
    )


@dataclass(frozen=True, slots=True)
class _Ours:
    """One of Tenantgate's plugins on a route.

    Attributes:
        config: as it is rendered.
        parsed: the same as an object of the plugin's configuration class.
    """

    plugin: PluginManifest[Any]
    config: Json
    parsed: Any


def _ours(file: TenantsFile, tenant: Tenant, m: Model, route: str) -> list[_Ours]:
    """Tenantgate's plugins on this route: those with a section at some level that isn't switched off."""
    chosen: dict[str, Json] = {}
    for plugin in features.plugins():
        levels = [
            level.plugins[plugin.section]
            for level in (file.defaults, tenant, m)
            if plugin.section in level.plugins
        ]
        config = {k: v for level in levels for k, v in level.items()}
        if levels and config.pop("enabled", True):
            prices = {name: value for name in plugin.prices if (value := getattr(m, name)) is not None}
            chosen[plugin.section] = {**(prices if len(prices) == len(plugin.prices) else {}), **config}

    def made(plugin: PluginManifest[Any]) -> _Ours:
        filled = _given(plugin.fill(catalog.settings(file.gateway, route, plugin)))
        config = {**dict(sorted(chosen[plugin.section].items())), **filled}
        return _Ours(plugin, config, fields.parse(plugin.config_class, config, where=plugin.section))

    ours = {section: made(plugin) for section, plugin in features.by_section().items() if section in chosen}
    for own in tuple(ours.values()):
        for section, needed in own.plugin.brings(own.parsed).items():
            chosen[section] = {**chosen.get(section, {}), **needed}
            ours[section] = made(features.by_section()[section])
    gates = [p.name for p in features.plugins() if p.section in ours and p.gate(ours[p.section].parsed)]
    for own in tuple(ours.values()):
        if gates and own.plugin.gates_field:
            chosen[own.plugin.section][own.plugin.gates_field] = gates
            ours[own.plugin.section] = made(own.plugin)
    return sorted(ours.values(), key=lambda own: -own.plugin.priority)


def _ai_proxy(
    file: TenantsFile, m: Model, provider: Provider, options: RenderOptions, *, log_payloads: bool
) -> Json:
    upstream = m.upstream_url or provider.upstream_url
    if m.provider == MOCK:
        upstream = m.upstream_url or options.mock_url
    model_options = {
        name: value
        for name in ("input_cost", "max_tokens", "output_cost", "temperature", "top_k", "top_p")
        if (value := getattr(m, name)) is not None
    }
    model_options |= {name: getattr(m, name) for name in provider.needs}
    model_options |= dict(provider.fixed_options)
    if upstream:
        model_options["upstream_url"] = upstream
    config: Json = {"route_type": "llm/v1/chat"}
    if m.credential is not None and provider.auth_header:
        config["auth"] = {"header_name": provider.auth_header, "header_value": m.credential}
    config["model"] = {"provider": provider.kong, "name": m.model}
    if model_options:
        config["model"]["options"] = model_options
    # All of `ai.*` in Kong's log needs the statistics. The payloads hold prompts and replies, so they are
    # there only where a plugin takes the replies from them.
    config["logging"] = {"log_statistics": True, "log_payloads": log_payloads}
    config["response_streaming"] = m.streaming
    config["max_request_body_size"] = file.gateway.limits.max_request_body_mb * _MIB
    return config


def _consumer(tenant: Tenant) -> Json:
    # Each key twice: as the header `apikey` has it, and as `Authorization` has it. key-auth compares the
    # whole value, and an OpenAI SDK puts "Bearer " before its key.
    keys = sorted(tenant.api_keys)
    return {
        "username": names.consumer_name(tenant.id),
        "custom_id": tenant.id,
        "keyauth_credentials": [{"key": f"{scheme}{key}"} for key in keys for scheme in ("", "Bearer ")],
        # key-auth alone lets any consumer of the gateway onto any route.
        "acls": [{"group": names.group_name(tenant.id)}],
    }


def _rate_limits(file: TenantsFile, tenant: Tenant) -> Iterator[Json]:
    """The tenant's limit over all its routes, and in its place, on a route, the model's own.

    Kong counts by consumer, service and route, as far as they are named here; consumer and route are more
    specific than consumer and service.
    """
    consumer = names.consumer_name(tenant.id)
    limit = tenant.rate_limit or file.defaults.rate_limit
    if limit:
        yield {**_rate_limit(file, limit), "consumer": consumer, "service": names.SERVICE}
    for m in _models(tenant):
        if m.rate_limit:
            route = names.route_name(provider=m.provider, model=m.model, tenant=tenant.id)
            yield {**_rate_limit(file, m.rate_limit), "consumer": consumer, "route": route}


def _rate_limit(file: TenantsFile, limit: RateLimit) -> Json:
    limiting = file.gateway.rate_limiting
    config: Json = {
        **_given({"second": limit.per_second, "minute": limit.per_minute}),
        **_given({"hour": limit.per_hour, "day": limit.per_day}),
        "limit_by": "consumer",
        "policy": limiting.policy,
    }
    if limiting.policy == "redis":
        redis = limiting.redis or file.gateway.redis
        config["fault_tolerant"] = True  # without Redis requests pass uncounted
        config["redis"] = _given(
            {
                "host": redis.host,
                "port": redis.port,
                "database": redis.database,
                "timeout": redis.timeout_ms,
                "username": redis.username,
                "password": redis.password,
                "ssl": redis.ssl,
                "ssl_verify": redis.ssl and redis.ssl_verify,
            }
        )
    return _plugin("rate-limiting", **config)


def _plugin(plugin: str, **config: Any) -> Json:
    return {"name": plugin, "config": config}


def _given(values: Mapping[str, Any]) -> Json:
    """Without what is None, at any depth."""
    return {k: _given(v) if isinstance(v, Mapping) else v for k, v in values.items() if v is not None}
