"""Models at providers, as tenants.yaml may say them: the fields that a model and each of its targets have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tenantgate.config import spelling
from tenantgate.config.providers import PROVIDERS, SECRETS, Provider
from tenantgate.config.targets import REGION_PATTERN
from tenantgate.fields import COUNT_MAX, config_class, field

__all__ = ["MODEL_PATTERN", "NAME_MAX", "Endpoint", "ModelTarget"]

MODEL_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._:@+-]*(/[A-Za-z0-9][A-Za-z0-9._:@+-]*)*$"
NAME_MAX: Final = 128
_REGION: Final = r"^[a-z][a-z0-9-]*[a-z0-9]$"
_PROJECT: Final = r"^[a-z][a-z0-9.:-]*[a-z0-9]$"
_URL: Final = r"^https?://[A-Za-z0-9\[][^\s/?#@]*/[^\s?#]*$"


@config_class
class Endpoint:
    """A model at a provider: what a model with one, and each target of a model with several, may say."""

    provider: str | None = field("Provider of the model.", default=None, one_of=tuple(PROVIDERS))
    model: str | None = field(
        "Name of the model at its provider, and a name by which clients may ask for it.",
        default=None,
        match=MODEL_PATTERN,
        len_max=NAME_MAX,
    )
    credential: str | None = field("The tenant's own key at the provider.", default=None, referenceable=True)
    credentials: tuple[str, ...] = field(
        "Several keys at the provider, in place of `credential`: one that is refused or limited is followed by the "
        "next.",
        default=(),
        referenceable=True,
        len_max=16,
    )
    upstream_url: str | None = field(
        "Full address of an OpenAI-compatible chat operation, or of a private endpoint of the provider. For bedrock "
        "the address before /model, such as https://vpce-1.bedrock-runtime.eu-central-1.vpce.amazonaws.com/.",
        default=None,
        match=_URL,
        len_max=1024,
    )
    max_tokens: int | None = field(
        "Value of max_tokens, in place of the client's.", default=None, between=(1, COUNT_MAX)
    )
    temperature: float | None = field(
        "Value of temperature, in place of the client's.", default=None, between=(0.0, 5.0)
    )
    top_p: float | None = field("Value of top_p, in place of the client's.", default=None, between=(0, 1))
    top_k: int | None = field(
        "Value of top_k, in place of the client's; for anthropic, bedrock, huggingface, vllm and openai-compatible.",
        default=None,
        between=(0, 500),
    )
    input_cost: float | None = field(
        "Dollars for a million prompt tokens; with `output_cost` in place of the book's price.",
        default=None,
        gt=0,
    )
    output_cost: float | None = field(
        "Dollars for a million completion tokens; with `input_cost` in place of the book's price.",
        default=None,
        gt=0,
    )
    anthropic_version: str | None = field(
        "Version of Anthropic's API.", default="2023-06-01", match=r"^[\w.-]+$"
    )
    azure_instance: str | None = field("Azure OpenAI: name of the instance.", default=None, match=r"^[\w-]+$")
    azure_deployment_id: str | None = field(
        "Azure OpenAI: id of the deployment.", default=None, match=r"^[\w.-]+$"
    )
    azure_api_version: str | None = field(
        "Azure OpenAI: version of the API.", default="2024-10-21", match=r"^[\w.-]+$"
    )
    aws_access_key_id: str | None = field(
        "Amazon Bedrock: id of the access key that signs requests; or give a Bedrock API key as `credential`.",
        default=None,
        referenceable=True,
    )
    aws_secret_access_key: str | None = field(
        "Amazon Bedrock: the secret access key.", default=None, referenceable=True
    )
    aws_region: str | None = field(
        "Amazon Bedrock: the region, such as eu-central-1.", default=None, match=_REGION, len_max=64
    )
    gcp_service_account_json: str | None = field(
        "Vertex AI: key file of the service account, its JSON text.", default=None, referenceable=True
    )
    gcp_project_id: str | None = field(
        "Vertex AI: id of the project.", default=None, match=_PROJECT, len_max=100
    )
    gcp_location_id: str | None = field(
        "Vertex AI: location, such as europe-west4, or global.", default=None, match=_REGION, len_max=64
    )
    include_usage: bool = field(
        "Ask for the usage of streams by `stream_options`, where the provider wants to be asked. Off for a server that "
        "refuses it; tokens of streams are then estimates.",
        default=True,
    )
    azure_deployment_type: str | None = field(
        "Azure OpenAI: where the deployment's requests are answered, for `residency`: regional, in the region of the "
        "instance; data-zone, anywhere in the EU or the US; global.",
        default=None,
        one_of=("regional", "data-zone", "global"),
    )
    region: str | None = field(
        "Where the model runs, for `residency`: eu, a country's code, or a cloud's name of a region such as "
        "eu-central-1. Default: what provider, address and name of the model say.",
        default=None,
        match=REGION_PATTERN,
        len_max=64,
    )
    context_window: int | None = field(
        "Tokens of prompt and reply together that the model takes at most. A prompt that is too long for one target "
        "goes on to a larger one.",
        default=None,
        between=(1, COUNT_MAX),
        unit="tokens",
    )

    max_output_tokens: int | None = field(
        "Most tokens of a reply that the model gives: what a budget holds for a request that names no maximum, and the "
        "max_tokens that it then gets.",
        default=None,
        between=(1, COUNT_MAX),
        unit="tokens",
    )

    @property
    def keys(self) -> tuple[str, ...]:
        """The credentials, whichever way they are given."""
        return self.credentials if self.credential is None else (self.credential,)

    def problems(self) -> Iterator[tuple[str, str]]:
        """A provider's own needs."""
        if self.provider is None:
            return
        provider = PROVIDERS[self.provider]
        yield from self._key_problems(provider)
        if provider.needs_upstream_url and self.upstream_url is None:
            yield "upstream_url", f"required for {self.provider}"
        named = self.upstream_url is None or provider.base_url
        if not named and spelling.names_no_operation(self.upstream_url or ""):
            yield (
                "upstream_url",
                "ends before the operation; give the full address, such as https://host/v1/chat/completions",
            )
        if provider.upstream_url is not None and spelling.names_googles_operation(self.upstream_url or ""):
            yield (
                "upstream_url",
                f"is Google's own operation; {self.provider} is asked in OpenAI's format: end in /chat/completions",
            )
        for name in provider.needs:
            if getattr(self, name) is None:
                yield name, f"required for {self.provider}"
        for name in provider.never_sent:
            if getattr(self, name) is not None:
                yield name, f"has no effect: it isn't sent to {self.provider}; take it out"

    def _key_problems(self, provider: Provider) -> Iterator[tuple[str, str]]:
        if self.credential is not None and self.credentials:
            yield "credentials", "credential is given, too; give one of the two"
        if provider.credential and not self.keys:
            yield "credential", f"required for {self.provider}"
        yield from self._secret_problems(provider)
        if provider.auth_header is None and self.keys:
            yield (
                "credential" if self.credential is not None else "credentials",
                f"{self.provider} takes none",
            )
        for i, key in enumerate(self.credentials):
            if (first := self.credentials.index(key)) != i:
                yield f"credentials[{i}]", f"is credentials[{first}] already"

    def _secret_problems(self, provider: Provider) -> Iterator[tuple[str, str]]:
        """A credential of several fields, or one that isn't a key."""
        for name in SECRETS:
            if getattr(self, name) is not None and name not in provider.secrets:
                yield name, f"isn't used with {self.provider}; take it out"
        if not provider.secrets:
            return
        given = [name for name in provider.secrets if getattr(self, name) is not None]
        if given and self.keys:
            yield given[0], "credential is given, too; give one of the two"
        elif not self.keys:
            for name in provider.secrets:
                if name not in given:
                    yield name, f"required for {self.provider}"


@config_class
class ModelTarget(Endpoint):
    """One of the places to which a model's requests may go."""

    provider: str = field("Provider of the model.", one_of=tuple(PROVIDERS))
    model: str = field("Name of the model at its provider.", match=MODEL_PATTERN, len_max=NAME_MAX)
    weight: int = field(
        "Share of the requests, relative to the other targets': with round-robin, least-busy and consistent-hashing.",
        default=100,
        between=(1, 65_535),
    )
