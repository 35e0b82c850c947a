"""Redaction of a content: personal data and secrets are taken out, or hashes made. Nothing else of it is kept.

Whatever goes wrong (no recogniser of names, no time, a detector that fails) leaves a content that says so and holds
nothing.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tenantgate.audit.config import AuditConfig
from tenantgate.audit.core.content import Message, Part, RawContent, Readable, read
from tenantgate.checkpoints import checked_by
from tenantgate.pii.core import (
    NAME_KINDS,
    PERSONAL_KINDS,
    SECRETS_REACH,
    Finding,
    Placeholders,
    find_at_last,
    find_in_views,
    find_personal,
    find_secrets,
    mask,
    outermost,
    without_surrogates,
)
from tenantgate.pii.core.ports import NameFinder
from tenantgate.pii.core.windows import in_windows
from tenantgate.tenant import TenantId

__all__ = [
    "MARGIN",
    "ContentState",
    "NamesMissingError",
    "OvertimeError",
    "Policy",
    "Redacted",
    "absent",
    "findings_in",
    "redact",
    "tenant_key",
]

MARGIN: Final = 4096
"""Characters before a cut that are looked at and not kept: what begins there may go on behind the cut, where no
detector sees it. A private key of 4096 bits is shorter."""

_KINDS: Final = frozenset(PERSONAL_KINDS)
_NAMES: Final = frozenset(NAME_KINDS)
_HASH: Final = 16  # hexadecimal digits of a hash that stands for a value


class ContentState(enum.StrEnum):
    """State of a request's content in its record."""

    KEPT = "kept"  # redacted
    HASHED = "hashed"
    OFF = "off"  # the tenant's policy
    NONE = "none"  # the request ended before its body was read
    SHED = "shed"  # left out under overload, or taken out for want of room
    LOST = "lost"  # the process that held it ended
    LATE = "late"  # it did not come in time
    UNREADABLE = "unreadable"  # the prompt, or the reply where there is no prompt, is no JSON of a chat
    REDACTION_FAILED = "redaction_failed"


class OvertimeError(Exception):
    """The redaction's time is over. Raised from outside, too, into a detector that takes too long."""


class NamesMissingError(Exception):
    """Names are to be redacted, and there is no recogniser."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Settings of a tenant's route for content, `key` being the tenant's own (`tenant_key`)."""

    content: str = "redacted"
    redaction: str = "placeholder"
    names: bool = False
    max_bytes: int = 32_768
    key: bytes = field(default=b"", repr=False)

    @classmethod
    def of(cls, config: AuditConfig, tenant: TenantId) -> Policy:
        """The policy of a configuration for one tenant."""
        return cls(
            config.content,
            config.redaction,
            config.names,
            config.max_content_bytes,
            tenant_key(config.encryption_key, tenant),
        )


@dataclass(frozen=True, slots=True)
class Redacted:
    """A content that may be kept: as the record has it, and the request's settings."""

    content: Mapping[str, Any]
    settings: Mapping[str, float | bool] = field(default_factory=dict)
    found: Mapping[str, int] = field(default_factory=dict)


def tenant_key(secret: str, tenant: TenantId) -> bytes:
    """A tenant's key for hashes: HMAC-SHA256 of its id, so that no two tenants' hashes can be compared."""
    about = b"tenantgate audit\0" + str(tenant).encode("utf-8", "surrogatepass")
    return hmac.digest(secret.encode("utf-8", "surrogatepass"), about, "sha256")


def absent(state: ContentState, **more: Any) -> Redacted:
    """The result for a content that isn't there: the reason."""
    return Redacted({"state": state.value, **more})


def redact(
    raw: RawContent,
    policy: Policy,
    *,
    names: NameFinder | None,
    in_time: Callable[[], bool] = lambda: True,
    salt: str = "",
) -> Redacted:
    """The redacted content. Never raises; `in_time` is asked before each piece of text."""

    def check() -> None:
        if not in_time():
            raise OvertimeError

    try:
        with checked_by(check):
            return _redact(raw, policy, names, in_time, salt)
    except OvertimeError:
        return absent(ContentState.REDACTION_FAILED, reason="timeout")
    except NamesMissingError:
        return absent(ContentState.REDACTION_FAILED, reason="names_unavailable")
    except Exception as error:  # noqa: BLE001 - whatever it is, nothing may get on
        return absent(ContentState.REDACTION_FAILED, reason="error", error=type(error).__name__)


def _redact(
    raw: RawContent, policy: Policy, names: NameFinder | None, in_time: Callable[[], bool], salt: str
) -> Redacted:
    off = policy.content == "off"
    prompt = None if raw.body is None or off else read(raw.body, raw.body_size)
    reply = None if raw.reply is None or off else read(raw.reply, raw.reply_size)
    content: dict[str, Any] = {"state": _state(raw, prompt, reply, policy).value}
    if raw.body is not None:
        content["prompt_bytes"] = raw.body_size
    if raw.reply is not None:
        content["reply_bytes"] = raw.reply_size
    hand = _Hand(policy, names, in_time)
    for side in (prompt, reply):
        hand.avoid(side)
    hand.avoid_texts(raw.headers.values())
    if prompt is not None:
        content["input_messages"], cut = hand.messages(prompt)
        content["prompt_truncated"] = cut
    if reply is not None:
        content["output_messages"], cut = hand.messages(reply)
        content["reply_truncated"] = cut
    if raw.headers:
        content["headers"] = {n: hand.header(v) for n, v in sorted(raw.headers.items())}
    if hand.counts:
        content["redactions"] = dict(sorted(hand.counts.items()))
    if salt:
        content["salt"] = salt
    return Redacted(content, prompt.settings if prompt else {}, dict(hand.counts))


def _state(raw: RawContent, prompt: Readable | None, reply: Readable | None, policy: Policy) -> ContentState:
    if policy.content == "off":
        return ContentState.OFF
    if raw.body is None and raw.reply is None:
        return ContentState.NONE
    if prompt is None and (raw.body is not None or reply is None):
        return ContentState.UNREADABLE  # whatever became of the reply: what was asked is not known
    return ContentState.HASHED if policy.content == "hashed" else ContentState.KEPT


class _Hashes(Placeholders):
    """Hashes in the place of placeholders: the same for the same value in all of a tenant's records."""

    def __init__(self, key: bytes) -> None:
        super().__init__()
        self._key = key

    def name(self, kind: str, original: str, depth: int = 0, spelling: str | None = None) -> str:  # noqa: ARG002
        return f"[{kind}:{_keyed(self._key, kind + chr(0) + _folded(original))[:_HASH]}]"


class _Nothing(Placeholders):
    """Nothing at all in the place of what was found."""

    def name(self, kind: str, original: str, depth: int = 0, spelling: str | None = None) -> str:  # noqa: ARG002
        return ""


def _stand_ins(policy: Policy) -> Placeholders:
    if policy.redaction == "hash":
        return _Hashes(policy.key)
    return _Nothing() if policy.redaction == "remove" else Placeholders()


class _Hand:
    """Redacts one record: its budget of bytes, its placeholders, its counts."""

    def __init__(self, policy: Policy, names: NameFinder | None, in_time: Callable[[], bool]) -> None:
        self._policy, self._in_time = policy, in_time
        self._hashed = policy.content == "hashed"
        if policy.names and names is None and not self._hashed:
            raise NamesMissingError
        self._names = names if policy.names else None
        self._placeholders = _stand_ins(policy)
        self.counts: Counter[str] = Counter()

    def avoid(self, side: Readable | None) -> None:
        """No placeholder of ours may be one that stands in the text already."""
        for message in side.messages if side else ():
            for part in message.parts:
                self.avoid_texts(part.fields.values())

    def avoid_texts(self, texts: Any) -> None:
        for text in texts:
            self._placeholders.avoid(text)

    def messages(self, side: Readable) -> tuple[list[dict[str, Any]], bool]:
        """The messages within the bound, and whether something was left out."""
        budget, last = self._policy.max_bytes, _last(side.messages) if side.cut else None
        out: list[dict[str, Any]] = []
        for message in side.messages:
            if budget <= 0:
                return out, True
            parts = []
            for part in message.parts:
                kept, budget = self._part(part, budget, cut=part is last)
                parts.append(kept)
            entry: dict[str, Any] = {"role": message.role, "parts": parts}
            if message.finish_reason:
                entry["finish_reason"] = message.finish_reason
            out.append(entry)
        return out, side.cut or budget < 0

    def header(self, value: str) -> str:
        kept = self._text(without_surrogates(value)[:MARGIN], len(value))
        return _keyed(self._policy.key, value) if self._hashed else kept

    def _part(self, part: Part, budget: int, *, cut: bool) -> tuple[dict[str, Any], int]:
        out: dict[str, Any] = {"type": part.type}
        for name, text in part.fields.items():
            if not text:
                continue
            if self._hashed:
                out[name + "_hash"] = _keyed(self._policy.key, text)
                budget -= len(text)
                continue
            if budget <= 0:
                return out, min(budget, -1)
            clean = without_surrogates(text)
            room = len(clean) - MARGIN if cut else len(clean)
            kept = self._text(clean, min(room, budget))
            size = len(kept.encode())
            if size > budget:
                kept, size = kept.encode()[:budget].decode("utf-8", "ignore"), budget + 1
            elif budget < room:
                size = budget + 1
            out[name] = kept
            budget -= size
        return out, budget

    def _text(self, text: str, until: int) -> str:
        """The redacted text up to the character `until`, at least; what is behind it is only looked at."""
        self._check_time()
        until = max(0, until)
        text = text[: until + MARGIN]
        findings = findings_in(text, self._names, self._check_time)
        if until < len(text):
            for finding in findings:
                if finding.start < until < finding.end:
                    until = finding.start
            findings = tuple(f for f in findings if f.end <= until)
            text = text[:until]
        self.counts.update(f.kind for f in findings)
        return mask(text, findings, self._placeholders).text

    def _check_time(self) -> None:
        if not self._in_time():
            raise OvertimeError


def findings_in(
    text: str, names: NameFinder | None = None, between: Callable[[], None] = lambda: None
) -> tuple[Finding, ...]:
    """All personal data and secrets in the text, and names with a finder of them; in order, without overlaps.

    The text is also read as what its escapes stand for (`tenantgate.pii.core.decoded_views`). `between` may raise.

    Raises:
        TooDeepError: there are more levels of escapes than are undone.
    """
    found = find_in_views(text, _forms, between, reach=SECRETS_REACH)
    if names is not None:
        found += find_at_last(text, lambda t: tuple(names.find(t, _NAMES)), between)
    return outermost(found)


def _both(text: str) -> tuple[Finding, ...]:
    return (*find_personal(text, _KINDS), *find_secrets(text))


_forms: Final = in_windows(_both)


def _last(messages: Sequence[Message]) -> Part | None:
    return messages[-1].parts[-1] if messages and messages[-1].parts else None


def _keyed(key: bytes, text: str) -> str:
    return hmac.digest(key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hex()


def _folded(value: str) -> str:
    """One spelling for values that are written in several ways: a number with and without spaces."""
    return re.sub(r"[\s.()-]+", "", value).lower()
