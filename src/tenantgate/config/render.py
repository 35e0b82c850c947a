"""tenants.yaml to kong.yml, declarative and for decK. Pure: the same file and options give the same bytes.

Tenants are data of the engine, so Kong's entities are few: one service, a few routes and one plugin of each kind,
whatever the number of tenants and models, and for each tenant a consumer with its keys. Order of the plugins in Kong:
pre-function, correlation-id, cors, tenantgate-keys (1251), key-auth, request-size-limiting, tenantgate-request (800),
tenantgate (799),
tenantgate-target (771), ai-proxy, tenantgate-failover (769), file-log, post-function,
tenantgate-format (-1001).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tenantgate import api_keys, features, fields
from tenantgate.config import catalog, emit, names, scripts, tls
from tenantgate.config import deck_variables as placeholders
from tenantgate.config.compile import stage_references
from tenantgate.config.egress import gateway_allow
from tenantgate.config.kong_conf import EGRESS_PORT
from tenantgate.config.merge import merge
from tenantgate.config.model import Cors, Gateway, Tenant, TenantsFile
from tenantgate.config.providers import MOCK, PROVIDERS
from tenantgate.config.redis_model import Redis
from tenantgate.keys.core.register import IssuedKey, State
from tenantgate.llm.operations import Operation
from tenantgate.manifest import PluginManifest, RouteSettings, resolve

__all__ = ["RenderOptions", "entities", "issued_credential", "render", "uses_mock", "with_options"]

_HEADER: Final = "# Written by `tenantgate render` from tenants.yaml: change that file, not this one.\n"
_MIB: Final = 1024 * 1024
_SHOWN: Final = ("Retry-After", "X-Cache-Status", "X-Tenantgate-Target", "X-Tenantgate-Tries")
"""Headers of replies that pages of other sites may read, besides the request's id."""
_NOWHERE: Final = "https://llm.invalid"
"""Never resolves (RFC 6761, section 6.4): without a target that the engine has chosen nothing is sent anywhere."""

_JWT: Final = r"~*^bearer +eyj[a-z0-9_-]*\.[a-z0-9_-]+\.[a-z0-9_-]*$"
"""A JWT in ``Authorization``; Kong compares lower-cased values (router/transform.lua). Everything else is a key."""

_OWN_CALLER: Final = "~*^[0-9a-f]{32}$"
"""A word of tenantgate-mcp; a request with another text there goes the way of all others."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderOptions:
    """What depends on where the file is used, not on the tenants."""

    mock_url: str = "http://127.0.0.1:8089/v1/chat/completions"
    """The chat operation of models whose provider is ``mock``."""
    redis_host: str | None = None
    """In place of the file's Redis: a host of its own without user, password or TLS (development)."""
    redis_port: int = 6379
    policy_path: str | None = None
    """In place of ``gateway.policy.path``; `policy_store` comes in place of ``gateway.policy.store`` then
    (development)."""
    policy_store: str | None = None
    """With `policy_path`."""
    egress_port: int = EGRESS_PORT
    """Port of the loopback proxy (`KongConfOptions.egress_port`)."""
    gateway: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By a feature's section of ``gateway`` the fields that come in place of the file's (development)."""


def render(
    file: TenantsFile,
    options: RenderOptions | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    as_json: bool = False,
    into: Mapping[str, Any] | None = None,
) -> str:
    """The text of kong.yml, or of kong.json, which Kong reads thirty times as fast.

    Args:
        file: the tenants.
        options: what depends on the place.
        environ: what its placeholders become; None: they stay as they are.
        as_json: JSON in place of YAML.
        into: the tree of a kong.yml, for its entities that aren't ours.

    Raises:
        ConfigError: an entity of `into` has a name of ours. Else
            names the variables that are missing, empty, alike or hold white space; never a value.
    """
    tree = entities(file, options)
    if environ is not None:
        tree = placeholders.resolve_tree(tree, environ)
    if into is not None:
        tree = merge(into, tree)
    if as_json:
        return json.dumps(tree, indent=1, ensure_ascii=False) + "\n"
    return emit.dump(tree, header=_HEADER if into is None else "")


def entities(file: TenantsFile, options: RenderOptions | None = None) -> Json:
    """The tree of kong.yml, each entity with its id and tag."""
    options = options or RenderOptions()
    file = with_options(file, options)
    return {
        "_format_version": "3.0",
        **tls.entities(file.gateway.tls),
        "services": [_service(file, options), *_mcp_services(file, options)],
        "consumers": [_consumer(t, file.keys_of(t)) for t in sorted(file.tenants, key=lambda t: t.id)],
        "plugins": [*_elsewhere(file.gateway)],
    }


def with_options(file: TenantsFile, options: RenderOptions) -> TenantsFile:
    """The file with what the options say in place of its own."""
    gateway = file.gateway
    if options.redis_host is not None:
        times = {name: getattr(gateway.redis, name) for name in ("timeout_ms", "plugin_timeout_ms")}
        own = Redis(host=options.redis_host, port=options.redis_port, **times)
        gateway = replace(gateway, redis=own, rate_limiting=replace(gateway.rate_limiting, redis=None))
    if options.policy_path is not None:
        gateway = replace(
            gateway, policy=replace(gateway.policy, path=options.policy_path, store=options.policy_store)
        )
    return replace(file, gateway=_changed(gateway, options.gateway))


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
    return sorted(
        t.id for t in file.tenants if any(e.provider == MOCK for m in t.models for e in m.endpoints)
    )


def _service(file: TenantsFile, options: RenderOptions) -> Json:
    times = file.gateway.timeouts
    return {
        **_named("services", names.SERVICE),
        "url": _NOWHERE,
        "connect_timeout": times.connect_s * 1000,
        "write_timeout": times.write_s * 1000,
        "read_timeout": times.read_s * 1000,
        # A prompt that is sent twice is paid twice; the SDKs try again themselves.
        "retries": 0,
        "tags": [names.TAG],
        "plugins": [
            _plugin(name, scope=names.SERVICE, config=config)
            for name, config in _service_plugins(file, options)
        ],
        "routes": list(_routes(file.gateway)),
    }


def _mcp_services(file: TenantsFile, options: RenderOptions) -> Iterator[Json]:
    """The services of the tenants' MCP servers, where some tenant has one.

    It has no ai-proxy, which knows no other body than a chat.
    """
    if not any(tenant.mcp for tenant in file.tenants):
        return
    prefix = file.gateway.path_prefix.replace(".", r"\.")
    paths = [f"~{prefix}/v1/mcp$", f"~{prefix}/v1/mcp/(?P<server>[A-Za-z0-9_-]+)$"]
    # The engine answers GET and DELETE itself, as the protocol has it; OPTIONS is cors', or the pre-function's.
    methods = ["POST", "GET", "DELETE"]
    plugins = dict(_mcp_plugins(file, options))
    route = _route("endpoint", [*methods, "OPTIONS"], paths, service=names.MCP_SERVICE)
    yield _mcp_service(file, options, names.MCP_SERVICE, route, plugins)
    if any(server.models for tenant in file.tenants for server in tenant.mcp):
        yield _models_service(file, options)
    oauth = (_mcp(file.gateway) or {}).get("oauth")
    if oauth is None:
        return
    route = _route("endpoint", methods, paths, service=names.OAUTH_SERVICE)
    route["headers"] = {"authorization": [_JWT]}
    by_token = {name: config for name, config in plugins.items() if name != "key-auth"}
    by_token["tenantgate-request"] = {"mcp": True, "token": True}
    yield _mcp_service(file, options, names.OAUTH_SERVICE, route, by_token)
    found = "~" + scripts.MCP_METADATA_PATH.replace(".", r"\.")
    paths = [f"{found}$", f"{found}{prefix}/v1/mcp$", f"{found}{prefix}/v1/mcp/[A-Za-z0-9_-]+$"]
    route = _route("document", ["GET"], paths, service=names.METADATA_SERVICE)
    issuers = [each["issuer"] for each in oauth["issuers"]]
    scopes = sorted({scope for each in oauth["issuers"] for scope in each.get("scopes", ())})
    script = scripts.mcp_metadata(oauth["resource"], file.gateway.path_prefix, issuers, scopes)
    told = {"pre-function": {"access": [script]}}
    yield _mcp_service(file, options, names.METADATA_SERVICE, route, told)


def _models_service(file: TenantsFile, options: RenderOptions) -> Json:
    """Chats that tenantgate-mcp sends to Kong itself: as all others, but for who calls (callers.lua there)."""
    route = next(_routes_below(file.gateway.path_prefix))
    route |= _named("routes", f"{names.MODELS_SERVICE}.chat-completions")
    route["headers"] = {"x-mcp-caller": [_OWN_CALLER]}
    plugins = dict(_service_plugins(file, options))
    for name in ("cors", "tenantgate-keys", "key-auth"):
        plugins.pop(name, None)
    plugins["tenantgate-request"] = {"caller": True}
    return _mcp_service(file, options, names.MODELS_SERVICE, route, plugins)


def _mcp_service(
    file: TenantsFile, options: RenderOptions, name: str, route: Json, plugins: Mapping[str, Json]
) -> Json:
    """One of these services, with its only route."""
    made = [_plugin(plugin, scope=name, config=config) for plugin, config in plugins.items()]
    return {**_service(file, options), **_named("services", name), "plugins": made, "routes": [route]}


def _mcp_plugins(file: TenantsFile, options: RenderOptions) -> Iterator[tuple[str, Json]]:
    left_out = ("cors", "tenantgate-target", "ai-proxy", "tenantgate-failover", "tenantgate-format")
    for name, config in _service_plugins(file, options):
        if name == "tenantgate-request":
            yield name, {"mcp": True}
        elif name == "tenantgate-failover":
            header = {"correlation_header": file.gateway.correlation_header}
            yield "tenantgate-mcp", {**config, **header}
        elif name == "pre-function":
            origins = (_mcp(file.gateway) or {}).get("origins")
            options_code = scripts.mcp_options(cors=bool(origins))
            yield name, {"access": [options_code, scripts.ANY_BEARER, scripts.NO_QUERY]}
            if origins:
                yield "cors", _mcp_cors(file.gateway, origins)
        elif name == "post-function":
            oauth = (_mcp(file.gateway) or {}).get("oauth")
            told = (
                [] if oauth is None else [scripts.mcp_challenge(oauth["resource"], file.gateway.path_prefix)]
            )
            yield name, {"header_filter": [*told, scripts.ERROR_HEAD], "body_filter": [scripts.ERROR_BODY]}
        elif name not in left_out:
            yield name, config


def _mcp_cors(gateway: Gateway, origins: Sequence[str]) -> Json:
    """Pages may read the challenge of a 401, and how much of a limit is left; they may send any header of MCP."""
    shown = [gateway.correlation_header, "Retry-After", "WWW-Authenticate", "X-Cache-Status"]
    max_age_s = (gateway.cors or Cors(origins=tuple(origins))).max_age_s
    return {"origins": list(origins), "methods": ["POST"], "exposed_headers": shown, "max_age": max_age_s}


def _routes(gateway: Gateway) -> Iterator[Json]:
    """The routes, where pages of other sites may call them for their preflight requests, too."""
    for route in _routes_below(gateway.path_prefix):
        if gateway.cors is not None:
            route["methods"] += ["OPTIONS"]
        yield route


def _routes_below(prefix: str) -> Iterator[Json]:
    """The routes; each path ends where its regular expression does, so that a longer one is a 404.

    ``(?P<name>…)`` is read by all that read these: Kong's router (Rust), its schema (PCRE) and the embedded host.
    """
    start = "~" + prefix.replace(".", r"\.")
    yield _route("chat-completions", ["POST"], [f"{start}/v1/chat/completions$"])
    passed = (o.path for o in Operation if o is not Operation.CHAT)
    yield _route("operations", ["POST"], [f"{start}/v1{path}$" for path in passed])
    deployment = f"{start}/openai/deployments/(?P<deployment>[^/]+)"  # Azure's
    yield _route("deployments", ["POST"], [f"{deployment}/chat/completions$", f"{deployment}/embeddings$"])
    yield _route("messages", ["POST"], [f"{start}/v1/messages$", f"{start}/v1/messages/count_tokens$"])
    yield _route("responses", ["POST"], [f"{start}/v1/responses$"])
    yield _route("models", ["GET"], [f"{start}/v1/models$", f"{start}/v1/models/(?P<model>.+)$"])
    by_path = f"{start}/v1/llm/(?P<provider>[^/]+)/(?P<model>.+)/chat/completions$"
    yield _route("by-path", ["POST"], [by_path])
    # Paths of version 0.1. A regular expression comes before all plain paths of the gateway, so this one takes no more
    # than it must: with another provider's name a path is somebody else's. After `by-path`, whose paths it would take.
    providers = "|".join(sorted(PROVIDERS))
    by_tenant = f"{start}/(?P<tenant>[^/]+)/(?P<provider>{providers})/(?P<model>.+)/chat/completions$"
    yield _route("tenant-path", ["POST"], [by_tenant], regex_priority=0)


def _route(
    name: str, methods: list[str], paths: list[str], *, regex_priority: int = 1, service: str = names.SERVICE
) -> Json:
    return {
        **_named("routes", f"{service}.{name}"),
        "paths": paths,
        "methods": methods,
        "regex_priority": regex_priority,
        "strip_path": True,
        "response_buffering": False,  # else a short stream arrives all at once, at its end
        "tags": [names.TAG],
    }


def _service_plugins(file: TenantsFile, options: RenderOptions) -> Iterator[tuple[str, Json]]:
    gateway = file.gateway
    yield "pre-function", _first(gateway)
    yield (
        "correlation-id",
        {"header_name": gateway.correlation_header, "generator": "uuid", "echo_downstream": True},
    )
    if gateway.cors is not None:
        yield "cors", _cors(gateway, gateway.cors)
    # In Authorization an OpenAI SDK sends its key, in x-api-key Anthropic's, in api-key Azure's. One that was told to
    # send a header of its own puts something into Authorization all the same, so that comes last. Keys in the query
    # would end up in logs.
    # Issued keys are there by their hashes, which the plugin before key-auth puts into their place.
    key_names = ["apikey", "x-api-key", "api-key", "Authorization"]
    yield "tenantgate-keys", {"key_names": key_names}
    yield "key-auth", {"key_names": key_names, "hide_credentials": True, "key_in_query": False}
    size = gateway.limits.max_request_body_mb
    yield "request-size-limiting", {"allowed_payload_size": size, "size_unit": "megabytes"}
    keeper = _journal_keeper(file)
    if (log := _file_log(gateway, keeper)) is not None:
        yield "file-log", log
    yield "tenantgate-request", {}
    yield "tenantgate", _engine(file, keeper)
    kept = sorted(gateway.upstream_headers, key=str.lower)
    origins = None if gateway.cors is None else list(gateway.cors.origins)
    allow = gateway_allow(file, mock_url=options.mock_url)
    egress_allow = None if allow is None else list(allow)
    yield (
        "tenantgate-target",
        _given(
            {
                "keep_headers": kept,
                "correlation_header": gateway.correlation_header,
                "origins": origins,
                "egress_port": options.egress_port,
                "egress_allow": egress_allow,
            }
        ),
    )
    yield "ai-proxy", _ai_proxy(size)
    yield "tenantgate-failover", _given({"port": options.egress_port, "egress_allow": egress_allow})
    yield "post-function", _last()
    yield "tenantgate-format", {"correlation_header": gateway.correlation_header}


def _cors(gateway: Gateway, cors: Cors) -> Json:
    """It answers preflight requests, which have no key, before key-auth asks for one."""
    return {
        "origins": list(cors.origins),
        "methods": ["GET", "POST"],
        "exposed_headers": [gateway.correlation_header, *_SHOWN],
        "max_age": cors.max_age_s,
    }


def _first(gateway: Gateway) -> Json:
    return {
        "access": [scripts.ANY_BEARER, scripts.NO_QUERY],
        "header_filter": [*_hsts(gateway), scripts.ERROR_HEAD_EARLY],
        "body_filter": [
            scripts.ERROR_BODY,
            scripts.where_decided("target.log_payloads", scripts.END_OF_STREAM),
        ],
    }


def _hsts(gateway: Gateway) -> list[str]:
    max_age_s = gateway.tls.hsts_max_age_s
    return [] if max_age_s is None else [scripts.hsts(max_age_s)]


def _last() -> Json:
    """What happens after ai-proxy. Rules change without Kong, so all that any rule may need is there."""
    closing: dict[str, list[str]] = {"header_filter": [], "body_filter": []}
    for plugin in features.plugins():
        for phase, codes in closing.items():
            if code := plugin.closing.get(phase):
                codes.append(scripts.where_held(resolve(code)))
    return {
        "header_filter": [*closing["header_filter"], scripts.ERROR_HEAD],
        "body_filter": [
            *closing["body_filter"],
            scripts.ERROR_BODY,
            scripts.where_decided("target.log_payloads", scripts.FINISH_REASON),
        ],
    }


def _elsewhere(gateway: Gateway) -> Iterator[Json]:
    """Errors where no route was found; the service's own plugins come in place of these."""
    headers = [*_hsts(gateway), scripts.ERROR_HEAD_ELSEWHERE]
    config = {"header_filter": headers, "body_filter": [scripts.ERROR_BODY]}
    yield _plugin("post-function", scope="", config=config)
    unrouted = {"correlation_header": gateway.correlation_header, "only_unrouted": True}
    yield _plugin("tenantgate-format", scope="", config=unrouted)


def _journal_keeper(file: TenantsFile) -> PluginManifest[Any] | None:
    """The plugin with a journal that some model of some tenant has."""
    for plugin in features.plugins():
        if plugin.journal and any(_switched_on(file, t, plugin.section) for t in file.tenants):
            return plugin
    return None


def _switched_on(file: TenantsFile, tenant: Tenant, section: str) -> bool:
    """Whether a model of the tenant has the plugin: a section at some level, none of which switches it off."""
    for model in tenant.models:
        levels = [level.plugins.get(section) for level in (file.defaults, tenant, model)]
        given = [level for level in levels if level is not None]
        enabled = [level["enabled"] for level in given if "enabled" in level]
        if given and (enabled[-1] if enabled else True):
            return True
    return False


def _file_log(gateway: Gateway, keeper: PluginManifest[Any] | None) -> Json | None:
    if keeper is not None and keeper.journal is not None:
        # Opened anew for each line, so that who reads it may put it aside.
        return {
            "path": keeper.journal.path(catalog.own_settings(gateway, keeper)),
            "reopen": True,
            "custom_fields_by_lua": resolve(keeper.journal.fields)(gateway.correlation_header),
        }
    if gateway.access_log:
        return {"path": gateway.access_log, "custom_fields_by_lua": dict(scripts.WITHOUT_PAYLOAD)}
    return None


def _engine(file: TenantsFile, keeper: PluginManifest[Any] | None) -> Json:
    """The engine's settings: those that all tenants share. The tenants' own are in the policy directory."""
    gateway, limiting = file.gateway, file.gateway.rate_limiting
    settings: RouteSettings = catalog.settings(gateway, "", keeper or features.plugins()[0])
    return _given(
        {
            "redis": settings.redis,
            "encryption_key": gateway.encryption_key,
            "correlation_header": gateway.correlation_header,
            "strict_requests": gateway.strict_requests,
            "upstream_headers": sorted(gateway.upstream_headers, key=str.lower),
            "max_request_body_mb": gateway.limits.max_request_body_mb,
            "keep_items_s": gateway.responses.keep_s,
            "audit": keeper.fill(settings).get("pipeline") if keeper is not None else None,
            "policy_path": gateway.policy.path,
            "policy_store": gateway.policy.store,
            "rate_limit_policy": limiting.policy,
            "rate_limit_redis": _limit_redis(gateway),
            "mcp": _mcp(gateway),
            "secrets": [{"name": ref, "value": ref} for ref in stage_references(file)],
        }
    )


def _mcp(gateway: Gateway) -> Json | None:
    own = gateway.plugins.get("mcp")
    given = {} if own is None else fields.plain(own)
    if gateway.cors is not None and not given.get("origins"):
        given["origins"] = list(gateway.cors.origins)
    return given or None


def _limit_redis(gateway: Gateway) -> Json | None:
    if gateway.rate_limiting.policy != "redis":
        return None
    redis = gateway.rate_limiting.redis or gateway.redis
    return catalog.redis_settings(redis, redis.timeout_ms)


def _ai_proxy(max_request_body_mb: int) -> Json:
    """One for all: tenantgate-target gives it a configuration for each request, and this one leads nowhere.

    It logs payloads by this configuration, not the target's; tenantgate-request takes them out of the record where no
    stage reads them.
    """
    options = {"upstream_url": f"{_NOWHERE}/v1/chat/completions"}
    return {
        "route_type": "llm/v1/chat",
        "model": {"provider": "openai", "name": "unselected", "options": options},
        "logging": {"log_statistics": True, "log_payloads": True},
        "max_request_body_size": max_request_body_mb * _MIB,
    }


def issued_credential(key: IssuedKey) -> Json:
    """The credential of key-auth that stands for an issued key; tenantgate-request reads the time in its tags."""
    until = [f"{names.UNTIL_TAG}{key.until}"] if key.state is State.RETIRING else []
    return {
        "id": names.issued_id(key.tenant, key.sha256),
        "key": api_keys.stored(key.sha256),
        "tags": [names.TAG, names.ISSUED_TAG, *until],
    }


def _consumer(tenant: Tenant, issued: Sequence[IssuedKey]) -> Json:
    username = names.consumer_name(tenant.id)
    keys = [
        {
            # Of the placeholder's name, never of the key.
            "id": names.entity_id("keyauth_credentials", f"{username}:{key}"),
            "key": key,
            "tags": [names.TAG],
        }
        for key in sorted(tenant.api_keys)
    ]
    keys += [issued_credential(key) for key in issued]
    return {
        "username": username,
        "id": names.entity_id("consumers", username),
        "custom_id": tenant.id,
        "tags": [names.TAG],
        "keyauth_credentials": keys,
    }


def _named(kind: str, name: str) -> Json:
    return {"name": name, "id": names.entity_id(kind, name)}


def _plugin(name: str, *, scope: str, config: Json) -> Json:
    return {
        "name": name,
        "id": names.entity_id("plugins", f"{name}:{scope}"),
        "tags": [names.TAG],
        "config": config,
    }


def _given(values: Mapping[str, Any]) -> Json:
    """Without what is None, at any depth of mappings."""
    return {k: _given(v) if isinstance(v, Mapping) else v for k, v in values.items() if v is not None}
