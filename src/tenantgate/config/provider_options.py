"""What ai-proxy is to know of a model at a provider: its options, its name there, the address. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tenantgate.config.providers import MOCK, MOCK_URL, PROVIDERS, Provider

if TYPE_CHECKING:
    from tenantgate.config.model import Endpoint

__all__ = ["google_host", "model_options", "name_at_provider"]

_SENT: Final = ("input_cost", "max_tokens", "output_cost", "temperature", "top_k", "top_p")
_AZURE_STREAM_USAGE: Final = "2024-09-01"
"""First version of Azure's API that takes ``stream_options``."""


def model_options(m: Endpoint, mock_url: str = MOCK_URL) -> dict[str, Any]:
    """ai-proxy's ``model.options``.

    Under ``tenantgate`` are the settings of ``plugins/kong/plugins/tenantgate-target/drivers.lua``, which serves
    targets that have it.
    """
    provider = PROVIDERS[m.provider or ""]
    options: dict[str, Any] = {name: value for name in _SENT if (value := getattr(m, name)) is not None}
    options |= {name: getattr(m, name) for name in provider.options}
    options |= dict(provider.fixed_options)
    if url := m.upstream_url or _usual_url(m, provider, mock_url):
        options["upstream_url"] = url
    if m.aws_region is not None:
        options["bedrock"] = {"aws_region": m.aws_region}
    settings: dict[str, Any] = {"stream_usage": _stream_usage(m, provider)}
    if m.provider not in (provider.kong, MOCK, "openai-compatible"):
        settings["provider"] = m.provider  # Kong's log calls it by its format
    if provider.counts is not None:
        settings["counts"] = provider.counts
    if "top_k" not in provider.never_sent:
        settings["top_k"] = True
    options["tenantgate"] = settings
    return options


def name_at_provider(m: Endpoint) -> str:
    """The model's name in requests to the provider."""
    name, prefix = m.model or "", PROVIDERS[m.provider or ""].model_prefix
    return name if "/" in name else prefix + name


def google_host(m: Endpoint) -> str:
    """Host of a Vertex AI location."""
    place = m.gcp_location_id
    return "aiplatform.googleapis.com" if place == "global" else f"{place}-aiplatform.googleapis.com"


def _usual_url(m: Endpoint, provider: Provider, mock_url: str) -> str | None:
    """The address of the chat operation, where Kong's driver doesn't have it, or has another one."""
    if m.provider == MOCK:
        return mock_url
    if provider.upstream_url is None:
        return None
    return provider.upstream_url.format(
        host=google_host(m), gcp_project_id=m.gcp_project_id, gcp_location_id=m.gcp_location_id
    )


def _stream_usage(m: Endpoint, provider: Provider) -> str:
    if provider.stream_usage != "asked":
        return provider.stream_usage
    old = m.provider == "azure" and (m.azure_api_version or "") < _AZURE_STREAM_USAGE
    return "asked" if m.include_usage and not old else "off"
