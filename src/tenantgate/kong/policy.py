"""What happens when a phase fails or runs late: each plugin entity's choice, from its configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tenantgate.llm.errors import Code, ErrorType, error_object

__all__ = ["DEFAULT_DEADLINE_MS", "LOG_DEADLINE_MS", "UNAVAILABLE", "PhasePolicy"]

# Kong waits `nginx_http_lua_socket_read_timeout` (2 s as rendered) for each answer: stay below.
DEFAULT_DEADLINE_MS: Final = 1_500
# Nobody waits for a log phase: Kong is answered after DEFAULT_DEADLINE_MS, the work goes on until this.
LOG_DEADLINE_MS: Final = 10_000

_UNAVAILABLE_BODY: Final = json.dumps(
    error_object(
        "The gateway could not process this request. Please try again.",
        kind=ErrorType.SERVER,
        code=Code.TENANTGATE_UNAVAILABLE,
    )
)
UNAVAILABLE: Final = (503, _UNAVAILABLE_BODY, {"content-type": "application/json"})
"""The arguments of `kong.response.exit` for a plugin whose ``on_error`` is ``reject``."""

# Only here does `kong.response.exit` answer the client (kong/pdk/response.lua).
_MAY_ANSWER: Final = frozenset({"rewrite", "access", "response"})


@dataclass(frozen=True, slots=True)
class PhasePolicy:
    """How a plugin entity takes its own failures.

    Attributes:
        reject: answer 503 (``on_error: reject``) rather than go on without the plugin (``pass``).
        deadline_ms: how long a phase on the client's path may take, PDK calls and queueing included.
    """

    reject: bool = False
    deadline_ms: float = DEFAULT_DEADLINE_MS

    @classmethod
    def of(cls, plugin: object, default: PhasePolicy | None = None) -> PhasePolicy:
        """The policy of a plugin object: its `policy`, or `on_error` and `deadline_ms` of its `config`."""
        if isinstance(own := getattr(plugin, "policy", None), PhasePolicy):
            return own
        base = default or cls()
        config = getattr(plugin, "config", None)
        if isinstance(config, dict):
            return cls.from_values(config, base)
        values = {
            "on_error": getattr(config, "on_error", None),
            "deadline_ms": getattr(config, "deadline_ms", None),
        }
        return cls.from_values(values, base)

    @classmethod
    def from_values(cls, values: Mapping[str, Any], base: PhasePolicy) -> PhasePolicy:
        """The policy in plain configuration values; what is missing or unusable is as in `base`."""
        deadline = values.get("deadline_ms")
        usable = isinstance(deadline, int | float) and not isinstance(deadline, bool) and deadline > 0
        on_error = values.get("on_error")
        return cls(
            reject=base.reject if on_error is None else on_error == "reject",
            deadline_ms=float(deadline) if usable and deadline is not None else base.deadline_ms,
        )

    def rejects(self, phase: str) -> bool:
        """Whether a failure in `phase` is answered with `UNAVAILABLE`."""
        return self.reject and phase in _MAY_ANSWER
