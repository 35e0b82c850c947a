"""Sinks in the formats of billing systems: what a batch of records used, in place of the records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tenantgate.audit.core.ports import Queued, SinkError
from tenantgate.audit.sinks import HttpSink, RefusedError
from tenantgate.errors import ConfigError
from tenantgate.usage.core.events import Billing, posts

if TYPE_CHECKING:
    from tenantgate.audit.config import SinkConfig

__all__ = ["UsageSink"]


class UsageSink(HttpSink):
    """`tenantgate.audit.core.ports.Sink` of a billing system. A batch may be several requests there.

    What of them was taken isn't sent again, unless this process ends before all of them are: then the receiver's own
    dropping of doubles has to do.
    """

    def __init__(self, config: SinkConfig) -> None:
        super().__init__(config)
        self._billing = Billing(config.meter, config.customers)
        self._taken: set[str] = set()  # of the batch that is under way

    def send(self, batch: Sequence[Queued]) -> None:
        """Deliver the usage of the batch."""
        try:
            wanted = posts(self._config.format, [json.loads(q.record) for q in batch], self._billing)
        except (ConfigError, ValueError) as error:
            raise RefusedError(f"{self.name}: {type(error).__name__}", retry=False, poison=True) from None
        for post in wanted:
            if post.key in self._taken:
                continue
            try:
                self._deliver(post.body, post.key, {"Content-Type": post.content_type})
            except SinkError as error:
                if not error.retry:
                    self._taken.clear() if len(batch) == 1 else None
                raise
            self._taken.add(post.key)
        self._taken.clear()
