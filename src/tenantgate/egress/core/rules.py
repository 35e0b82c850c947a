"""What a network has to let through so that a gateway works within its egress list, and nothing else."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from tenantgate.policy.core.egress import Pattern, parse_address, patterns

__all__ = ["Name", "Network", "Place", "Rules", "Selection", "rules"]

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Name:
    """A host name, or all names below one."""

    name: str
    port: int
    tls: bool
    below: bool = False
    """Whether every name of one label or more before `name` is meant, and not `name` itself."""


@dataclass(frozen=True, slots=True)
class Place:
    """Addresses and a port."""

    network: Network
    port: int


@dataclass(frozen=True, slots=True)
class Rules:
    """All that may leave."""

    names: tuple[Name, ...]
    places: tuple[Place, ...]
    """Addresses that the list names as they stand."""
    ranges: tuple[Network, ...]
    """Addresses beside the public internet's that `names` may lead to."""
    services: tuple[Name, ...]
    """Redis and PostgreSQL of the installation, by name …"""
    service_places: tuple[Place, ...]
    """… and by address."""

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports of `names`."""
        return tuple(sorted({name.port for name in self.names}))


@dataclass(frozen=True, slots=True)
class Selection:
    """Which pods the rules hold for, and the rules' name."""

    name: str
    namespace: str
    labels: tuple[tuple[str, str], ...]


def rules(allow: Iterable[str], services: Iterable[tuple[str, int]]) -> Rules:
    """The rules of a list, and of services by host and port. What stays on the gateway's machine has none."""
    names, places, ranges = [], [], []
    for p in patterns(allow):
        if p.range is not None:
            ranges.append(p.range)
        elif p.address is not None:
            if not p.address.is_loopback:
                places.append(Place(ipaddress.ip_network(p.address), p.port))
        else:
            names.append(_name(p))
    found = [(parse_address(host), host, port) for host, port in services]
    return Rules(
        names=tuple(names),
        places=tuple(places),
        ranges=tuple(network for network in ranges if not network.is_loopback),
        services=tuple(
            Name(host.lower(), port, tls=False)
            for address, host, port in found
            if address is None and host.lower() != "localhost"
        ),
        service_places=tuple(
            Place(ipaddress.ip_network(address), port)
            for address, _, port in found
            if address is not None and not address.is_loopback
        ),
    )


def _name(p: Pattern) -> Name:
    tls = p.scheme == "https"
    if p.suffix is not None:
        return Name(p.suffix.removeprefix("."), p.port, tls=tls, below=True)
    return Name(p.host or "", p.port, tls=tls)
