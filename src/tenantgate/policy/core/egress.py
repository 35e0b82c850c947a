"""Where requests may go: lists of patterns as in ``egress.allow``.

====================================  ============================================================================
``host``, ``host:port``               over TLS; port 443 unless given; also ``https://host[:port]``
``*.suffix``, ``*.suffix:port``       every name that ends so, of one label more or several
``http://host[:port]``                without TLS; port 80 unless given
``10.1.2.3:8443``, ``[fd00::1]``      an address as a URL has it, private or not
``10.0.0.0/8``, ``fd00::/8``          names may lead to addresses in the range, which isn't of the public internet
====================================  ============================================================================

The twin of ``plugins/kong/plugins/tenantgate-failover/egress.lua``, which asks the same of each try.
Sources: https://url.spec.whatwg.org/#host-parsing, https://www.iana.org/assignments/iana-ipv4-special-registry/,
https://www.iana.org/assignments/iana-ipv6-special-registry/
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

__all__ = [
    "PORTS",
    "Pattern",
    "is_public",
    "parse_address",
    "parse_host",
    "parse_pattern",
    "patterns",
    "permits",
    "permits_address",
    "special_networks",
    "within",
]

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

PORTS: Final = {"http": 80, "https": 443}
_HOST_MAX: Final = 255
_LABEL: Final = re.compile(r"[a-z0-9_][a-z0-9_-]{0,62}")
# A name whose last label is a number is read as an address by URL parsers (WHATWG, "ends in a number").
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PLACE: Final = re.compile(r"(\[.*\]|[^:\[\]]*)(?::([0-9]+))?", re.DOTALL)
_SCHEME: Final = re.compile(r"([A-Za-z]+)://(.*)", re.DOTALL)


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(part) for part in text.split())


# IANA's special-purpose registries; 168.63.129.16 is Azure's metadata server.
_SPECIAL: Final = _networks(
    "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 168.63.129.16/32 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 "
    "192.0.2.0/24 192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 "
    "2001::/23 2001:db8::/32 2002::/16 3fff::/20"
)
_GLOBAL: Final = ipaddress.IPv6Network("2000::/3")
# Addresses that hold one of IPv4, which is what a network asks in the end: mapped, and NAT64.
_HOLDING: Final = _networks("::ffff:0:0/96 64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Pattern:
    """One entry of a list. Exactly one of `host`, `suffix`, `address` and `range` is set."""

    text: str
    """As it was written."""
    scheme: str = "https"
    port: int = 443
    host: str | None = None
    suffix: str | None = None
    """With its dot: ``.openai.azure.com``."""
    address: Address | None = None
    range: Network | None = None


def special_networks() -> tuple[Network, ...]:
    """Networks that aren't of the public internet; for IPv6 those within 2000::/3, outside of which all isn't."""
    return _SPECIAL


def parse_address(text: str) -> Address | None:
    """An address in its usual notation, IPv6 with or without brackets; None for all else.

    Also for notations of which readers disagree: ``010.0.0.1``, ``0x7f.1``, ``127.1``.
    """
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
        if ":" not in text:
            return None
    if not text.isascii() or "%" in text or "/" in text:
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def parse_host(text: str) -> str | Address | None:
    """A host in the one form in which it is compared; None for what isn't plainly a name or an address."""
    if len(text) > _HOST_MAX or not text.isascii():
        return None
    text = text.lower()
    if (address := parse_address(text)) is not None:
        return address
    text = text.removesuffix(".")
    labels = text.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels) or _NUMBER.fullmatch(labels[-1]):
        return None
    return text


def parse_pattern(text: str) -> Pattern | None:
    """The pattern of a text; None if it is none."""
    if (network := _range(text)) is not None:
        return Pattern(text, range=network)
    scheme, rest = "https", text
    if found := _SCHEME.fullmatch(text):
        scheme, rest = found[1].lower(), found[2]
    place = _PLACE.fullmatch(rest)
    if place is None or scheme not in PORTS:
        return None
    host, port = place[1], PORTS[scheme] if place[2] is None else int(place[2][:6])
    if not 1 <= port <= 65_535:
        return None
    if host.startswith("*."):
        suffix = parse_host(host[2:])
        return Pattern(text, scheme, port, suffix=f".{suffix}") if isinstance(suffix, str) else None
    made = parse_host(host)
    if made is None:
        return None
    return (
        Pattern(text, scheme, port, host=made)
        if isinstance(made, str)
        else Pattern(text, scheme, port, address=made)
    )


def _range(text: str) -> Network | None:
    address, slash, bits = text.partition("/")
    found = parse_address(address) if slash and re.fullmatch("[0-9]{1,3}", bits) else None
    if found is None or int(bits) > found.max_prefixlen:
        return None
    return ipaddress.ip_network(f"{found}/{int(bits)}", strict=False)


def patterns(texts: Iterable[str]) -> tuple[Pattern, ...]:
    """The patterns of a list; a text that is none permits nothing."""
    return tuple(found for text in texts if (found := parse_pattern(text)) is not None)


def permits(allowed: Iterable[Pattern], scheme: str, host: str, port: int) -> bool:
    """Whether a list permits the host of a URL."""
    made = parse_host(host)
    return made is not None and any(
        p.scheme == scheme and p.port == port and p.range is None and _fits(p, made) for p in allowed
    )


def _fits(p: Pattern, host: str | Address) -> bool:
    if not isinstance(host, str):
        return host == p.address
    return host == p.host or (p.suffix is not None and host.endswith(p.suffix) and len(host) > len(p.suffix))


def permits_address(allowed: Iterable[Pattern], address: Address) -> bool:
    """Whether a list permits an address that a permitted name leads to."""
    if is_public(address):
        return True
    held = _held(address)
    return any(p.range is not None and (_in(address, p.range) or _in(held, p.range)) for p in allowed)


def is_public(address: Address) -> bool:
    """Whether it is of the public internet: not private, loopback, link-local, metadata, multicast, reserved."""
    address = _held(address)
    if address.version == 6 and address not in _GLOBAL:
        return False
    return not any(_in(address, network) for network in _SPECIAL)


def _held(address: Address) -> Address:
    """The IPv4 address within an address, or the address itself."""
    if address.version == 6 and any(address in network for network in _HOLDING):
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _in(address: Address, network: Network) -> bool:
    return address.version == network.version and address in network


def within(narrow: Pattern, wide: Iterable[Pattern]) -> bool:
    """Whether one entry of `wide` permits all that `narrow` permits."""
    return any(_covers(p, narrow) for p in wide)


def _covers(wide: Pattern, narrow: Pattern) -> bool:
    if narrow.range is not None:
        outer, inner = wide.range, narrow.range
        return outer is not None and inner.prefixlen >= outer.prefixlen and _in(inner.network_address, outer)
    if (wide.scheme, wide.port) != (narrow.scheme, narrow.port) or wide.range is not None:
        return False
    if narrow.suffix is not None:
        return wide.suffix is not None and narrow.suffix.endswith(wide.suffix)
    host = narrow.address if narrow.address is not None else narrow.host
    return host is not None and _fits(wide, host)
