from __future__ import annotations

from pathlib import Path

import pytest

from tenantgate import fields
from tenantgate.config import TenantsFileError, load, load_text
from tenantgate.config.model import TenantsFile
from tenantgate.errors import ConfigError
from tenantgate.features import features, plugins

from support import ROOT

A_MODEL = "tenants[0].models[0]"
OWN_VAULT = "name a vault of your own in gateway.vaults"
KEY = """'${{ env "DECK_A" }}'"""
HEAD = "version: 1\ntenants:\n"
TENANT = f"{HEAD}  - id: a\n    api_keys: [{KEY}]\n"
MODEL = f"{TENANT}    models:\n"


def problems(text: str) -> list[str]:
    with pytest.raises(TenantsFileError) as caught:
        load_text(text)
    return list(caught.value.problems)


@pytest.mark.parametrize("name", ["tenants.yaml", "examples/demo.yaml"])
def test_the_examples_are_right(name: str) -> None:
    assert len(load(ROOT / name).tenants) >= 3


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(ROOT / "nowhere.yaml")


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_bytes(b"version: \xff")
    with pytest.raises(ConfigError, match="isn't UTF-8"):
        load(tmp_path / "t.yaml")


def test_a_tenant_without_models_gets_the_mock() -> None:
    (tenant,) = load_text(TENANT).tenants
    assert [(m.provider, m.model) for m in tenant.models] == [("mock", "mock-small")]


@pytest.mark.parametrize(
    ("text", "line", "where", "what"),
    [
        ("", 1, "", "is empty"),
        ("a: [", 1, "", "isn't YAML"),
        ("- a", 1, "", "must be a mapping"),
        (
            TENANT.replace("tenants:", "gateway: {upstream_headers: [X-A, 'X B']}\ntenants:"),
            2,
            "gateway.upstream_headers[1]",
            "'X B' does not match",
        ),
        (TENANT.replace("version: 1", "version: 2"), 1, "version", "2 is outside 1 to 1"),
        ("version: 1", 1, "tenants", "required"),
        ("version: 1\ntenants: []", 2, "tenants", "0 entries, takes at least 1"),
        ("version: 1\ntenants: {}", 2, "tenants", "must be a list"),
        (f"{TENANT}tenant: []", 5, "tenant", "must be a mapping"),
        (f"{TENANT}tenans: []", 5, "tenans", "unknown field; did you mean 'tenants'?"),
        (f"{TENANT}zzz: []", 5, "zzz", "unknown field; known are version, gateway"),
        (f"{TENANT}version: 1", 5, "version", "given twice, first in line 1"),
        (f"{TENANT}gateway: {{redis: {{port: 0}}}}", 5, "gateway.redis.port", "outside 1 to 65535"),
        (f"{TENANT}gateway: {{redis: {{port: x}}}}", 5, "gateway.redis.port", "must be a number"),
        (
            f"{TENANT}gateway:\n  redis:\n    host: r\n    cluster_nodes: [{{ip: a}}]",
            7,
            "gateway.redis.host",
            "cluster_nodes is given, too",
        ),
        (
            f"{TENANT}gateway:\n  redis:\n    cluster_nodes: [{{ip: a}}]\n    port: 7",
            8,
            "gateway.redis.port",
            "give one of the two",
        ),
        (
            f"{TENANT}gateway:\n  redis:\n    cluster_nodes: [{{ip: a}}]\n    database: 1",
            8,
            "gateway.redis.database",
            "a cluster has no other than 0",
        ),
        (
            f"{TENANT}gateway: {{redis: {{cluster_nodes: [{{ip: a, host: b}}]}}}}",
            5,
            "gateway.redis.cluster_nodes[0].host",
            "unknown field",
        ),
        (
            f"{TENANT}gateway:\n  rate_limiting: {{policy: local, redis: {{host: a}}}}",
            6,
            "gateway.rate_limiting.redis",
            "isn't used with policy local",
        ),
        (f"{TENANT}gateway:\n  correlation_header: apiKey", 6, "gateway.correlation_header", "take another"),
        (f"{TENANT}gateway:\n  path_prefix: llm", 6, "gateway.path_prefix", "does not match"),
        (f"{TENANT}    rate_limit: {{}}", 5, "tenants[0].rate_limit", "needs one of per_second"),
        (
            f"{TENANT}    rate_limit: {{per_minute: 9, per_hour: 8}}",
            5,
            "tenants[0].rate_limit.per_hour",
            "8 is less than per_minute (9)",
        ),
        (f"{HEAD}  - api_keys: [{KEY}]", 3, "tenants[0].id", "required"),
        (f"{HEAD}  - id: a\n    api_keys: []", 4, "tenants[0].api_keys", "at least 1"),
        (TENANT.replace("DECK_A", "A_KEY"), 4, "tenants[0].api_keys[0]", "begins with DECK_"),
        (f"{MODEL}      - {{model: m}}", 6, f"{A_MODEL}.provider", "required"),
        (
            f"{MODEL}      - provider: opnai\n        model: m",
            6,
            f"{A_MODEL}.provider",
            "'opnai' is not one of openai, anthropic",
        ),
        (f"{MODEL}      - {{provider: mock, model: a//b}}", 6, f"{A_MODEL}.model", "does not match"),
        (f"{MODEL}      - {{provider: mock, model: ../b}}", 6, f"{A_MODEL}.model", "does not match"),
        (f'{MODEL}      - {{provider: mock, model: "b\\n"}}', 6, f"{A_MODEL}.model", "does not match"),
        (TENANT.replace("id: a", 'id: "a\\n"'), 3, "tenants[0].id", "does not match"),
        (f"{MODEL}      - {{provider: mock, model: 4}}", 6, f"{A_MODEL}.model", "write it in quotes"),
        (f"{MODEL}      - {{provider: openai, model: m}}", 6, f"{A_MODEL}.credential", "for openai"),
        (
            f"{MODEL}      - {{provider: mock, model: m, top_k: 3}}",
            6,
            f"{A_MODEL}.top_k",
            "it isn't sent to mock",
        ),
        (
            f"{MODEL}      - {{provider: openai-compatible, model: m}}",
            6,
            f"{A_MODEL}.upstream_url",
            "required for openai-compatible",
        ),
        (
            f"{MODEL}      - {{provider: mock, model: m}}\n      - {{provider: mock, model: m}}",
            7,
            "tenants[0].models[1]",
            "mock m is models[0] already",
        ),
        (
            f"{TENANT}  - id: a\n    api_keys: ['${{{{ env \"DECK_B\" }}}}']",
            5,
            "tenants[1].id",
            "'a' is the id of tenants[0] already",
        ),
        (f"{TENANT}  - id: b\n    api_keys: [{KEY}]", 6, "tenants[1].api_keys[0]", "DECK_A is tenants[0]"),
        (
            f"{TENANT}    cache: {{cache_tll: 3}}",
            5,
            "tenants[0].cache.cache_tll",
            "did you mean 'cache_ttl'?",
        ),
        (
            f"{TENANT}    cache: {{cache_ttl: 0}}",
            5,
            "tenants[0].cache.cache_ttl",
            "0 is outside 1 to 315360000",
        ),
        (f"{TENANT}    cache: {{enabled: 1}}", 5, "tenants[0].cache.enabled", "must be true or false"),
        (f"{TENANT}    cache: {{namespace: x}}", 5, "tenants[0].cache.namespace", "set it there"),
        (f"{TENANT}    <<: {{id: b}}", 5, "tenants[0]", "merge key"),
        (f"{TENANT}    ? [1]\n    : 2", 5, "tenants[0]", "must be a text"),
    ],
)
def test_each_problem_names_its_place_and_what_would_be_right(
    text: str, line: int, where: str, what: str
) -> None:
    (problem,) = problems(text)
    head = f"tenants.yaml:{line}: {where}: " if where else f"tenants.yaml:{line}: "
    assert problem.startswith(head)
    assert what in problem


def test_all_problems_come_at_once_in_the_order_of_the_file() -> None:
    found = problems(
        "version: 3\ntenants:\n  - id: 'a b'\n    api_keys: [plain]\n    models:\n"
        "      - {provider: x, model: m}\n      - {provider: mock}\nzzz: 1\n"
    )
    assert [p.split(":")[1] for p in found] == ["1", "3", "4", "6", "7", "8"]


@pytest.mark.parametrize(
    "tenant_id", ["a:b", "{x}", "a b", "", "🦊", "a/b", "..", "~x", "x" * 65, "a\\nb", "é"]
)
def test_ids_that_could_not_be_a_path_are_refused(tenant_id: str) -> None:
    (problem,) = problems(f'{HEAD}  - id: "{tenant_id}"\n    api_keys: [{KEY}]\n')
    assert problem.startswith("tenants.yaml:3: tenants[0].id: ")


@pytest.mark.parametrize("tenant_id", ["true", "no", "12", "1.5", "null", "[]", "{}"])
def test_ids_that_yaml_reads_as_something_else_are_refused(tenant_id: str) -> None:
    (problem,) = problems(f"{HEAD}  - id: {tenant_id}\n    api_keys: [{KEY}]\n")
    assert problem.startswith("tenants.yaml:3: tenants[0].id: ")


def test_a_date_is_the_text_that_it_looks_like() -> None:
    assert load_text(f"{HEAD}  - id: 2024-01-01\n    api_keys: [{KEY}]\n").tenants[0].id == "2024-01-01"


SECRET = "sk-live-not-to-be-seen"  # a marker, not a credential


@pytest.mark.parametrize(
    "text",
    [
        f"{HEAD}  - id: a\n    api_keys: [{SECRET}]\n",
        f"{HEAD}  - id: a\n    api_keys: ['{{vault://env/{SECRET}}}']\n",
        f"{MODEL}      - {{provider: openai, model: m, credential: {SECRET}}}\n",
        f"{MODEL}      - {{provider: openai, model: m, credential: 'Bearer {SECRET}'}}\n",
        f"{TENANT}gateway: {{redis: {{password: {SECRET}}}}}\n",
        f"{TENANT}gateway: {{encryption_key: {SECRET}}}\n",
        f"{TENANT}gateway: {{redis: {{password: [{SECRET}]}}}}\n",
    ],
)
def test_secrets_as_plain_values_are_refused_and_not_repeated(text: str) -> None:
    (problem,) = problems(text)
    assert SECRET not in problem


@pytest.mark.parametrize(
    ("name", "right"),
    [("acme-openai", True), ("acme.json/openai", True), ("../x", False), ("a?prefix=/etc", False)],
)
def test_files_of_secrets_are_named_without_a_path(name: str, right: bool) -> None:
    text = f"{MODEL}      - {{provider: openai, model: m, credential: '{{vault://file/{name}}}'}}\n"
    if right:
        load_text(text)
    else:
        assert "{vault://file/NAME}" in problems(text)[0]


def test_deep_nesting_is_refused() -> None:
    found = problems(f"{TENANT}    cache: {{cache_ttl: " + "[" * 100 + "]" * 100 + "}\n")
    assert "nested too deeply" in found[0]
    assert problems("[" * 50_000)[0].startswith("tenants.yaml:1: isn't YAML")


RULES = "{rules: [{name: x, detector: patterns, patterns: [{name: P, regex: '(('}]}]}"


@pytest.mark.parametrize(
    ("text", "line", "where"),
    [
        (f"{TENANT}    guardrails: {RULES}\n", 5, "tenants[0].guardrails"),
        (f"{MODEL}      - {{provider: mock, model: m, guardrails: {RULES}}}\n", 6, f"{A_MODEL}.guardrails"),
        (
            f"{TENANT}    guardrails: {{}}\ndefaults:\n  guardrails:\n    {RULES[1:-1]}\n",
            8,
            "defaults.guardrails",
        ),
    ],
)
def test_what_rules_lack_is_told_where_they_are(text: str, line: int, where: str) -> None:
    (found,) = problems(text)
    assert found.startswith(f"tenants.yaml:{line}: {where}: rules.x.patterns.P: ")


def test_a_problem_of_the_defaults_is_told_once() -> None:
    other = TENANT.removeprefix(HEAD).replace("a\n", "b\n").replace("DECK_A", "DECK_B")
    (found,) = problems(f"{TENANT}{other}defaults:\n  guardrails: {RULES}\n")
    assert found.startswith("tenants.yaml:8: defaults.guardrails: ")


def test_off_without_quotes_is_the_word() -> None:
    sinks = "gateway: {audit: {sinks: [{name: f, type: file, path: a.jsonl}]}}\n"
    (tenant,) = load_text(f"{TENANT}    audit: {{content: off}}\n{sinks}").tenants
    assert tenant.plugins["audit"] == {"content": "off"}


SINK = "{{name: one, type: otlp, url: 'http://c/v1/traces', tenants: [{}]}}"


@pytest.mark.parametrize(
    ("sinks", "told"),
    [
        (SINK.format("b"), "5: gateway.audit.sinks[0].tenants[0]: no tenant is called 'b'"),
        (f"{SINK.format('a')}, {SINK.format('a')}", "5: gateway.audit.sinks[1].name: two are called one"),
        ("{name: one, type: otlp}", "5: gateway.audit.sinks[0]: one, of type otlp, needs url"),
    ],
)
def test_what_is_wrong_with_a_sink_stands_at_the_sink(sinks: str, told: str) -> None:
    (found,) = problems(f"{TENANT}gateway: {{audit: {{sinks: [{sinks}]}}}}\n")
    assert found == f"tenants.yaml:{told}"


def test_an_issuers_tenants_are_there() -> None:
    issuer = "issuer: 'https://l.example', audience: [x], jwks_url: 'https://l.example/k', tenant_claim: org"
    issuer = f"{{{issuer}, tenants: [aa]}}"
    (found,) = problems(
        f"{TENANT}gateway: {{mcp: {{oauth: {{resource: 'https://ai.example', issuers: [{issuer}]}}}}}}\n"
    )
    assert "gateway.mcp.oauth.issuers[0].tenants[0]: no tenant is called 'aa'; did you mean 'a'?" in found


PATTERN = "guardrails: {rules: [{name: x, detector: patterns, patterns: [{name: P, regex: %s}]}]}"


@pytest.mark.parametrize(
    "number", ["0600", "0x10", "0b11", "1_000", "1:00", "1:30:00", "-0777", "+0x1F", "1_0.5", "190:20:30.15"]
)
def test_numbers_that_yaml_1_1_reads_in_another_base_are_refused(number: str) -> None:
    (found,) = problems(f"{TENANT}    cache: {{cache_ttl: {number}}}\n")
    assert found.startswith("tenants.yaml:5: tenants[0].cache.cache_ttl: is a number in another base to YAML")
    assert number not in found.partition("cache_ttl: ")[2]


@pytest.mark.parametrize("number", ["600", "+600", "6.0e+2", "600.", "600.0"])
def test_decimal_numbers_are_read(number: str) -> None:
    (tenant,) = load_text(f"{TENANT}    cache: {{cache_ttl: {number}}}\n").tenants
    assert tenant.plugins["cache"]["cache_ttl"] == 600


@pytest.mark.parametrize("number", ["99999999999999999999", "0", "-1", "1.5", ".inf", ".nan"])
def test_numbers_that_nothing_could_work_with_are_refused(number: str) -> None:
    for field in ("cache_ttl", "max_entries", "max_megabytes"):
        (found,) = problems(f"{TENANT}    cache: {{{field}: {number}}}\n")
        assert found.startswith(f"tenants.yaml:5: tenants[0].cache.{field}: ")
    (found,) = problems(f"{TENANT}gateway: {{limits: {{max_request_body_mb: {number}}}}}\n")
    assert found.startswith("tenants.yaml:5: gateway.limits.max_request_body_mb: ")


@pytest.mark.parametrize(
    "value", ["!!bool x", "!!int x", "!!float x", "!!binary x", "!!python/object:os.system x"]
)
def test_values_that_their_tag_denies_are_named(value: str) -> None:
    (found,) = problems(f"{TENANT}gateway: {{redis: {{port: {value}}}}}\n")
    assert found.startswith("tenants.yaml:5: gateway.redis.port: ")


@pytest.mark.parametrize(
    ("regex", "told"),
    [
        (r'"\bfoo\b"', r"U+0008: in double quotes YAML reads \b as that; write the text in single quotes"),
        (r'"\P{L}+"', "U+2029: in double quotes YAML reads"),
        (r'"\eabc"', "U+001B"),
        (r'"\x7f"', "U+007F"),
    ],
)
def test_escapes_that_yaml_takes_from_an_expression_are_told(regex: str, told: str) -> None:
    (found,) = problems(f"{TENANT}    {PATTERN % regex}\n")
    assert found.startswith(
        "tenants.yaml:5: tenants[0].guardrails.rules[0].patterns[0].regex: holds the control "
    )
    assert told in found


@pytest.mark.parametrize("regex", ["'a*'", "'(foo)?'", "'|foo'", "'^'", "'$'", r"'\b'", "'()'"])
def test_expressions_that_match_the_empty_text_are_refused(regex: str) -> None:
    (found,) = problems(f"{TENANT}    {PATTERN % regex}\n")
    assert "rules.x.patterns.P: the expression matches " in found


@pytest.mark.parametrize("regex", [r"'\bfoo\b'", "'(foo)?bar'", r'"\tfoo\n"', r'"\\bfoo"'])
def test_expressions_that_find_something_are_taken(regex: str) -> None:
    assert load_text(f"{TENANT}    {PATTERN % regex}\n").tenants


def test_all_that_does_not_fit_together_in_a_section_is_named() -> None:
    text = f"""{TENANT}
    compression:
      pruner: llmlingua
      compression_ranges: [{{min_tokens: 9, max_tokens: 9, value: 2}}]
"""
    assert [
        problem.replace("tenants[0].compression: ", "").partition(";")[0] for problem in problems(text)
    ] == [
        "tenants.yaml:6: pruner_model: required for pruner llmlingua",
        "tenants.yaml:8: compression_ranges[0].max_tokens: 9 is not above min_tokens",
        "tenants.yaml:8: compression_ranges[0].value: 2.0 is no share",
    ]


OPENAI_LIKE = f"{MODEL}      - {{provider: openai-compatible, model: m, upstream_url: 'URL'}}\n"


@pytest.mark.parametrize(
    "url",
    [
        "https://h/v1",
        "https://h/v1/",
        "http://h:8000/",
        "https://h/openai/v1",
        "https://h/api",
        "https://h/v1beta",
    ],
)
def test_an_upstream_without_its_operation_is_refused(url: str) -> None:
    (found,) = problems(OPENAI_LIKE.replace("URL", url))
    assert "upstream_url: ends before the operation; give the full address" in found


@pytest.mark.parametrize("url", ["https://h/v1/chat/completions", "https://h/llm", "http://h:1/v1/messages"])
def test_an_upstream_with_an_operation_is_taken(url: str) -> None:
    assert load_text(OPENAI_LIKE.replace("URL", url)).tenants


def test_every_whole_number_has_a_lower_and_an_upper_bound() -> None:
    sections = [feature.gateway.config_class for feature in features() if feature.gateway]
    roots = (TenantsFile, *sections, *(plugin.config_class for plugin in plugins()))
    unbounded = [
        f"{cls.__name__}.{f.name}"
        for cls in _classes(*roots)
        for f in fields.fields_of(cls).values()
        if isinstance(one := _one(f.shape), fields.Scalar) and one.type is int and f.spec.between is None
    ]
    assert unbounded == []


def _classes(*found: type) -> set[type]:
    shapes = [_one(f.shape) for cls in found for f in fields.fields_of(cls).values()]
    records = [shape.cls for shape in shapes if isinstance(shape, fields.Record)]
    return set(found) | (_classes(*records) if records else set())


def _one(shape: fields.Shape) -> fields.Shape:
    """The shape of each value where there are many."""
    match shape:
        case fields.Many(inner) | fields.Table(inner):
            return _one(inner)
    return shape


@pytest.mark.parametrize(
    ("fields", "where", "what"),
    [
        (
            "provider: gemini, credential: '{vault://env/A}', upstream_url: 'https://h/v1beta/models/m:generateContent'",
            "upstream_url",
            "end in /chat/completions",
        ),
        ("provider: bedrock, aws_region: eu-west-1", "aws_access_key_id", "required for bedrock"),
        (
            "provider: bedrock, aws_region: eu-west-1, aws_access_key_id: '{vault://env/A}'",
            "aws_secret_access_key",
            "required for bedrock",
        ),
        (
            "provider: bedrock, aws_region: eu-west-1, aws_access_key_id: '{vault://env/A}', credential: '{vault://env/B}'",
            "aws_access_key_id",
            "give one of the two",
        ),
        ("provider: bedrock, credential: '{vault://env/B}'", "aws_region", "required for bedrock"),
        (
            "provider: openai, credential: '{vault://env/B}', aws_secret_access_key: '{vault://env/A}'",
            "aws_secret_access_key",
            "isn't used with openai",
        ),
        (
            "provider: vertex, gcp_project_id: p-1, gcp_location_id: europe-west1",
            "gcp_service_account_json",
            "required",
        ),
        ("provider: vllm", "upstream_url", "required for vllm"),
        ("provider: openai, credential: '{vault://env/B}', top_k: 3", "top_k", "isn't sent to openai"),
    ],
)
def test_what_a_provider_needs_and_what_it_has_no_use_for(fields: str, where: str, what: str) -> None:
    text = TENANT + f"    models: [{{model: m, {fields}}}]\n"
    found = problems(text)
    assert any(f".{where}: " in problem and what in problem for problem in found), found


def test_bedrocks_address_is_that_before_the_operation() -> None:
    model = "provider: bedrock, model: m, aws_region: eu-west-1, credential: '{vault://env/B}'"
    assert load_text(TENANT + f"    models: [{{{model}, upstream_url: 'https://vpce.example/'}}]\n").tenants


def test_a_vault_that_nobody_knows_is_a_problem_with_its_field_and_the_nearest_name(tmp_path: Path) -> None:
    text = (
        MODEL + '      - {provider: openai, model: a, credential: "{vault://fiel/key}"}\n'
        '      - {provider: openai, model: b, credentials: ["{vault://env/K}", "{vault://hcv/key}"]}\n'
        '    mcp: [{name: x, openapi: o.json, upstream: "https://a.b", tools: [{name: t}], headers: {A: "{vault://emv/x}"}}]\n'
        "# {vault://remark/x}\n"
    )
    known = "known are env, file"
    assert problems(text) == [
        f"tenants.yaml:6: {A_MODEL}.credential: there is no vault 'fiel'; {known}; did you mean 'file'?",
        f"tenants.yaml:7: tenants[0].models[1].credentials[1]: there is no vault 'hcv'; {known}; {OWN_VAULT}",
        f"tenants.yaml:8: tenants[0].mcp[0].headers.A: there is no vault 'emv'; {known}; did you mean 'env'?",
    ]
    assert load_text("gateway: {vaults: [fiel, hcv, emv]}\n" + text)
    (tmp_path / "gateway.yaml").write_text("version: 1\ngateway: {vaults: [fiel, emv]}\n")
    (tmp_path / "tenants.yaml").write_text(text)
    with pytest.raises(TenantsFileError) as caught:
        load(tmp_path)
    assert [p.partition(": there")[0] for p in caught.value.problems] == [
        f"{tmp_path}/tenants.yaml:7: tenants[0].models[1].credentials[1]"
    ]
