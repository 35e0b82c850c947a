"""The transformation of requests, in the steps at which the engine needs them.

1. `parameters`, before limits hold what a request may cost, and again after all that may raise them.
2. `access`, a stage behind the guardrails and before the cache: the system prompt's beginning.
3. `end_user`, after all stages, whose limits, records and partitions go by the client's own word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from tenantgate import llm
from tenantgate.llm.chat import Refusal
from tenantgate.store.sealing import TenantSealer
from tenantgate.transform.core.end_user import cache_key, named
from tenantgate.transform.core.parameters import MAX_TOKENS, changed
from tenantgate.transform.core.prompt import prefixed

if TYPE_CHECKING:
    from tenantgate.kong import Host
    from tenantgate.tenant import TenantId
    from tenantgate.transform.config import Parameters, TransformConfig

__all__ = ["Transformation"]

_PSEUDONYM: Final = "tg-"
_TENANTS: Final = 1000  # whose keys stay in memory


class Transformation:
    """The transformation of one configuration."""

    def __init__(self, config: TransformConfig) -> None:
        self._config = config
        self._defaults, self._maximum = _given(config.defaults), _given(config.maximum)
        self._sealer = lru_cache(_TENANTS)(self._made_sealer)

    @property
    def prefix(self) -> str:
        """The system prompt's beginning; empty if there is none."""
        return self._config.system_prefix or ""

    @property
    def upstream_headers(self) -> Sequence[str] | None:
        """Headers of the client that reach the provider; None: those of the gateway."""
        return self._config.upstream_headers

    @property
    def max_tokens(self) -> int | None:
        """Most tokens of a reply."""
        return None if self._config.maximum is None else self._config.maximum.max_tokens

    def access(self, host: Host) -> None:
        """Put the system prompt's beginning before a chat that has passed the guardrails."""
        request = host.chat_request()
        if isinstance(request, Refusal):
            host.refuse_unread(request, strict=self._config.on_error == "reject")
            return
        if not self.prefix:
            return
        messages = prefixed(request.messages, self.prefix)
        host.replace_body(llm.write({**request.body, "messages": messages}))
        host.system_prefix = self.prefix

    def parameters(self, body: Mapping[str, Any], output_name: str, *, fill: bool) -> Mapping[str, Any]:
        """The body with its parameters changed (`core.parameters`); the same object where nothing changes."""
        return changed(body, self._defaults, self._maximum, output_name=output_name, fill=fill)

    def end_user(self, body: Mapping[str, Any], tenant: TenantId, user: str) -> Mapping[str, Any]:
        """The body with the end user as the provider may know it; the same object where nothing changes.

        `user`: whom the client names; empty for nobody, whose pseudonym is the tenant's own.
        """
        if self._config.end_user == "keep":
            return body
        if self._config.end_user == "none":
            return named(body, None)
        key = cache_key(body)
        pseudonym = self._pseudonym(tenant, b"end user:", user)
        return named(body, pseudonym, None if key is None else self._pseudonym(tenant, b"cache key:", key))

    def _pseudonym(self, tenant: TenantId, kind: bytes, text: str) -> str:
        return _PSEUDONYM + self._sealer(tenant).name(kind + text.encode("utf-8", "surrogatepass"))

    def _made_sealer(self, tenant: TenantId) -> TenantSealer:
        return TenantSealer(self._config.encryption_key or "", tenant)


def _given(parameters: Parameters | None) -> dict[str, float]:
    if parameters is None:
        return {}
    given = {
        "temperature": parameters.temperature,
        "top_p": parameters.top_p,
        MAX_TOKENS: parameters.max_tokens,
        "n": parameters.n,
        "presence_penalty": parameters.presence_penalty,
        "frequency_penalty": parameters.frequency_penalty,
    }
    return {name: value for name, value in given.items() if value is not None}
