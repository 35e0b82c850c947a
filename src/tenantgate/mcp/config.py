"""Settings of the MCP servers for the whole gateway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from tenantgate.fields import config_class, field

__all__ = ["ALGORITHMS", "McpGateway", "McpOauth", "OauthIssuer"]

_HOST: Final = r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?$"
_ORIGIN: Final = r"^(\*|https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?)$"
_URL: Final = r"^https?://[A-Za-z0-9.:_~%/\[\]-]+$"
_LUA_URL: Final = r"^https?://[%w.:_~%%/%[%]-]+$"
_CLAIM: Final = r"^[^\s]+$"
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

ALGORITHMS: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip
"""Signatures with a public key alone: with a shared secret whoever checks a token could make one."""


@config_class
class OauthIssuer:
    """An authorization server whose access tokens (JWT, RFC 9068) are taken in the place of a key."""

    issuer: str = field(
        "Its issuer identifier, the claim `iss` of its tokens.", match=_URL, lua_match=_LUA_URL
    )
    audience: tuple[str, ...] = field(
        "What tokens must be made for: one of these must be in their claim `aud`.", len_min=1, len_max=16
    )
    jwks_url: str | None = field(
        "URL of its keys (RFC 7517). They are fetched in the background, never while a request waits.",
        default=None,
        match=_URL,
        lua_match=_LUA_URL,
        address=True,
    )
    jwks_file: str | None = field(
        "File with its keys on each node, in place of `jwks_url`.",
        default=None,
        match=r"^/[^\s]+$",
        lua_match="^/[^%s]+$",
    )
    algorithms: tuple[str, ...] = field(
        "Algorithms of signatures that are taken.",
        default=("RS256", "PS256", "ES256", "EdDSA"),
        one_of=ALGORITHMS,
    )
    tenant: str | None = field(
        "The tenant that all of its tokens are of.", default=None, len_min=1, len_max=200
    )
    tenant_claim: str | None = field(
        "Claim that holds the tenant's id, in place of `tenant`.",
        default=None,
        match=_CLAIM,
        lua_match="^[^%s]+$",
        len_max=100,
    )
    tenants: tuple[str, ...] = field(
        "With `tenant_claim`: the tenants that it may speak for. Default: all.", default=(), len_max=1000
    )
    subject_claim: str = field(
        "Claim that tells callers apart; limits by key count for each.",
        default="sub",
        match=_CLAIM,
        lua_match="^[^%s]+$",
        len_max=100,
    )
    scopes: tuple[str, ...] = field("Scopes that each token must have.", default=(), len_max=50)

    def problems(self) -> Iterator[tuple[str, str]]:
        """There is one place for the keys, and one for the tenant."""
        if (self.jwks_url is None) == (self.jwks_file is None):
            yield "", "needs either jwks_url or jwks_file"
        if (self.tenant is None) == (self.tenant_claim is None):
            yield "", "needs either tenant or tenant_claim"
        if self.tenants and self.tenant_claim is None:
            yield "tenants", "is of tenant_claim"
        if self.jwks_url is not None and self.jwks_url.startswith("http:"):
            try:
                host = urlsplit(self.jwks_url).hostname
            except ValueError:
                host = None
            if host not in _LOOPBACK:
                yield "jwks_url", "must be https, or http on this machine"


@config_class
class McpOauth:
    """OAuth access tokens in place of keys, and what tells clients where to get one (RFC 9728)."""

    resource: str = field(
        "URL of the gateway as clients know it, without a path: the start of the resources' identifiers.",
        match=r"^https?://[A-Za-z0-9.:\[\]-]+$",
        lua_match=r"^https?://[%w.:%[%]-]+$",
    )
    issuers: tuple[OauthIssuer, ...] = field("Authorization servers.", len_min=1, len_max=100)
    keep_keys_s: int = field(
        "How long an issuer's keys are good for, where they can't be fetched again.",
        default=86_400,
        between=(60, 2_592_000),
        unit="s",
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """Each issuer is there once, since a token says no more of its origin."""
        seen: set[str] = set()
        for i, each in enumerate(self.issuers):
            if each.issuer in seen:
                yield f"issuers[{i}].issuer", f"{each.issuer!r} is there already"
            seen.add(each.issuer)


@config_class
class McpGateway:
    """Who may send requests to the tenants' MCP servers from where."""

    hosts: tuple[str, ...] = field(
        "Names by which clients reach the gateway, with or without a port: a request with another `Host` is refused "
        "with 403. Default: any.",
        default=(),
        match=_HOST,
        lua_match=r"^[%[%]%w:.-]+$",
        len_max=32,
    )
    origins: tuple[str, ...] = field(
        "Origins whose pages may send requests; those of other pages are refused with 403. Default: those of `cors`.",
        default=(),
        match=_ORIGIN,
        lua_match=r"^[%w:/.*-]+$",
        len_max=100,
    )
    oauth: McpOauth | None = field("Access tokens in place of keys. Default: keys alone.", default=None)
