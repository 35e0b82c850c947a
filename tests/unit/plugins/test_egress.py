"""The Lua that asks of each try whether it may go where it goes, and its twin in Python that asks it of files."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lupa import luajit21

from egress_cases import ADDRESSES, ALLOW, NO_PATTERNS, PERMITTED, REFUSED
from failover_lua import Module
from tenantgate.policy.core import egress

from support import ROOT


class Lua:
    """The module `egress` of the plugin tenantgate-failover, in a Lua state of its own."""

    def __init__(self) -> None:
        self._state = luajit21.LuaRuntime(encoding=None)
        self._state.execute(f'package.path = "{ROOT}/plugins/?.lua;" .. package.path'.encode())
        self._url, self._address = self._state.execute(
            b"""
            local egress = require "kong.plugins.tenantgate-failover.egress"
            local addresses = require "kong.plugins.tenantgate-failover.addresses"
            return function(list, scheme, text, port)
              local host, bytes = egress.host(text)
              return host ~= nil and not egress.refused_host({egress.policy(list)}, scheme, host, bytes, port)
            end, function(list, text)
              local bytes = addresses.parse(text)
              return bytes and not egress.refused_address({egress.policy(list)}, bytes)
            end
            """
        )

    def _list(self, texts: Any) -> Any:
        return self._state.table_from([text.encode() for text in texts])

    def permits(self, texts: Any, scheme: str, host: str, port: int) -> bool:
        return bool(self._url(self._list(texts), scheme.encode(), host.encode(), port))

    def permits_address(self, texts: Any, address: str) -> bool | None:
        found = self._address(self._list(texts), address.encode())
        return None if found is None else bool(found)


LUA = Lua()


@pytest.mark.parametrize(
    ("url", "expected"), [*((url, True) for url in PERMITTED), *((url, False) for url in REFUSED)]
)
def test_a_url_by_the_table(url: tuple[str, str, int], expected: bool) -> None:
    assert LUA.permits(ALLOW, *url) is expected


@pytest.mark.parametrize(("address", "expected"), ADDRESSES)
def test_an_address_by_the_table(address: str, expected: bool) -> None:
    assert LUA.permits_address(ALLOW, address) is expected


@pytest.mark.parametrize("text", NO_PATTERNS)
def test_what_is_no_pattern_permits_nothing(text: str) -> None:
    hosts = {text, text.strip("*."), "a.example", "127.0.0.1", "1.2.3.4", "[fd00::1]"}
    for scheme in ("http", "https"):
        for port in (80, 443):
            assert not any(LUA.permits([text], scheme, host, port) for host in hosts)


PARTS = [
    *("api", "openai", "com", "a", "x-1", "_", "-", "*", "xn--a", "A", "é", " ", "%", "@", "/", "0x7f", "01"),
    *(".", ".", ".", ":", "443", "8080", "0", "1", "10", "127", "255", "256", "[", "]", "::", "ffff", "fd00"),
]
TEXT = st.lists(st.sampled_from(PARTS), max_size=7).map("".join)
PATTERN = st.builds("".join, st.tuples(st.sampled_from(["", "", "*.", "http://", "https://"]), TEXT))


@given(PATTERN, TEXT, st.sampled_from(["http", "https"]), st.sampled_from([80, 443, 8080]))
def test_both_permit_the_same(pattern: str, host: str, scheme: str, port: int) -> None:
    # Texts that are no patterns are refused with the file, whatever Lua would make of them.
    if egress.parse_pattern(pattern) is None:
        return
    bare = pattern.rpartition("//")[2].replace("*", "a")
    for each in (host, bare, bare.rpartition(":")[0]):
        expected = egress.permits(egress.patterns([pattern]), scheme, each, port)
        assert LUA.permits([pattern], scheme, each, port) is expected


RANGES = ("10.0.0.0/8", "192.168.4.0/22", "fd00::/8", "fe80::/64")


@given(
    st.ip_addresses(v=4).map(str)
    | st.ip_addresses(v=6).map(str)
    | st.ip_addresses(v=4).map(lambda a: f"::ffff:{a}")
    | st.ip_addresses(v=4).map(lambda a: str(ipaddress.IPv6Address((0x64FF9B << 96) | int(a))))
    | st.integers(0, 2**20).map(lambda n: str(ipaddress.IPv4Address(0x0A000000 - 2**19 + n)))
    | TEXT
)
def test_both_judge_addresses_alike(text: str) -> None:
    address = egress.parse_address(text)
    expected = None if address is None else egress.permits_address(egress.patterns(RANGES), address)
    assert LUA.permits_address(RANGES, text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://a.example", ("https", "a.example", 443, "/")),
        ("HTTPS://A.Example.:8443/t?x=1", ("https", "a.example", 8443, "/t?x=1")),
        ("http://127.0.0.1:80?x", None),
        ("https://[fd00::1]/t", ("https", "fd00::1", 443, "/t")),
        ("https://user@a.example/", None),
        ("https://a.example\\@b.example/", None),
        ("https://a.example:0/", None),
        ("https://a.example:/", None),
        ("https://127.1/", None),
        ("https://a.example/#b", None),
        ("https://a.example/ b", None),
        ("https://a.example/\r\nX: 1", None),
        ("https:///t", None),
        ("//a.example/t", None),
        ("ftp://a.example/t", None),
        ("", None),
    ],
)
def test_addresses_that_are_plainly_one(text: str, expected: tuple[str, str, int, str] | None) -> None:
    found = Module("egress").url(text)
    assert found == (expected and dict(zip(("scheme", "host", "port", "path"), expected, strict=True)))
