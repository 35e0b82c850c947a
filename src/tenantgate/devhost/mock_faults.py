"""How the mock provider answers: as a rule, and for single requests that a test names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

__all__ = ["FAULTS", "Behaviour", "Rule", "Rules"]

FAULTS: Final[Mapping[str, str]] = {
    "hang_head": "takes the request and never answers",
    "hang_body": "sends status and headers, and nothing after them",
    "hang_middle": "sends a part of the body, and nothing after it",
    "close_head": "takes the request and closes the connection",
    "close_body": "sends status and headers, and closes the connection",
    "close_middle": "sends a part of the body, and closes the connection",
    "short": "announces more bytes than it sends before it closes the connection",
    "long": "announces fewer bytes than it sends",
    "redirect": "sends the client to `location`",
}
"""What a provider can do to a request but answer it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How it answers; times in milliseconds.

    Raises:
        ValueError: there is no such fault.
    """

    latency_ms: float = 0.0
    """Before the first byte of a reply."""
    chunk_ms: float = 0.0
    """Before each chunk of a stream."""
    status: int = 200
    """Another status is an error in the provider's shape."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Further headers of a reply, such as ``Retry-After``."""
    context_length: bool = False
    """The error says that the prompt is too long, as the provider says it."""
    fault: str = ""
    """One of `FAULTS`."""
    location: str = ""
    """Of a redirect."""
    close_after: int | None = None
    """Close the connection after so many chunks of a stream, or instead of a plain reply."""
    finish_reason: str = "stop"
    tool_calls: bool = False
    refusal: bool = False
    """Refuse after the answer's text, in a field of its own; OpenAI's shape only."""
    at_once: bool = False
    """Send a stream in one piece, as a proxy on the way may do."""
    malformed: bool = False
    """Answer 200 with a body that isn't JSON."""
    keep_bodies: bool = False
    """Keep request bodies in the records, too, as Base64."""

    def __post_init__(self) -> None:
        if self.fault and self.fault not in FAULTS:
            raise ValueError(f"fault: must be one of {', '.join(FAULTS)}")

    @property
    def billed(self) -> bool:
        """Whether a provider may ask money for such an answer: all but errors and redirects."""
        return self.status == 200 and not self.context_length and self.fault != "redirect"


@dataclass(slots=True, kw_only=True)
class Rule:
    """A behaviour for the requests that match; empty fields match every request."""

    behaviour: Behaviour
    port: int = 0
    path: str = ""
    model: str = ""
    skip: int = 0
    """So many matching requests are let pass first."""
    times: int = 0
    """How many requests it is for; 0: all."""
    seen: int = 0
    """Requests that matched so far."""

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Rule:
        """The rule in a JSON object, a behaviour's members beside its own.

        Raises:
            TypeError, ValueError: it has other members, or values that no rule takes.
        """
        own = {name: table[name] for name in ("port", "path", "model", "skip", "times") if name in table}
        known = {f.name for f in fields(Behaviour)}
        if unknown := table.keys() - own.keys() - known:
            raise ValueError(f"a rule has no {', '.join(sorted(unknown))}")
        return cls(behaviour=Behaviour(**{k: v for k, v in table.items() if k in known}), **own)

    def matches(self, *, port: int, path: str, model: str) -> bool:
        """Whether it is for such a request at all."""
        return self.port in (0, port) and self.path in ("", path) and self.model in ("", model)

    def takes(self) -> bool:
        """Count a matching request; whether the rule is for this one."""
        self.seen += 1
        return self.seen > self.skip and (not self.times or self.seen <= self.skip + self.times)


class Rules:
    """The first rule that is for a request decides; without one the provider behaves as it always does."""

    def __init__(self, default: Behaviour) -> None:
        self.default = default
        self.now = default
        self.rules: list[Rule] = []

    def choose(self, *, port: int, path: str, model: str) -> Behaviour:
        """How to answer the next request of this kind."""
        for rule in self.rules:
            if rule.matches(port=port, path=path, model=model) and rule.takes():
                return rule.behaviour
        return self.now
