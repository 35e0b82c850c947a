from __future__ import annotations

import ipaddress

import pytest

from failover_lua import Module

EGRESS = Module("egress")
POLICY, HOST = EGRESS.raw("policy"), EGRESS.raw("host")


def policies(*lists: list[str]) -> object:
    return EGRESS._lua.table_from([POLICY(EGRESS.table(each)) for each in lists])


def allowed(lists: list[list[str]], scheme: str, host: str, port: int, *resolved: str) -> bool:
    """Whether a URL may be asked at all of the addresses that its host stands for."""
    found = HOST(host)
    text, literal = found if isinstance(found, tuple) else (found, None)
    made = policies(*lists)
    if text is None or EGRESS.raw("refused_host")(made, scheme, text, literal, port):
        return False
    if literal is not None:
        return True
    packed = [ipaddress.ip_address(address).packed.decode("latin-1") for address in resolved or ("8.8.8.8",)]
    return not any(EGRESS.raw("refused_address")(made, each) for each in packed)


@pytest.mark.parametrize(
    ("pattern", "scheme", "host", "port"),
    [
        ("api.openai.com", "https", "api.openai.com", 443),
        ("api.openai.com", "https", "API.OpenAI.com", 443),
        ("api.openai.com", "https", "api.openai.com.", 443),
        ("API.openai.com.", "https", "api.openai.com", 443),
        ("api.openai.com:8443", "https", "api.openai.com", 8443),
        ("https://api.openai.com", "https", "api.openai.com", 443),
        ("*.openai.azure.com", "https", "acme.openai.azure.com", 443),
        ("*.openai.azure.com", "https", "a.b.openai.azure.com", 443),
        ("*.example.com:8443", "https", "x.example.com", 8443),
        ("http://mock", "http", "mock", 80),
        ("http://127.0.0.1:8089", "http", "127.0.0.1", 8089),
        ("10.1.2.3:8443", "https", "10.1.2.3", 8443),
        ("8.8.8.8", "https", "8.8.8.8", 443),
        ("[fd00::1]:8443", "https", "fd00::1", 8443),
        ("[fd00::1]:8443", "https", "[fd00:0::1]", 8443),
    ],
)
def test_what_a_pattern_permits(pattern: str, scheme: str, host: str, port: int) -> None:
    assert allowed([[pattern]], scheme, host, port)
    assert not allowed([[]], scheme, host, port)
    assert not allowed([[pattern]], scheme, host, port + 1)


@pytest.mark.parametrize(
    ("pattern", "scheme", "host", "port"),
    [
        ("api.openai.com", "http", "api.openai.com", 443),
        ("api.openai.com", "http", "api.openai.com", 80),
        ("http://api.openai.com", "https", "api.openai.com", 80),
        ("api.openai.com", "https", "api.openai.com.evil.example", 443),
        ("api.openai.com", "https", "xapi.openai.com", 443),
        ("api.openai.com", "https", "api.openai.com@evil.example", 443),
        ("api.openai.com", "https", "api.openai.com\x00.evil.example", 443),
        ("api.openai.com", "https", "api.openai.com:443", 443),
        ("api.openai.com", "https", "api.openai.com/", 443),
        ("api.openai.com", "https", "api.openai.com..", 443),
        ("api.openai.com", "https", " api.openai.com", 443),
        ("api.openai.com", "https", "api%2eopenai.com", 443),
        ("api.openai.com", "https", "ａｐｉ.openai.com".encode().decode("latin-1"), 443),
        ("api.openai.com", "https", "xn--pi-7kc.openai.com", 443),
        ("*.openai.azure.com", "https", "openai.azure.com", 443),
        ("*.openai.azure.com", "https", ".openai.azure.com", 443),
        ("*.openai.azure.com", "https", "evilopenai.azure.com", 443),
        ("*.openai.azure.com", "https", "a..openai.azure.com", 443),
        ("*.0.0.1", "https", "127.0.0.1", 443),
        ("*.com", "https", "8.8.8.8", 443),
        ("*", "https", "api.openai.com", 443),
        ("*.", "https", "api.openai.com", 443),
        ("a*.openai.com", "https", "api.openai.com", 443),
        ("10.0.0.0/8", "https", "10.1.2.3", 443),
        ("127.0.0.1", "https", "0x7f.1", 443),
        ("127.0.0.1", "https", "127.1", 443),
        ("127.0.0.1", "https", "2130706433", 443),
        ("127.0.0.1", "https", "0x7f000001", 443),
        ("127.0.0.1", "https", "0177.0.0.1", 443),
        ("127.0.0.1", "https", "::ffff:127.0.0.1", 443),
        ("127.0.0.1", "https", "127.0.0.1.", 443),
        ("127.0.0.1", "https", "localhost", 443),
        ("api.openai.com:", "https", "api.openai.com", 443),
        ("api.openai.com:0443", "https", "api.openai.com", 44),
        ("api.openai.com:99999", "https", "api.openai.com", 99999),
        ("ftp://api.openai.com", "ftp", "api.openai.com", 443),
        ("", "https", "", 443),
        ("", "https", "api.openai.com", 443),
    ],
)
def test_what_a_pattern_doesnt_permit(pattern: str, scheme: str, host: str, port: int) -> None:
    assert not allowed([[pattern]], scheme, host, port)


def test_what_isnt_a_text_permits_nothing() -> None:
    made = EGRESS._lua.table_from([POLICY(EGRESS._lua.table_from([1, True, EGRESS._lua.table()]))])
    assert EGRESS.raw("refused_host")(made, "https", "api.openai.com", None, 443) == "host"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "::1",
        "fd00::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "fe80::1",
    ],
)
def test_a_name_that_stands_for_a_private_address_is_refused(address: str) -> None:
    assert not allowed([["api.openai.com"]], "https", "api.openai.com", 443, address)
    assert not allowed([["api.openai.com"]], "https", "api.openai.com", 443, "8.8.8.8", address)
    named = f"{address}/128" if ":" in address else f"{address}/32"
    assert allowed([["api.openai.com", named]], "https", "api.openai.com", 443, address, "8.8.8.8")


def test_a_range_permits_what_is_in_it_alone() -> None:
    lists = [["vllm.internal", "10.0.0.0/8"]]
    assert allowed(lists, "https", "vllm.internal", 443, "10.255.0.1")
    assert allowed(lists, "https", "vllm.internal", 443, "::ffff:10.255.0.1")
    assert not allowed(lists, "https", "vllm.internal", 443, "11.0.0.1", "192.168.0.1")


def test_every_list_has_to_permit() -> None:
    gateway, tenant = ["api.openai.com", "api.anthropic.com"], ["api.openai.com"]
    assert allowed([gateway, tenant], "https", "api.openai.com", 443)
    assert not allowed([gateway, tenant], "https", "api.anthropic.com", 443)
    assert not allowed([tenant, gateway], "https", "api.anthropic.com", 443)
    assert not allowed([gateway, []], "https", "api.openai.com", 443)


def test_without_a_list_everything_is_permitted() -> None:
    assert allowed([], "http", "10.0.0.1", 80)
