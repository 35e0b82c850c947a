"""Rules at work on passages, for requests and replies alike."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tenantgate.errors import TenantgateError
from tenantgate.guard.detectors import Detector, Parts, detector, key
from tenantgate.kong import logs, metrics
from tenantgate.pii import Placeholders, mask, outermost

if TYPE_CHECKING:
    from tenantgate.guard.config import RuleConfig
    from tenantgate.guard.passages import Passage
    from tenantgate.pii import Finding

__all__ = ["Checked", "Checker", "mask_all"]

_log: Final = logging.getLogger("tenantgate.guard")
_ROUNDS: Final = 4

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
        found: dict[str, Sequence[Finding]] = {}
        failed: dict[str, Exception] = {}
        seen: dict[tuple[object, ...], Sequence[Finding]] = {}
        for rule in self.rules:
            what = (*key(rule), rule.target)
            if what not in seen:
                started = time.perf_counter()
                try:
                    text = passage(rule).text
                    seen[what] = self.find(rule, text) if text.strip() else ()
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
    passages: Callable[[Any, RuleConfig], Passage],
    value: Any,
    checker: Checker,
    placeholders: Placeholders,
    allowed: Callable[[RuleConfig, Passage, Finding], bool],
    rewrite: Callable[[Any, Any], Any],
) -> Any:
    """`value` with all that `rules` find masked, looked at again until nothing is found.

    What stands beside a placeholder may look like something new; a few rounds at most.
    """
    for _ in range(_ROUNDS):
        changes: dict[Any, str] = {}
        for target in dict.fromkeys(r.target for r in rules):
            mine = [r for r in rules if r.target == target]
            passage = passages(value, mine[0])
            findings = outermost(
                f
                for rule in mine
                for f in checker.find(rule, passage.text)
                if f.score >= rule.bound and allowed(rule, passage, f)
            )
            if not findings:
                continue
            changed = passage.changed(findings, lambda text, inside: mask(text, inside, placeholders).text)
            originals = {path: passage.text[a:b] for a, b, path in passage.pieces}
            changed = {path: text for path, text in changed.items() if text != originals[path]}
            if changed:
                value = rewrite(value, changed)
                changes |= changed
        if not changes:
            break
    return value
