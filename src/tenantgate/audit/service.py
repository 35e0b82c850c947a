"""The phases of `tenant-audit-log`: the request's body is held until the log phase, then handed to the worker.

PDK calls of the attachable plugin: three in access (the request's id, headers, body), one in log. Nothing is redacted
here, and nothing waits for the worker. With ``content: off`` there are no calls at all: Kong's own journal has the
rest. A host whose phases may run in different processes keeps the body itself.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from tenantgate.audit.core.content import RawContent
from tenantgate.audit.core.redaction import MARGIN
from tenantgate.audit.courier import Courier
from tenantgate.bounded import Bounded
from tenantgate.llm import Refusal
from tenantgate.llm.log_record import LogRecord
from tenantgate.llm.operations import Operation
from tenantgate.store.shared import Shared
from tenantgate.telemetry import metrics

if TYPE_CHECKING:
    from tenantgate.audit.config import AuditConfig, PipelineConfig
    from tenantgate.kong import Host

__all__ = ["POLICY", "AuditLog", "HeldBodies", "courier_of"]

POLICY: Final = "tenantgate_audit_policy"
"""Name in ``kong.ctx.shared`` of the settings' name, which the journal's line holds (`tenantgate.audit.scripts`)."""

_held: Final = metrics.gauge("tenantgate_audit_held_bytes", "Request bodies kept for their log phase.")
_MOST_HEADER: Final = 4096  # characters of a header's value
_PLUGIN: Final = "tenant-audit-log"


class HeldBodies:
    """Beginnings of request bodies by request id, bounded in number, bytes and age; thread-safe."""

    def __init__(self, *, most: int = 8192, most_bytes: int = 64 << 20, age_s: float = 900.0) -> None:
        self._bodies: Bounded[str, tuple[bytes, int]] = Bounded(most, most_bytes=most_bytes, age_s=age_s)

    def put(self, identifier: str, body: bytes, size: int, now: float) -> None:
        """Keep the beginning of a body of `size` bytes; the oldest make room."""
        self._bodies.put(identifier, (body, size), size=len(body), now=now)
        _held.set(self._bodies.bytes)

    def take(self, identifier: str) -> tuple[bytes, int] | None:
        """Give a body back, once."""
        found = self._bodies.take(identifier)
        _held.set(self._bodies.bytes)
        return found

    def __len__(self) -> int:
        return len(self._bodies)


class AuditLog:
    """The phases of one configuration.

    Attributes:
        policy_name: name of the settings, by which a line of the journal may refer to them.
        shared: texts for ``kong.ctx.shared`` that the engine leaves for the journal.
    """

    def __init__(self, config: AuditConfig, route_id: str = "", courier: Courier | None = None) -> None:
        """`route_id`: of the route for which the settings hold; empty where each line of the journal names them."""
        self._config = config
        self._courier = courier or courier_of(config.pipeline)
        values = _plain(config)
        self.policy_name = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
        self._courier.policy(self.policy_name, route_id, values)
        self.shared = {POLICY: self.policy_name}
        self._reads_body = config.content != "off"
        self._allowed = tuple(name.lower() for name in config.headers)
        self._most = config.max_content_bytes + 2 * MARGIN

    def access(self, host: Host) -> None:
        """Hold the beginning of the body."""
        if not self._reads_body:
            return
        identifier = host.identifier()
        request = host.chat_request()
        refused = isinstance(request, Refusal)
        if host.keep_body():
            if refused:
                host.put_verdict(_PLUGIN, {"unread": True})
        elif identifier:
            # What can't be read strictly could be read in more than one way: the record says only that it came.
            body = host.body()
            _BODIES.put(identifier, b"" if refused else body[: self._most], len(body), time.monotonic())
        if isinstance(request, Refusal):
            host.refuse_unread(request, strict=self._config.strict_requests)

    def log(self, host: Host) -> None:
        """Hand over what Kong's journal does not have."""
        if not self._reads_body and not self._allowed:
            return
        record = LogRecord(host.record())
        identifier = record.request_id
        if not identifier:
            return
        body, size = self._body(host, identifier) if self._reads_body else (None, 0)
        # Vectors are nothing that anybody reads.
        vectors = host.operation is Operation.EMBEDDINGS
        reply, reply_size = (None, 0) if vectors else self._reply(record)
        content = RawContent(body, size, reply, reply_size, self._headers(record))
        self._courier.content(self.policy_name, identifier, content)

    def tool_call(self, host: Host, identifier: str, asked: bytes, answered: bytes | None) -> None:
        """Hand over the content of a tool's call, in the log phase: arguments and result as a chat's messages."""
        if not self._reads_body and not self._allowed:
            return
        headers = self._headers(LogRecord(host.record())) if self._allowed else {}
        body, reply = (asked, answered) if self._reads_body else (None, None)
        content = RawContent(
            None if body is None else body[: self._most],
            len(asked),
            None if reply is None else reply[: self._most],
            len(reply or b""),
            headers,
        )
        self._courier.content(self.policy_name, identifier, content)

    def _headers(self, record: LogRecord) -> dict[str, str]:
        return {
            name: ", ".join(values)[:_MOST_HEADER]
            for name in self._allowed
            if (values := record.request_header(name))
        }

    def _body(self, host: Host, identifier: str) -> tuple[bytes | None, int]:
        """The beginning of the request's body, and its size."""
        kept = host.kept_body()
        if kept is None:
            return _BODIES.take(identifier) or (None, 0)
        unread = (host.verdict(_PLUGIN) or {}).get("unread")
        return b"" if unread else kept[: self._most], len(kept)

    def _reply(self, record: LogRecord) -> tuple[bytes | None, int]:
        reply = record.reply if self._reads_body else None
        text = json.dumps(reply) if isinstance(reply, dict) else reply
        if not isinstance(text, str) or not text:
            return None, 0
        whole = text.encode("utf-8", "surrogatepass")
        return whole[: self._most], len(whole)


def _plain(config: Any) -> dict[str, Any]:
    """The configuration as plain values, those left out left out."""
    found: dict[str, Any] = dataclasses.asdict(config)
    return found


_BODIES: Final = HeldBodies()
_couriers: Final[Shared[Courier]] = Shared(1)


def courier_of(pipeline: PipelineConfig) -> Courier:
    """The courier to the worker of this pipeline; a new pipeline ends the one before, and takes its state over."""
    before, values = _couriers.values(), _plain(pipeline)
    courier = _couriers.get(json.dumps(values, sort_keys=True), lambda: Courier(pipeline, values))
    for other in before:
        if other is not courier:
            threading.Thread(target=other.stop, name="audit-stop", daemon=True).start()
    return courier
