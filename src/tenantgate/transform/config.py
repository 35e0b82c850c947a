"""What an operator may set on requests to a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tenantgate.fields import config_class, field
from tenantgate.upstream_headers import HEADER, problems

__all__ = ["Parameters", "TransformConfig"]

_TOKENS: Final = (1, 10_000_000)


@config_class
class Parameters:
    """Values of a request's parameters."""

    temperature: float | None = field("Sampling temperature, from 0 to 2.", default=None, between=(0, 2))
    top_p: float | None = field("Share of nucleus sampling, from 0 to 1.", default=None, between=(0, 1))
    max_tokens: int | None = field(
        "Tokens of the reply: max_tokens and max_completion_tokens.",
        default=None,
        between=_TOKENS,
        unit="tokens",
    )
    n: int | None = field("Number of choices in one reply.", default=None, between=(1, 128))
    presence_penalty: float | None = field(
        "Penalty for what was said before, from -2 to 2.", default=None, between=(-2, 2)
    )
    frequency_penalty: float | None = field(
        "Penalty by how often it was said, from -2 to 2.", default=None, between=(-2, 2)
    )


@config_class
class TransformConfig:
    """How requests to a model are changed."""

    defaults: Parameters | None = field("Parameters of requests that don't name them.", default=None)
    maximum: Parameters | None = field(
        "Largest values of parameters; larger ones are lowered. A request that doesn't name one gets it, where the "
        "provider would otherwise go by more.",
        default=None,
    )
    end_user: str = field(
        "Whom a request names as its end user to the provider (user, safety_identifier, prompt_cache_key, "
        "Anthropic's metadata.user_id): keep, as the client says; pseudonym, a keyed hash of tenant and end user; "
        "none.",
        default="keep",
        one_of=("keep", "pseudonym", "none"),
    )
    system_prefix: str | None = field(
        "Text before the system prompt of every chat. The guardrails don't judge it, compression leaves it as it is, "
        "and the cache keeps answers under another one apart.",
        default=None,
        len_min=1,
        len_max=32_768,
    )
    upstream_headers: tuple[str, ...] | None = field(
        "Headers of the client that reach the provider, in place of `gateway.upstream_headers`.",
        default=None,
        match=HEADER,
        len_max=50,
    )
    on_error: str = field(
        "Treatment of a request that can't be changed, as when the engine is dead: reject, with status 503; pass, "
        "as the client has sent it.",
        default="reject",
        one_of=("pass", "reject"),
    )
    encryption_key: str | None = field(
        "Secret from which the key of pseudonyms is derived.", default=None, referenceable=True
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """A default above its maximum would never hold; some headers can't be a client's."""
        for name in Parameters.__dataclass_fields__:
            default = getattr(self.defaults, name, None)
            most = getattr(self.maximum, name, None)
            if default is not None and most is not None and default > most:
                yield f"defaults.{name}", f"{default} is above the maximum of {most}"
        yield from problems(self.upstream_headers or ())
        if self.end_user == "pseudonym" and self.encryption_key is None:
            yield "end_user", "pseudonym needs gateway.encryption_key"
