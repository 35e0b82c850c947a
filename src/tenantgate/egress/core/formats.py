"""Egress rules in the formats of Kubernetes, Cilium, Istio, and a forward proxy (Squid).

Sources: https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/network-policy-v1/,
https://docs.cilium.io/en/stable/security/policy/layer3/#dns-based, https://docs.cilium.io/en/stable/security/tls-visibility/,
https://istio.io/latest/docs/reference/config/networking/service-entry/,
https://istio.io/latest/docs/reference/config/networking/sidecar/, http://www.squid-cache.org/Doc/config/acl/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from tenantgate.egress.core.rules import Name, Place, Rules, Selection
from tenantgate.policy.core.egress import special_networks

__all__ = ["FORMATS", "NOTES", "objects", "squid"]

Json = dict[str, Any]

_PRIVATE: Final = ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
"""Where services of the installation lie that are known by name alone."""
_DNS: Final = {"namespace": "kube-system", "label": "kube-dns"}

NOTES: Final[Mapping[str, str]] = {
    "kubernetes": """\
NetworkPolicy knows addresses, no names: every public address may be reached on the ports of the list, and services
of the installation that are known by name on any private address. Use it beside another layer.""",
    "cilium": """\
Names below a suffix need Cilium 1.18 (`**.`); earlier versions take one label. A name is known by the DNS answers that
the pod got, so another name at the same address passes where TLS' server name isn't checked (without TLS). A server
name that isn't allowed is dropped without a message. A name that leads to a pod or service of the cluster needs a
rule of its own.""",
    "istio": """\
REGISTRY_ONLY holds for traffic that goes through the sidecar, which whoever controls the pod can go around: use it
beside a NetworkPolicy. Server names aren't encrypted, so a client may send one and speak to another host behind the
same address. Services of the installation in other namespaces must be added to the Sidecar's hosts.""",
    "proxy": """\
For Squid. The gateway asks providers directly: put the proxy where the network sends its traffic through. A client's
word for the host (CONNECT) is checked, not what is then said over TLS.""",
}
"""What each format can't do, for its readers."""


def objects(form: str, rules: Rules, selection: Selection) -> list[Json]:
    """The objects of a format but ``proxy``, in the order of their use."""
    return list(_OBJECTS[form](rules, selection))


def _kubernetes(rules: Rules, selection: Selection) -> Iterator[Json]:
    dns = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": _DNS["namespace"]}},
        "podSelector": {"matchLabels": {"k8s-app": _DNS["label"]}},
    }
    egress: list[Json] = [
        {"to": [dns], "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}
    ]
    if ports := [_tcp(port) for port in rules.ports]:
        public = [{"ipBlock": block} for block in _public()]
        egress.append({"to": public, "ports": ports})
        if rules.ranges:
            egress.append({"to": [_block(network) for network in rules.ranges], "ports": ports})
    places = (*rules.places, *rules.service_places)
    egress += [{"to": [_block(p.network)], "ports": [_tcp(p.port)]} for p in places]
    private = [_block(network) for network in _PRIVATE]
    egress += [{"to": private, "ports": [_tcp(port)]} for port in sorted({s.port for s in rules.services})]
    yield {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(selection),
        "spec": {
            "podSelector": {"matchLabels": dict(selection.labels)},
            "policyTypes": ["Egress"],
            "egress": egress,
        },
    }


def _public() -> Iterator[Json]:
    """All addresses but the special ones."""
    for cidr in ("0.0.0.0/0", "2000::/3"):
        version = 6 if ":" in cidr else 4
        yield {"cidr": cidr, "except": [str(n) for n in special_networks() if n.version == version]}


def _block(network: object) -> Json:
    return {"ipBlock": {"cidr": str(network)}}


def _tcp(port: int) -> Json:
    return {"protocol": "TCP", "port": port}


def _cilium(rules: Rules, selection: Selection) -> Iterator[Json]:
    names = [_selector(name) for name in (*rules.names, *rules.services)]
    # Resolvers of pods try the cluster's own names first.
    asked = [*names, {"matchPattern": "**.cluster.local"}]
    labels = {"k8s:io.kubernetes.pod.namespace": _DNS["namespace"], "k8s:k8s-app": _DNS["label"]}
    egress: list[Json] = [
        {
            "toEndpoints": [{"matchLabels": labels}],
            "toPorts": [{"ports": [{"port": "53", "protocol": "ANY"}], "rules": {"dns": _once(asked)}}],
        }
    ]
    for name in rules.names:
        port: Json = {"ports": [_cilium_port(name.port)]}
        if name.tls:
            port["serverNames"] = [f"**.{name.name}" if name.below else name.name]
        egress.append({"toFQDNs": [_selector(name)], "toPorts": [port]})
    if rules.ranges and rules.ports:
        ports = [_cilium_port(port) for port in rules.ports]
        egress.append({"toCIDR": [str(n) for n in rules.ranges], "toPorts": [{"ports": ports}]})
    egress += [
        {"toCIDR": [str(place.network)], "toPorts": [{"ports": [_cilium_port(place.port)]}]}
        for place in (*rules.places, *rules.service_places)
    ]
    for name in rules.services:
        ports = [_cilium_port(name.port)]
        egress.append({"toFQDNs": [_selector(name)], "toPorts": [{"ports": ports}]})
        egress.append({"toEntities": ["cluster"], "toPorts": [{"ports": ports}]})
    yield {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": _metadata(selection),
        "spec": {"endpointSelector": {"matchLabels": dict(selection.labels)}, "egress": egress},
    }


def _selector(name: Name) -> Json:
    return {"matchPattern": f"**.{name.name}"} if name.below else {"matchName": name.name}


def _cilium_port(port: int) -> Json:
    return {"port": str(port), "protocol": "TCP"}


def _once(items: list[Json]) -> list[Json]:
    return [item for i, item in enumerate(items) if item not in items[:i]]


def _istio(rules: Rules, selection: Selection) -> Iterator[Json]:
    for name in rules.names:
        kind = "TLS" if name.tls else "HTTP"
        host = f"*.{name.name}" if name.below else name.name
        # No address can be asked of DNS for names that aren't known yet: the sidecar keeps the client's.
        resolution = "NONE" if name.below else "DNS"
        yield _entry(selection, host, [host], _istio_port(name.port, kind), resolution)
    for name in rules.services:
        if "." in name.name and not name.name.endswith((".local", ".svc")):
            yield _entry(selection, name.name, [name.name], _istio_port(name.port, "TCP"), "DNS")
    for place in (*rules.places, *rules.service_places):
        yield _placed(selection, place)
    for network in rules.ranges:
        for port in rules.ports:
            yield _placed(selection, Place(network, port))
    yield {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Sidecar",
        "metadata": _metadata(selection),
        "spec": {
            "workloadSelector": {"labels": dict(selection.labels)},
            "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
            "egress": [{"hosts": ["./*", "istio-system/*"]}],
        },
    }


def _placed(selection: Selection, place: Place) -> Json:
    """An address has no name, and a ServiceEntry needs one: it is never asked for."""
    name = f"{_slug(str(place.network))}-{place.port}"
    entry = _entry(selection, name, [f"{name}.invalid"], _istio_port(place.port, "TCP"), "NONE")
    entry["spec"]["addresses"] = [str(place.network)]
    return entry


def _entry(selection: Selection, name: str, hosts: list[str], port: Json, resolution: str) -> Json:
    own = f"{selection.name}-{_slug(name)}-{port['number']}"
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": own[:253], "namespace": selection.namespace},
        "spec": {
            "hosts": hosts,
            "exportTo": ["."],
            "location": "MESH_EXTERNAL",
            "ports": [port],
            "resolution": resolution,
        },
    }


def _istio_port(port: int, kind: str) -> Json:
    return {"number": port, "name": f"{kind.lower()}-{port}", "protocol": kind}


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower().replace("*", "any")).strip("-")


def _metadata(selection: Selection) -> Json:
    return {"name": selection.name, "namespace": selection.namespace}


def squid(rules: Rules) -> str:
    """Access lists of Squid, the last of which denies all the rest."""
    private = [str(network) for network in special_networks()]
    lines = [
        "acl CONNECT method CONNECT",
        f"acl tenantgate_special dst {' '.join(private)} fc00::/7 fe80::/10",
    ]
    if rules.ranges:
        lines.append(f"acl tenantgate_ranges dst {' '.join(map(str, rules.ranges))}")
    for i, place in enumerate(rules.places, 1):
        lines += [
            f"acl tenantgate_address_{i} dst {place.network}",
            f"acl tenantgate_address_{i}_port port {place.port}",
            f"http_access allow tenantgate_address_{i} tenantgate_address_{i}_port",
        ]
    lines.append(f"http_access deny tenantgate_special{' !tenantgate_ranges' if rules.ranges else ''}")
    groups: dict[tuple[bool, int], list[Name]] = {}
    for name in rules.names:
        groups.setdefault((name.tls, name.port), []).append(name)
    for i, ((tls, port), names) in enumerate(groups.items(), 1):
        lines += [f"acl tenantgate_names_{i} dstdom_regex -i {_expression(name)}" for name in names]
        lines.append(f"acl tenantgate_port_{i} port {port}")
        method = "CONNECT" if tls else "!CONNECT"
        lines.append(f"http_access allow {method} tenantgate_names_{i} tenantgate_port_{i}")
    return "\n".join([*lines, "http_access deny all"]) + "\n"


def _expression(name: Name) -> str:
    return rf"^{'[^.].*[.]' if name.below else ''}{name.name.replace('.', '[.]')}$"


_OBJECTS: Final[Mapping[str, Callable[[Rules, Selection], Iterator[Json]]]] = {
    "kubernetes": _kubernetes,
    "cilium": _cilium,
    "istio": _istio,
}
FORMATS: Final = (*_OBJECTS, "proxy")
