from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_cases import ADDRESSES, ALLOW, NO_PATTERNS, PERMITTED, REFUSED
from tenantgate.policy.core.egress import (
    is_public,
    parse_address,
    parse_pattern,
    patterns,
    permits,
    permits_address,
    within,
)

LIST = patterns(ALLOW)


def test_every_pattern_of_the_table_is_one() -> None:
    assert len(LIST) == len(ALLOW)


@pytest.mark.parametrize(("scheme", "host", "port"), PERMITTED)
def test_what_is_permitted(scheme: str, host: str, port: int) -> None:
    assert permits(LIST, scheme, host, port)


@pytest.mark.parametrize(("scheme", "host", "port"), REFUSED)
def test_what_is_refused(scheme: str, host: str, port: int) -> None:
    assert not permits(LIST, scheme, host, port)


@pytest.mark.parametrize(("text", "expected"), ADDRESSES)
def test_the_address_of_a_permitted_name(text: str, expected: bool) -> None:
    address = parse_address(text)
    assert address is not None
    assert permits_address(LIST, address) is expected


@pytest.mark.parametrize("text", NO_PATTERNS)
def test_what_is_no_pattern(text: str) -> None:
    assert parse_pattern(text) is None


def test_an_empty_list_permits_nothing() -> None:
    assert not any(permits((), *url) for url in PERMITTED)


@pytest.mark.parametrize(
    ("narrow", "wide", "expected"),
    [
        ("a.example", "a.example", True),
        ("A.example", "a.example:443", True),
        ("a.example", "*.example", True),
        ("*.a.example", "*.example", True),
        ("*.example", "*.example", True),
        ("*.example", "*.a.example", False),
        ("*.aexample", "*.example", False),
        ("example", "*.example", False),
        ("a.example", "b.example", False),
        ("*.example", "a.example", False),
        ("a.example:8443", "a.example", False),
        ("http://a.example", "a.example", False),
        ("http://a.example", "http://a.example:80", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.0/24", False),
        ("10.1.2.0/25", "10.1.2.0/24", True),
        ("10.1.2.0/24", "10.1.2.0/25", False),
        ("10.1.3.0/25", "10.1.2.0/24", False),
        ("fd00::/8", "10.0.0.0/8", False),
        ("10.0.0.0/8", "10.0.0.1", False),
    ],
)
def test_a_narrower_list(narrow: str, wide: str, expected: bool) -> None:
    inner = parse_pattern(narrow)
    assert inner is not None
    assert within(inner, patterns([wide])) is expected


LABEL = st.sampled_from(["a", "b", "api", "example", "com", "x-1"])
NAME = st.lists(LABEL, min_size=1, max_size=4).map(".".join)
PORT = st.sampled_from(["", ":443", ":80", ":8443"])
ENTRY = st.builds(
    lambda scheme, star, name, port: f"{scheme}{star}{name}{port}",
    st.sampled_from(["", "http://", "https://"]),
    st.sampled_from(["", "*."]),
    NAME,
    PORT,
)


@given(
    st.lists(ENTRY, max_size=4),
    ENTRY,
    NAME,
    st.sampled_from(["http", "https"]),
    st.sampled_from([80, 443, 8443]),
)
def test_what_a_narrower_entry_permits_the_wider_list_does(
    wide: list[str], narrow: str, host: str, scheme: str, port: int
) -> None:
    outer, inner = patterns(wide), parse_pattern(narrow)
    assert inner is not None
    if within(inner, outer) and permits([inner], scheme, host, port):
        assert permits(outer, scheme, host, port)


@given(st.ip_addresses(v=4))
def test_an_address_of_ipv4_within_one_of_ipv6_is_judged_as_itself(address: ipaddress.IPv4Address) -> None:
    mapped = ipaddress.IPv6Address((0xFFFF << 32) | int(address))
    assert is_public(mapped) is is_public(address)


@given(st.ip_addresses())
def test_no_address_is_public_that_the_standard_library_calls_private(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if address.is_private or address.is_link_local or address.is_loopback or address.is_multicast:
        held = getattr(address, "ipv4_mapped", None) or address
        assert not is_public(address) or held.is_global
