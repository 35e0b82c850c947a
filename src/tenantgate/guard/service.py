"""What `tenant-guardrails` does in its phases: the core's decisions joined with Kong, models and Redis.

PDK calls in access: headers, body, consumer, the verdict and the pass mark (5 in all); a masked request takes one or
two more, a blocked one answers in place of the mark. A body that no other plugin has rewritten yet may take one more.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

from tenantgate import llm
from tenantgate.guard.checking import Checked, Checker, mask_all
from tenantgate.guard.core.answers import CODE_REQUEST, blocked
from tenantgate.guard.core.passages import Passage, of_reply, of_request, rewrite
from tenantgate.guard.core.verdict import Action, Decision, judge
from tenantgate.guard.models import PARTS
from tenantgate.guard.notes import Notes, sealer
from tenantgate.llm.chat import JSON_TYPE, ChatRequest, Reason, Refusal
from tenantgate.pii.core import Placeholders, TooDeepError
from tenantgate.telemetry import logs, metrics
from tenantgate.time_left import OutOfTimeError, limited

if TYPE_CHECKING:
    from tenantgate.guard.config import GuardConfig, RuleConfig
    from tenantgate.guard.core.detectors import Parts
    from tenantgate.guard.core.exemptions import Exemption
    from tenantgate.kong import Host
    from tenantgate.pii.core import Finding
    from tenantgate.tenant import TenantId

__all__ = ["MARK", "ORIGINALS", "PLUGIN", "Guard"]

PLUGIN: Final = "tenant-guardrails"
MARK: Final = "tenantgate_guard"
"""In ``kong.ctx.shared``: ``pass`` once the guard has let a request through (`tenantgate.config.lua`)."""
ORIGINALS: Final = "tenantgate_guard_originals"
"""There too: what placeholders stand for, sealed under the tenant's key, for the reply."""

_log: Final = logging.getLogger("tenantgate.guard")
SHARE: Final = 0.95 / 1000  # of what is left, in seconds; the rest is for the calls to Kong after the work

_NOTHING: Final = Passage("", (), 0, 0)
_TOO_DEEP: Final = (
    "A text of this request is escaped too often, one escape within the other, for the content policy of your "
    "organisation to be checked on it. Send the text itself."
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
    """The guard of one configuration; what is costly is shared by all of a process."""

    def __init__(self, config: GuardConfig, parts: Parts = PARTS) -> None:
        self._config = config
        self._requests = Checker([r for r in config.effective if r.target != "reply"], parts)
        self._replies = Checker([r for r in config.effective if r.target == "reply"], parts)
        self._notes = Notes(config)

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
        tenant, reply = host.tenant(), _logged_reply(host.record())
        if reply is None:
            return
        passage = of_reply(reply)
        checked = self._replies.check(lambda _rule: passage)
        exempt = self._notes.exemptions(tenant)
        decision = judge(
            self._replies.rules, checked.found, exempt,
            lambda rule, f: self._notes.fingerprint(tenant, rule, passage.text[f.start : f.end]),
        )  # fmt: skip
        self._notes.note(host, tenant, decision, lambda _rule: passage, of="reply")

    def _access(self, host: Host) -> None:
        request, tenant = host.chat_request(), host.tenant()
        if isinstance(request, Refusal):
            _requests.inc(action="unreadable")
            host.refuse_unread(request, strict=self._config.enforces or self._config.strict_requests)
            self._let_pass(host, {"action": "pass", "unreadable": request.reason.value})
            return
        passages: dict[str, Passage] = {}

        def passage(rule: RuleConfig) -> Passage:
            if rule.target not in passages:
                passages[rule.target] = of_request(request.body, rule.target)
            return passages[rule.target]

        long = [
            rule for rule in self._requests.rules if len(passage(rule).text) > self._config.max_characters
        ]
        self._refuse_long(host, long, passage)
        with limited(host.remaining_ms() * SHARE):
            checked = self._requests.check(lambda rule: _NOTHING if rule in long else passage(rule))
        if long:
            checked = Checked(checked.found, {**checked.failed, **{r.name: OutOfTimeError() for r in long}})
        self._raise_failures(host, checked)
        exempt = self._notes.exemptions(tenant)
        decision = judge(
            self._requests.rules, checked.found, exempt,
            lambda rule, f: self._notes.fingerprint(tenant, rule, passage(rule).text[f.start : f.end]),
        )  # fmt: skip
        _requests.inc(action=decision.action.value)
        self._notes.note(host, tenant, decision, passage)
        if decision.action is Action.BLOCK:
            self._refuse(host, decision)
        verdict = decision.verdict()
        if checked.failed:
            verdict["failed"] = sorted(checked.failed)
        if decision.action is Action.MASK:
            self._mask(host, tenant, request, exempt)
            if self._config.recover_redacted:
                verdict["recover"] = True
        self._let_pass(host, verdict)

    def _refuse_long(
        self, host: Host, long: Sequence[RuleConfig], passage: Callable[[RuleConfig], Passage]
    ) -> None:
        """No later attempt would find the time to read a text that is far too long, so none is asked for."""
        strict = [rule for rule in long if rule.mode != "alert"] if self._config.on_error == "reject" else []
        if strict:
            _requests.inc(action="too_long")
            longest, most = max(len(passage(rule).text) for rule in strict), self._config.max_characters
            told = (
                f"The text of this request has {longest} characters; the content policy of your organisation can be "
                f"checked on {most} at most. Send less of it."
            )
            host.refuse_unread(Refusal(Reason.TOO_LARGE, told, "messages"), strict=True)

    def _raise_failures(self, host: Host, checked: Checked) -> None:
        if self._config.on_error != "reject":
            return
        for rule in self._requests.rules:
            error = checked.failed.get(rule.name)
            if error is None or rule.mode == "alert":
                continue
            if isinstance(error, TooDeepError):  # of this text, whoever asks and whenever
                _requests.inc(action="too_deep")
                host.refuse_unread(Refusal(Reason.TOO_DEEP, _TOO_DEEP, "messages"), strict=True)
            raise error

    def _mask(
        self, host: Host, tenant: TenantId | None, request: ChatRequest, exempt: tuple[Exemption, ...]
    ) -> None:
        placeholders = Placeholders()
        placeholders.avoid(of_request(request.body, "concatenate_all_content").text)

        def allowed(rule: RuleConfig, passage: Passage, finding: Finding) -> bool:
            return not self._notes.covered(tenant, rule, passage.text[finding.start : finding.end], exempt)

        masking = [r for r in self._requests.rules if r.mode == "mask"]
        body = mask_all(
            masking, lambda body, rule: of_request(body, rule.target), request.body, self._requests, placeholders,
            allowed, rewrite,
        )  # fmt: skip
        host.replace_body(llm.write(body))
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
            CODE_REQUEST, request_id=request_id, decision=decision, show_reason=self._config.show_reason
        )
        host.answer(400, body, {"Content-Type": JSON_TYPE})


def _went_on(host: Host) -> bool:
    """Whether a request went upstream, or would have but for `tenantgate.config.lua.GUARD_CHECK`."""
    return host.call("response.get_source") == "service" or host.response_status() == 503


def _logged_reply(record: Mapping[str, Any]) -> Any:
    """The reply in Kong's log record, parsed, where ai-proxy put it there."""
    found: Any = record
    for step in ("ai", "proxy", "payload", "response"):
        found = found.get(step) if isinstance(found, Mapping) else None
    if isinstance(found, str):
        try:
            return json.loads(found)
        except (ValueError, RecursionError):
            return found
    return found
