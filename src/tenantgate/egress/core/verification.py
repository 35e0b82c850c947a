"""The tries of audit records against the egress lists that were in force at their time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from tenantgate.policy.core.egress import (
    PORTS,
    Pattern,
    parse_address,
    parse_host,
    patterns,
    permits,
    permits_address,
)

__all__ = ["SLACK_S", "Lists", "Refused", "Verdict", "Version", "check"]

SLACK_S: Final = 60.0
"""How long a version may take until every node goes by it."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the policies: its number, and when it was published (Unix time in seconds)."""

    number: int
    at: float


@dataclass(frozen=True, slots=True)
class Lists:
    """The lists of one version. None: there was none, and everything was permitted."""

    gateway: Sequence[str] | None
    tenant: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A try that no list of its time permitted, or that nobody can judge."""

    record: str
    time: str
    tenant: str
    target: str
    asked: str
    """Host, address and port."""
    why: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one record.

    Attributes:
        tries: that were judged.
        unlimited: whether there was no list, so that there was nothing to judge by.
    """

    tries: int = 0
    unlimited: bool = False
    refused: tuple[Refused, ...] = ()


def check(
    record: Mapping[str, Any], versions: Sequence[Version], lists: Callable[[int, str], Lists]
) -> Verdict:
    """Judge the tries of one record.

    A try is permitted if one of the versions permits it that were in force from `SLACK_S` before the request came to
    `SLACK_S` after its last try.

    Args:
        record: as the audit log writes it; one that isn't of a request has no tries.
        versions: all that are kept, the oldest first.
        lists: those of a version for a tenant.
    """
    if "request" not in record:
        return Verdict()
    tries = [t for t in record.get("tries") or () if isinstance(t, Mapping) and t.get("address")]
    direct = not record.get("tries") and bool(record.get("attempts"))
    if not tries and not direct:
        return Verdict()
    found = _in_force(record, versions)
    if not found:
        why = "no version of the policies of that time is kept"
        return Verdict(len(tries), refused=tuple(_refused(record, t, why) for t in tries or [{}]))
    known = [lists(version.number, str(record.get("tenant", ""))) for version in found]
    if any(each.gateway is None for each in known):
        return Verdict(len(tries), unlimited=True)
    if direct:
        why = "the provider was asked directly, though there was an egress list"
        return Verdict(1, refused=(_refused(record, {}, why),))
    permitted = [_patterns(each) for each in known]
    refused = []
    for one in tries:
        whys = [_why(one, both) for both in permitted]
        if all(why is not None for why in whys):
            refused.append(_refused(record, one, whys[-1] or ""))
    return Verdict(len(tries), refused=tuple(refused))


def _in_force(record: Mapping[str, Any], versions: Sequence[Version]) -> list[Version]:
    try:
        came = datetime.fromisoformat(str(record.get("time", ""))).timestamp()
    except ValueError:
        return []
    took = sum(t.get("ms", 0) for t in record.get("tries") or () if isinstance(t, Mapping)) / 1000
    begin, end = came - SLACK_S, came + took + SLACK_S
    before = [version for version in versions if version.at <= begin]
    return [*before[-1:], *(version for version in versions if begin < version.at <= end)]


def _patterns(lists: Lists) -> list[tuple[Pattern, ...]]:
    return [patterns(texts) for texts in (lists.gateway, lists.tenant) if texts is not None]


def _why(one: Mapping[str, Any], lists: Sequence[Sequence[Pattern]]) -> str | None:
    """Why a try isn't permitted; None if it is. Records don't say whether it was over TLS."""
    host = str(one.get("host", ""))
    text, _, port = str(one.get("address", "")).rpartition(":")
    address = parse_address(text)
    if address is None or not port.isdecimal():
        return "its address can't be read"
    named = isinstance(parse_host(host), str)
    for allowed in lists:
        if not any(permits(allowed, scheme, host, int(port)) for scheme in PORTS):
            return "its host isn't in the list"
        if named and not permits_address(allowed, address):
            return "its address is neither public nor in a range of the list"
        if not named and parse_host(host) != address:
            return "its address isn't the one that was to be asked"
    return None


def _refused(record: Mapping[str, Any], one: Mapping[str, Any], why: str) -> Refused:
    asked = " ".join(str(one[name]) for name in ("host", "address") if one.get(name))
    return Refused(
        record=str(record.get("id", "")),
        time=str(record.get("time", "")),
        tenant=str(record.get("tenant", "")),
        target=str(one.get("target", "")),
        asked=asked,
        why=why,
    )
