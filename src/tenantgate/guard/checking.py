"""Rules at work on passages, for requests and replies alike."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from tenantgate.errors import EdgeError, TenantgateError
from tenantgate.guard.core.detectors import Detector, Parts, detector, key, shared_readings
from tenantgate.pii.core import Placeholders, in_placeholder, masking, outermost
from tenantgate.telemetry import logs, metrics

if TYPE_CHECKING:
    from tenantgate.guard.config import RuleConfig
    from tenantgate.guard.core.passages import Edits, Passage
    from tenantgate.pii.core import Finding

__all__ = ["Checked", "Checker", "mask_all"]

_log: Final = logging.getLogger("tenantgate.guard")
Value = TypeVar("Value")
_ROUNDS: Final = 8
_OF_PROSE: Final = frozenset({"names", "injection", "denied_topics", "allowed_topics"})
"""Detectors of what somebody says: identifiers say nothing, and pieces of a text were read where they stand."""

_seconds: Final = metrics.histogram("tenantgate_guard_detector_seconds", "Time of a detector.", ("detector",))
_gaps: Final = metrics.counter(
    "tenantgate_guard_gaps_total",
    "Rules that could not be applied to a request or reply.",
    ("detector", "reason"),
)


@dataclass(frozen=True, slots=True)
class Checked:
    """What the rules found, and which could not look.

    Attributes:
        found: findings by rule name.
        failed: rules that failed, with the error.
    """

    found: Mapping[str, Sequence[Finding]]
    failed: Mapping[str, Exception] = field(default_factory=dict)


class Checker:
    """The rules of one configuration; thread-safe. Detectors are made when they are first needed."""

    def __init__(self, rules: Sequence[RuleConfig], parts: Parts) -> None:
        self.rules = tuple(rules)
        self._parts = parts
        self._detectors: dict[tuple[object, ...], Detector] = {}

    def check(self, passage: Callable[[RuleConfig], Passage]) -> Checked:
        """Apply all rules; what two rules need alike is done once. Never raises but for the deadline."""
        with shared_readings():
            return self._check(passage)

    def _check(self, passage: Callable[[RuleConfig], Passage]) -> Checked:
        found: dict[str, Sequence[Finding]] = {}
        failed: dict[str, Exception] = {}
        seen: dict[tuple[object, ...], Sequence[Finding]] = {}
        for rule in self.rules:
            what = (*key(rule), rule.target)
            if what not in seen:
                started = time.perf_counter()
                try:
                    seen[what] = self.findings(rule, passage(rule))
                except Exception as error:  # noqa: BLE001 - one broken rule must not take the others along
                    failed[rule.name] = error
                    reason = type(error).__name__
                    _gaps.inc(detector=rule.detector, reason=reason)
                    if not isinstance(error, TenantgateError):
                        logs.event(
                            _log, logging.ERROR, "a detector failed", rule=rule.name, **logs.describe(error)
                        )
                    continue
                finally:
                    _seconds.observe(time.perf_counter() - started, detector=rule.detector)
            found[rule.name] = seen[what]
        return Checked(found, failed)

    def findings(self, rule: RuleConfig, passage: Passage) -> tuple[Finding, ...]:
        """What the rule's detector finds in a passage.

        Raises:
            TenantgateError: a part that it needs can't be had, or the text can't be read.
        """
        text = passage.text[: passage.prose] if rule.detector in _OF_PROSE else passage.text
        return passage.settled(self.find(rule, text)) if text.strip() else ()

    def find(self, rule: RuleConfig, text: str) -> tuple[Finding, ...]:
        """What the rule's detector finds.

        Raises:
            TenantgateError: a part that it needs can't be had.
        """
        made = self._detectors.get(key(rule))
        if made is None:
            made = self._detectors.setdefault(key(rule), detector(rule, self._parts))
        return made(text)


def mask_all(  # noqa: PLR0917
    rules: Sequence[RuleConfig],
    passages: Callable[[Value, RuleConfig], Passage],
    value: Value,
    checker: Checker,
    placeholders: Placeholders,
    allowed: Callable[[RuleConfig, Passage, Finding], bool],
    rewrite: Callable[[Value, Edits], Value],
) -> Value:
    """`value` with all that `rules` find masked, looked at again until nothing is found.

    What stands beside a placeholder may look like something new; a few rounds at most.

    Raises:
        TenantgateError: a detector can't look, there is no end, or something can't be masked.
    """
    for _ in range(_ROUNDS):
        done = True
        for target in dict.fromkeys(r.target for r in rules):
            mine = [r for r in rules if r.target == target]
            passage = passages(value, mine[0])
            findings = outermost(
                f
                for rule in mine
                for f in checker.findings(rule, passage)
                if f.score >= rule.bound and allowed(rule, passage, f)
            )
            if not findings:
                continue
            edits = passage.edits(findings, lambda text, inside: masking(text, inside, placeholders))
            if edits:
                value = rewrite(value, edits)
                done = False
            elif not all(in_placeholder(passage.text, f.start, f.end) for f in findings):
                raise EdgeError("mask: something can't be masked where it stands")
        if done:
            return value
    raise EdgeError("mask: there is something to mask again and again")
