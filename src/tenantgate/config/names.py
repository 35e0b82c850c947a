"""How Kong's entities and paths are called, injectively: two different models can't get one name."""

from __future__ import annotations

import re
import uuid
from typing import Final

from tenantgate.tenant import TenantId

__all__ = [
    "ISSUED_TAG",
    "MCP_SERVICE",
    "METADATA_SERVICE",
    "MODELS_SERVICE",
    "OAUTH_SERVICE",
    "SERVICE",
    "TAG",
    "UNTIL_TAG",
    "chat_path",
    "consumer_name",
    "entity_id",
    "issued_id",
    "route_name",
    "route_parts",
]

SERVICE: Final = "llm"
"""The one service of all routes: ai-proxy sets the real upstream."""
MCP_SERVICE: Final = "mcp"
"""The service of the MCP endpoints."""
OAUTH_SERVICE: Final = "mcp-oauth"
"""The same for callers who show an access token."""
MODELS_SERVICE: Final = "mcp-models"
"""The service of chats that the gateway asks of itself, for the tools of models."""
METADATA_SERVICE: Final = "mcp-metadata"
"""What tells them where to get one."""
TAG: Final = "tenantgate"
"""The tag of each of our entities in Kong."""
ISSUED_TAG: Final = "tenantgate-key"
"""The tag of credentials of issued keys."""
UNTIL_TAG: Final = "tenantgate-until."
"""Beginning of the tag that says until when a key is accepted, in Unix seconds."""
_IDS: Final = uuid.UUID("5b0e4f1c-7c1a-5f53-9f0e-6a4a0f0d6b51")

# kong/db/schema/typedefs.lua, validate_utf8_name: alphanumerics and . - _ ~ (and non-ASCII).
_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")

_ESCAPED: Final = re.compile(r"(?:~[0-9A-F]{2})+")


def _escape(text: str, also: str = "") -> str:
    if _PLAIN.issuperset(text):  # as most names are
        return text
    return "".join(
        c if c in _PLAIN or c in also else "".join(f"~{b:02X}" for b in c.encode("utf-8")) for c in text
    )


def route_name(*, provider: str, model: str, tenant: str) -> str:
    """``llm.{provider}.{model}.{tenant}``; what a name may not hold is written ``~XX``.

    The dots of a tenant's id are escaped too, so that model ``a.b`` of tenant ``c`` isn't model ``a`` of
    tenant ``b.c``.
    """
    return f"llm.{_escape(provider)}.{_escape(model, also='.')}.{_escape(tenant)}"


def route_parts(name: str) -> tuple[str, str, str]:
    """Provider, model and tenant of a `route_name`; empty texts for another name."""
    head, *parts = name.split(".")
    if head != "llm" or len(parts) < 3:
        return "", "", ""
    return _unescape(parts[0]), _unescape(".".join(parts[1:-1])), _unescape(parts[-1])


def _unescape(text: str) -> str:
    return _ESCAPED.sub(lambda m: bytes.fromhex(m[0].replace("~", "")).decode("utf-8", "replace"), text)


def chat_path(*, tenant: str, provider: str, model: str, prefix: str = "") -> str:
    """A model's path by its tenant, as in version 0.1: ``{prefix}/{tenant}/{provider}/{model}/chat/completions``.

    An OpenAI SDK's ``base_url`` is this without ``/chat/completions``.
    """
    return f"{prefix}/{tenant}/{provider}/{model}/chat/completions"


def consumer_name(tenant: str) -> str:
    """The username of the tenant's Kong consumer; its ``custom_id`` is the id itself."""
    return f"tenant_{tenant}"


def entity_id(kind: str, name: str) -> str:
    """The id of an entity of Kong's (UUID version 5): the same at each rendering, so that nothing is created anew."""
    return str(uuid.uuid5(_IDS, f"{kind}:{name}"))


def issued_id(tenant: TenantId, sha256: str) -> str:
    """The id in Kong of an issued key, by the hash of the key: what audit records call ``key.id``."""
    return entity_id("keyauth_credentials", f"{consumer_name(str(tenant))}:{sha256}")
