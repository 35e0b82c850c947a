"""Inspection of a request or a reply: from what the detectors found to what happens. Pure.

1. Each rule reads the passage of its target; a rule whose detector fails, or whose passage is too long, is a failure.
2. Findings below the rule's threshold don't count.
3. Findings that an exemption of the tenant covers are counted, and let pass.
4. A rule with findings, exempted ones included, is a hit. It asks for the rule's mode if any of them isn't exempted.
5. The strictest mode that a hit asks for is the action: pass, alert, mask, block.
6. A failure of a rule that blocks or masks means that nothing is known: what to do then is the caller's policy.
7. Masking replaces the findings of one target, inspects the changed text, and so on until nothing is left to mask:
   what stands beside a placeholder may look like something new.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, Self, TypeVar

from tenantgate.errors import EdgeError
from tenantgate.guard.config import RuleConfig
from tenantgate.guard.core.exemptions import Exemption
from tenantgate.guard.core.passages import Edits, Passage
from tenantgate.pii.core import Finding, Placeholders, masking, outermost, unmasked

__all__ = ["Action", "Decision", "Detected", "Exempt", "Hit", "Maskable", "decide", "mask", "nothing_exempt"]

_ROUNDS: Final = 8  # of masking, for each target

Exempt = Callable[[RuleConfig, str], Exemption | None]
"""The exemption that lets a matched text pass the rule; None where there is none."""


class Action(enum.StrEnum):
    """What happens to a request or a reply, from the mildest to the strictest."""

    PASS = "pass"  # noqa: S105 - no password
    ALERT = "alert"
    MASK = "mask"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class Detected:
    """Results of the detectors.

    Attributes:
        found: findings in the passage of the rule's target, by rule name.
        failed: rules whose detector failed or had no time, with the error, by rule name.
    """

    found: Mapping[str, Sequence[Finding]]
    failed: Mapping[str, Exception] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hit:
    """A rule that found something.

    Attributes:
        rule: the rule.
        passage: the text in which the findings lie.
        findings: those that reach the rule's threshold and no exemption covers.
        exempted: how many more an exemption covers.
        exemptions: the ids of those exemptions.
    """

    rule: RuleConfig
    passage: Passage = field(repr=False)
    findings: tuple[Finding, ...]
    exempted: int = 0
    exemptions: tuple[str, ...] = ()

    @property
    def action(self) -> Action:
        """What this hit alone asks for."""
        return Action(self.rule.mode) if self.findings else Action.PASS

    def text(self, finding: Finding) -> str:
        """The matched text."""
        return self.passage.text[finding.start : finding.end]


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens, and why.

    Attributes:
        action: the strictest of what the hits ask for.
        hits: in the order of the rules.
        failures: rules that could not be applied, with the error, by rule name.
    """

    action: Action
    hits: tuple[Hit, ...]
    failures: Mapping[str, Exception] = field(default_factory=dict)

    def blocking(self) -> tuple[Hit, ...]:
        """The hits that refuse the request or the reply."""
        return tuple(h for h in self.hits if h.action is Action.BLOCK)

    def edits(self, placeholders: Placeholders) -> Edits:
        """The replacements in the texts of the first target that has something to mask; empty if none has.

        Raises:
            EdgeError: something can't be masked where it stands.
        """
        by_target: dict[str, list[Hit]] = {}
        for hit in self.hits:
            if hit.action is Action.MASK:
                by_target.setdefault(hit.rule.target, []).append(hit)
        for hits in by_target.values():
            passage = hits[0].passage
            findings = outermost(f for hit in hits for f in hit.findings)
            edits = passage.edits(findings, lambda text, inside: masking(text, inside, placeholders))
            if edits:
                return edits
            if any(
                unmasked(passage.text[run.start : run.end], inside, placeholders)
                for run, inside in passage.parts(findings)
            ):
                raise EdgeError("mask: something can't be masked where it stands")
        return {}

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


class Maskable(Protocol):
    """A request or a reply whose texts can be replaced."""

    def passages(self, targets: Iterable[str]) -> Mapping[str, Passage]:
        """The texts that each target means."""

    def masked(self, edits: Edits) -> Self:
        """The same with these texts replaced.

        Raises:
            EdgeError: one of them can't be replaced.
        """


Whole = TypeVar("Whole", bound=Maskable)


def nothing_exempt(_rule: RuleConfig, _text: str) -> None:
    """No exemption is in force (`Exempt`)."""


def decide(
    rules: Sequence[RuleConfig],
    passages: Mapping[str, Passage],
    detected: Detected,
    exempt: Exempt = nothing_exempt,
) -> Decision:
    """The decision on what was `detected` in `passages`, which are by target."""
    hits = []
    for rule in rules:
        passage = passages[rule.target]
        strong = [f for f in detected.found.get(rule.name, ()) if f.score >= rule.bound]
        if not strong:
            continue
        kept, used = [], []
        for finding in strong:
            exemption = exempt(rule, passage.text[finding.start : finding.end])
            if exemption is None:
                kept.append(finding)
            else:
                used.append(exemption.id)
        hits.append(Hit(rule, passage, tuple(kept), len(used), tuple(dict.fromkeys(used))))
    order = list(Action)
    action = max((h.action for h in hits), key=order.index, default=Action.PASS)
    return Decision(action, tuple(hits), detected.failed)


def mask(
    whole: Whole, decision: Decision, inspect: Callable[[Whole], Decision], placeholders: Placeholders
) -> Whole:
    """`whole`, on which `decision` was made, with everything masked that the rules in ``mask`` find.

    `inspect` applies these rules once more, and raises where one of them fails.

    Raises:
        EdgeError: there is no end, or something can't be masked where it stands.
    """
    targets = {hit.rule.target for hit in decision.hits}
    for _ in range(_ROUNDS * max(1, len(targets))):
        edits = decision.edits(placeholders)
        if edits:
            whole = whole.masked(edits)
        elif not decision.failures:
            return whole
        decision = inspect(whole)
    raise EdgeError("mask: there is something to mask again and again")
