"""What must hold between egress lists, residency, and the addresses of a configuration. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from tenantgate.config import deck_variables as placeholders
from tenantgate.config.addresses import Asked, asked, endpoint_url, is_mock, origin
from tenantgate.config.model import Endpoint, Tenant, TenantsFile
from tenantgate.config.regions import GLOBAL, Region, areas, found_region, lies_within
from tenantgate.config.targets import Egress
from tenantgate.errors import ConfigError
from tenantgate.policy.core.egress import Pattern, parse_host, parse_pattern, patterns, permits, within

__all__ = ["EgressProblem", "endpoint_region", "gateway_allow", "problems", "tenant_allow", "weak_settings"]


@dataclass(frozen=True, slots=True)
class EgressProblem:
    """A problem, and where it stands."""

    tenant: int | None
    """Number of the tenant in the file, from which the path goes on; None: the path is the file's."""
    path: str
    what: str


def gateway_allow(file: TenantsFile, *, mock_url: str) -> tuple[str, ...] | None:
    """The gateway's list as it is in force; None: there is none.

    Whoever gives a tenant a model of the mock provider has named its address, which the command line may change.
    """
    egress = file.gateway.egress
    return None if egress is None else _with_mock(egress.allow, file.tenants, mock_url)


def tenant_allow(file: TenantsFile, tenant: Tenant, *, mock_url: str) -> tuple[str, ...] | None:
    """A tenant's list as it is in force, within the gateway's; None: all of that."""
    egress = tenant.egress or file.defaults.egress
    return None if egress is None else _with_mock(egress.allow, (tenant,), mock_url)


def _with_mock(allow: tuple[str, ...], tenants: Sequence[Tenant], mock_url: str) -> tuple[str, ...]:
    if any(is_mock(endpoint) for t in tenants for m in t.models for endpoint in m.endpoints):
        mock = str(origin(mock_url))
        return allow if mock in allow else (*allow, mock)
    return allow


def problems(file: TenantsFile) -> Iterator[EgressProblem]:
    """Each problem of a file that is right but for them.

    Without ``gateway.egress`` every address is permitted; residency and regions are checked all the same.
    """
    for at, path, egress in _lists(file):
        yield from (EgressProblem(at, f"{path}.{inner}", what) for inner, what in _list_problems(egress))
        if path != "gateway.egress":
            yield from (EgressProblem(at, *found) for found in _narrower(file.gateway.egress, path, egress))
    if file.gateway.egress is not None:
        yield from _addresses(file, file.gateway.egress)
    for i, tenant in enumerate(file.tenants):
        yield from (EgressProblem(i, *found) for found in _regions(file, tenant))


def _lists(file: TenantsFile) -> Iterator[tuple[int | None, str, Egress]]:
    if file.gateway.egress is not None:
        yield None, "gateway.egress", file.gateway.egress
    if file.defaults.egress is not None:
        yield None, "defaults.egress", file.defaults.egress
    for i, tenant in enumerate(file.tenants):
        if tenant.egress is not None:
            yield i, "egress", tenant.egress


def _list_problems(egress: Egress) -> Iterator[tuple[str, str]]:
    for i, text in enumerate(egress.allow):
        found = parse_pattern(text)
        if found is None:
            yield (
                f"allow[{i}]",
                f"{text!r} is no host, host:port, *.suffix, http://host, address or range; names in ASCII (xn--…)",
            )
        elif found.suffix is not None and found.suffix.count(".") < 2:
            yield f"allow[{i}]", f"{text!r} permits every name below {found.suffix}; name two labels at least"


def _narrower(gateway: Egress | None, path: str, egress: Egress) -> Iterator[tuple[str, str]]:
    if gateway is None:
        yield path, "needs gateway.egress: lists of tenants narrow the gateway's"
        return
    wide = patterns(gateway.allow)
    for i, text in enumerate(egress.allow):
        if (found := parse_pattern(text)) is not None and not within(found, wide):
            yield f"{path}.allow[{i}]", f"{text!r} isn't within gateway.egress.allow"


def _addresses(file: TenantsFile, gateway: Egress) -> Iterator[EgressProblem]:
    """Every address must be written plainly, and be permitted by each list that holds for it."""
    wide = patterns(gateway.allow)
    own = [patterns(e.allow) if (e := t.egress or file.defaults.egress) else None for t in file.tenants]
    for each in asked(file):
        lists: list[tuple[str, Sequence[Pattern]]] = [("gateway.egress.allow", wide)]
        if each.tenant is not None and (narrow := own[each.tenant]) is not None:
            lists.append(("the tenant's egress.allow", narrow))
        if (what := _refusal(each, lists)) is not None:
            yield EgressProblem(each.tenant, each.path, what)


def _refusal(each: Asked, lists: Sequence[tuple[str, Sequence[Pattern]]]) -> str | None:
    url = each.url
    if placeholders.is_vault_reference(url) or placeholders.is_placeholder(url):
        return "is a secret, so nobody can say where it leads; with gateway.egress write the address itself"
    try:
        found = origin(url)
    except ConfigError as error:
        return str(error)
    for name, allowed in lists:
        if not permits(allowed, found.scheme, found.host, found.port):
            literal = not isinstance(parse_host(found.host), str)
            more = "; an address must be listed as it stands" if literal else ""
            return f"{found} isn't in {name}{more}"
    return None


def _regions(file: TenantsFile, tenant: Tenant) -> Iterator[tuple[str, str]]:
    residency = file.defaults.residency if tenant.residency is None else tenant.residency
    if GLOBAL in residency:
        yield "residency", "global is no place; leave residency out"
        return
    for k, m in enumerate(tenant.models):
        for i, endpoint in enumerate(m.endpoints):
            at = f"models[{k}].targets[{i}]" if m.targets else f"models[{k}]"
            found = endpoint_region(endpoint)
            if (what := _contradiction(endpoint, found)) is not None:
                yield f"{at}.region", what
            elif residency and not is_mock(endpoint) and (what := _outside(found, residency)):
                yield at if endpoint.region is None else f"{at}.region", what


def weak_settings(settings: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Settings of kong.conf with which TLS proves no name, so that a list of names permits whoever answers to them."""
    for name, value in settings.items():
        text = value.strip().lower()
        if name == "ssl_cipher_suite" and text == "old":
            yield name, "old also takes broken certificates and ciphers of providers (security level 0)"
        elif name.endswith("proxy_ssl_verify") and text == "off":
            yield name, "off lets anybody answer in a provider's name"
        elif name.endswith("ssl_conf_command") and "seclevel=0" in text:
            yield name, "security level 0 takes broken certificates and ciphers of providers"


def endpoint_region(endpoint: Endpoint) -> Region:
    """Where a model runs, as far as anything says so."""
    return found_region(endpoint, (urlsplit(endpoint_url(endpoint)).hostname or "").lower())


def _contradiction(endpoint: Endpoint, found: Region) -> str | None:
    stated = endpoint.region
    # Of a deployment at Azure it is the instance's region, which a type may widen.
    if stated is None or found.name is None or found.said_by == "region" or endpoint.provider == "azure":
        return None
    if stated in areas(found.name) or found.name in areas(stated):
        return None
    return f"{stated}, but {found.said_by} says {found.name}"


def _outside(found: Region, residency: tuple[str, ...]) -> str | None:
    listed = ", ".join(residency)
    if found.name is None:
        return f"where it runs isn't known, and residency is {listed}: state {found.said_by}"
    if found.name == GLOBAL:
        return f"{found.said_by} is global: it may run anywhere, and residency is {listed}"
    if not lies_within(found.name, residency):
        return f"runs in {found.name} ({found.said_by}), outside of residency {listed}"
    return None
