"""What an operator may set on the guards; names as in Kong's guardrail plugins where they have them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tenantgate.fields import config_class, field
from tenantgate.store.config import RedisConfig

__all__ = ["DEFAULT_RULES", "GuardConfig", "PatternConfig", "ReplyGuardConfig", "RuleConfig", "WebhookConfig"]

_DETECTORS: Final = (
    "personal_data",
    "secrets",
    "names",
    "injection",
    "denied_topics",
    "allowed_topics",
    "patterns",
    "presidio",
)
_MASKABLE: Final = ("personal_data", "secrets", "names", "patterns", "presidio")
_TOPICS: Final = ("denied_topics", "allowed_topics")
_NAME: Final = r"^[a-z0-9][a-z0-9_-]*$"
_URL: Final = r"^https?://[^\s/?#@]+([/?][^\s#]*)?$"
_KIND: Final = r"^[A-Z][A-Z0-9_]*$"


@config_class
class PatternConfig:
    """An expression of the operator's."""

    name: str = field(
        "Kind of the finding, for placeholders and logs: capitals, digits and underscores.",
        match=_KIND,
        lua_match="^[A-Z][A-Z0-9_]*$",
        len_max=40,
    )
    regex: str = field(
        "Regular expression in RE2's syntax: without look-around and back-references, so that matching takes "
        "linear time.",
        len_min=1,
        len_max=2000,
    )
    score: float = field("Score of a match, compared with the rule's threshold.", default=1.0, between=(0, 1))


@config_class
class RuleConfig:
    """One rule: what is looked for, where, and what happens then."""

    name: str = field(
        "Name of the rule, for exemptions, logs and metrics: lower-case letters, digits, hyphens.",
        match=_NAME,
        lua_match="^[a-z0-9][a-z0-9_-]*$",
        len_max=40,
    )
    detector: str = field("What the rule detects.", one_of=_DETECTORS)
    mode: str = field(
        "Effect of a finding: alert reports it, block refuses the request, mask replaces the finding by a "
        "placeholder.",
        default="alert",
        one_of=("alert", "block", "mask"),
    )
    target: str = field(
        "Text that the rule reads: the last message; user and tool messages, all that the application didn't "
        "write itself; the whole request; or the reply.",
        default="concatenate_user_content",
        one_of=("last_message", "concatenate_user_content", "concatenate_all_content", "reply"),
    )
    kinds: tuple[str, ...] = field(
        "Kinds of findings that count, such as EMAIL_ADDRESS. Default: the detector's usual kinds.",
        default=(),
        len_max=100,
    )
    threshold: float | None = field(
        "Lowest score of a finding that counts, from 0 to 1. Default: 0.5.", default=None, between=(0, 1)
    )
    phrases: tuple[str, ...] = field(
        "Example phrases of the topics, for denied_topics and allowed_topics.", default=(), len_max=200
    )
    patterns: tuple[PatternConfig, ...] = field(
        "Regular expressions of the detector patterns.", default=(), len_max=100
    )
    recognizers: str | None = field(
        "File with the recognizers of the detector presidio, in Presidio's YAML. Default: the recognizers that "
        "come with Presidio.",
        default=None,
        len_min=1,
        len_max=1000,
    )
    entities: tuple[str, ...] = field(
        "Entities of the detector presidio, such as CREDIT_CARD. Default: all that its recognizers know.",
        default=(),
        len_max=100,
    )
    language: str | None = field(
        "Language of the detector presidio. Default: en.",
        default=None,
        match="^[a-z]{2,3}$",
        lua_match="^[a-z]+$",
        len_max=3,
    )
    message: str | None = field(
        "Text for a blocked client, in place of the usual sentence.", default=None, len_min=1, len_max=500
    )

    @property
    def bound(self) -> float:
        """The threshold."""
        return 0.5 if self.threshold is None else self.threshold


DEFAULT_RULES: Final = (
    RuleConfig(name="personal-data", detector="personal_data"),
    RuleConfig(name="secrets", detector="secrets", target="concatenate_all_content"),
    RuleConfig(name="injection", detector="injection"),
)
"""What a tenant without rules of its own gets: everything is noted, nothing is changed."""


@config_class
class WebhookConfig:
    """Where alerts are sent, beside the metrics and the record."""

    url: str | None = field(
        "Address that receives a POST with JSON for each rule with a finding: tenant, rule, kinds and numbers, no "
        "text. Default: no webhook.",
        default=None,
        match=_URL,
        len_max=1000,
        referenceable=True,
        address=True,
    )
    secret: str | None = field(
        "Key of the signature of each body: X-Tenantgate-Signature is sha256= and the HMAC in hexadecimal.",
        default=None,
        len_min=8,
        referenceable=True,
    )
    per_minute: int = field(
        "Most alerts a minute from one process. Further ones are counted in the rule's next alert.",
        default=60,
        between=(1, 6000),
    )
    timeout_ms: int = field(
        "Time-out of one try. There are six tries, with growing pauses.",
        default=2000,
        between=(50, 30_000),
        unit="ms",
    )


@config_class
class GuardConfig:
    """Settings of one route's guard of requests."""

    rules: tuple[RuleConfig, ...] = field(
        "Rules for requests. Default: personal data, secrets and prompt injection, all in alert.",
        default=(),
        len_max=50,
    )
    encryption_key: str | None = field(
        "Secret from which each tenant's own key is derived, for hashes of findings and for the original text "
        "that recover_redacted restores: 32 random bytes or more, as text.",
        default=None,
        len_min=16,
        referenceable=True,
    )
    redis: RedisConfig = field("Redis with exemptions, counts and events.", default=RedisConfig())
    exemptions: bool = field("Apply exemptions from Redis, and count findings there.", default=True)
    approval: bool = field(
        "Require two persons for an exemption: one requests, another approves.", default=False
    )
    recover_redacted: bool = field(
        "Replace placeholders in the reply by the original text. Needs encryption_key, and "
        "tenant-response-guardrails on the same route.",
        default=False,
    )
    max_characters: int = field(
        "Longest text that a rule reads in one request. A longer request is refused with 413 where the rule "
        "blocks or masks, unless on_error is pass. A rule in alert skips the text, and the verdict says so.",
        default=250_000,
        between=(1_000, 10_000_000),
        unit="characters",
    )
    strict_requests: bool = field(
        "Refuse requests that aren't a chat request in strict JSON. Otherwise they pass unread, unless a rule "
        "blocks or masks.",
        default=True,
    )
    show_reason: bool = field(
        "Tell a blocked client which rules refused its request, and the kinds of their findings.",
        default=False,
    )
    webhook: WebhookConfig = field(
        "Webhook that receives alerts, in addition to metrics and audit records.", default=WebhookConfig()
    )
    report_examples: int = field(
        "Number of examples for `guard report`: the latest findings of each rule in alert, with some words around "
        "each, personal data and secrets masked, encrypted with the tenant's key, kept for 30 days. 0: none.",
        default=0,
        between=(0, 20),
    )
    correlation_header: str = field(
        "Header with the request's id, which is part of the error that a blocked client gets.",
        default="X-Request-ID",
        len_min=1,
    )
    on_error: str = field(
        "Treatment of a request that can't be checked, where a rule blocks or masks: reject answers 503, pass "
        "lets the request through. Rules in alert never stop a request.",
        default="reject",
        one_of=("pass", "reject"),
    )
    deadline_ms: int = field(
        "Most time for the guardrails in one request. After this on_error applies.",
        default=1000,
        between=(10, 1500),
        unit="ms",
    )

    @property
    def effective(self) -> tuple[RuleConfig, ...]:
        """The rules, or the usual ones."""
        return self.rules or DEFAULT_RULES

    @property
    def enforces(self) -> bool:
        """Whether some rule for requests blocks or masks."""
        return any(r.mode != "alert" and r.target != "reply" for r in self.effective)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Problems of the rules."""
        return _problems(self.effective, replies=False)


@config_class
class ReplyGuardConfig:
    """Settings of one route's guard of replies. It makes Kong hold back each reply until its end."""

    rules: tuple[RuleConfig, ...] = field(
        "Rules for replies; each reads the reply, whatever its target. May be empty where only placeholders are "
        "restored.",
        default=(),
        len_max=50,
    )
    encryption_key: str | None = field(
        "Same secret as in tenant-guardrails on the same route, to restore what that plugin masked.",
        default=None,
        len_min=16,
        referenceable=True,
    )
    redis: RedisConfig = field("Redis with exemptions, counts and events.", default=RedisConfig())
    exemptions: bool = field("Apply exemptions from Redis, and count findings there.", default=True)
    approval: bool = field(
        "Require two persons for an exemption: one requests, another approves.", default=False
    )
    webhook: WebhookConfig = field(
        "Webhook that receives alerts, in addition to metrics and audit records.", default=WebhookConfig()
    )
    report_examples: int = field(
        "Number of examples for `guard report`: the latest findings of each rule in alert, as in "
        "tenant-guardrails. 0: none.",
        default=0,
        between=(0, 20),
    )
    recover_redacted: bool = field("Replace placeholders in the reply by the original text.", default=False)
    show_reason: bool = field(
        "Tell a client which rules refused the reply, and the kinds of their findings.", default=False
    )
    correlation_header: str = field(
        "Header with the request's id, which is part of the error that a client gets in place of a refused reply.",
        default="X-Request-ID",
        len_min=1,
    )
    max_reply_bytes: int = field(
        "Largest reply that is read, decompressed. For a larger one on_error applies.",
        default=4_194_304,
        between=(1024, 67_108_864),
        unit="B",
    )
    on_error: str = field(
        "Treatment of a reply that can't be checked, where a rule blocks or masks: reject replaces it by a 503, "
        "pass lets the reply through.",
        default="reject",
        one_of=("pass", "reject"),
    )
    deadline_ms: int = field(
        "Most time for the check of one reply. After this on_error applies.",
        default=1000,
        between=(10, 1500),
        unit="ms",
    )

    @property
    def enforces(self) -> bool:
        """Whether some rule blocks or masks."""
        return any(r.mode != "alert" for r in self.rules)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Problems of the rules."""
        return _problems(self.rules, replies=True)


def _problems(rules: Sequence[RuleConfig], *, replies: bool) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for rule in rules:
        where = f"rules.{rule.name}"
        if rule.name in seen:
            yield where, "two rules have this name"
        seen.add(rule.name)
        if rule.mode == "mask" and rule.detector not in _MASKABLE:
            yield f"{where}.mode", f"{rule.detector} finds no words that could be masked"
        if rule.detector in _TOPICS and not rule.phrases:
            yield f"{where}.phrases", f"{rule.detector} needs examples"
        if rule.detector == "patterns" and not rule.patterns:
            yield f"{where}.patterns", "the detector needs expressions"
        if rule.detector != "presidio" and (rule.recognizers or rule.entities or rule.language):
            yield where, "recognizers, entities and language are of the detector presidio alone"
        if rule.target == "reply" and rule.mode != "alert" and not replies:
            yield where, f"only tenant-response-guardrails can {rule.mode} a reply"
        yield from _kind_problems(rule, f"{where}.kinds")


def _kind_problems(rule: RuleConfig, where: str) -> Iterator[tuple[str, str]]:
    if not rule.kinds:
        return
    # Imported here: these tables take a quarter of a second, and Kong's query command only wants the schema.
    from tenantgate.pii.core import NAME_KINDS, PERSONAL_KINDS, SECRET_KINDS

    known = {"personal_data": PERSONAL_KINDS, "secrets": SECRET_KINDS, "names": NAME_KINDS}.get(rule.detector)
    if known is None:
        yield where, f"{rule.detector} has no kinds to choose from"
    for kind in rule.kinds:
        if known and kind not in known:
            yield where, f"{kind} is not one of {', '.join(known)}"
