"""Health of a deployment: its circuit, limits, latency and use, as nodes share it.

A deployment is a model at an address of a provider with one credential. Tenants share its health only where all of
these are the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlsplit

from tenantgate.policy.core.records import Target
from tenantgate.routing.core.circuit import Circuit, after
from tenantgate.routing.core.provider_limits import Allowance, Limits
from tenantgate.routing.core.share import Use, Uses, added

__all__ = [
    "Health",
    "Latency",
    "Result",
    "expected_s",
    "host_of",
    "identity",
    "read_health",
    "with_result",
    "with_uses",
    "write_health",
]

_NEWEST: Final = 0.25  # share of the newest measurement in an average
_FADES_S: Final = (
    60.0  # in which the expectation of a target that isn't asked falls to 1/e, so that it is asked again
)

_NOT_THE_PLACE: Final = frozenset(
    {
        "max_tokens",
        "temperature",
        "top_p",
        "top_k",
        "input_cost",
        "output_cost",
        "embeddings_dimensions",
        "anthropic_version",
    }
)
"""ai-proxy's options that say nothing of where a request goes; with any other one different, it is another place."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Average time to the first byte in seconds, and when it was measured last; 0: never."""

    seconds: float = 0.0
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of a deployment."""

    circuit: Circuit = field(default_factory=Circuit)
    limits: Limits = field(default_factory=Limits)
    streamed: Latency = field(default_factory=Latency)
    whole: Latency = field(default_factory=Latency)
    """The same for replies that aren't streamed, whose first byte comes when all is done."""
    uses: Uses = field(default_factory=Uses)


@dataclass(frozen=True, slots=True)
class Result:
    """One try at a deployment.

    Attributes:
        outcome: as `tenantgate.engine.core.tables.Try` has it.
        at: when it was known, Unix seconds.
        first_byte_s: time to the reply's first byte.
        streamed: whether a streamed reply was asked for.
        limits: told by the reply.
        wait_s: the reply's ``Retry-After``.
        jitter: from 0 to 1, drawn at random.
    """

    outcome: str
    at: float
    first_byte_s: float = 0.0
    streamed: bool = False
    limits: Limits = field(default_factory=Limits)
    wait_s: float | None = None
    jitter: float = 0.0


def identity(target: Target) -> bytes:
    """What tells a target's deployment from others: provider, model, address, and the credential's reference."""
    place = {k: v for k, v in target.options.items() if k not in _NOT_THE_PLACE}
    values = [target.provider, target.name, place, target.header_name, target.credential, target.bearer]
    return json.dumps(values, separators=(",", ":"), sort_keys=True, default=str).encode(
        "utf-8", "surrogatepass"
    )


def host_of(target: Target) -> str:
    """The host that a target's configuration names; empty where the provider's driver knows it."""
    url = target.options.get("upstream_url")
    try:
        return urlsplit(url).hostname or "" if isinstance(url, str) else ""
    except ValueError:
        return ""


def with_result(health: Health, result: Result) -> Health:
    """The health after one more try."""
    circuit = after(health.circuit, result.outcome, now=result.at, wait_s=result.wait_s, jitter=result.jitter)
    limits = Limits(
        _newer(health.limits.requests, result.limits.requests),
        _newer(health.limits.tokens, result.limits.tokens),
    )
    made = replace(health, circuit=circuit, limits=limits)
    if result.outcome != "ok" or result.first_byte_s <= 0:
        return made
    if result.streamed:
        return replace(made, streamed=_averaged(health.streamed, result))
    return replace(made, whole=_averaged(health.whole, result))


def with_uses(health: Health, more: Mapping[str, Use], now: float) -> Health:
    """The health with more use by tenants."""
    return replace(health, uses=added(health.uses, more, now))


def expected_s(latency: Latency, now: float) -> float:
    """Expected time to the first byte: the older the average, the lower, so that each target is measured again."""
    if latency.at <= 0:
        return 0.0
    return latency.seconds * math.exp(-max(0.0, now - latency.at - _FADES_S / 6) / _FADES_S)


def _averaged(latency: Latency, result: Result) -> Latency:
    share = _NEWEST if latency.at > 0 else 1.0
    seconds = latency.seconds + share * (result.first_byte_s - latency.seconds)
    return Latency(seconds, max(latency.at, result.at))


def _newer(known: Allowance | None, told: Allowance | None) -> Allowance | None:
    if told is None or (known is not None and known.at > told.at):
        return known
    return told


# -- as stored -------------------------------------------------------------------------------------------


def write_health(health: Health, about: Mapping[str, str]) -> bytes:
    """The health as JSON, with what `status` shows of its deployment."""
    return json.dumps({"about": dict(about), **asdict(health)}, separators=(",", ":")).encode("ascii")


def read_health(raw: bytes) -> tuple[Health, dict[str, str]] | None:
    """The health in a stored record, and what it says of its deployment; None for what is none."""
    try:
        tree = json.loads(raw)
        about = {str(k): str(v) for k, v in tree["about"].items()}
        uses = tree["uses"]
        health = Health(
            Circuit(**tree["circuit"]),
            Limits(*(_allowance(tree["limits"][name]) for name in ("requests", "tokens"))),
            Latency(**tree["streamed"]),
            Latency(**tree["whole"]),
            Uses(
                int(uses["minute"]),
                {str(k): Use(**v) for k, v in uses["by_tenant"].items()},
                {str(k): int(v) for k, v in uses["before"].items()},
                Use(**uses["total"]),
            ),
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return health, about


def _allowance(values: Any) -> Allowance | None:
    return None if values is None else Allowance(**values)
