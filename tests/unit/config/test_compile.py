from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantgate.config import load, load_text
from tenantgate.config.compile import CompileOptions, compile_records, stage_references
from tenantgate.config.documents import documents
from tenantgate.config.providers import PROVIDERS
from tenantgate.errors import ConfigError
from tenantgate.policy.core.names import find_model
from tenantgate.policy.core.records import (
    CATALOG,
    ModelPolicy,
    Routing,
    TenantPolicy,
    read_catalog,
    read_record,
    write_catalog,
    write_record,
)

from support import ROOT

EXAMPLES = ["tenants.yaml", "examples/demo.yaml", "tests/e2e/tenants.yaml"]


def policy(model: str, rest: str = "", tenant: str = "", **options: Any) -> TenantPolicy:
    """The policy of a file's one tenant."""
    text = (
        f"version: 1\n{rest}\ntenants:\n  - id: a\n    api_keys: ['${{{{ env \"DECK_A\" }}}}']\n{tenant}\n"
        f"    models: [{model}]\n"
    )
    return read_record("a", compile_records(load_text(text), CompileOptions(**options))["a"])


def one(model: str, rest: str = "", tenant: str = "", **options: Any) -> ModelPolicy:
    (found,) = policy(f"{{{model}}}", rest, tenant, **options).models
    return found


MOCK = "provider: mock, model: m"


def test_the_same_tenants_give_the_same_bytes_whatever_their_order() -> None:
    file = load(ROOT / EXAMPLES[0])
    tenants = list(file.tenants)
    random.Random(7).shuffle(tenants)
    mixed = compile_records(replace(file, tenants=tuple(tenants)))
    assert list(mixed.items()) == list(compile_records(file).items())


_PARTS = {
    "rate_limit": ["{per_minute: 5}", "{per_minute: 6}"],
    "key_rate_limit": ["{per_minute: 2}"],
    "budgets": [
        "[{name: month, max_budget: 5, on_store_down: open}]",
        "[{name: month, max_budget: 5, match: {models: [m]}}]",
    ],
    "token_limits": ["[{name: t, count: total_tokens, limit: 9, window: 1m}]"],
    "cache": ["{cache_ttl: 60}", "{enabled: false}"],
    "mcp": ["[{name: models, models: [m]}]", "[{name: models, models: [m], title: T}]"],
}


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries({}, optional={k: st.sampled_from(v) for k, v in _PARTS.items()}),
        min_size=2,
        max_size=5,
    )
)
def test_a_tenants_record_doesnt_depend_on_what_others_have_in_common_with_it(parts: list[Any]) -> None:
    priced = "{provider: mock, model: m, input_cost: 1, output_cost: 2}"
    texts = [
        f"  - id: t{i}\n    api_keys: ['${{{{ env \"DECK_{i}\" }}}}']\n    models: [{priced}]\n"
        + "".join(f"    {name}: {value}\n" for name, value in values.items())
        for i, values in enumerate(parts)
    ]
    together = compile_records(load_text("version: 1\ntenants:\n" + "".join(texts)))
    for i, text in enumerate(texts):
        alone = compile_records(load_text("version: 1\ntenants:\n" + text))
        assert together[f"t{i}"] == alone[f"t{i}"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_record_read_and_written_is_the_same_bytes(name: str) -> None:
    file, folder = load(ROOT / name), (ROOT / name).parent
    records = compile_records(file, CompileOptions(documents=documents(file, folder)))
    catalog = records.pop(CATALOG)
    assert write_catalog(read_catalog(catalog)) == catalog
    for tenant, raw in records.items():
        assert write_record(read_record(tenant, raw)) == raw


def test_the_catalog_names_the_models_of_all_tenants_and_no_alias() -> None:
    lines = "".join(
        f"  - {{id: {t}, api_keys: ['${{{{ env \"DECK_{t}\" }}}}'], models: [{{{model}, aliases: [{t}-x]}}]}}\n"
        for t, model in (("a", MOCK), ("b", "provider: mock, model: n/o"))
    )
    records = compile_records(load_text(f"version: 1\ntenants:\n{lines}"))
    assert read_catalog(records[CATALOG]).models == {"m", "mock/m", "n/o", "mock/n/o"}


def test_models_keep_the_order_of_the_file_which_decides_what_a_name_means() -> None:
    found = policy(f"{{provider: openai-compatible, model: m, upstream_url: 'https://h/x/y'}}, {{{MOCK}}}")
    first = find_model(found, "m")
    assert first is not None
    assert first.qualified == "openai-compatible/m"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("{vault://env/A-b}", "{vault://env/A-b}"),
        ("{vault://aws/x/y}", "{vault://aws/x/y}"),
        ('${{ env "DECK_A_1" }}', "{vault://env/DECK_A_1}"),
        ('${{env "DECK_A"}}', "{vault://env/DECK_A}"),
    ],
)
def test_credentials_are_references(given: str, expected: str) -> None:
    (target,) = one(f"provider: openai, model: m, credential: '{given}'", "gateway: {vaults: [aws]}").targets
    assert (target.credential, target.header_name, target.bearer) == (expected, "Authorization", True)


def test_a_variable_that_kong_would_not_find_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"tenant a, openai/m: credential: .* call it DECK_KEY"):
        one("provider: openai, model: m, credential: '${{ env \"DECK_Key\" }}'")


def test_a_plain_value_never_gets_into_a_record() -> None:
    text = "version: 1\ntenants:\n  - id: a\n    api_keys: ['${{ env \"DECK_A\" }}']\n    models:\n"
    file = load_text(f"{text}      - {{provider: openai, model: m, credential: '{{vault://env/A}}'}}\n")
    model = replace(file.tenants[0].models[0], credential="sk-plain")
    file = replace(file, tenants=(replace(file.tenants[0], models=(model,)),))
    with pytest.raises(ConfigError, match="credential: is no vault reference") as caught:
        compile_records(file)
    assert "sk-plain" not in str(caught.value)


HOOK = "guardrails: {webhook: {url: 'https://h/plain', secret: '%s'}}"


def test_what_a_record_refers_to_is_what_the_engine_gets_of_kong() -> None:
    models = (
        f"{{{MOCK}}}, {{provider: openai, model: n, credential: '{{vault://env/OWN}}', "
        "response_guardrails: {webhook: {url: '{vault://env/U}', secret: '{vault://env/B}'}}}"
    )
    shared, own = HOOK % "{vault://env/A}", HOOK % '${{ env "DECK_W" }}'
    file = load_text(
        f"version: 1\ndefaults: {{{shared}}}\ntenants:\n  - id: a\n"
        f"    api_keys: ['${{{{ env \"DECK_K\" }}}}']\n    {own}\n    models: [{models}]\n"
    )
    refs = ["{vault://env/A}", "{vault://env/B}", "{vault://env/DECK_W}", "{vault://env/U}"]
    assert stage_references(file) == refs
    first = read_record("a", compile_records(file)["a"]).models[0]
    assert first.stages["guardrails"]["webhook"]["secret"] == "{vault://env/DECK_W}"


def test_an_expression_that_looks_like_a_reference_is_none() -> None:
    rule = "{name: x, detector: denied_topics, phrases: ['{vault://env/X}']}"
    tenant = f"  - id: a\n    api_keys: ['${{{{ env \"DECK_A\" }}}}']\n    guardrails: {{rules: [{rule}]}}\n"
    assert stage_references(load_text(f"version: 1\ntenants:\n{tenant}")) == []


BLOCKS = "guardrails: {rules: [{name: s, detector: secrets, mode: block}]}"


@pytest.mark.parametrize(
    ("rest", "flags"),
    [
        ("", (False, False, False)),
        (", guardrails: {}", (False, False, False)),
        (f", {BLOCKS}", (True, False, False)),
        (f", {BLOCKS[:-1]}, on_error: pass}}", (False, False, False)),
        (", cache: {}", (False, False, True)),
        (", cache: {enabled: false}", (False, False, False)),
        (", cache: {on_error: reject}", (True, False, True)),
        (", cache: {mode: cache_only}", (True, False, True)),
        (", compression: {stop_on_error: true}", (True, False, False)),
        (", audit: {}", (False, False, True)),
        (", audit: {content: 'off'}", (False, False, False)),
        (", response_guardrails: {}", (False, True, False)),
        (", guardrails: {recover_redacted: true}", (False, True, False)),
    ],
)
def test_flags_follow_from_the_stages(rest: str, flags: tuple[bool, bool, bool]) -> None:
    found = one(MOCK + rest)
    assert (found.fail_closed, found.reply_guard, found.log_payloads) == flags


def test_a_limit_that_rejects_without_redis_fails_closed() -> None:
    limit = ", rate_limit: {per_day: 1}"
    gateway = "gateway: {rate_limiting: {on_error: reject}}"
    assert (one(MOCK + limit, gateway).fail_closed, one(MOCK + limit).fail_closed) == (True, False)


def test_sections_are_merged_field_by_field_and_gates_are_named() -> None:
    found = one(
        f"{MOCK}, input_cost: 1, output_cost: 2, cache: {{cache_ttl: 3}}, compression: {{input_cost: 9}}",
        "defaults: {cache: {cache_ttl: 1, candidates: 7}, audit: {}}",
        f"    {BLOCKS[:-1]}, recover_redacted: true}}\n    cache: {{cache_ttl: 2}}",
    )
    assert found.stages["cache"] == {
        "cache_ttl": 3,
        "candidates": 7,
        "guards": ["tenant-guardrails", "tenant-response-guardrails"],
    }
    assert found.stages["response_guardrails"] == {"recover_redacted": True}
    assert found.stages["audit"] == {}
    prices = found.targets[0].prices
    assert prices is not None
    assert prices.periods[0].prices == {"input": 1_000_000_000, "output": 2_000_000_000}
    assert found.stages["compression"] == {"input_cost": 9}


TENANT = {"per_minute": 9}
WHERE = {"policy": "redis", "on_error": "pass", "model_name": "mock/m"}


@pytest.mark.parametrize(
    ("model", "tenant", "defaults", "limits"),
    [
        ("", "", "", None),
        ("", "", "{per_minute: 9}", {"tenant": TENANT}),
        ("", "rate_limit: {per_day: 2}", "{per_minute: 9}", {"tenant": {"per_day": 2}}),
        (", rate_limit: {per_hour: 3}", "rate_limit: {per_day: 2}", "", {"model": {"per_hour": 3}}),
        ("", "key_rate_limit: {per_second: 1}", "", {"key": {"per_second": 1}}),
        (
            ", rate_limit: {per_hour: 3}",
            "key_rate_limit: {per_second: 1}",
            "{per_minute: 9}",
            {"model": {"per_hour": 3}, "key": {"per_second": 1}},
        ),
    ],
)
def test_a_models_own_limit_stands_in_place_of_the_tenants(
    model: str, tenant: str, defaults: str, limits: dict[str, Any] | None
) -> None:
    found = one(MOCK + model, f"defaults: {{rate_limit: {defaults}}}" if defaults else "", f"    {tenant}")
    assert found.stages.get("limits") == (limits and {**limits, **WHERE})


FIELDS = {
    "azure": "azure_instance: a, azure_deployment_id: b, credential: '{vault://env/A}'",
    "bedrock": "aws_access_key_id: '{vault://env/A}', aws_secret_access_key: '{vault://env/B}', aws_region: eu-west-1",
    "mock": "",
    "openai-compatible": "upstream_url: 'https://h/x/y'",
    "vertex": "gcp_service_account_json: '{vault://env/A}', gcp_project_id: p-1, gcp_location_id: europe-west4",
    "vllm": "upstream_url: 'https://h/x/y'",
}


def at(provider: str, more: str = "") -> Any:
    """The target of a model of the provider's, with the fields that it needs."""
    fields = FIELDS.get(provider, "credential: '{vault://env/A}'")
    (target,) = one(
        ", ".join(filter(None, (f"provider: {provider}", "model: m:1", fields, more))), mock_url="http://m/x"
    ).targets
    return target


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_replies_that_are_read_come_in_a_form_that_can_be(provider: str) -> None:
    packed = {"anthropic": "gzip, identity", "mistral": "gzip, identity"}.get(provider)
    assert at(provider).accept_encoding == packed


USAGE = {"stream_usage": "asked"}
GOOGLE = (
    "https://europe-west4-aiplatform.googleapis.com/v1/projects/p-1/locations/europe-west4/endpoints/openapi"
)


@pytest.mark.parametrize(
    ("provider", "name", "options"),
    [
        ("openai", "m:1", {"tenantgate": USAGE}),
        (
            "anthropic",
            "m:1",
            {"anthropic_version": "2023-06-01", "tenantgate": {"stream_usage": "built-in", "top_k": True}},
        ),
        (
            "gemini",
            "m:1",
            {
                "upstream_url": "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
                "tenantgate": {**USAGE, "counts": "gemini", "provider": "gemini"},
            },
        ),
        (
            "vertex",
            "google/m:1",
            {
                "upstream_url": f"{GOOGLE}/chat/completions",
                "tenantgate": {**USAGE, "counts": "gemini", "provider": "vertex"},
            },
        ),
        (
            "bedrock",
            "m:1",
            {
                "bedrock": {"aws_region": "eu-west-1"},
                "tenantgate": {"stream_usage": "built-in", "top_k": True},
            },
        ),
        (
            "cohere",
            "m:1",
            {
                "upstream_url": "https://api.cohere.ai/compatibility/v1/chat/completions",
                "tenantgate": {"stream_usage": "implied", "provider": "cohere"},
            },
        ),
        ("mistral", "m:1", {"mistral_format": "openai", "tenantgate": {"stream_usage": "implied"}}),
        (
            "azure",
            "m:1",
            {
                "azure_instance": "a",
                "azure_deployment_id": "b",
                "azure_api_version": "2024-10-21",
                "tenantgate": USAGE,
            },
        ),
        (
            "huggingface",
            "m:1",
            {
                "upstream_url": "https://router.huggingface.co/v1/chat/completions",
                "tenantgate": {**USAGE, "provider": "huggingface", "top_k": True},
            },
        ),
        (
            "ollama",
            "m:1",
            {
                "upstream_url": "http://127.0.0.1:11434/v1/chat/completions",
                "tenantgate": {**USAGE, "provider": "ollama"},
            },
        ),
        (
            "vllm",
            "m:1",
            {"upstream_url": "https://h/x/y", "tenantgate": {**USAGE, "provider": "vllm", "top_k": True}},
        ),
        (
            "openai-compatible",
            "m:1",
            {"upstream_url": "https://h/x/y", "tenantgate": {**USAGE, "top_k": True}},
        ),
        ("mock", "m:1", {"upstream_url": "http://m/x", "tenantgate": USAGE}),
    ],
)
def test_each_provider_has_its_address_its_name_of_the_model_and_its_options(
    provider: str, name: str, options: dict[str, Any]
) -> None:
    found = at(provider)
    assert (found.name, dict(found.options)) == (name, options)


@pytest.mark.parametrize(
    ("provider", "more", "asked"),
    [
        ("openai", "", "asked"),
        ("openai", "include_usage: false", "off"),
        ("azure", "azure_api_version: 2024-06-01", "off"),
        ("azure", "azure_api_version: 2025-01-01-preview", "asked"),
        ("mistral", "include_usage: false", "implied"),
    ],
)
def test_a_stream_is_asked_for_its_usage_where_the_provider_takes_that(
    provider: str, more: str, asked: str
) -> None:
    assert at(provider, more).options["tenantgate"]["stream_usage"] == asked


@pytest.mark.parametrize(
    ("provider", "secrets"),
    [
        ("openai", {}),
        ("bedrock", {"aws_access_key_id": "{vault://env/A}", "aws_secret_access_key": "{vault://env/B}"}),
        ("vertex", {"gcp_service_account_json": "{vault://env/A}"}),
    ],
)
def test_a_credential_of_another_kind_is_a_reference_too(provider: str, secrets: dict[str, str]) -> None:
    found = at(provider)
    assert found.secrets == secrets
    assert (found.credential is None) is bool(secrets)


def test_bedrock_takes_a_key_of_its_own_too() -> None:
    model = "provider: bedrock, model: m, aws_region: eu-west-1, credential: '{vault://env/A}'"
    (found,) = one(model).targets
    assert (found.header_name, found.credential, found.bearer, found.secrets) == (
        "Authorization",
        "{vault://env/A}",
        True,
        {},
    )


def test_vertex_has_a_global_location() -> None:
    model = f"provider: vertex, model: m, {FIELDS['vertex']}".replace("europe-west4", "global")
    url = one(model).targets[0].options["upstream_url"]
    assert url.startswith("https://aiplatform.googleapis.com/v1/projects/p-1/locations/global/endpoints/")


def test_the_mock_is_where_the_options_say() -> None:
    own = one(f"{MOCK}, upstream_url: 'http://own/x/y'", mock_url="http://m/x").targets[0].options
    assert own["upstream_url"] == "http://own/x/y"


def test_aliases_are_in_the_record() -> None:
    assert one(f"{MOCK}, aliases: [fast, smart]").aliases == ("fast", "smart")


SMART = (
    "{name: smart, aliases: [best], streaming: deny, targets: ["
    "{provider: openai, model: gpt, credentials: ['{vault://env/A}', '{vault://env/B}'], max_tokens: 9, region: us}, "
    "{provider: anthropic, model: claude, credential: '{vault://env/C}', weight: 7, context_window: 200000}, "
    "{provider: openai, model: gpt, credential: '{vault://env/A}', upstream_url: 'https://eu.api.openai.com/v1/x'}]%s}"
)


def test_each_credential_of_each_target_is_a_target_with_an_id_of_its_own() -> None:
    (found,) = policy(SMART % "").models
    assert (found.qualified, found.aliases, found.route_name) == (
        "tenantgate/smart",
        ("best",),
        "llm.tenantgate.smart.a",
    )
    assert [(t.id, t.credential) for t in found.targets] == [
        ("openai/gpt", "{vault://env/A}"),
        ("openai/gpt#2", "{vault://env/B}"),
        ("anthropic/claude", "{vault://env/C}"),
        ("openai/gpt#3", "{vault://env/A}"),
    ]
    first, _, third, last = found.targets
    assert (first.options["max_tokens"], first.region, first.bearer, first.weight) == (9, "us", True, 100)
    assert (third.weight, third.context_window, third.header_name, third.bearer) == (
        7,
        200000,
        "x-api-key",
        False,
    )
    assert last.options["upstream_url"] == "https://eu.api.openai.com/v1/x"
    assert {t.response_streaming for t in found.targets} == {"deny"}


def test_a_credential_that_kong_would_not_find_names_its_target() -> None:
    model = (SMART % "").replace("'{vault://env/C}'", "'${{ env \"DECK_c\" }}'")
    with pytest.raises(ConfigError, match=r"tenant a, tenantgate/smart: targets\[1\].credential: .* DECK_C"):
        policy(model)


def test_the_clients_may_ask_by_name_alias_and_qualified_name() -> None:
    found = policy(SMART % "")
    for name in ("smart", "best", "tenantgate/smart"):
        assert find_model(found, name) is found.models[0]
    assert find_model(found, "gpt") is None


USUAL = Routing(connect_ms=5_000, ttft_ms=60_000, streaming_total_ms=600_000, non_streaming_total_ms=300_000)
TWO = "name: s, targets: [{provider: mock, model: m}, {provider: mock, model: n}]"


@pytest.mark.parametrize(
    ("model", "rest", "expected"),
    [
        (MOCK, "", None),
        ("name: s, targets: [{provider: mock, model: m}]", "", None),
        (MOCK, "gateway: {egress: {allow: ['http://127.0.0.1:8089']}}", replace(USUAL, retries=0)),
        (f"{MOCK}, timeouts: {{connect_s: 1}}", "", replace(USUAL, retries=0, connect_ms=1000)),
        (f"{MOCK}, failover: {{max_fails: 9}}", "", replace(USUAL, retries=0, max_fails=9)),
        (
            f"{MOCK}, timeouts: {{}}",
            "gateway: {timeouts: {connect_s: 2, read_s: 30}}",
            replace(USUAL, retries=0, connect_ms=2000, non_streaming_total_ms=30_000),
        ),
        (TWO, "", replace(USUAL, retries=1)),
        (
            f"{TWO[:-1]}, {{provider: mock, model: o}}, {{provider: mock, model: p}}]",
            "",
            replace(USUAL, retries=2),
        ),
        (
            f"{TWO[:-1]}, {{provider: mock, model: o}}, {{provider: mock, model: p}}], failover: {{retries: 3}}",
            "",
            replace(USUAL, retries=3),
        ),
        (
            f"{TWO}, failover: {{failover_criteria: [error, timeout], fail_timeout_s: 7}}",
            "",
            replace(USUAL, retries=1, failover_criteria=("error", "timeout"), fail_timeout_ms=7000),
        ),
        (
            f"{TWO}, failover: {{retries: 0, failover_criteria: []}}",
            "",
            replace(USUAL, retries=0, failover_criteria=()),
        ),
        (
            f"{TWO}, balance: consistent-hashing, hash_on_header: X-S",
            "",
            replace(USUAL, retries=1, balance="consistent-hashing", hash_on_header="X-S"),
        ),
        (
            f"{TWO}, timeouts: {{streaming: {{ttft_s: 3, total_s: 4}}, non_streaming: {{total_s: 5}}}}",
            "",
            replace(USUAL, retries=1, ttft_ms=3000, streaming_total_ms=4000, non_streaming_total_ms=5000),
        ),
    ],
)
def test_the_routing_of_a_model(model: str, rest: str, expected: Routing | None) -> None:
    assert one(model, rest).routing == expected


def test_a_tenants_share_is_in_its_record_where_it_isnt_everybodys() -> None:
    assert policy(f"{{{MOCK}}}", "", "    weight: 300").weight == 300
    assert policy(f"{{{MOCK}}}").weight == 100
    text = (
        f"version: 1\ntenants: [{{id: a, api_keys: ['${{{{ env \"DECK_A\" }}}}'], models: [{{{MOCK}}}]}}]\n"
    )
    assert b"weight" not in compile_records(load_text(text))["a"].partition(b"targets")[2].partition(b"]")[2]


def test_a_tenants_own_hosts_are_in_its_record() -> None:
    assert policy(f"{{{MOCK}}}").egress is None
    model = "{provider: openai-compatible, model: m, upstream_url: 'https://a.b.example/v1/x'}"
    shared = "gateway: {egress: {allow: ['*.b.example']}}\n"
    assert policy(model, shared).egress is None
    shared += "defaults: {egress: {allow: [a.b.example, b.b.example]}}"
    assert policy(model, shared).egress == ("a.b.example", "b.b.example")
    assert policy(model, shared, "    egress: {allow: ['*.b.example']}").egress == ("*.b.example",)
