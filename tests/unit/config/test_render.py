from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import yaml

from tenantgate import fields
from tenantgate.config import RenderOptions, load, load_text, render, scripts
from tenantgate.config import deck_variables as placeholders
from tenantgate.config.kong_conf import EGRESS_PORT, LUA_PLUGINS
from tenantgate.config.render import uses_mock
from tenantgate.devhost import declarative, kong_conf, lua_plugins
from tenantgate.devhost.logs import KongLog
from tenantgate.devhost.lua_state import LuaState
from tenantgate.devhost.router import Match, Router
from tenantgate.devhost.stock_schemas import SCHEMAS
from tenantgate.engine.manifest import ENGINE
from tenantgate.errors import ConfigError
from tenantgate.guard.scripts import REPLY_GUARD_BODY, REPLY_GUARD_CHECK
from tenantgate.kong.schema import kong_fields

from support import ROOT

EXAMPLE = ROOT / "tenants.yaml"
Json = dict[str, Any]


def tree(text: str, options: RenderOptions | None = None) -> Json:
    found: Json = yaml.load(render(load_text(text), options), Loader=yaml.CSafeLoader)  # ten times as fast
    return found


def tenants(*ids: str, rest: str = "", head: str = "") -> str:
    entries = "".join(f"  - id: {t}\n    api_keys: ['${{{{ env \"DECK_{t}\" }}}}']\n{rest}" for t in ids)
    return f"version: 1\n{head}tenants:\n{entries}"


def plugins(rendered: Json) -> dict[str, Json]:
    (service,) = rendered["services"]
    found = {p["name"]: p["config"] for p in service["plugins"]}
    assert len(found) == len(service["plugins"]), "a plugin stands once in a scope"
    return found


def entities(rendered: Json) -> Iterator[Json]:
    for service in rendered["services"]:
        yield service
        yield from service["routes"]
        yield from service["plugins"]
    for consumer in rendered["consumers"]:
        yield consumer
        yield from consumer["keyauth_credentials"]
    yield from rendered["plugins"]


def test_the_same_file_gives_the_same_bytes_whatever_its_order() -> None:
    file = load(EXAMPLE)
    mixed = list(file.tenants)
    random.Random(7).shuffle(mixed)
    shuffled = replace(file, tenants=tuple(replace(t, models=t.models[::-1]) for t in mixed))
    assert render(shuffled) == render(file)


def test_more_tenants_and_models_are_no_more_than_consumers() -> None:
    one, many = tree(tenants("a")), tree(EXAMPLE.read_text(encoding="utf-8"))
    names = [[route["name"] for route in rendered["services"][0]["routes"]] for rendered in (one, many)]
    routes = [
        *("chat-completions", "operations", "deployments", "messages", "responses", "models"),
        *("by-path", "tenant-path"),
    ]
    assert names == [[f"llm.{name}" for name in routes]] * 2
    assert {p["name"] for p in many["plugins"]} == {"post-function", "tenantgate-format"}
    assert all(set(c) == set(one["consumers"][0]) for c in many["consumers"])
    assert not {"acls", "plugins"} & set(one["consumers"][0])


def test_pages_of_other_sites_have_preflight_requests_and_headers() -> None:
    none = tree(tenants("a"))
    assert "cors" not in plugins(none)
    assert all("OPTIONS" not in route["methods"] for route in none["services"][0]["routes"])
    origins = ["https://app.example.com", "http://localhost:3000"]
    given = tree(tenants("a", head=f"gateway: {{cors: {{origins: {origins}, max_age_s: 9}}}}\n"))
    made = plugins(given)["cors"]
    assert (made["origins"], made["max_age"], made["methods"]) == (origins, 9, ["GET", "POST"])
    assert "credentials" not in made  # keys come in headers, never in cookies
    assert plugins(given)["tenantgate-target"]["origins"] == origins
    assert all("OPTIONS" in route["methods"] for route in given["services"][0]["routes"])


@pytest.mark.parametrize("origin", ["app.example.com", "https://a.example/path", "https://[a-z]+", ""])
def test_an_origin_is_no_pattern(origin: str) -> None:
    with pytest.raises(ConfigError, match="origins"):
        load_text(tenants("a", head=f"gateway: {{cors: {{origins: ['{origin}']}}}}\n"))


def test_a_changed_rule_model_or_limit_changes_nothing_in_kong() -> None:
    before = tenants("a", rest="    guardrails: {}\n")
    after = tenants(
        "a",
        rest="    guardrails: {rules: [{name: s, detector: secrets, mode: block}]}\n    cache: {}\n"
        "    response_guardrails: {rules: [{name: s, detector: secrets, mode: mask, target: reply}]}\n"
        "    rate_limit: {per_minute: 3}\n    models: [{provider: mock, model: other}]\n",
    )
    assert tree(before) == tree(after)


def test_a_tenants_consumer() -> None:
    consumer = yaml.safe_load(render(load(ROOT / "examples/demo.yaml")))["consumers"][0]
    assert (consumer["username"], consumer["custom_id"]) == ("tenant_acme", "acme")
    # Each key as `apikey` has it, and as an OpenAI SDK sends it.
    key = '${{ env "DECK_ACME_API_KEY" }}'
    assert [k["key"] for k in consumer["keyauth_credentials"]] == [key]


def test_every_entity_has_our_tag_and_an_id_of_its_own_that_stays() -> None:
    rendered = tree(EXAMPLE.read_text(encoding="utf-8"))
    found = list(entities(rendered))
    assert {tuple(e["tags"]) for e in found} == {("tenantgate",)}
    ids = [uuid.UUID(e["id"]) for e in found]
    assert len(set(ids)) == len(ids)
    assert {i.version for i in ids} == {5}
    # What is in a gateway already keeps its id, whatever else the file says.
    text = EXAMPLE.read_text(encoding="utf-8").replace("max_request_body_mb: 4", "max_request_body_mb: 7")
    assert [e["id"] for e in entities(tree(text))] == [e["id"] for e in found]
    kept = next(e for e in tree(tenants("a", "b"))["consumers"] if e["custom_id"] == "b")
    assert kept == tree(tenants("b", "z"))["consumers"][0]


def test_an_id_says_nothing_of_the_key() -> None:
    text = render(load_text(tenants("a")))
    resolved = placeholders.resolve_tree(yaml.safe_load(text), {"DECK_a": "k1"})
    other = placeholders.resolve_tree(yaml.safe_load(text), {"DECK_a": "k2"})
    ids = [[k["id"] for k in t["consumers"][0]["keyauth_credentials"]] for t in (resolved, other)]
    assert ids[0] == ids[1]


# -- paths


def match(path: str, method: str = "POST", prefix: str = "") -> Match | None:
    rendered = tree(tenants("a", head=f"gateway: {{path_prefix: '{prefix}'}}\n"))
    for service in rendered["services"]:
        service["plugins"] = []
    rendered["plugins"] = []
    own = {"name": "own", "url": "http://own", "routes": [{"name": "own", "paths": ["/"]}]}
    rendered["services"].append(own)
    rendered["consumers"] = []
    config = declarative.load_text(yaml.safe_dump(rendered), external={}, environ={})
    found = Router(config.routes).match(method=method, host="h", path=path, headers={})
    return None if found is None or found.route.name == "own" else found


@pytest.mark.parametrize(
    ("method", "path", "route", "captures"),
    [
        ("POST", "/v1/chat/completions", "chat-completions", {}),
        ("POST", "/v1/chat/completionsx", None, {}),
        ("POST", "/v1/chat/completions/", None, {}),
        ("POST", "/v1/messages", "messages", {}),
        ("POST", "/v1/messages/count_tokens", "messages", {}),
        ("POST", "/v1/messages/batches", None, {}),
        ("GET", "/v1/messages", None, {}),
        ("POST", "/v1/responses", "responses", {}),
        ("GET", "/v1/responses/resp_1", None, {}),
        ("POST", "/x/v1/chat/completions", None, {}),
        ("GET", "/v1/chat/completions", None, {}),
        ("GET", "/v1/models", "models", {}),
        ("POST", "/v1/models", None, {}),
        ("GET", "/v1/modelsx", None, {}),
        ("GET", "/v1/models/gpt-4o-mini", "models", {"model": "gpt-4o-mini"}),
        ("GET", "/v1/models/groq/openai/gpt-oss-20b", "models", {"model": "groq/openai/gpt-oss-20b"}),
        (
            "POST",
            "/v1/llm/groq/openai/gpt-oss-20b/chat/completions",
            "by-path",
            {"provider": "groq", "model": "openai/gpt-oss-20b"},
        ),
        # The engine answers for a provider that there isn't: the path is ours.
        ("POST", "/v1/llm/nobody/m/chat/completions", "by-path", {"provider": "nobody", "model": "m"}),
        # A model may be called so that the path looks like one of version 0.1.
        ("POST", "/v1/llm/mock/mock/m/chat/completions", "by-path", {"provider": "mock", "model": "mock/m"}),
        (
            "POST",
            "/acme/openai/gpt-4o-mini/chat/completions",
            "tenant-path",
            {"tenant": "acme", "provider": "openai", "model": "gpt-4o-mini"},
        ),
        (
            "POST",
            "/acme/groq/openai/gpt-oss-20b/chat/completions",
            "tenant-path",
            {"tenant": "acme", "provider": "groq", "model": "openai/gpt-oss-20b"},
        ),
        (
            "POST",
            "/v1/mock/m/chat/completions",
            "tenant-path",
            {"tenant": "v1", "provider": "mock", "model": "m"},
        ),
        ("POST", "/acme/openai/gpt-4o-mini/chat/completionsx", None, {}),
        ("POST", "/acme/nobody/m/chat/completions", None, {}),
        ("POST", "/my/own/ai/chat/completions", None, {}),
    ],
)
@pytest.mark.parametrize("prefix", ["", "/llm", "/a.b/c-d"])
def test_paths(method: str, path: str, route: str | None, captures: Json, prefix: str) -> None:
    found = match(prefix + path, method, prefix)
    assert (found and found.route.name) == (route and f"llm.{route}")
    if found:
        assert found.captures == captures
        assert found.route.response_buffering is False


def test_a_prefix_is_text() -> None:
    assert match("/a.b/v1/models", "GET", "/a.b")
    assert not match("/axb/v1/models", "GET", "/a.b")


# -- plugins


def test_keys_stay_out_of_addresses() -> None:
    assert plugins(tree(tenants("a")))["key-auth"] == {
        "key_names": ["apikey", "x-api-key", "api-key", "Authorization"],
        "hide_credentials": True,
        "key_in_query": False,
    }


def test_only_references_leave_the_file() -> None:
    text = render(load(EXAMPLE))
    assert placeholders.names(text) == [
        "DECK_ACME_API_KEY",
        "DECK_ACME_API_KEY_NEXT",
        "DECK_GLOBEX_API_KEY",
        "DECK_INITECH_API_KEY",
    ]
    # The tenants' own credentials are in their policies; the vault is asked for those of a request.
    assert placeholders.vault_names(text) == ["TENANTGATE_CACHE_KEY"]


def test_without_a_target_nothing_is_sent_anywhere() -> None:
    rendered = tree(tenants("a"))
    assert rendered["services"][0]["url"] == "https://llm.invalid"
    config = plugins(rendered)["ai-proxy"]
    assert config["model"]["options"]["upstream_url"].startswith("https://llm.invalid/")
    assert "auth" not in config
    # It logs by its own configuration; tenantgate-request takes out what no stage reads.
    assert config["logging"]["log_payloads"] is True


CLUSTER = """
version: 1
gateway:
  redis: {cluster_nodes: [{ip: redis-1}, {ip: redis-2, port: 7000}], password: '{vault://env/R}', timeout_ms: 50}
  rate_limiting: LIMITING
  audit: {spool: redis}
  policy: {path: /tmp/policy.sqlite, store: 'redis://redis-1'}
  strict_requests: false
  upstream_headers: [User-Agent, anthropic-beta]
  correlation_header: X-Trace
  responses: {keep_s: 0}
defaults: {rate_limit: {per_minute: 5}, cache: {}, audit: {}}
tenants: [{id: a, api_keys: ['${{ env "DECK_A" }}']}]
"""


def test_the_engine_gets_what_all_tenants_share() -> None:
    found = plugins(tree(CLUSTER.replace("LIMITING", "{redis: {host: limits, port: 7}}")))
    engine = found["tenantgate"]
    for redis in (engine["redis"], engine["audit"]["redis"]):
        assert redis["cluster_nodes"] == [{"ip": "redis-1", "port": 6379}, {"ip": "redis-2", "port": 7000}]
        assert redis["password"] == "{vault://env/R}"
        assert not {"host", "port"} & set(redis)
    limits = engine["rate_limit_redis"]
    assert (engine["rate_limit_policy"], limits["host"], limits["port"]) == ("redis", "limits", 7)
    assert "password" not in limits
    assert (engine["redis"]["timeout_ms"], limits["timeout_ms"]) == (20, 100)
    assert (engine["policy_path"], engine["policy_store"]) == ("/tmp/policy.sqlite", "redis://redis-1")
    assert (engine["strict_requests"], engine["correlation_header"]) == (False, "X-Trace")
    assert engine["keep_items_s"] == 0
    assert engine["upstream_headers"] == ["anthropic-beta", "User-Agent"]
    assert engine["encryption_key"] == "{vault://env/TENANTGATE_CACHE_KEY}"
    assert found["tenantgate-target"] == {
        "keep_headers": ["anthropic-beta", "User-Agent"],
        "correlation_header": "X-Trace",
        "egress_port": 8199,
    }


def test_limits_count_in_the_cluster_of_the_plugins_and_wait_as_long_as_they_may() -> None:
    engine = plugins(tree(CLUSTER.replace("LIMITING", "{}")))["tenantgate"]
    assert engine["rate_limit_redis"] == {**engine["redis"], "timeout_ms": 50}


def test_limits_may_count_in_each_process_of_the_engine() -> None:
    engine = plugins(tree(CLUSTER.replace("LIMITING", "{policy: local}")))["tenantgate"]
    assert engine["rate_limit_policy"] == "local"
    assert "rate_limit_redis" not in engine


def test_options_take_the_place_of_the_files_surroundings() -> None:
    options = RenderOptions(redis_host="r", redis_port=7, policy_path="/state/p.sqlite")
    rendered = tree(CLUSTER.replace("LIMITING", "{redis: {host: limits, port: 7}}"), options)
    engine = plugins(rendered)["tenantgate"]
    assert "cluster_nodes" not in engine["redis"]
    assert (engine["redis"]["host"], engine["redis"]["port"]) == ("r", 7)
    assert engine["policy_path"] == "/state/p.sqlite"
    assert engine["rate_limit_redis"] == {**engine["redis"], "timeout_ms": 50}
    assert "policy_store" not in engine


def test_failover_gets_the_gateways_egress_list_with_the_mock_provider_where_it_is_used() -> None:
    assert plugins(tree(tenants("a")))["tenantgate-failover"] == {"port": EGRESS_PORT}
    head = "gateway: {egress: {allow: [api.openai.com, '*.example.com']}}\n"
    options = RenderOptions(mock_url="http://127.0.0.1:7777/v1/chat/completions")
    given = plugins(tree(tenants("a", head=head), options))
    allow = ["api.openai.com", "*.example.com", "http://127.0.0.1:7777"]
    assert given["tenantgate-failover"] == {"port": EGRESS_PORT, "egress_allow": allow}
    # Which asks for tokens.
    target = given["tenantgate-target"]
    assert (target["egress_port"], target["egress_allow"]) == (EGRESS_PORT, allow)


def test_the_engine_gets_the_secrets_that_policies_only_name() -> None:
    hook = "guardrails: {webhook: {url: 'https://h/x', secret: '{vault://env/HOOK}'}}"
    found = plugins(tree(tenants("a", head=f"defaults: {{{hook}}}\n")))["tenantgate"]["secrets"]
    assert found == [{"name": "{vault://env/HOOK}", "value": "{vault://env/HOOK}"}]
    assert plugins(tree(tenants("a")))["tenantgate"]["secrets"] == []


@pytest.mark.parametrize(
    ("head", "rest", "kept"),
    [
        ("", "", False),
        ("defaults: {audit: {}}\n", "", True),
        ("", "    audit: {}\n", True),
        ("defaults: {audit: {}}\n", "    audit: {enabled: false}\n", False),
        ("defaults: {audit: {enabled: false}}\n", "    audit: {content: redacted}\n", False),
        ("defaults: {audit: {enabled: false}}\n", "    audit: {enabled: true}\n", True),
        ("", "    models: [{provider: mock, model: m, audit: {}}]\n", True),
        (
            "defaults: {audit: {}}\n",
            "    models: [{provider: mock, model: m, audit: {enabled: false}}]\n",
            False,
        ),
    ],
)
def test_the_journal_is_written_where_a_model_has_an_audit_log(head: str, rest: str, kept: bool) -> None:
    found = plugins(tree(tenants("a", head=head, rest=rest)))
    assert ("file-log" in found) is kept
    assert ("audit" in found["tenantgate"]) is kept
    if kept:
        assert found["file-log"]["path"] == found["tenantgate"]["audit"]["journal"]


def test_the_access_log_holds_no_prompts_and_no_credentials() -> None:
    assert plugins(tree(tenants("a", head="gateway: {access_log: /dev/stdout}\n")))["file-log"] == {
        "path": "/dev/stdout",
        "custom_fields_by_lua": {
            "ai.proxy.payload": "return nil",
            "request.headers.api-key": "return nil",
            "request.headers.apikey": "return nil",
            "request.headers.x-api-key": "return nil",
            "request.headers.x-goog-api-key": "return nil",
        },
    }


def test_sizes_agree() -> None:
    found = plugins(tree(tenants("a", head="gateway: {limits: {max_request_body_mb: 7}}\n")))
    assert found["request-size-limiting"] == {"allowed_payload_size": 7, "size_unit": "megabytes"}
    assert found["ai-proxy"]["max_request_body_size"] == 7 * 1024 * 1024


def test_errors_have_openais_shape_on_the_service_and_where_there_is_no_route() -> None:
    rendered = tree(tenants("a"))
    last = plugins(rendered)["post-function"]
    assert last["header_filter"][-1] == scripts.ERROR_HEAD
    assert scripts.ERROR_BODY in last["body_filter"]
    everywhere, translation = rendered["plugins"]
    assert everywhere["config"] == {
        "header_filter": [scripts.ERROR_HEAD_ELSEWHERE],
        "body_filter": [scripts.ERROR_BODY],
    }
    assert translation["config"]["only_unrouted"] is True
    assert plugins(rendered)["tenantgate-format"] == {"correlation_header": "X-Request-ID"}


def test_checks_of_replies_come_first_and_where_they_were_decided() -> None:
    last = plugins(tree(tenants("a")))["post-function"]
    assert last["header_filter"][0] == scripts.where_held(REPLY_GUARD_CHECK)
    assert last["body_filter"][0] == scripts.where_held(REPLY_GUARD_BODY)
    # Requests without a verdict are tenantgate-target's to refuse.
    assert set(last) == {"header_filter", "body_filter"}


def test_finish_reasons_are_noted_for_whom_replies_are_logged() -> None:
    found = plugins(tree(tenants("a")))
    logged = "target.log_payloads"
    assert found["post-function"]["body_filter"][-1] == scripts.where_decided(logged, scripts.FINISH_REASON)
    assert found["pre-function"]["body_filter"] == [
        scripts.ERROR_BODY,
        scripts.where_decided(logged, scripts.END_OF_STREAM),
    ]


def test_tenants_of_the_mock_are_named() -> None:
    assert uses_mock(load(ROOT / "examples/demo.yaml")) == ["acme", "globex", "hooli", "initech", "stark"]
    assert uses_mock(load(EXAMPLE)) == []


def test_kong_takes_it_by_its_own_and_our_plugins_schemas() -> None:
    conf = kong_conf.parse(
        f"plugins = bundled,{','.join(LUA_PLUGINS)}\nlua_package_path = {ROOT}/plugins/?.lua;;\n"
    )
    own = lua_plugins.load(conf, {*SCHEMAS}, LuaState(KongLog(), conf.settings, conf.lua_package_path))
    schemas: Json = {p.name: p.fields for p in own}
    schemas["tenantgate"] = [{"config": {"type": "record", "fields": kong_fields(ENGINE.config_class)}}]
    for text in (EXAMPLE.read_text(encoding="utf-8"), CLUSTER.replace("LIMITING", "{redis: {host: limits}}")):
        rendered = render(load_text(text))
        environ = {
            name: f"{name}-0123456789"
            for name in (*placeholders.names(rendered), *placeholders.vault_names(rendered))
        }
        found = declarative.load_text(
            json.dumps(placeholders.resolve_tree(yaml.safe_load(rendered), environ)),
            external=schemas,
            environ=environ,
        )
        (engine,) = [p.config for p in found.plugins if p.name == "tenantgate"]
        assert isinstance(fields.parse(ENGINE.config_class, engine, where="engine"), ENGINE.config_class)


MODELS_AS_TOOLS = "    models: [{provider: mock, model: m}]\n    mcp: [{name: models, models: [m]}]\n"


def test_chats_of_the_gateway_itself_have_a_service_without_keys() -> None:
    services = {s["name"]: s for s in tree(tenants("a", rest=MODELS_AS_TOOLS))["services"]}
    (route,) = services["mcp-models"]["routes"]
    assert (route["methods"], route["headers"]) == (["POST"], {"x-mcp-caller": ["~*^[0-9a-f]{32}$"]})
    usual = {p["name"]: p["config"] for p in services["llm"]["plugins"]}
    own = {p["name"]: p["config"] for p in services["mcp-models"]["plugins"]}
    assert usual.keys() - own.keys() == {"tenantgate-keys", "key-auth"}
    assert own.pop("tenantgate-request") == {"caller": True}
    assert all(usual[name] == own[name] for name in own)
    assert "mcp-models" not in [s["name"] for s in tree(tenants("a"))["services"]]


@pytest.mark.parametrize(
    ("head", "origins"),
    [
        ("", None),
        ("gateway: {cors: {origins: ['https://a.example']}}\n", ["https://a.example"]),
        ("gateway: {mcp: {origins: ['https://b.example']}}\n", ["https://b.example"]),
        (
            "gateway: {cors: {origins: ['https://a.example']}, mcp: {origins: ['https://b.example']}}\n",
            ["https://b.example"],
        ),
    ],
)
def test_pages_that_may_use_mcp_get_their_preflight_answered(head: str, origins: list[str] | None) -> None:
    services = {s["name"]: s for s in tree(tenants("a", rest=MODELS_AS_TOOLS, head=head))["services"]}
    (route,) = services["mcp"]["routes"]
    assert "OPTIONS" in route["methods"]
    found = {p["name"]: p["config"] for p in services["mcp"]["plugins"]}
    assert (found["cors"]["origins"] if "cors" in found else None) == origins
