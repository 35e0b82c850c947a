"""The providers that tenants.yaml may name, and what each means for Kong's ai-proxy.

From `kong/llm/drivers/*.lua` and `kong/llm/schemas/init.lua` of Kong 3.9.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["MOCK", "MOCK_URL", "PROVIDERS", "Provider"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One line of the table."""

    kong: str
    """ai-proxy's ``model.provider``: the format that Kong translates to."""
    auth_header: str | None = "Authorization"
    """The request header of the credential; None: it takes none."""
    bearer: bool = True
    """Whether the header's value is ``Bearer`` and the key."""
    credential: bool = True
    """Whether a credential is required."""
    upstream_url: str | None = None
    """The full address of its chat operation, where it isn't the one that Kong's driver has."""
    origin: str | None = None
    """Scheme and host that Kong's driver asks where there is no address; names in braces are fields of the model."""
    also: tuple[str, ...] = ()
    """Further addresses that are asked for it, such as the one that gives out its tokens."""
    needs_upstream_url: bool = False
    hides_finish_reason: bool = False
    """Whether Kong's driver drops the finish reason from the chunks of a stream."""
    fixed_options: tuple[tuple[str, str], ...] = ()
    never_sent: tuple[str, ...] = ("top_k",)
    """Parameters that Kong 3.9's driver leaves out of what it sends, whoever gave them."""
    sets_encoding: bool = True
    """Whether Kong's driver sets Accept-Encoding."""
    needs: tuple[str, ...] = ()
    """Fields of the model that this provider requires."""


MOCK: Final = "mock"
MOCK_URL: Final = "http://127.0.0.1:8089/v1/chat/completions"
"""Where models of the provider `MOCK` are served, unless the command line says otherwise."""

PROVIDERS: Final[dict[str, Provider]] = {
    "openai": Provider(kong="openai", origin="https://api.openai.com"),
    "anthropic": Provider(
        kong="anthropic",
        origin="https://api.anthropic.com",
        auth_header="x-api-key",
        bearer=False,
        hides_finish_reason=True,
        needs=("anthropic_version",),
        never_sent=("top_k", "top_p"),
        sets_encoding=False,
    ),
    # A header, not the query's `key`: addresses end up in logs.
    "gemini": Provider(
        kong="gemini",
        origin="https://generativelanguage.googleapis.com",
        auth_header="x-goog-api-key",
        bearer=False,
        never_sent=(),
    ),
    "groq": Provider(kong="openai", upstream_url="https://api.groq.com/openai/v1/chat/completions"),
    "mistral": Provider(
        kong="mistral",
        origin="https://api.mistral.ai",
        fixed_options=(("mistral_format", "openai"),),
        sets_encoding=False,
    ),
    "azure": Provider(
        kong="azure",
        origin="https://{azure_instance}.openai.azure.com",
        auth_header="api-key",
        bearer=False,
        needs=("azure_instance", "azure_deployment_id", "azure_api_version"),
    ),
    "openai-compatible": Provider(kong="openai", credential=False, needs_upstream_url=True),
    MOCK: Provider(kong="openai", auth_header=None, bearer=False, credential=False),
}
