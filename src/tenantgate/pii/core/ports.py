"""Ports of the detectors of personal data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tenantgate.pii.core.finding import Finding

__all__ = ["NameFinder"]


class NameFinder(Protocol):
    """Finds what has no form: names of persons, places and organisations."""

    def find(self, text: str, kinds: frozenset[str]) -> tuple[Finding, ...]:
        """The findings of `kinds`."""
