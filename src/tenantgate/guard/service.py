"""The phases of `tenant-guardrails`: requests are inspected, then let pass, masked or refused.

PDK calls in access: headers, body, consumer, the verdict and the pass mark (5 in all); a masked request takes one or
two more, a blocked one answers in place of the mark. A body that no other plugin has rewritten yet may take one more.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn

from tenantgate import llm
from tenantgate.guard.core.answers import blocked
from tenantgate.guard.core.decision import Action, Decision, Exempt
from tenantgate.guard.core.passages import of_reply, of_request
from tenantgate.guard.core.requests import RequestBody
from tenantgate.guard.inspector import Inspector
from tenantgate.guard.models import PARTS
from tenantgate.guard.notes import Notes, sealer
from tenantgate.guard.values import ValueGuard
from tenantgate.llm.chat import JSON_TYPE, Reason, Refusal
from tenantgate.llm.errors import Code
from tenantgate.llm.log_record import LogRecord
from tenantgate.pii.core import Placeholders, TooDeepError
from tenantgate.telemetry import logs, metrics

if TYPE_CHECKING:
    from tenantgate.guard.config import GuardConfig
    from tenantgate.guard.core.detectors import Parts
    from tenantgate.kong import Host
    from tenantgate.tenant import TenantId

__all__ = ["MARK", "ORIGINALS", "PLUGIN", "Guard"]

PLUGIN: Final = "tenant-guardrails"
MARK: Final = "tenantgate_guard"
"""In ``kong.ctx.shared``: ``pass`` once the guard has let a request through (`tenantgate.guard.scripts`)."""
ORIGINALS: Final = "tenantgate_guard_originals"
"""In ``kong.ctx.shared``, too: the originals of placeholders, sealed under the tenant's key, for the reply."""

_log: Final = logging.getLogger("tenantgate.guard")
_TOO_DEEP: Final = (
    "A text of this request is escaped too often, one escape within the other, for the content policy of your "
    "organisation to be checked on it. Send the text itself."
)
_UNREAD: Final = (
    "The content policy of your organisation can't be checked on {what}. Send the text itself, or use another "
    "model."
)

_requests: Final = metrics.counter(
    "tenantgate_guard_requests_total", "Requests by what the guard did.", ("action",)
)
_unchecked: Final = metrics.counter(
    "tenantgate_guard_unchecked_total",
    "Requests that went on without the guard, because it was dead or late; on routes that block they got 503.",
    ("tenant",),
)


class Guard:
    """The guard of one configuration; what is costly is shared by all of a process.

    Attributes:
        arguments: the rules for requests, for arguments of tools.
        results: all rules, for results of tools: the model reads these, and its next request holds them.
    """

    def __init__(self, config: GuardConfig, parts: Parts = PARTS) -> None:
        self._config = config
        self._requests = Inspector(
            [rule for rule in config.effective if rule.target != "reply"],
            parts,
            reject_unchecked=config.on_error == "reject",
        )
        self._replies = Inspector([rule for rule in config.effective if rule.target == "reply"], parts)
        self._notes = Notes(config)
        self.arguments = ValueGuard(
            config,
            (r for r in config.effective if r.target != "reply"),
            most=config.max_characters,
            parts=parts,
        )
        self.results = ValueGuard(config, config.effective, most=config.max_characters, parts=parts)

    def access(self, host: Host) -> None:
        """Let the request pass, mask it or refuse it."""
        strict = self._config.enforces and self._config.on_error == "reject"
        try:
            self._access(host)
        except Exception as error:
            if strict:
                raise
            logs.event(_log, logging.WARNING, "request not checked", **logs.describe(error))
            _requests.inc(action="error")
            self._let_pass(host, {"action": "error"})

    def log(self, host: Host) -> None:
        """Note what rules in alert find in the reply, and whether the request was checked at all."""
        if host.verdict(PLUGIN) is None:
            tenant = host.tenant()
            if tenant is not None and _went_on(host):
                _unchecked.inc(tenant=tenant.slug)
        if not self._replies.rules:
            return
        tenant, reply = host.tenant(), _logged_reply(LogRecord(host.record()))
        if reply is None:
            return
        passages = dict.fromkeys(self._replies.targets, of_reply(reply))
        decision = self._replies.inspect(passages, self._notes.exempt(tenant))
        self._notes.note(host, tenant, decision, of="reply")

    def _access(self, host: Host) -> None:
        request, tenant = host.chat_request(), host.tenant()
        if isinstance(request, Refusal):
            _requests.inc(action="unreadable")
            host.refuse_unread(request, strict=self._config.enforces or self._config.strict_requests)
            self._let_pass(host, {"action": "pass", "unreadable": request.reason.value})
            return
        if host.unread and self._config.enforces:
            # Nobody knows what it says: what a rule would find in it must not pass.
            _requests.inc(action="unreadable")
            host.refuse_unread(Refusal(Reason.NOT_CHAT, _UNREAD.format(what=host.unread)), strict=True)
        body = RequestBody(request.body)
        passages = body.passages(self._requests.targets)
        sizes = {target: len(passage.text) for target, passage in passages.items()}
        self._refuse_long(host, sizes)
        exempt = self._notes.exempt(tenant)
        unread = [rule for rule in self._requests.rules if sizes[rule.target] > self._config.max_characters]
        try:
            decision = self._requests.inspect(passages, exempt, left_ms=host.remaining_ms(), unread=unread)
        except TooDeepError:  # no later attempt could read this text
            _requests.inc(action="too_deep")
            host.refuse_unread(Refusal(Reason.TOO_DEEP, _TOO_DEEP, "messages"), strict=True)
            raise
        _requests.inc(action=decision.action.value)
        self._notes.note(host, tenant, decision)
        if decision.action is Action.BLOCK:
            self._refuse(host, decision)
        verdict = decision.verdict()
        if decision.failures:
            verdict["failed"] = sorted(decision.failures)
        if decision.action is Action.MASK:
            self._mask(host, tenant, body, decision, exempt)
            if self._config.recover_redacted:
                verdict["recover"] = True
        self._let_pass(host, verdict)

    def _refuse_long(self, host: Host, sizes: Mapping[str, int]) -> None:
        """Refuse a text that is far too long: no later attempt would find the time to read it.

        `sizes` are characters by target.
        """
        enforcing = [rule for rule in self._requests.rules if rule.mode != "alert"]
        longest = max((sizes[rule.target] for rule in enforcing), default=0)
        most = self._config.max_characters
        if longest > most and self._config.on_error == "reject":
            _requests.inc(action="too_long")
            message = (
                f"The text of this request has {longest} characters; the content policy of your organisation can be "
                f"checked on {most} at most. Send less of it."
            )
            host.refuse_unread(Refusal(Reason.TOO_LARGE, message, "messages"), strict=True)

    def _mask(
        self, host: Host, tenant: TenantId | None, body: RequestBody, decision: Decision, exempt: Exempt
    ) -> None:
        placeholders = Placeholders()
        placeholders.avoid(of_request(body.value, "concatenate_all_content").text)
        masked = self._requests.mask(body, placeholders, exempt, decision)
        host.replace_body(llm.write(masked.value))
        if self._config.recover_redacted and self._config.encryption_key and tenant is not None:
            plain = placeholders.dumps().encode("ascii")
            sealed = sealer(self._config.encryption_key, tenant).seal(plain, key=ORIGINALS.encode())
            host.call("ctx.shared.set", ORIGINALS, base64.b64encode(sealed).decode())

    def _let_pass(self, host: Host, verdict: Mapping[str, Any]) -> None:
        host.put_verdict(PLUGIN, verdict)
        # Last: whatever fails before, the mark is missing and a route that blocks answers 503.
        host.call("ctx.shared.set", MARK, "pass")

    def _refuse(self, host: Host, decision: Decision) -> NoReturn:
        request_id = host.request_id(self._config.correlation_header)
        host.put_verdict(PLUGIN, decision.verdict())
        body = blocked(
            Code.CONTENT_POLICY_VIOLATION,
            request_id=request_id,
            decision=decision,
            show_reason=self._config.show_reason,
        )
        host.answer(400, body, {"Content-Type": JSON_TYPE})


def _went_on(host: Host) -> bool:
    """Whether a request went upstream, or would have but for `tenantgate.guard.scripts.GUARD_CHECK`."""
    return host.call("response.get_source") == "service" or host.response_status() == 503


def _logged_reply(record: LogRecord) -> Any:
    """The reply in Kong's log record, parsed; as it is where it is no JSON."""
    reply = record.reply
    if isinstance(reply, str):
        try:
            return json.loads(reply)
        except (ValueError, RecursionError):
            return reply
    return reply
