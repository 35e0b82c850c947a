"""From a rule to what it finds. Each detector takes a text and gives findings in it; none raises for any text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Protocol

from tenantgate.guard.config import RuleConfig
from tenantgate.pii.core import (
    DEFAULT_KINDS,
    NAME_KINDS,
    PERSONAL_REACH,
    SECRETS_REACH,
    Finding,
    Reach,
    Readings,
    find_at_last,
    find_in_views,
    find_personal,
    find_secrets,
)
from tenantgate.pii.core.windows import in_windows
from tenantgate.time_left import check_time

if TYPE_CHECKING:
    from tenantgate.guard.core.injection import InjectionModel
    from tenantgate.guard.core.ports import Embedder, Patterns
    from tenantgate.pii.core.ports import NameFinder

__all__ = ["Detector", "Parts", "as_it_reads", "as_read_at_last", "detector", "key", "shared_readings"]

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


_shared: ContextVar[dict[str, Readings] | None] = ContextVar("shared", default=None)
_SEGMENT: Final = 1600  # characters that a detector of wording reads at once


@contextmanager
def shared_readings() -> Iterator[None]:
    """Within the block all detectors share what a text may be read as; nothing of it is kept longer."""
    token = _shared.set({})
    try:
        yield
    finally:
        _shared.reset(token)


def _readings(text: str) -> str | Readings:
    shared = _shared.get()
    if shared is None:
        return text
    if text not in shared:
        shared[text] = Readings(text, check_time)
    return shared[text]


def as_it_reads(find: Detector, reach: Reach | None = None) -> Detector:
    """`find` on the text and on all that it may be read as, so that no trick and no escape hides what either shows.

    With the `reach` of `find`, of each reading only what is near its difference from an earlier one is read.
    """
    return lambda text: find_in_views(_readings(text), find, check_time, reach=reach)


def as_read_at_last(find: Detector, around: int | None = None) -> Detector:
    """`find`, which is costly, on the text and on what it reads as when all escapes are undone, or only near these."""
    return lambda text: find_at_last(_readings(text), find, check_time, around=around)


def key(rule: RuleConfig) -> tuple[object, ...]:
    """The same for rules whose detectors find the same in a text."""
    return (
        rule.detector,
        rule.kinds,
        rule.phrases,
        rule.patterns,
        rule.recognizers,
        rule.entities,
        rule.language,
    )


def detector(rule: RuleConfig, parts: Parts) -> Detector:
    """The rule's detector."""
    return _MAKERS[rule.detector](rule, parts)


def _personal(rule: RuleConfig, _parts: Parts) -> Detector:
    kinds = frozenset(rule.kinds) or DEFAULT_KINDS
    return as_it_reads(in_windows(lambda text: find_personal(text, kinds)), PERSONAL_REACH)


def _secrets(rule: RuleConfig, _parts: Parts) -> Detector:
    kinds = frozenset(rule.kinds)
    found = as_it_reads(in_windows(find_secrets), SECRETS_REACH)
    return found if not kinds else lambda text: tuple(f for f in found(text) if f.kind in kinds)


def _names(rule: RuleConfig, parts: Parts) -> Detector:
    kinds, finder = frozenset(rule.kinds or NAME_KINDS), parts.names()
    return as_read_at_last(lambda text: finder.find(text, kinds), _SEGMENT)


def _injection(_rule: RuleConfig, parts: Parts) -> Detector:
    return as_read_at_last(parts.injection().find, _SEGMENT)


def _denied(rule: RuleConfig, parts: Parts) -> Detector:
    from tenantgate.guard.core.topics import Topics

    return as_read_at_last(Topics(rule.phrases, parts.embedder()).denied)


def _allowed(rule: RuleConfig, parts: Parts) -> Detector:
    from tenantgate.guard.core.topics import Topics

    return as_read_at_last(Topics(rule.phrases, parts.embedder()).allowed)


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
