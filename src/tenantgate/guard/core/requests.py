"""A chat request's body as the inspection reads and changes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tenantgate.guard.core.passages import Edits, Passage, of_request, rewrite

__all__ = ["RequestBody"]


@dataclass(frozen=True, slots=True)
class RequestBody:
    """The JSON object of a chat request."""

    value: Mapping[str, Any] = field(repr=False)

    def passages(self, targets: Iterable[str]) -> Mapping[str, Passage]:
        """The texts that each target means.

        Raises:
            UnreadableError: the body is nested too deeply.
        """
        return {target: of_request(self.value, target) for target in targets}

    def masked(self, edits: Edits) -> RequestBody:
        """The body with these texts replaced."""
        return RequestBody(rewrite(self.value, edits))
