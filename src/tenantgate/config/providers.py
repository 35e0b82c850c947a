"""The providers that tenants.yaml may name, and what each means for Kong's ai-proxy.

From `kong/llm/drivers/*.lua` and `kong/llm/schemas/init.lua` of Kong 3.9.3, and the providers' own documentation, to
which docs/providers.md links. Where a provider offers OpenAI's format itself, that is what it gets: Kong's drivers for
Gemini, Cohere and Hugging Face lose most of a request.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

__all__ = ["MOCK", "MOCK_URL", "PROVIDERS", "SECRETS", "Provider", "UsageOfStreams"]

UsageOfStreams: TypeAlias = Literal["asked", "implied", "built-in"]
"""How a stream comes to name its usage: asked for by ``stream_options``; unasked, ``stream_options`` being refused; or
as a part of the format."""


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
    secrets: tuple[str, ...] = ()
    """Fields of the model that are the credential in place of a key, by ai-proxy's names (``auth.*``); all or none."""
    upstream_url: str | None = None
    """The full address of its chat operation, where it isn't the one that Kong's driver has. Names in braces are fields
    of the model; ``host`` is the one of the location."""
    origin: str | None = None
    """Scheme and host that Kong's driver asks where there is no address; names in braces are fields of the model."""
    also: tuple[str, ...] = ()
    """Further addresses that are asked for it, such as the one that gives out its tokens."""
    needs_upstream_url: bool = False
    base_url: bool = False
    """Whether ``upstream_url`` is the address before the operation's path."""
    model_prefix: str = ""
    """What stands before the model's name at the provider, where the name has no slash."""
    fixed_options: tuple[tuple[str, str], ...] = ()
    stream_usage: UsageOfStreams = "asked"
    counts: str | None = None
    """How its counts of tokens are read, where they aren't as its format has them."""
    never_sent: tuple[str, ...] = ("top_k",)
    """Parameters that don't reach the provider, whoever gave them."""
    sets_encoding: bool = True
    """Whether Kong's driver sets Accept-Encoding."""
    needs: tuple[str, ...] = ()
    """Fields of the model that this provider requires."""
    options: tuple[str, ...] = field(default=())
    """Of `needs` those that are ``model.options`` of ai-proxy by the same name."""


MOCK: Final = "mock"
MOCK_URL: Final = "http://127.0.0.1:8089/v1/chat/completions"
"""Where models of the provider `MOCK` are served, unless the command line says otherwise."""

_AWS: Final = ("aws_access_key_id", "aws_secret_access_key")

PROVIDERS: Final[dict[str, Provider]] = {
    "openai": Provider(kong="openai", origin="https://api.openai.com"),
    "anthropic": Provider(
        kong="anthropic",
        origin="https://api.anthropic.com",
        auth_header="x-api-key",
        bearer=False,
        needs=("anthropic_version",),
        options=("anthropic_version",),
        stream_usage="built-in",
        never_sent=(),
        sets_encoding=False,
    ),
    "gemini": Provider(
        kong="openai",
        upstream_url="https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
        counts="gemini",
    ),
    "vertex": Provider(
        kong="openai",
        credential=False,
        secrets=("gcp_service_account_json",),
        upstream_url="https://{host}/v1/projects/{gcp_project_id}/locations/{gcp_location_id}/endpoints/openapi/"
        "chat/completions",
        also=("https://oauth2.googleapis.com/token",),
        model_prefix="google/",
        counts="gemini",
        needs=("gcp_project_id", "gcp_location_id"),
    ),
    "bedrock": Provider(
        kong="bedrock",
        origin="https://bedrock-runtime.{aws_region}.amazonaws.com",
        credential=False,
        secrets=_AWS,
        base_url=True,
        stream_usage="built-in",
        never_sent=(),
        needs=("aws_region",),
    ),
    "cohere": Provider(
        kong="openai",
        upstream_url="https://api.cohere.ai/compatibility/v1/chat/completions",
        stream_usage="implied",
    ),
    "groq": Provider(kong="openai", upstream_url="https://api.groq.com/openai/v1/chat/completions"),
    # It refuses stream_options, and names the usage in the last chunk.
    "mistral": Provider(
        kong="mistral",
        origin="https://api.mistral.ai",
        fixed_options=(("mistral_format", "openai"),),
        stream_usage="implied",
        sets_encoding=False,
    ),
    "azure": Provider(
        kong="azure",
        origin="https://{azure_instance}.openai.azure.com",
        auth_header="api-key",
        bearer=False,
        needs=("azure_instance", "azure_deployment_id", "azure_api_version"),
        options=("azure_instance", "azure_deployment_id", "azure_api_version"),
    ),
    "huggingface": Provider(
        kong="openai", upstream_url="https://router.huggingface.co/v1/chat/completions", never_sent=()
    ),
    "ollama": Provider(
        kong="openai", credential=False, upstream_url="http://127.0.0.1:11434/v1/chat/completions"
    ),
    "vllm": Provider(kong="openai", credential=False, needs_upstream_url=True, never_sent=()),
    "openai-compatible": Provider(kong="openai", credential=False, needs_upstream_url=True, never_sent=()),
    MOCK: Provider(kong="openai", auth_header=None, bearer=False, credential=False),
}

SECRETS: Final = tuple(name for provider in PROVIDERS.values() for name in provider.secrets)
"""All fields that are a credential, or a part of one, beside the key."""
