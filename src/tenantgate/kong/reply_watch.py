"""Whether Kong's log records hold the provider's replies, for plugins that read them there."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tenantgate.llm.log_record import LogRecord

__all__ = ["ReplyWatch"]

# One may lack its reply for another reason: of a client that left in mid-stream ai-proxy logs nothing.
_ENOUGH: Final = 3


class ReplyWatch:
    """Finds out that ai-proxy logs no payloads. Safe for threads."""

    __slots__ = ("_known", "_lock", "_without")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known = False  # then there is nothing more to find out
        self._without = 0

    def finds_none(self, record: LogRecord) -> bool:
        """Note a record. True once, at the third answer of a provider without its reply, if none came with one."""
        if self._known:
            return False
        replied = record.reply is not None
        if not replied and (record.status != 200 or record.source != "upstream"):
            return False
        with self._lock:
            self._without += not (replied or self._known)
            found = self._without == _ENOUGH and not (replied or self._known)
            self._known = self._known or replied or found
        return found
