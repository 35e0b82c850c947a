"""What an operator may set on the guards; names as in Kong's guardrail plugins where they have them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tenantgate.fields import config_class, field
from tenantgate.store.config import RedisConfig

__all__ = [
    "DEFAULT_RULES",
    "GuardConfig",
    "PatternConfig",
    "ReplyGuardConfig",
    "RuleConfig",
    "WebhookConfig",
]

_DETECTORS: Final = (
    "personal_data", "secrets", "names", "injection", "denied_topics", "allowed_topics", "patterns", "presidio",
)  # fmt: skip
_MASKABLE: Final = ("personal_data", "secrets", "names", "patterns", "presidio")
_TOPICS: Final = ("denied_topics", "allowed_topics")
_NAME: Final = r"^[a-z0-9][a-z0-9_-]*$"
_URL: Final = r"^https?://[^\s/?#@]+([/?][^\s#]*)?$"
_KIND: Final = r"^[A-Z][A-Z0-9_]*$"


@config_class
class PatternConfig:
    """An expression of the operator's."""

    name: str = field(
        "What it finds, for placeholders and logs: capitals, digits and underscores.",
        match=_KIND, lua_match="^[A-Z][A-Z0-9_]*$", len_max=40,
    )  # fmt: skip
    regex: str = field(
        "A regular expression in RE2's syntax: without look-around and back-references, so that no expression "
        "takes more than linear time.",
        len_min=1, len_max=2000,
    )  # fmt: skip
    score: float = field("How sure a match is, for the rule's threshold.", default=1.0, between=(0, 1))


@config_class
class RuleConfig:
    """One rule: what is looked for, where, and what happens then."""

    name: str = field(
        "The rule's name, for exemptions, logs and metrics: lower case letters, digits, hyphens.",
        match=_NAME, lua_match="^[a-z0-9][a-z0-9_-]*$", len_max=40,
    )  # fmt: skip
    detector: str = field("What is looked for.", one_of=_DETECTORS)
    mode: str = field(
        "What happens: alert only notes it, block refuses the request, mask replaces what was found.",
        default="alert", one_of=("alert", "block", "mask"),
    )  # fmt: skip
    target: str = field(
        "Where it is looked for: in the last message, in all that the application didn't write itself (user and "
        "tool messages), in the whole request, or in the reply.",
        default="concatenate_user_content",
        one_of=("last_message", "concatenate_user_content", "concatenate_all_content", "reply"),
    )  # fmt: skip
    kinds: tuple[str, ...] = field(
        "Kinds of findings that count, such as EMAIL_ADDRESS; left out, the detector's usual ones.",
        default=(), len_max=100,
    )  # fmt: skip
    threshold: float | None = field(
        "How sure a finding must be, from 0 to 1; left out, 0.5.", default=None, between=(0, 1)
    )
    phrases: tuple[str, ...] = field(
        "Example phrases of the topics, for denied_topics and allowed_topics.", default=(), len_max=200
    )
    patterns: tuple[PatternConfig, ...] = field(
        "The expressions of the detector patterns.", default=(), len_max=100
    )
    recognizers: str | None = field(
        "File with the recognizers of the detector presidio, in Presidio's YAML; left out, those that come with "
        "Presidio.",
        default=None, len_min=1, len_max=1000,
    )  # fmt: skip
    entities: tuple[str, ...] = field(
        "Entities that the detector presidio looks for, such as CREDIT_CARD; left out, all that its recognizers know.",
        default=(), len_max=100,
    )  # fmt: skip
    language: str | None = field(
        "Language of the detector presidio; left out, en.", default=None, match="^[a-z]{2,3}$", lua_match="^[a-z]+$",
        len_max=3,
    )  # fmt: skip
    message: str | None = field(
        "What a blocked client is told, in place of the usual sentence.", default=None, len_min=1, len_max=500
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
        "Address that gets a POST with JSON for each rule that found something: tenant, rule, kinds and numbers, no "
        "text; left out, none is sent.",
        default=None, match=_URL, len_max=1000, referenceable=True,
    )  # fmt: skip
    secret: str | None = field(
        "Signs each body: X-Tenantgate-Signature is sha256= and its HMAC in hexadecimal.",
        default=None, len_min=8, referenceable=True,
    )  # fmt: skip
    per_minute: int = field(
        "Most alerts a minute from one process; those beyond are counted in the rule's next alert.",
        default=60, between=(1, 6000),
    )  # fmt: skip
    timeout_ms: int = field(
        "How long one try may take; there are six, with growing pauses.",
        default=2000, between=(50, 30_000), unit="ms",
    )  # fmt: skip


@config_class
class GuardConfig:
    """Settings of one route's guard of requests."""

    rules: tuple[RuleConfig, ...] = field(
        "The rules; left out, personal data, secrets and prompt injection, all in alert.",
        default=(),
        len_max=50,
    )
    encryption_key: str | None = field(
        "Key from which each tenant's own key is derived, for hashes of what was found and for what "
        "recover_redacted keeps: 32 random bytes or more, as text.",
        default=None, len_min=16, referenceable=True,
    )  # fmt: skip
    redis: RedisConfig = field("The Redis that holds exemptions, counts and events.", default=RedisConfig())
    exemptions: bool = field(
        "Whether exemptions in Redis are honoured and what rules find is counted there.", default=True
    )
    approval: bool = field(
        "Whether an exemption needs a second person: requested by one, approved by another.", default=False
    )
    recover_redacted: bool = field(
        "Whether placeholders in the reply are turned back into what they stand for; needs encryption_key and "
        "tenant-response-guardrails on the same route.",
        default=False,
    )  # fmt: skip
    max_characters: int = field(
        "Longest text that a rule reads of one request. Where the rule blocks or masks, a longer one is refused with "
        "413, unless on_error lets it pass; in alert the rule then doesn't look, and the verdict says so.",
        default=250_000, between=(1_000, 10_000_000), unit="characters",
    )  # fmt: skip
    strict_requests: bool = field(
        "Whether a request that is no chat in strict JSON is refused; else it passes unread, unless a rule blocks or "
        "masks.",
        default=True,
    )
    show_reason: bool = field(
        "Whether a blocked client is told which rules refused its request, and for which kinds of findings.",
        default=False,
    )
    webhook: WebhookConfig = field(
        "Where alerts are sent, beside metrics and record.", default=WebhookConfig()
    )
    report_examples: int = field(
        "How many of the latest findings of each rule in alert are kept as examples for `guard report`: some words "
        "around each, with personal data and secrets masked, sealed under the tenant's key, for 30 days; 0 for none.",
        default=0, between=(0, 20),
    )  # fmt: skip
    correlation_header: str = field(
        "Header with the request's id, which a blocked client is told.", default="X-Request-ID", len_min=1
    )
    on_error: str = field(
        "What happens to a request that can't be checked, where a rule blocks or masks: it is answered with "
        "503, or it passes. Rules in alert never stop a request.",
        default="reject", one_of=("pass", "reject"),
    )  # fmt: skip
    deadline_ms: int = field(
        "How long the guard may take in all; then on_error applies.",
        default=1000, between=(10, 1500), unit="ms",
    )  # fmt: skip

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
        "The rules, whose target is the reply whatever they say; there may be none where only placeholders are "
        "to be recovered.",
        default=(), len_max=50,
    )  # fmt: skip
    encryption_key: str | None = field(
        "The key of tenant-guardrails on the same route, to recover its placeholders.",
        default=None, len_min=16, referenceable=True,
    )  # fmt: skip
    redis: RedisConfig = field("The Redis that holds exemptions, counts and events.", default=RedisConfig())
    exemptions: bool = field(
        "Whether exemptions in Redis are honoured and what rules find is counted there.", default=True
    )
    approval: bool = field(
        "Whether an exemption needs a second person: requested by one, approved by another.", default=False
    )
    webhook: WebhookConfig = field(
        "Where alerts are sent, beside metrics and record.", default=WebhookConfig()
    )
    report_examples: int = field(
        "How many of the latest findings of each rule in alert are kept as examples for `guard report`, as "
        "tenant-guardrails does; 0 for none.",
        default=0, between=(0, 20),
    )  # fmt: skip
    recover_redacted: bool = field(
        "Whether placeholders in the reply are turned back into what they stand for.", default=False
    )
    show_reason: bool = field(
        "Whether a client is told which rules refused the reply, and for which kinds of findings.",
        default=False,
    )
    correlation_header: str = field(
        "Header with the request's id, which a client is told when its reply is refused.",
        default="X-Request-ID", len_min=1,
    )  # fmt: skip
    max_reply_bytes: int = field(
        "Largest reply that is read, decompressed; a larger one is handled as on_error says.",
        default=4_194_304, between=(1024, 67_108_864), unit="B",
    )  # fmt: skip
    on_error: str = field(
        "What happens to a reply that can't be checked, where a rule blocks or masks: it is replaced by a 503, "
        "or it passes.",
        default="reject", one_of=("pass", "reject"),
    )  # fmt: skip
    deadline_ms: int = field(
        "How long the check may take in all; then on_error applies.",
        default=1000, between=(10, 1500), unit="ms",
    )  # fmt: skip

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
    from tenantgate.pii.core import NAME_KINDS, PERSONAL_KINDS, SECRET_KINDS  # noqa: PLC0415

    known = {"personal_data": PERSONAL_KINDS, "secrets": SECRET_KINDS, "names": NAME_KINDS}.get(rule.detector)
    if known is None:
        yield where, f"{rule.detector} has no kinds to choose from"
    for kind in rule.kinds:
        if known and kind not in known:
            yield where, f"{kind} is not one of {', '.join(known)}"
