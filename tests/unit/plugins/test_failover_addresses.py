from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failover_lua import Module

ADDRESSES = Module("addresses")


def packed(text: str) -> str:
    return ipaddress.ip_address(text).packed.decode("latin-1")


@given(st.ip_addresses())
def test_an_address_is_read_as_python_reads_it(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    for text in {str(address), address.exploded}:
        assert ADDRESSES.parse(text) == address.packed.decode("latin-1")


@given(st.text("0123456789abcdefx.:[]%/-", max_size=30))
def test_what_python_doesnt_read_is_no_address(text: str) -> None:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") and ":" in text else text
    try:
        known: str | None = packed(bare)
    except ValueError:
        known = None
    assert ADDRESSES.parse(text) == known


@pytest.mark.parametrize(
    "text",
    ["0x7f.1", "127.1", "2130706433", "010.0.0.1", "1.2.3", "1.2.3.4.5", "::1%eth0", ":::", "1::2::3", ""],
)
def test_notations_of_which_readers_disagree_are_no_addresses(text: str) -> None:
    assert ADDRESSES.parse(text) is None


@given(st.ip_addresses(), st.ip_addresses(), st.integers(0, 128))
def test_ranges_hold_what_pythons_do(address: object, base: object, bits: int) -> None:
    bits = min(bits, base.max_prefixlen)  # type: ignore[attr-defined]
    network = ipaddress.ip_network(f"{base}/{bits}", strict=False)
    found = ADDRESSES.raw("within")(packed(str(address)), ADDRESSES.raw("range")(f"{base}/{bits}"))
    assert found == (address in network)


@given(st.ip_addresses())
def test_no_address_is_public_that_pythons_registry_holds_for_private(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if not address.is_global or address.is_multicast:
        assert not ADDRESSES.is_public(address.packed.decode("latin-1"))


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("8.8.8.8", True),
        ("104.18.6.192", True),
        ("172.15.255.255", True),
        ("172.16.0.0", False),
        ("172.31.255.255", False),
        ("172.32.0.0", True),
        ("169.254.169.254", False),
        ("100.100.100.200", False),
        ("168.63.129.16", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("2606:4700::6810:84e5", True),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fd00:ec2::254", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::a00:1", False),
        ("64:ff9b::808:808", True),
        ("64:ff9b:1::808:808", False),
        ("2002:a00:1::", False),
        ("2001:db8::1", False),
        ("::10.0.0.1", False),
    ],
)
def test_public_addresses(text: str, public: bool) -> None:
    assert ADDRESSES.is_public(packed(text)) is public
