"""Detectors at work on the texts of requests and replies, in the time that is left."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from tenantgate.errors import TenantgateError
from tenantgate.guard.core.decision import Decision, Detected, Exempt, Whole, decide, mask, nothing_exempt
from tenantgate.guard.core.detectors import Detector, Parts, detector, key, shared_readings
from tenantgate.guard.core.value_texts import is_empty
from tenantgate.pii.core import outermost
from tenantgate.telemetry import logs, metrics
from tenantgate.time_left import OutOfTimeError, limited

if TYPE_CHECKING:
    from tenantgate.guard.config import RuleConfig
    from tenantgate.guard.core.passages import Passage
    from tenantgate.pii.core import Finding, Placeholders

__all__ = ["OF_PROSE", "Inspector"]

_log: Final = logging.getLogger("tenantgate.guard")
SHARE: Final = 0.95 / 1000  # of the milliseconds that are left, in seconds; the rest is for calls to Kong
_BEYOND_DOUBT: Final = 0.98
OF_PROSE: Final = frozenset({"names", "injection", "denied_topics", "allowed_topics"})
"""Detectors of what somebody says: identifiers say nothing, and pieces of a text were read where they stand."""

_seconds: Final = metrics.histogram("tenantgate_guard_detector_seconds", "Time of a detector.", ("detector",))
_gaps: Final = metrics.counter(
    "tenantgate_guard_gaps_total",
    "Rules that could not be applied to a request or reply.",
    ("detector", "reason"),
)


class Inspector:
    """Inspection by the rules of one configuration; thread-safe. Detectors are made when they are first needed.

    Attributes:
        rules: in the order of the configuration.
        targets: of the rules, each once.
    """

    def __init__(self, rules: Sequence[RuleConfig], parts: Parts, *, reject_unchecked: bool = False) -> None:
        """`reject_unchecked`: whether a failed rule that masks or blocks makes the inspection fail."""
        self.rules = tuple(rules)
        self.targets = tuple(dict.fromkeys(rule.target for rule in self.rules))
        self._masking = tuple(rule for rule in self.rules if rule.mode == "mask")
        self._parts = parts
        self._reject_unchecked = reject_unchecked
        self._detectors: dict[tuple[object, ...], Detector] = {}

    def inspect(
        self,
        passages: Mapping[str, Passage],
        exempt: Exempt = nothing_exempt,
        *,
        left_ms: float | None = None,
        unread: Sequence[RuleConfig] = (),
    ) -> Decision:
        """The decision on the passages, which are by target.

        It takes most of `left_ms`, the milliseconds that are left of the phase, at most; None is no limit. The rules
        `unread` fail for lack of time: their passage is too long.

        Raises:
            Exception: of a detector that failed, where the rule masks or blocks and this is to be rejected.
        """
        with contextlib.nullcontext() if left_ms is None else limited(left_ms * SHARE):
            detected = self._detect([rule for rule in self.rules if rule not in unread], passages)
        failed = {**detected.failed, **{rule.name: OutOfTimeError() for rule in unread}}
        if self._reject_unchecked:
            _raise_first(failed, [rule for rule in self.rules if rule.mode != "alert"])
        return decide(self.rules, passages, Detected(detected.found, failed), exempt)

    def mask(
        self,
        whole: Whole,
        placeholders: Placeholders,
        exempt: Exempt = nothing_exempt,
        decision: Decision | None = None,
    ) -> Whole:
        """A request or reply with everything masked that rules in ``mask`` find; `decision` is the one on it, if known.

        Raises:
            EdgeError: something can't be masked.
            Exception: of a detector that failed.
        """

        def inspect(changed: Whole) -> Decision:
            passages = changed.passages(dict.fromkeys(rule.target for rule in self._masking))
            detected = self._detect(self._masking, passages)
            _raise_first(detected.failed, self._masking)
            return decide(self._masking, passages, detected, exempt)

        return mask(whole, decision or inspect(whole), inspect, placeholders)

    def _detect(self, rules: Sequence[RuleConfig], passages: Mapping[str, Passage]) -> Detected:
        """Results of the rules' detectors; equal detectors read a passage once. Raises nothing."""
        found: dict[str, Sequence[Finding]] = {}
        failed: dict[str, Exception] = {}
        seen: dict[tuple[object, ...], Sequence[Finding]] = {}
        with shared_readings():
            for rule in rules:
                reading = (*key(rule), rule.target)
                if reading not in seen:
                    started = time.perf_counter()
                    try:
                        seen[reading] = self._findings(rule, passages[rule.target])
                    except Exception as error:  # noqa: BLE001 - one broken rule must not take the others along
                        failed[rule.name] = error
                        _report(rule, error)
                        continue
                    finally:
                        _seconds.observe(time.perf_counter() - started, detector=rule.detector)
                found[rule.name] = seen[reading]
        return Detected(found, failed)

    def _findings(self, rule: RuleConfig, passage: Passage) -> tuple[Finding, ...]:
        text = passage.text[: passage.prose] if rule.detector in OF_PROSE else passage.text
        if not text.strip():
            return ()
        made = self._detectors.get(key(rule))
        if made is None:
            made = self._detectors.setdefault(key(rule), detector(rule, self._parts))
        if rule.detector == "injection" and passage.sentences < passage.prose:
            return _in_sentences(text, passage.sentences, made)
        return passage.settled(made(text))


def _in_sentences(text: str, sentences: int, find: Detector) -> tuple[Finding, ...]:
    """What is found in the sentences of values, and in all of the `text` only where it is beyond doubt.

    Prompts have sentences, and so had what the detector learnt from: words and signs that stand alone it may take for
    anything, in one of ten values. An attack whose words are strewn over values stays as good as certain.
    """
    found = find(text[:sentences]) if text[:sentences].strip() else ()
    if is_empty(text):
        return found
    return outermost((*found, *(f for f in find(text) if f.score >= _BEYOND_DOUBT)))


def _raise_first(failed: Mapping[str, Exception], rules: Sequence[RuleConfig]) -> None:
    for rule in rules:
        if rule.name in failed:
            raise failed[rule.name]


def _report(rule: RuleConfig, error: Exception) -> None:
    _gaps.inc(detector=rule.detector, reason=type(error).__name__)
    if not isinstance(error, TenantgateError):
        logs.event(_log, logging.ERROR, "a detector failed", rule=rule.name, **logs.describe(error))
