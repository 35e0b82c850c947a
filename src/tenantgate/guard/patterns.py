"""Operators' expressions on RE2, which takes linear time for every expression that it takes at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import re2

from tenantgate.errors import ConfigError
from tenantgate.pii.core import Finding, outermost, without_surrogates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tenantgate.guard.config import PatternConfig

__all__ = ["Re2Patterns"]

_MEMORY: Final = 8 << 20  # bytes of one compiled expression
_PROBES: Final = ("", "a")  # where an expression such as a* or \b matches no character
_MOST: Final = 1000  # findings of one expression in one text


class Re2Patterns:
    """Expressions, compiled; thread-safe."""

    def __init__(self, patterns: Sequence[PatternConfig]) -> None:
        options: Any = re2.Options()
        options.log_errors = False  # they would go to standard error, text and all
        options.max_mem = _MEMORY
        self._compiled = []
        for pattern in patterns:
            where = f"patterns.{pattern.name}"
            try:
                compiled = re2.compile(pattern.regex, options=options)
            except re2.error as error:
                raise ConfigError(f"{where}: RE2 doesn't take the expression ({_reason(error)})") from None
            if any(match[0] == "" for match in map(compiled.search, _PROBES) if match):
                raise ConfigError(f"{where}: the expression matches the empty text, which is no finding")
            self._compiled.append((pattern, compiled))

    def find(self, text: str) -> tuple[Finding, ...]:
        """The findings of all expressions; a match without characters is none."""
        found = []
        readable = without_surrogates(text)
        for pattern, compiled in self._compiled:
            n = 0
            for match in compiled.finditer(readable):
                start, end = match.span()
                if end > start:
                    found.append(Finding(start, end, pattern.name, pattern.score))
                    n += 1
                    if n >= _MOST:
                        # The rest counts as one finding, so that masking leaves none of it.
                        found.append(Finding(start, len(text), pattern.name, pattern.score))
                        break
        return outermost(found)


def _reason(error: Exception) -> str:
    text = error.args[0] if error.args else ""
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    return text.split(":", 1)[0][:80]
