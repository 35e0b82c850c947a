from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tenantgate.config import TenantsFileError, load_text
from tenantgate.config.compile import CompileOptions, compile_records
from tenantgate.config.egress import weak_settings
from tenantgate.config.providers import PROVIDERS
from tenantgate.policy.core.records import CATALOG, read_catalog, read_record

KEY = "api_keys: ['${{ env \"DECK_A\" }}']"
ALLOW = (
    '[api.openai.com, "*.openai.azure.com", "llm.example:8443", "http://plain.example", "10.1.2.3:8443", 10.0.0.0/8, '
    '"[fd00::1]"]'
)
CREDENTIAL = 'credential: "{vault://env/K}"'
OPENAI = f"{{provider: openai, model: m, {CREDENTIAL}}}"


def file(
    models: str, *, gateway: str = f"egress: {{allow: {ALLOW}}}", defaults: str = "", tenant: str = ""
) -> str:
    return (
        f"version: 1\ngateway: {{{gateway}}}\ndefaults: {{{defaults}}}\n"
        f"tenants:\n  - id: a\n    {KEY}\n    models: [{models}]\n    {tenant}\n"
    )


def problems(text: str) -> list[str]:
    try:
        load_text(text)
    except TenantsFileError as error:
        return list(error.problems)
    return []


def at(url: str) -> str:
    return f"{{provider: openai-compatible, model: m, upstream_url: {json.dumps(url)}}}"


@pytest.mark.parametrize(
    "url",
    [
        "https://api.openai.com/v1/chat",
        "https://a.b.openai.azure.com/v1/chat",
        "https://llm.example:8443/v1/chat",
        "http://plain.example/v1/chat",
        "https://10.1.2.3:8443/v1/chat",
        "https://[fd00::1]/v1/chat",
    ],
)
def test_an_address_within_the_list(url: str) -> None:
    assert problems(file(at(url))) == []


TRICKS = [
    # Other hosts, ports and schemes
    "https://evil.example/v1/chat",
    "https://api.openai.com:8443/v1/chat",
    "http://api.openai.com/v1/chat",
    "http://api.openai.com:443/v1/chat",
    "https://plain.example/v1/chat",
    "https://openai.azure.com/v1/chat",
    "https://evilopenai.azure.com/v1/chat",
    "https://api.openai.com.evil.example/v1/chat",
    "https://evil.example/api.openai.com/v1/chat",
    "https://evil.example?api.openai.com/v1/chat",
    "https://evil.example#api.openai.com/v1/chat",
    "https://llm.example/v1/chat",
    "ftp://api.openai.com/v1/chat",
    "file:///etc/passwd",
    "//api.openai.com/v1/chat",
    "api.openai.com/v1/chat",
    # User names
    "https://api.openai.com@evil.example/v1/chat",
    "https://user@api.openai.com/v1/chat",
    "https://user:pass@api.openai.com/v1/chat",
    "https://@api.openai.com/v1/chat",
    "https://evil.example\\@api.openai.com/v1/chat",
    "https://evil.example%40api.openai.com/v1/chat",
    # What programs read in different ways
    "https://API.openai.com/v1/chat",
    "https://api.openai.com./v1/chat",
    "https://api.openai.com:443/v1/chat",
    "https://api.openai.com:/v1/chat",
    "https://api.openai.com:0443/v1/chat",
    "https:/api.openai.com/v1/chat",
    "https:api.openai.com/v1/chat",
    "https:\\\\api.openai.com/v1/chat",
    "https:///api.openai.com/v1/chat",
    "https://api.openai.com\\v1/chat",
    "https://evil.example\\.openai.azure.com/v1/chat",
    "HTTPS://api.openai.com/v1/chat",
    " https://api.openai.com/v1/chat",
    "https://api.openai.com /v1/chat",
    "https://api.ope\tnai.com/v1/chat",
    "https://api.ope\nnai.com/v1/chat",
    "https://api.openai.com\x00.evil.example/v1/chat",
    "https://api%2eopenai.com/v1/chat",
    "https://%61pi.openai.com/v1/chat",
    "https://api%2Eopenai%2Ecom/v1/chat",
    "https://evil.example%2f.openai.azure.com/v1/chat",
    "https://evil.example%00.openai.azure.com/v1/chat",
    # Other letters
    "https://ａpi.openai.com/v1/chat",
    "https://api。openai。com/v1/chat",
    "https://api．openai．com/v1/chat",
    "https://аpi.openai.com/v1/chat",
    "https://xn--pi-7kc.openai.com/v1/chat",
    "https://api.openaı.com/v1/chat",
    "https://api.openai.ⓒom/v1/chat",
    "https://api.open\u00adai.com/v1/chat",
    "https://api.open\u200bai.com/v1/chat",
    "https://bücher.openai.azure.com/v1/chat",
    # Addresses
    "https://127.0.0.1/v1/chat",
    "https://localhost/v1/chat",
    "https://0x7f.1/v1/chat",
    "https://0177.0.0.1/v1/chat",
    "https://2130706433/v1/chat",
    "https://127.1/v1/chat",
    "https://0/v1/chat",
    "https://10.1.2.4:8443/v1/chat",
    "https://10.1.515:8443/v1/chat",
    "https://012.1.2.3:8443/v1/chat",
    "https://0xa.1.2.3:8443/v1/chat",
    "https://167838211:8443/v1/chat",
    "https://10.1.2.3.:8443/v1/chat",
    "https://１０.1.2.3:8443/v1/chat",
    "https://10.1.2.3/v1/chat",
    "https://10.9.9.9/v1/chat",
    "https://169.254.169.254/latest",
    "http://[::ffff:169.254.169.254]/latest",
    "https://[::ffff:10.1.2.3]:8443/v1/chat",
    "https://[::ffff:a01:203]:8443/v1/chat",
    "https://[::1]/v1/chat",
    "https://[fd00:0:0::1]/v1/chat",
    "https://[FD00::1]/v1/chat",
    "https://[fd00::1%25eth0]/v1/chat",
    "https://[fd00::2]/v1/chat",
    "https://metadata.google.internal/v1/chat",
    "{vault://env/URL}",
    '${{ env "DECK_URL" }}',
]


def test_there_are_enough_tricks() -> None:
    assert len(set(TRICKS)) == len(TRICKS) >= 60


@pytest.mark.parametrize("url", TRICKS)
def test_no_trick_leads_elsewhere(url: str) -> None:
    # Whether the field itself refuses it, or the list.
    (problem,) = problems(file(at(url)))
    assert "tenants[0].models[0].upstream_url: " in problem


@pytest.mark.parametrize("url", TRICKS)
def test_no_trick_of_a_webhook_leads_elsewhere(url: str) -> None:
    section = f"guardrails: {{webhook: {{url: {json.dumps(url)}}}}}"
    (problem,) = problems(file(OPENAI, defaults=section))
    assert "defaults.guardrails.webhook.url: " in problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            file(at("https://API.openai.com/v1/chat")),
            "tenants[0].models[0].upstream_url: is read as https://api.openai.com; write it so",
        ),
        (
            file(at("https://x.example/v1/chat")),
            "upstream_url: https://x.example isn't in gateway.egress.allow",
        ),
        (file(at("https://10.9.9.9/v1/chat")), "an address must be listed as it stands"),
        (
            file(f"{{provider: anthropic, model: m, {CREDENTIAL}}}"),
            "models[0]: https://api.anthropic.com isn't in",
        ),
        (file(f"{{provider: groq, model: m, {CREDENTIAL}}}"), "models[0]: https://api.groq.com isn't in"),
        (
            file(f"{{name: s, targets: [{OPENAI}, {{provider: mistral, model: m, {CREDENTIAL}}}]}}"),
            "models[0].targets[1]: https://api.mistral.ai isn't in gateway.egress.allow",
        ),
        (
            file(OPENAI, tenant="guardrails: {webhook: {url: 'https://h.example/x'}}"),
            "[0].guardrails.webhook.url: ",
        ),
        (
            file(OPENAI, tenant="guardrails: {webhook: {url: '{vault://env/X}'}}"),
            "is a secret, so nobody can say",
        ),
        (
            file(f"{OPENAI[:-1]}, response_guardrails: {{webhook: {{url: 'https://h.example/x'}}}}}}"),
            "tenants[0].models[0].response_guardrails.webhook.url: https://h.example isn't in",
        ),
        (
            file(
                OPENAI,
                gateway=f"egress: {{allow: {ALLOW}}}, audit: {{sinks: [{{name: s, type: otlp, url: 'https://o.example/v1'}}]}}",
            ),
            "gateway.audit.sinks[0].url: https://o.example isn't in gateway.egress.allow",
        ),
        (
            file(OPENAI, tenant='egress: {allow: ["*.openai.azure.com"]}'),
            "models[0]: https://api.openai.com isn't in the tenant's egress.allow",
        ),
        (
            file(OPENAI, defaults='egress: {allow: ["*.openai.azure.com"]}'),
            "models[0]: https://api.openai.com isn't in the tenant's egress.allow",
        ),
        (
            file(OPENAI, tenant="egress: {allow: [api.openai.com, x.example]}"),
            "tenants[0].egress.allow[1]: 'x.example' isn't within gateway.egress.allow",
        ),
        (
            file(OPENAI, defaults="egress: {allow: [x.example]}", tenant="egress: {allow: [api.openai.com]}"),
            "defaults.egress.allow[0]: 'x.example' isn't within",
        ),
        (
            file(OPENAI, gateway="", tenant="egress: {allow: [api.openai.com]}"),
            "[0].egress: needs gateway.egress",
        ),
        (
            file(OPENAI, gateway="egress: {allow: [api.openai.com, 'a b']}"),
            "egress.allow[1]: 'a b' does not match",
        ),
        (
            file(OPENAI, gateway="egress: {allow: [api.openai.com, bücher.example]}"),
            "gateway.egress.allow[1]: ",
        ),
        (file(OPENAI, gateway="egress: {allow: [api.openai.com, 10.0.0.0/99]}"), "gateway.egress.allow[1]: "),
        (file(OPENAI, gateway="egress: {allow: ['*.com']}"), "permits every name below .com"),
        (file(OPENAI, gateway="egress: {allow: []}"), "gateway.egress.allow: 0 entries"),
        (file(OPENAI, gateway="egress: {}"), "gateway.egress.allow: required"),
    ],
)
def test_each_problem_names_its_place(text: str, expected: str) -> None:
    found = problems(text)
    assert [p for p in found if expected in p], found


def test_what_else_is_asked_for_a_provider_is_within_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    with_tokens = replace(PROVIDERS["openai"], also=("https://tokens.example/x",))
    monkeypatch.setitem(PROVIDERS, "openai", with_tokens)
    (problem,) = problems(file(OPENAI))
    assert problem.endswith("models[0]: https://tokens.example isn't in gateway.egress.allow")


def test_without_a_list_every_address_is_permitted() -> None:
    webhook = "guardrails: {webhook: {url: '{vault://env/X}'}}"
    assert problems(file(at("https://API.Example:443/v1/chat"), gateway="", tenant=webhook)) == []


MOCK = "{provider: mock, model: m}"


def test_the_mock_provider_is_permitted_where_the_command_line_says_it_is() -> None:
    options = CompileOptions(mock_url="http://127.0.0.1:7777/v1/chat/completions")
    narrow = load_text(file(MOCK, tenant="egress: {allow: [api.openai.com]}"))
    records = compile_records(narrow, options)
    assert read_record("a", records["a"]).egress == ("api.openai.com", "http://127.0.0.1:7777")
    assert (read_catalog(records[CATALOG]).egress or ())[-1] == "http://127.0.0.1:7777"
    other = compile_records(load_text(file(OPENAI)), options)
    assert "http://127.0.0.1:7777" not in (read_catalog(other[CATALOG]).egress or ())


def test_the_catalog_keeps_the_gateways_list_with_its_version() -> None:
    kept = load_text(file(OPENAI, gateway="egress: {allow: [api.openai.com]}"))
    assert read_catalog(compile_records(kept)[CATALOG]).egress == ("api.openai.com",)
    without = replace(kept, gateway=replace(kept.gateway, egress=None))
    assert read_catalog(compile_records(without)[CATALOG]).egress is None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"ssl_cipher_suite": "old"}, ["ssl_cipher_suite"]),
        ({"ssl_cipher_suite": "modern"}, []),
        ({"nginx_proxy_proxy_ssl_verify": "OFF"}, ["nginx_proxy_proxy_ssl_verify"]),
        ({"nginx_proxy_proxy_ssl_verify": "on"}, []),
        (
            {"nginx_http_lua_ssl_conf_command": "CipherString DEFAULT:@SECLEVEL=0"},
            ["nginx_http_lua_ssl_conf_command"],
        ),
    ],
)
def test_settings_of_kong_that_make_names_worthless(settings: dict[str, str], expected: list[str]) -> None:
    assert [name for name, _ in weak_settings(settings)] == expected
