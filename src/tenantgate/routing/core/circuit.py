"""Circuits: a target that failed several times in a row is left out, then one request tries it again.

A circuit holds facts, not a verdict: each tenant judges them by its own `max_fails` and `fail_timeout`, so a changed
setting holds at once and resets nothing. Times are Unix seconds, so that nodes can share them.
Source: Nygard, Release It!, "Circuit Breaker".
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, replace
from typing import Final

__all__ = ["MOST_WAIT_S", "Circuit", "Effect", "State", "after", "back_at", "effect_of", "state_of"]

MOST_WAIT_S: Final = 300.0
"""Longest wait that a provider's ``Retry-After`` can ask for, and longest that a stored circuit can stay open."""

CREDENTIAL_OUT_S: Final = 60.0
"""How long a target is left out at least after it refused its credential: that takes a person to mend."""

_JITTER: Final = 0.25  # of the time that a target is left out, so that targets don't come back together
_MOST_FAILURES: Final = 1_000_000


class Effect(enum.Enum):
    """What the outcome of a try says of its target."""

    SUCCESS = enum.auto()
    FAILURE = enum.auto()
    CREDENTIAL_REFUSED = enum.auto()
    """As 401 at once. By 403 providers also refuse what one client asks for (moderation, others' files): it counts as
    another failure."""
    NONE = enum.auto()
    """Nothing: the request was at fault, or it never left the gateway."""


class State(enum.StrEnum):
    """State of a circuit."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    """One request may try whether the target is back."""


_FAILURES: Final = frozenset({"error", "timeout", "reset", "http_408", "http_429"})
_STATUS: Final = re.compile(r"http_(\d{3})")


def effect_of(outcome: str) -> Effect:
    """The effect of a try's outcome, as `tenantgate.engine.core.tables.Try` names it.

    Errors of the client (400, 404, 422, a prompt too long …) have none: one client must not put a target out of
    reach of the others.
    """
    if outcome == "ok":
        return Effect.SUCCESS
    if outcome in ("http_401", "http_403"):
        return Effect.CREDENTIAL_REFUSED
    if outcome in _FAILURES:
        return Effect.FAILURE
    status = _STATUS.fullmatch(outcome)
    return Effect.FAILURE if status is not None and int(status[1]) >= 500 else Effect.NONE


@dataclass(frozen=True, slots=True)
class Circuit:
    """What is known of the last tries at a target.

    Attributes:
        failures: in a row.
        failed_at: time of the last one.
        cause: its outcome.
        credential_refused: whether the provider refused the credential by 401, with no success since.
        wait_until: time before which the provider asked not to be tried again; 0: it didn't.
        jitter: from 0 to 1, drawn at the last failure.
        answered_at: time of the last success.
    """

    failures: int = 0
    failed_at: float = 0.0
    cause: str = ""
    credential_refused: bool = False
    wait_until: float = 0.0
    jitter: float = 0.0
    answered_at: float = 0.0


def after(
    circuit: Circuit, outcome: str, *, now: float, wait_s: float | None = None, jitter: float = 0.0
) -> Circuit:
    """The circuit after one more try; `wait_s` is the reply's ``Retry-After`` where it has one."""
    match effect_of(outcome):
        case Effect.NONE:
            return circuit
        case Effect.SUCCESS:
            # A success that began before the failure's wait says nothing of that wait.
            waiting = circuit.wait_until if circuit.wait_until > now else 0.0
            return Circuit(wait_until=waiting, answered_at=now)
        case _:
            wait_until = circuit.wait_until
            if wait_s is not None:
                wait_until = max(wait_until, now + min(max(wait_s, 0.0), MOST_WAIT_S))
            return replace(
                circuit,
                failures=min(circuit.failures + 1, _MOST_FAILURES),
                failed_at=now,
                cause=outcome,
                credential_refused=circuit.credential_refused or outcome == "http_401",
                wait_until=wait_until,
                jitter=jitter,
            )


def back_at(circuit: Circuit, *, max_fails: int, fail_timeout_s: float) -> float:
    """Time from which a request may go to the target again; 0 where it isn't left out at all."""
    at = circuit.wait_until
    if max_fails and (circuit.credential_refused or circuit.failures >= max_fails):
        out_s = max(fail_timeout_s, CREDENTIAL_OUT_S) if circuit.credential_refused else fail_timeout_s
        at = max(at, circuit.failed_at + out_s * (1 + _JITTER * circuit.jitter))
    return at


def state_of(circuit: Circuit, *, max_fails: int, fail_timeout_s: float, now: float) -> State:
    """The circuit's state by one tenant's settings; `max_fails` 0: only a provider's own word leaves it out."""
    at = back_at(circuit, max_fails=max_fails, fail_timeout_s=fail_timeout_s)
    # The clock of the node that wrote it may be ahead.
    most = max(MOST_WAIT_S, fail_timeout_s, CREDENTIAL_OUT_S) * (1 + _JITTER)
    if now < at and at - now <= most:
        return State.OPEN
    tried_out = circuit.credential_refused or circuit.failures >= max_fails
    return State.HALF_OPEN if max_fails and tried_out else State.CLOSED
