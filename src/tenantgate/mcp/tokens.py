"""OAuth access tokens (JWT, RFC 9068) in the place of a key: whose they are, or why they aren't taken.

Nothing is asked while a request waits. What a token says counts only once its signature is right, but for its issuer,
which chooses the keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import jwt

from tenantgate.mcp.config import McpOauth, OauthIssuer
from tenantgate.mcp.key_sets import KeySet
from tenantgate.tenant import TenantId

__all__ = ["Caller", "RefusedToken", "TokenChecker", "challenge", "resource_metadata"]

_LONGEST: Final = 16 * 1024
_LEEWAY_S: Final = 30
"""By which clocks may differ."""
_TYPES: Final = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})
_IN_PATH: Final = "/%-._~!$&'()*+,;=:@"  # RFC 3986: what stands in quotes here must not end them
_METADATA: Final = "/.well-known/oauth-protected-resource"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who a token is of."""

    tenant: TenantId
    credential: str
    """Tells callers of a tenant apart, as a key's id does: of the issuer and the subject, neither of which it shows."""
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedToken:
    """Why a token isn't taken, in the words of RFC 6750."""

    status: int = 401
    error: str = "invalid_token"
    """Empty: there was no token."""
    description: str = ""
    scope: str = ""
    """Scopes that are missing."""


class TokenChecker:
    """Checks tokens of the gateway's issuers."""

    def __init__(self, config: McpOauth) -> None:
        self._issuers = {each.issuer: (each, KeySet(each, config.keep_keys_s)) for each in config.issuers}

    def check(self, token: str) -> Caller | RefusedToken:
        """Whose a token is. Never waits, and never says anything of its content."""
        if not token:
            return RefusedToken(error="")
        try:
            if len(token) > _LONGEST:
                raise jwt.InvalidTokenError
            head = jwt.get_unverified_header(token)
            said = jwt.decode(token, options={"verify_signature": False})
            found = self._issuers.get(said["iss"])
        except (jwt.PyJWTError, ValueError, KeyError, TypeError, RecursionError):
            return RefusedToken(description="The access token can't be read.")
        if found is None:
            return RefusedToken(description="The issuer of the access token isn't known here.")
        issuer, keys = found
        algorithm = head.get("alg")
        if algorithm not in issuer.algorithms or "crit" in head or _type(head) not in _TYPES:
            return RefusedToken(description="The access token is of a kind that isn't taken.")
        key_id = head.get("kid")
        key = keys.find(key_id if isinstance(key_id, str) else None, algorithm)
        if key is None:
            if not keys.ready:
                return RefusedToken(
                    status=503, error="", description="The keys of the issuer aren't known right now."
                )
            return RefusedToken(description="The key of the access token isn't known.")
        try:
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[algorithm],
                audience=issuer.audience,
                issuer=issuer.issuer,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.ExpiredSignatureError:
            return RefusedToken(description="The access token has expired.")
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            return RefusedToken(description="The access token isn't valid here.")
        return _caller(issuer, claims)


def _type(head: Mapping[str, Any]) -> str:
    found = head.get("typ", "")
    return found.lower() if isinstance(found, str) else "?"


def _caller(issuer: OauthIssuer, claims: Mapping[str, Any]) -> Caller | RefusedToken:
    subject = claims.get(issuer.subject_claim)
    tenant = issuer.tenant if issuer.tenant_claim is None else claims.get(issuer.tenant_claim)
    if not isinstance(subject, str) or not subject:
        return RefusedToken(description="The access token names no caller.")
    if not isinstance(tenant, str) or not tenant or (issuer.tenants and tenant not in issuer.tenants):
        return RefusedToken(description="The access token names no tenant.")
    scopes = _scopes(claims)
    if missing := [name for name in issuer.scopes if name not in scopes]:
        return RefusedToken(status=403, error="insufficient_scope", scope=" ".join(missing))
    digest = hashlib.sha256(f"{issuer.issuer}\0{subject}".encode("utf-8", "surrogatepass")).hexdigest()
    return Caller(tenant=TenantId(tenant), credential=f"oauth-{digest[:32]}", scopes=scopes)


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    """Of ``scope`` (RFC 9068), or ``scp``, as Entra ID and Okta call it."""
    found = claims.get("scope", claims.get("scp"))
    if isinstance(found, str):
        return frozenset(found.split())
    return frozenset(s for s in found if isinstance(s, str)) if isinstance(found, list) else frozenset()


def resource_metadata(config: McpOauth, path: str) -> str:
    """URL of the metadata of the resource at a path (RFC 9728, section 3.1)."""
    return f"{config.resource}{_METADATA}{quote(path, safe=_IN_PATH)}"


def challenge(config: McpOauth, path: str, refused: RefusedToken) -> str:
    """The value of ``WWW-Authenticate`` (RFC 6750, RFC 9728)."""
    parts = [f'resource_metadata="{resource_metadata(config, path)}"']
    named = {"error": refused.error, "error_description": refused.description, "scope": refused.scope}
    parts += [f'{name}="{text}"' for name, text in named.items() if text]
    return "Bearer " + ", ".join(parts)
