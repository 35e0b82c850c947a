"""From a rule to what it finds. Each detector takes a text and gives findings in it; none raises for any text."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from tenantgate.guard.config import RuleConfig
from tenantgate.pii import (
    DEFAULT_KINDS,
    NAME_KINDS,
    Finding,
    find_personal,
    find_secrets,
    normalise,
    original_spans,
    outermost,
)

if TYPE_CHECKING:
    from tenantgate.guard.injection import InjectionModel
    from tenantgate.guard.ports import Embedder, NameFinder, Patterns

__all__ = ["Detector", "Parts", "as_it_reads", "detector", "key"]

Detector = Callable[[str], tuple[Finding, ...]]


class Parts(Protocol):
    """The costly parts; each is asked for when a rule needs it.

    Raises (all of them):
        TenantgateError: it can't be had (yet).
    """

    def injection(self) -> InjectionModel:
        """The model of prompt injection."""

    def embedder(self) -> Embedder:
        """The embedder of topics."""

    def names(self) -> NameFinder:
        """The finder of names."""

    def patterns(self, rule: RuleConfig) -> Patterns:
        """The rule's expressions, compiled."""

    def presidio(self, rule: RuleConfig) -> Patterns:
        """Presidio's recognisers as the rule names them."""


def as_it_reads(find: Detector) -> Detector:
    """`find` on the text and on the text as it reads, so that no trick hides what either shows."""

    def both(text: str) -> tuple[Finding, ...]:
        view = normalise(text)
        if view.starts is None:
            return find(text)
        return outermost((*find(text), *original_spans(view, find(view.text))))

    return both


def key(rule: RuleConfig) -> tuple[object, ...]:
    """The same for rules whose detectors find the same in a text."""
    return (
        rule.detector, rule.kinds, rule.phrases, rule.patterns, rule.recognizers, rule.entities, rule.language,
    )  # fmt: skip


def detector(rule: RuleConfig, parts: Parts) -> Detector:
    """The rule's detector."""
    return _MAKERS[rule.detector](rule, parts)


def _personal(rule: RuleConfig, _parts: Parts) -> Detector:
    kinds = frozenset(rule.kinds) or DEFAULT_KINDS
    return as_it_reads(lambda text: find_personal(text, kinds))


def _secrets(rule: RuleConfig, _parts: Parts) -> Detector:
    kinds = frozenset(rule.kinds)
    found = as_it_reads(find_secrets)
    return found if not kinds else lambda text: tuple(f for f in found(text) if f.kind in kinds)


def _names(rule: RuleConfig, parts: Parts) -> Detector:
    kinds, finder = frozenset(rule.kinds or NAME_KINDS), parts.names()
    return lambda text: finder.find(text, kinds)


def _injection(_rule: RuleConfig, parts: Parts) -> Detector:
    return parts.injection().find


def _denied(rule: RuleConfig, parts: Parts) -> Detector:
    from tenantgate.guard.topics import Topics  # noqa: PLC0415 - NumPy, which `--dump` needs not

    return Topics(rule.phrases, parts.embedder()).denied


def _allowed(rule: RuleConfig, parts: Parts) -> Detector:
    from tenantgate.guard.topics import Topics  # noqa: PLC0415

    return Topics(rule.phrases, parts.embedder()).allowed


def _patterns(rule: RuleConfig, parts: Parts) -> Detector:
    return as_it_reads(parts.patterns(rule).find)


def _presidio(rule: RuleConfig, parts: Parts) -> Detector:
    return as_it_reads(parts.presidio(rule).find)


_MAKERS: Final[dict[str, Callable[[RuleConfig, Parts], Detector]]] = {
    "personal_data": _personal,
    "secrets": _secrets,
    "names": _names,
    "injection": _injection,
    "denied_topics": _denied,
    "allowed_topics": _allowed,
    "patterns": _patterns,
    "presidio": _presidio,
}
