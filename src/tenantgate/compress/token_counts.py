"""Tokens of a text as a family of models counts them, offline: the vocabularies come with `quicktok-v1`."""

from __future__ import annotations

import logging
from typing import Any, Final

from tenantgate.compress.core.ports import TokenCounter
from tenantgate.store.shared import Shared
from tenantgate.telemetry import logs

__all__ = ["ApproximateTokens", "VocabularyTokens", "token_counter"]

_log: Final = logging.getLogger("tenantgate.tokens")
_BYTES_PER_TOKEN: Final = 4.2


class VocabularyTokens:
    """Counts by byte-pair encoding, exactly as the vocabulary's own library does; special tokens count as text."""

    def __init__(self, encoding: str) -> None:
        """Load the vocabulary, 0.5 s and 66 MB.

        Raises:
            ImportError: quicktok isn't there for this platform.
        """
        import quicktok

        self._encoding: Any = quicktok.get_encoding(encoding)
        self.name = encoding

    def count(self, text: str) -> int:
        """Tokens of `text`."""
        # A lone surrogate has no UTF-8; the library takes nothing else.
        if not text.isascii():
            text = text.encode("utf-8", "replace").decode()
        return int(self._encoding.count(text))


class ApproximateTokens:
    """Where no vocabulary loads: a token for each 4.2 bytes of UTF-8, which is right for English within some 15 %."""

    name = "approximate"

    def count(self, text: str) -> int:
        """Tokens of `text`, about."""
        return round(len(text.encode("utf-8", "replace")) / _BYTES_PER_TOKEN) if text else 0


_counters: Final[Shared[TokenCounter]] = Shared(8)


def token_counter(encoding: str) -> TokenCounter:
    """The counter of `encoding`, one for the process; approximate if its vocabulary can't be loaded (it is logged)."""
    return _counters.get(encoding, lambda: _load(encoding))


def _load(encoding: str) -> TokenCounter:
    try:
        return VocabularyTokens(encoding)
    except Exception as error:  # noqa: BLE001 - a platform without the library still gets its requests through
        logs.event(
            _log, logging.WARNING, "token counts are approximate", encoding=encoding, **logs.describe(error)
        )
        return ApproximateTokens()
