"""What tenants.yaml may say of how a request finds its target: balance, failover, time-outs, and egress.

The names are those of Kong's ai-proxy-advanced where it has them; those of the time-outs are TensorZero's.
"""

from __future__ import annotations

from typing import Final

from tenantgate.fields import config_class, field
from tenantgate.policy.core.records import FAILURES

__all__ = [
    "BALANCES",
    "REGION_PATTERN",
    "ROUTED",
    "Egress",
    "Failover",
    "ModelTimeouts",
    "NonStreamingTimeouts",
    "StreamingTimeouts",
]

ROUTED: Final = "tenantgate"
"""The provider, in records and in ``provider/model``, of a model with targets."""

BALANCES: Final = (
    "priority",
    "round-robin",
    "least-busy",
    "lowest-latency",
    "lowest-cost",
    "consistent-hashing",
)
REGION_PATTERN: Final = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
_EGRESS: Final = r"^[^\s]+$"


@config_class
class Failover:
    """When a request goes on to the model's next target."""

    retries: int | None = field(
        "Further targets that one request may go to, after the first. Default: 2, or as many as there are.",
        default=None,
        between=(0, 31),
    )
    failover_criteria: tuple[str, ...] | None = field(
        "Failures after which the next target is asked. Default: all but timeout, reset, http_502 and http_504, after "
        "which the provider may have done the work and bill it.",
        default=None,
        one_of=tuple(FAILURES),
        len_max=len(FAILURES),
    )
    max_fails: int = field(
        "Failures in a row after which a target is left out. 0: never.", default=3, between=(0, 1000)
    )
    fail_timeout_s: int = field(
        "Time for which a target is left out. Then one request tries it again.",
        default=10,
        between=(1, 86_400),
        unit="s",
    )


@config_class
class StreamingTimeouts:
    """How long a streamed reply may take."""

    ttft_s: int = field(
        "Longest wait for a stream's first byte (time to first token), at each target.",
        default=60,
        between=(1, 3600),
        unit="s",
    )
    total_s: int = field(
        "Longest time of a streamed reply, over all targets.", default=600, between=(1, 86_400), unit="s"
    )


@config_class
class NonStreamingTimeouts:
    """How long a reply may take that isn't streamed."""

    total_s: int | None = field(
        "Longest time of a reply that isn't streamed, over all targets. Default: `gateway.timeouts.read_s`.",
        default=None,
        between=(1, 86_400),
        unit="s",
    )


@config_class
class ModelTimeouts:
    """How long a model's requests may take."""

    connect_s: int | None = field(
        "Time-out of connecting to a provider. Default: `gateway.timeouts.connect_s`.",
        default=None,
        between=(1, 300),
        unit="s",
    )
    streaming: StreamingTimeouts = field("Time-outs of streamed replies.", default=StreamingTimeouts())
    non_streaming: NonStreamingTimeouts = field(
        "Time-outs of replies that aren't streamed.", default=NonStreamingTimeouts()
    )


@config_class
class Egress:
    """Where requests, alerts and records may go."""

    allow: tuple[str, ...] = field(
        "Hosts that may be asked: api.openai.com, *.openai.azure.com (one label or more), host:8443 (else 443), "
        "http://host:8080. An address, or a name that leads to a private one, only where an address or a range "
        "such as 10.1.0.0/16 is listed.",
        match=_EGRESS,
        len_min=1,
        len_max=1000,
    )
