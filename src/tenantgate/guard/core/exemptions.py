"""Exemptions: who lets which findings pass, why, and until when. Each is a record that ends."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace

from tenantgate.errors import ConfigError

__all__ = ["Exemption", "State", "approve", "covering", "in_force", "read"]

MAX_DAYS = 366


class State(enum.StrEnum):
    """State of an exemption."""

    REQUESTED = "requested"
    ACTIVE = "active"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemption:
    """One exemption of one tenant.

    Attributes:
        id: short and random.
        rule: the rule's name.
        fingerprint: only findings with this keyed hash; None for all that the rule finds.
        reason: why, in the operator's words.
        by: who asked for it.
        approved_by: the second person, where one is needed.
        created, until: Unix seconds.
    """

    id: str
    rule: str
    reason: str
    by: str
    created: float
    until: float
    fingerprint: str | None = None
    state: State = State.ACTIVE
    approved_by: str | None = None

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise ConfigError("exemption: a reason is needed")
        if not self.by.strip():
            raise ConfigError("exemption: the name of who grants it is needed")
        if not self.created < self.until <= self.created + MAX_DAYS * 86_400:
            raise ConfigError(f"exemption: must end after now and within {MAX_DAYS} days")

    def to_json(self) -> str:
        """As it is stored."""
        return json.dumps(asdict(self), separators=(",", ":"), sort_keys=True)


def read(text: str | bytes) -> Exemption | None:
    """A stored exemption; None for what isn't one."""
    try:
        values = json.loads(text)
        return Exemption(**{**values, "state": State(values["state"])})
    except (ValueError, TypeError, KeyError, AttributeError, ConfigError):
        return None


def approve(exemption: Exemption, by: str) -> Exemption:
    """The exemption in force, by the word of a second person.

    Raises:
        ConfigError: it is the same person, or nothing is to approve.
    """
    if exemption.state is not State.REQUESTED:
        raise ConfigError("exemption: it is in force already")
    if by.strip().casefold() == exemption.by.strip().casefold() or not by.strip():
        raise ConfigError("exemption: a second person must approve it")
    return replace(exemption, state=State.ACTIVE, approved_by=by)


def in_force(exemptions: Iterable[Exemption], now: float, *, approval: bool = False) -> tuple[Exemption, ...]:
    """Those that hold at `now`; with `approval` only those that a second person approved."""
    return tuple(
        e
        for e in exemptions
        if e.state is State.ACTIVE
        and e.created <= now + 60
        and now < e.until
        and (e.approved_by or not approval)
    )


def covering(exemptions: Iterable[Exemption], rule: str, fingerprint: Callable[[], str]) -> Exemption | None:
    """The first exemption that lets a finding of the rule pass; None where there is none.

    `fingerprint`, the finding's keyed hash, is computed only where an exemption of this rule names one.
    """
    mine = (e for e in exemptions if e.rule == rule)
    return next((e for e in mine if e.fingerprint is None or e.fingerprint == fingerprint()), None)
