"""The phase of `tenant-response-guardrails`: a reply that Kong holds back is inspected, and placeholders recovered.

A reply that is left as it is goes on to ai-proxy. One that is changed is sent from here, in OpenAI's shape, and
Kong's own count of its tokens is then zero; for the engine's models tenantgate-target counts them.
"""

from __future__ import annotations

import base64
import binascii
import logging
import secrets
import time
from typing import TYPE_CHECKING, Final

from tenantgate.errors import EdgeError
from tenantgate.guard.core.answers import blocked
from tenantgate.guard.core.decision import Action, Decision, Exempt
from tenantgate.guard.core.passages import of_text
from tenantgate.guard.core.replies import RawReply, decompress, parse
from tenantgate.guard.inspector import Inspector
from tenantgate.guard.models import PARTS
from tenantgate.guard.notes import Notes, sealer
from tenantgate.guard.service import ORIGINALS
from tenantgate.guard.values import ValueGuard
from tenantgate.llm.chat import JSON_TYPE
from tenantgate.llm.errors import Code
from tenantgate.pii.core import Placeholders, recovering
from tenantgate.telemetry import logs, metrics

if TYPE_CHECKING:
    from tenantgate.guard.config import ReplyGuardConfig
    from tenantgate.guard.core.detectors import Parts
    from tenantgate.guard.core.passages import Passage
    from tenantgate.kong import Host
    from tenantgate.tenant import TenantId

__all__ = ["MARK", "PLUGIN", "ReplyGuard"]

PLUGIN: Final = "tenant-response-guardrails"
MARK: Final = "tenantgate_reply_guard"
"""In ``kong.ctx.shared``: ``pass`` once the guard has let a reply through as it is (`tenantgate.guard.scripts`)."""
_USAGE_HIDDEN: Final = "tenantgate_usage_hidden"
"""In ``kong.ctx.shared``: true where the gateway has asked for the usage of a stream, and the client hasn't."""

_log: Final = logging.getLogger("tenantgate.guard")
_replies: Final = metrics.counter(
    "tenantgate_guard_replies_total", "Replies by what the guard did.", ("action",)
)
_recovered: Final = metrics.counter("tenantgate_guard_recovered_total", "Placeholders that were turned back.")


class ReplyGuard:
    """The guard of one route's replies.

    Attributes:
        results: the same rules, for results of tools.
    """

    def __init__(self, config: ReplyGuardConfig, parts: Parts = PARTS) -> None:
        self._config = config
        self._inspector = Inspector(config.rules, parts, reject_unchecked=config.on_error == "reject")
        self._notes = Notes(config)
        self.results = ValueGuard(config, config.rules, most=config.max_reply_bytes, parts=parts)

    def response(self, host: Host) -> None:
        """Let the reply pass, change it or refuse it."""
        strict = self._config.enforces and self._config.on_error == "reject"
        try:
            self._response(host)
        except Exception as error:
            if strict:
                raise
            logs.event(_log, logging.WARNING, "reply not checked", **logs.describe(error))
            _replies.inc(action="error")
            _let_pass(host)

    def _response(self, host: Host) -> None:
        status = host.response_status()
        if status != 200 and not self._inspector.rules:
            _let_pass(host)
            return
        tenant = host.tenant()
        headers = host.response_headers()
        raw = host.call("service.response.get_raw_body")
        raw = raw.encode("utf-8", "surrogateescape") if isinstance(raw, str) else bytes(raw or b"")
        encoding = headers.get("content-encoding")
        plain = decompress(raw, encoding, self._config.max_reply_bytes)
        reply = None if plain is None else parse(plain, headers.get("content-type"))
        if status != 200:
            self._check_error(host, tenant, plain, status, reply)
            return
        if reply is None:
            raise EdgeError("reply: too large, or neither JSON nor events in UTF-8, gzip or deflate")
        exempt = self._notes.exempt(tenant)
        decision = self._inspect(host, tenant, reply.passage(), exempt)
        if decision.action is Action.BLOCK:
            self._refuse(host, decision)
        changed = self._masked(reply, exempt) if decision.action is Action.MASK else reply
        changed, count = self._with_originals(host, tenant, changed)
        verdict = decision.verdict() | ({"recovered": count} if count else {})
        if verdict != {"action": "pass"}:
            host.put_verdict(PLUGIN, verdict)
        if changed is not reply:
            self._send(host, changed, encoded=bool(encoding))
        _let_pass(host)

    def _check_error(
        self, host: Host, tenant: TenantId | None, plain: bytes | None, status: int, reply: RawReply | None
    ) -> None:
        """A provider's error passes as it is or not at all: it may say anything, in any shape.

        Where it is a reply in all but its status, the text that a client puts together from its events is read, too.
        """
        if plain is None:
            raise EdgeError("error: too large, or in an unknown encoding")
        passages = [of_text(plain.decode("utf-8", "replace"))]
        if reply is not None:
            passages.append(reply.passage())
        for passage in passages:
            decision = self._inspect(host, tenant, passage, self._notes.exempt(tenant))
            if decision.action in (Action.BLOCK, Action.MASK):
                self._refuse(host, decision, status=status)
            verdict = decision.verdict()
            if verdict != {"action": "pass"}:
                host.put_verdict(PLUGIN, verdict)
        _let_pass(host)

    def _inspect(self, host: Host, tenant: TenantId | None, passage: Passage, exempt: Exempt) -> Decision:
        passages = dict.fromkeys(self._inspector.targets, passage)
        decision = self._inspector.inspect(passages, exempt, left_ms=host.remaining_ms())
        _replies.inc(action=decision.action.value)
        self._notes.note(host, tenant, decision, of="reply")
        return decision

    def _masked(self, reply: RawReply, exempt: Exempt) -> RawReply:
        placeholders = Placeholders()
        placeholders.avoid(reply.passage().text)
        bare = reply.changed({})  # without the log probabilities, in which nothing can be masked
        return self._inspector.mask(bare, placeholders, exempt)

    def _with_originals(self, host: Host, tenant: TenantId | None, reply: RawReply) -> tuple[RawReply, int]:
        """The reply with the originals in place of the request's placeholders, and how many there were."""
        key = self._config.encryption_key
        if not self._config.recover_redacted or not key or tenant is None:
            return reply, 0
        sealed = host.call("ctx.shared.get", ORIGINALS)
        if not isinstance(sealed, str | bytes):
            return reply, 0
        try:
            opened = sealer(key, tenant).open(base64.b64decode(sealed), key=ORIGINALS.encode())
        except (binascii.Error, ValueError):
            opened = None
        if opened is None:
            raise EdgeError("recover_redacted: the encryption_key isn't the one of tenant-guardrails")
        known = Placeholders.loads(opened)
        edits, total = reply.passage().rewritten(
            lambda text: recovering(text, known.originals, known.spellings)
        )
        _recovered.inc(total)
        return (reply.changed(edits) if edits else reply), total

    def _send(self, host: Host, reply: RawReply, *, encoded: bool) -> None:
        hidden = reply.events and host.call("ctx.shared.get", _USAGE_HIDDEN) is True
        made = reply.written(
            identifier="chatcmpl-" + secrets.token_hex(12), created=int(time.time()), usage=not hidden
        )
        if made is None:
            raise EdgeError("reply: this provider's shape holds more than text, so it can't be changed")
        if encoded:
            host.call("response.clear_header", "Content-Encoding")
        host.answer(200, made[0], {"Content-Type": made[1]})

    def _refuse(self, host: Host, decision: Decision, *, status: int = 400) -> None:
        host.put_verdict(PLUGIN, decision.verdict())
        body = blocked(
            Code.REPLY_POLICY_VIOLATION,
            request_id=host.request_id(self._config.correlation_header),
            decision=decision,
            show_reason=self._config.show_reason,
        )
        host.call("response.clear_header", "Content-Encoding")
        host.answer(status, body, {"Content-Type": JSON_TYPE})


def _let_pass(host: Host) -> None:
    # Last: whatever fails before, the mark is missing and a route that blocks replies answers 503.
    host.call("ctx.shared.set", MARK, "pass")
