"""From findings to what happens: pure, and without any text."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tenantgate.guard.config import RuleConfig
from tenantgate.guard.core.exemptions import Exemption
from tenantgate.pii.core import Finding

__all__ = ["Action", "Decision", "Hit", "judge"]


class Action(enum.StrEnum):
    """What happens to a request or a reply."""

    PASS = "pass"  # noqa: S105 - no password
    ALERT = "alert"
    MASK = "mask"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class Hit:
    """A rule that found something.

    Attributes:
        rule: the rule.
        findings: those that reach its threshold and no exemption covers.
        exempted: how many more an exemption covers.
        exemptions: the ids of those exemptions.
    """

    rule: RuleConfig
    findings: tuple[Finding, ...]
    exempted: int = 0
    exemptions: tuple[str, ...] = ()

    @property
    def action(self) -> Action:
        """What this hit alone asks for."""
        return Action(self.rule.mode) if self.findings else Action.PASS


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens, and why."""

    action: Action
    hits: tuple[Hit, ...]

    def blocking(self) -> tuple[Hit, ...]:
        """The hits that refuse the request."""
        return tuple(h for h in self.hits if h.action is Action.BLOCK)

    def masking(self) -> tuple[Hit, ...]:
        """The hits that ask for masking."""
        return tuple(h for h in self.hits if h.action is Action.MASK)

    def verdict(self) -> dict[str, Any]:
        """For other plugins and for the record: rules, kinds and numbers, no text, no place."""
        rules = {}
        for hit in self.hits:
            entry: dict[str, Any] = {
                "mode": hit.rule.mode,
                "kinds": dict(sorted(Counter(f.kind for f in hit.findings).items())),
            }
            if hit.findings:
                entry["score"] = round(max(f.score for f in hit.findings), 2)
            if hit.exempted:
                entry["exempted"] = hit.exempted
            rules[hit.rule.name] = entry
        return {"action": self.action.value, **({"rules": rules} if rules else {})}


def judge(
    rules: Sequence[RuleConfig],
    found: Mapping[str, Sequence[Finding]],
    exemptions: Sequence[Exemption] = (),
    fingerprint: Callable[[RuleConfig, Finding], str] = lambda _rule, _finding: "",
) -> Decision:
    """The decision on what was `found`, by rule name.

    `exemptions` are those in force for the tenant. `fingerprint` is asked only where an exemption names one.
    """
    hits = []
    for rule in rules:
        strong = [f for f in found.get(rule.name, ()) if f.score >= rule.bound]
        if not strong:
            continue
        mine = [e for e in exemptions if e.rule == rule.name]
        kept, used = [], []
        for finding in strong:
            cover = next(
                (e for e in mine if e.fingerprint is None or e.fingerprint == fingerprint(rule, finding)),
                None,
            )
            if cover is None:
                kept.append(finding)
            else:
                used.append(cover.id)
        hits.append(Hit(rule, tuple(kept), len(used), tuple(dict.fromkeys(used))))
    order = list(Action)
    action = max((h.action for h in hits), key=order.index, default=Action.PASS)
    return Decision(action, tuple(hits))
