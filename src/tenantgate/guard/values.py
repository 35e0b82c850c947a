"""The guard of values that are no chat: arguments of tools, and their results.

The same rules, exemptions and notes as for requests and replies, applied to all texts of a JSON value.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from tenantgate.guard.core.decision import Action
from tenantgate.guard.core.passages import Edits, Passage, rewrite
from tenantgate.guard.core.value_texts import of_value, said_in
from tenantgate.guard.inspector import OF_PROSE, Inspector
from tenantgate.guard.models import PARTS
from tenantgate.guard.notes import Notes
from tenantgate.pii.core import Placeholders
from tenantgate.telemetry import logs

if TYPE_CHECKING:
    from tenantgate.guard.config import GuardConfig, ReplyGuardConfig, RuleConfig
    from tenantgate.guard.core.detectors import Parts
    from tenantgate.kong import Host
    from tenantgate.tenant import TenantId

__all__ = ["Checked", "ValueGuard"]

_log: Final = logging.getLogger("tenantgate.guard")
# Whatever text of a chat a rule is for: here it reads the whole value, or all that somebody may have said in it.
_ALL: Final = "concatenate_all_content"
_SAID: Final = "concatenate_user_content"


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of a value.

    Attributes:
        value: the value, masked where a rule masks; None where it was refused.
        verdict: of the guard, for records: rules, kinds and numbers.
        message: for the client, where it was refused.
    """

    value: Any = field(repr=False)
    verdict: Mapping[str, Any] = field(default_factory=dict)
    message: str = ""

    @property
    def refused(self) -> bool:
        """Whether the value must not go on."""
        return bool(self.message)


@dataclass(frozen=True, slots=True)
class _Value:
    value: Any = field(repr=False)

    def passages(self, targets: Iterable[str]) -> Mapping[str, Passage]:
        return {target: (said_in if target == _SAID else of_value)(self.value) for target in targets}

    def masked(self, edits: Edits) -> _Value:
        return _Value(rewrite(self.value, edits))


class ValueGuard:
    """Rules at work on values; what is costly is shared by all of a process."""

    def __init__(
        self,
        config: GuardConfig | ReplyGuardConfig,
        rules: Iterable[RuleConfig],
        *,
        most: int,
        parts: Parts = PARTS,
    ) -> None:
        """`rules`: of the configuration, those that are for such values; `most`: characters that are read."""
        rules = tuple(rules)
        self._inspector = Inspector(
            [replace(rule, target=_SAID if rule.detector in OF_PROSE else _ALL) for rule in rules],
            parts,
            reject_unchecked=config.on_error == "reject",
        )
        self._enforces = any(rule.mode != "alert" for rule in rules) and config.on_error == "reject"
        self._notes = Notes(config)
        self._most = most

    def check(self, host: Host, tenant: TenantId, value: Any, *, of: str) -> Checked:
        """The value as it may go on. `of`: ``request`` (arguments) or ``reply`` (a result)."""
        if not self._inspector.rules:
            return Checked(value)
        try:
            return self._check(host, tenant, value, of)
        except Exception as error:  # noqa: BLE001 - whatever a detector makes of it
            logs.event(_log, logging.WARNING, "tool call not checked", **logs.describe(error))
            if self._enforces:
                text = "The content policy of your organisation can't be checked on this call right now."
                return Checked(None, {"action": "error"}, text)
            return Checked(value, {"action": "error"})

    def _check(self, host: Host, tenant: TenantId, value: Any, of: str) -> Checked:
        whole, exempt = _Value(value), self._notes.exempt(tenant)
        passages = whole.passages(self._inspector.targets)
        too_long = any(len(p.text) > self._most for p in passages.values())
        unread = self._inspector.rules if too_long else ()
        decision = self._inspector.inspect(passages, exempt, left_ms=host.remaining_ms(), unread=unread)
        self._notes.note(host, tenant, decision, of=of)
        verdict = decision.verdict()
        if decision.action is Action.BLOCK:
            usual = "This call of a tool was refused by the content policy of your organisation."
            if of == "reply":
                usual = "The result of this tool was withheld by the content policy of your organisation."
            own = next((h.rule.message for h in decision.blocking() if h.rule.message), None)
            return Checked(None, verdict, own or usual)
        if decision.action is Action.MASK:
            placeholders = Placeholders()
            for passage in passages.values():
                placeholders.avoid(passage.text)
            return Checked(self._inspector.mask(whole, placeholders, exempt, decision).value, verdict)
        return Checked(value, verdict)
