from __future__ import annotations

import random
import re
from dataclasses import replace
from typing import Any

import pytest
import yaml

from tenantgate.config import RenderOptions, load, load_text, render, scripts
from tenantgate.config import deck_variables as placeholders
from tenantgate.config.providers import PROVIDERS
from tenantgate.config.render import uses_mock
from tenantgate.errors import ConfigError
from tenantgate.guard.scripts import GUARD_CHECK, REPLY_GUARD_BODY, REPLY_GUARD_CHECK

from support import ROOT

EXAMPLE = ROOT / "tenants.yaml"
Json = dict[str, Any]


def tree(text: str) -> Json:
    found: Json = yaml.safe_load(render(load_text(text)))
    return found


def one(model: str, rest: str = "") -> Json:
    """The route of the one model of a file."""
    text = (
        "version: 1\ndefaults: {cache: {cache_ttl: 60}}\n"
        f"tenants:\n  - id: a\n    api_keys: ['${{{{ env \"DECK_A\" }}}}']\n    models: [{{{model}}}]\n{rest}"
    )
    route: Json = tree(text)["services"][0]["routes"][0]
    return route


def plugins(entity: Json) -> dict[str, Json]:
    found = {p["name"]: p["config"] for p in entity["plugins"]}
    assert len(found) == len(entity["plugins"]), "a plugin stands once in a scope"
    return found


def test_the_same_file_gives_the_same_bytes_whatever_its_order() -> None:
    file = load(EXAMPLE)
    tenants = list(file.tenants)
    random.Random(7).shuffle(tenants)
    mixed = replace(file, tenants=tuple(replace(t, models=t.models[::-1]) for t in tenants))
    assert render(mixed) == render(file)


def test_a_tenants_entities() -> None:
    rendered = yaml.safe_load(render(load(EXAMPLE)))
    assert rendered["_format_version"] == "3.0"
    acme = rendered["consumers"][0]
    assert (acme["username"], acme["custom_id"], acme["acls"]) == (
        "tenant_acme",
        "acme",
        [{"group": "tenant_acme"}],
    )
    (service,) = rendered["services"]
    assert [r["name"] for r in service["routes"]] == [
        "llm.anthropic.claude-3-5-haiku-20241022.acme",
        "llm.gemini.gemini-2.0-flash.globex",
        "llm.groq.llama-3.1-8b-instant.globex",
        "llm.groq.openai~2Fgpt-oss-20b.initech",
        "llm.openai.gpt-4o-mini.acme",
        "llm.openai.gpt-4o-mini.initech",
    ]
    for route in service["routes"]:
        tenant = route["name"].rpartition(".")[2]
        assert plugins(route)["acl"] == {"allow": [f"tenant_{tenant}"], "hide_groups_header": True}
        assert route["response_buffering"] is False
        assert route["paths"][0].startswith(f"/{tenant}/")


def test_each_client_key_opens_as_a_key_and_as_a_bearer_token() -> None:
    consumer = yaml.safe_load(render(load(ROOT / "examples/demo.yaml")))["consumers"][0]
    key = '${{ env "DECK_ACME_API_KEY" }}'
    assert consumer["keyauth_credentials"] == [{"key": key}, {"key": f"Bearer {key}"}]


def test_only_references_leave_the_file() -> None:
    text = render(load(EXAMPLE))
    assert placeholders.names(text) == [
        "DECK_ACME_API_KEY",
        "DECK_ACME_API_KEY_NEXT",
        "DECK_GLOBEX_API_KEY",
        "DECK_INITECH_API_KEY",
    ]
    assert "TENANTGATE_CACHE_KEY" in placeholders.vault_names(text)


@pytest.mark.parametrize(
    ("provider", "more", "kong", "header", "options"),
    [
        ("openai", "", "openai", "Authorization", None),
        ("anthropic", "", "anthropic", "x-api-key", {"anthropic_version": "2023-06-01"}),
        ("gemini", "", "gemini", "x-goog-api-key", None),
        (
            "groq",
            "",
            "openai",
            "Authorization",
            {"upstream_url": "https://api.groq.com/openai/v1/chat/completions"},
        ),
        ("mistral", "", "mistral", "Authorization", {"mistral_format": "openai"}),
        (
            "azure",
            ", azure_instance: i, azure_deployment_id: d",
            "azure",
            "api-key",
            {"azure_instance": "i", "azure_deployment_id": "d", "azure_api_version": "2024-10-21"},
        ),
        (
            "openai-compatible",
            ", upstream_url: 'http://vllm:8000/v1/chat/completions'",
            "openai",
            "Authorization",
            {"upstream_url": "http://vllm:8000/v1/chat/completions"},
        ),
    ],
)
def test_providers(provider: str, more: str, kong: str, header: str, options: Json | None) -> None:
    route = one(f"provider: {provider}, model: m, credential: '{{vault://env/K}}'{more}")
    config = plugins(route)["ai-proxy"]
    assert config["model"]["provider"] == kong
    assert config["auth"] == {"header_name": header, "header_value": "{vault://env/K}"}
    assert config["model"].get("options") == options


def test_every_provider_is_tried_here() -> None:
    tried = {"openai", "anthropic", "gemini", "groq", "mistral", "azure", "openai-compatible", "mock"}
    assert tried == set(PROVIDERS)


def test_the_mock_takes_its_address_from_the_options() -> None:
    file = load(ROOT / "examples/demo.yaml")
    text = render(file, RenderOptions(mock_url="http://127.0.0.1:9/x", redis_host="r", redis_port=7))
    service = yaml.safe_load(text)["services"][0]
    assert {plugins(r)["ai-proxy"]["model"]["options"]["upstream_url"] for r in service["routes"]} == {
        "http://127.0.0.1:9/x"
    }
    assert {p["config"]["redis"]["host"] for p in yaml.safe_load(text)["plugins"][:-1]} == {"r"}
    assert uses_mock(file) == ["acme", "globex", "hooli", "initech"]
    assert uses_mock(load(EXAMPLE)) == []


CLUSTER = """
version: 1
gateway:
  redis: {cluster_nodes: [{ip: redis-1}, {ip: redis-2, port: 7000}], password: '{vault://env/R}', timeout_ms: 50}
  rate_limiting: LIMITING
  audit: {spool: redis}
defaults: {rate_limit: {per_minute: 5}, cache: {}, guardrails: {rules: []}, audit: {}}
tenants: [{id: a, api_keys: ['${{ env "DECK_A" }}']}]
"""


def test_a_cluster_is_the_plugins_and_rate_limits_have_their_own_redis() -> None:
    text = render(load_text(CLUSTER.replace("LIMITING", "{redis: {host: limits, port: 7}}")))
    tree = yaml.safe_load(text)
    ours = plugins(tree["services"][0]["routes"][0])
    for redis in (
        ours["tenant-semantic-cache"]["redis"],
        ours["tenant-guardrails"]["redis"],
        ours["tenant-audit-log"]["pipeline"]["redis"],
    ):
        assert redis["cluster_nodes"] == [{"ip": "redis-1", "port": 6379}, {"ip": "redis-2", "port": 7000}]
        assert redis["password"] == "{vault://env/R}"
        assert not {"host", "port"} & set(redis)
    limit, _errors = tree["plugins"]
    assert limit["config"]["policy"] == "redis"
    assert (limit["config"]["redis"]["host"], limit["config"]["redis"]["port"]) == ("limits", 7)
    assert "password" not in limit["config"]["redis"]


def test_limits_may_count_in_each_kong_node() -> None:
    text = render(load_text(CLUSTER.replace("LIMITING", "{policy: local}")))
    limit, _errors = yaml.safe_load(text)["plugins"]
    assert limit["config"] == {"minute": 5, "limit_by": "consumer", "policy": "local"}


def test_the_development_redis_takes_the_place_of_a_cluster() -> None:
    file = load_text(CLUSTER.replace("LIMITING", "{redis: {host: limits, port: 7}}"))
    text = render(file, RenderOptions(redis_host="r", redis_port=7))
    assert "host: limits" not in text
    assert "cluster_nodes" not in text
    assert yaml.safe_load(text)["plugins"][0]["config"]["redis"]["host"] == "r"


def upstream(model: str, rest: str = "") -> tuple[set[str], list[str]]:
    """The headers that reach the provider on a route, and what else is done after ai-proxy in access."""
    hide, only, *more = plugins(one(model, rest))["post-function"]["access"]
    assert hide == scripts.HIDE_CALLER
    assert "ngx.req.get_headers(0)" in only
    keep = set(re.findall(r'\["([\w-]+)"\] = true', only))
    http = {"connection", "content-length", "content-type", "expect", "host", "transfer-encoding"}
    assert http < keep
    return keep - http, more


@pytest.mark.parametrize(
    ("model", "headers", "more"),
    [
        (
            "provider: openai, model: m, credential: '{vault://env/K}'",
            {"accept-encoding", "authorization"},
            [scripts.BEARER],
        ),
        (
            "provider: gemini, model: m, credential: '{vault://env/K}'",
            {"accept-encoding", "x-goog-api-key"},
            [],
        ),
        ("provider: mock, model: m", {"accept-encoding"}, []),
        (
            "provider: openai-compatible, model: m, upstream_url: 'http://h/chat/completions'",
            {"accept-encoding"},
            [],
        ),
        (
            "provider: anthropic, model: m, credential: '{vault://env/K}'",
            {"accept-encoding", "x-api-key", "anthropic-version"},
            [scripts.PACKED, scripts.PLAIN_REPLY],
        ),
        (
            "provider: mistral, model: m, credential: '{vault://env/K}'",
            {"accept-encoding", "authorization"},
            [scripts.BEARER, scripts.PACKED],
        ),
    ],
)
def test_only_headers_that_are_set_on_the_way_reach_a_provider(
    model: str, headers: set[str], more: list[str]
) -> None:
    assert upstream(model) == (headers, more)


def test_an_operator_lets_headers_through_and_the_cache_keeps_their_answers_apart() -> None:
    text = (
        "version: 1\ngateway: {upstream_headers: [User-Agent, anthropic-beta]}\ndefaults: {cache: {}}\n"
        "tenants: [{id: a, api_keys: ['${{ env \"DECK_A\" }}']}]\n"
    )
    route = tree(text)["services"][0]["routes"][0]
    assert '["anthropic-beta"] = true' in plugins(route)["post-function"]["access"][1]
    assert plugins(route)["tenant-semantic-cache"]["upstream_headers"] == ["anthropic-beta", "User-Agent"]
    for taken in ("Authorization", "x-api-key", "Cookie", "X-Forwarded-For", "anthropic-version"):
        with pytest.raises(ConfigError, match=r"upstream_headers\[1\]: .* can't be the client's"):
            load_text(text.replace("anthropic-beta", taken))


def test_strict_requests_are_the_plugins_own_default() -> None:
    rest = "    guardrails: {}\n    compression: {}\n    audit: {}\n"
    found = plugins(one("provider: mock, model: m", rest))
    ours = ["tenant-audit-log", "tenant-prompt-compressor", "tenant-guardrails", "tenant-semantic-cache"]
    assert [name for name in found if name.startswith("tenant-")] == ours
    assert not any("strict_requests" in found[name] for name in ours)
    text = "version: 1\ngateway: {strict_requests: false}\ndefaults: {cache: {}, guardrails: {}}\n"
    route = tree(text + "tenants: [{id: a, api_keys: ['${{ env \"DECK_A\" }}']}]\n")["services"][0]["routes"][
        0
    ]
    assert plugins(route)["tenant-semantic-cache"]["strict_requests"] is False
    assert plugins(route)["tenant-guardrails"]["strict_requests"] is False


def test_replies_are_logged_and_finish_reasons_noted_only_for_the_cache() -> None:
    on, off = (
        one("provider: mock, model: m"),
        one("provider: mock, model: m", "    cache: {enabled: false}\n"),
    )
    assert plugins(on)["ai-proxy"]["logging"] == {"log_statistics": True, "log_payloads": True}
    assert plugins(on)["post-function"]["body_filter"] == [scripts.ERROR_BODY, scripts.FINISH_REASON]
    assert plugins(off)["ai-proxy"]["logging"] == {"log_statistics": True, "log_payloads": False}
    assert plugins(off)["post-function"]["body_filter"] == [scripts.ERROR_BODY]
    assert "tenant-semantic-cache" not in plugins(off)


def test_errors_have_openais_shape_on_routes_and_where_there_is_none() -> None:
    assert plugins(one("provider: mock, model: m"))["post-function"]["header_filter"] == [scripts.ERROR_HEAD]
    everywhere = tree(EXAMPLE.read_text(encoding="utf-8"))["plugins"][-1]
    assert everywhere == {
        "name": "post-function",
        "config": {"header_filter": [scripts.ERROR_HEAD_ELSEWHERE], "body_filter": [scripts.ERROR_BODY]},
    }


FIRST = {"access": [scripts.ANY_BEARER, scripts.NO_QUERY], "header_filter": [scripts.ERROR_HEAD_EARLY]}


def test_anthropics_stop_reason_is_noted_before_kong_drops_it() -> None:
    route = one("provider: anthropic, model: m, credential: '{vault://env/K}'")
    filters = [scripts.ERROR_BODY, scripts.END_OF_STREAM, scripts.ANTHROPIC_STOP_REASON]
    assert plugins(route)["pre-function"] == {**FIRST, "body_filter": filters}


def test_the_end_of_a_stream_is_marked_but_for_geminis_which_are_no_events() -> None:
    mock = plugins(one("provider: mock, model: m"))["pre-function"]
    assert mock == {**FIRST, "body_filter": [scripts.ERROR_BODY, scripts.END_OF_STREAM]}
    gemini = one("provider: gemini, model: m, credential: '{vault://env/K}'")
    assert plugins(gemini)["pre-function"] == {**FIRST, "body_filter": [scripts.ERROR_BODY]}


def test_a_level_changes_only_what_it_names() -> None:
    rest = "    cache: {max_wrong_rate: 0.01}\n"
    cache = plugins(one("provider: mock, model: m, cache: {cache_ttl: 5}", rest))["tenant-semantic-cache"]
    assert (cache["cache_ttl"], cache["max_wrong_rate"]) == (5, 0.01)
    assert cache["namespace"] == "llm.mock.m.a"
    assert cache["encryption_key"] == "{vault://env/TENANTGATE_CACHE_KEY}"


def test_rate_limits_are_the_tenants_or_the_models_own() -> None:
    rendered = yaml.safe_load(render(load(EXAMPLE)))
    *found, _errors = rendered["plugins"]
    limits = {(p["consumer"], p.get("service") or p.get("route")): p["config"] for p in found}
    assert limits["tenant_acme", "llm"]["minute"] == 600
    assert limits["tenant_acme", "llm.anthropic.claude-3-5-haiku-20241022.acme"]["minute"] == 60
    assert (limits["tenant_globex", "llm"]["minute"], limits["tenant_globex", "llm"]["hour"]) == (1200, 20000)
    for config in limits.values():
        assert (config["policy"], config["limit_by"], config["fault_tolerant"]) == ("redis", "consumer", True)
        assert config["redis"]["timeout"] == 100


def test_sizes_agree() -> None:
    text = EXAMPLE.read_text(encoding="utf-8").replace("max_request_body_mb: 4", "max_request_body_mb: 7")
    (service,) = tree(text)["services"]
    assert plugins(service)["request-size-limiting"] == {"allowed_payload_size": 7, "size_unit": "megabytes"}
    assert plugins(service["routes"][0])["ai-proxy"]["max_request_body_size"] == 7 * 1024 * 1024


def test_the_access_log_holds_no_prompts_and_no_credentials() -> None:
    text = EXAMPLE.read_text(encoding="utf-8").replace("gateway:\n", "gateway:\n  access_log: /dev/stdout\n")
    (service,) = tree(text)["services"]
    assert plugins(service)["file-log"] == {
        "path": "/dev/stdout",
        "custom_fields_by_lua": {
            "ai.proxy.payload": "return nil",
            "request.headers.x-api-key": "return nil",
            "request.headers.x-goog-api-key": "return nil",
        },
    }


def test_keys_stay_out_of_addresses() -> None:
    (service,) = tree(EXAMPLE.read_text(encoding="utf-8"))["services"]
    assert plugins(service)["key-auth"] == {
        "key_names": ["apikey", "Authorization"],
        "hide_credentials": True,
        "key_in_query": False,
    }


def guarded(guardrails: str, replies: str = "{enabled: false}") -> dict[str, Json]:
    rest = f"    guardrails: {guardrails}\n    response_guardrails: {replies}\n"
    return plugins(one("provider: openai, model: gpt-4o-mini, credential: '{vault://env/K}'", rest))


BLOCK = "{name: secrets, detector: secrets, mode: block}"


def test_a_guard_that_only_alerts_closes_nothing() -> None:
    found = guarded("{}")
    assert "guards" not in found["tenant-semantic-cache"]
    assert GUARD_CHECK not in found["post-function"]["access"]
    assert found["post-function"]["header_filter"] == [scripts.ERROR_HEAD]


def test_a_guard_that_blocks_closes_the_route_first_of_all() -> None:
    found = guarded(f"{{rules: [{BLOCK}]}}")
    assert found["post-function"]["access"][0] == GUARD_CHECK
    assert found["tenant-semantic-cache"]["guards"] == ["tenant-guardrails"]
    assert found["tenant-guardrails"]["redis"]["host"] == "127.0.0.1"
    open_ = guarded(f"{{rules: [{BLOCK}], on_error: pass}}")
    assert GUARD_CHECK not in open_["post-function"]["access"]


def test_a_guard_of_replies_that_blocks_closes_them() -> None:
    found = guarded("{enabled: false}", "{rules: [{name: s, detector: secrets, mode: mask, target: reply}]}")
    assert "tenant-guardrails" not in found
    assert found["post-function"]["header_filter"] == [REPLY_GUARD_CHECK, scripts.ERROR_HEAD]
    assert found["post-function"]["body_filter"] == [
        REPLY_GUARD_BODY,
        scripts.ERROR_BODY,
        scripts.FINISH_REASON,
    ]
    assert found["tenant-semantic-cache"]["guards"] == ["tenant-response-guardrails"]


def test_recovering_brings_the_guard_of_replies_along() -> None:
    found = guarded("{recover_redacted: true, rules: [{name: p, detector: personal_data, mode: mask}]}")
    assert found["tenant-response-guardrails"]["recover_redacted"] is True
    assert found["tenant-semantic-cache"]["guards"] == ["tenant-guardrails", "tenant-response-guardrails"]


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        ("[{name: a, detector: injection, mode: mask}]", "finds no words that could be masked"),
        ("[{name: a, detector: denied_topics}]", "needs examples"),
        ("[{name: a, detector: patterns}]", "needs expressions"),
        (f"[{BLOCK}, {BLOCK}]", "two rules have this name"),
        (
            "[{name: a, detector: secrets, mode: block, target: reply}]",
            "only tenant-response-guardrails can block",
        ),
        ("[{name: a, detector: personal_data, kinds: [SHOE_SIZE]}]", "SHOE_SIZE is not one of"),
        ("[{name: a, detector: patterns, patterns: [{name: P, regex: '(?=x)'}]}]", "RE2"),
        ("[{name: a, detector: nonsense}]", "is not one of"),
    ],
)
def test_rules_that_do_not_hold_together_are_refused_by_name(rules: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        guarded(f"{{rules: {rules}}}")
