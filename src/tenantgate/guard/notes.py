"""Exemptions that hold for a tenant, and the traces of a decision: counts, events, examples, alerts.

The same for the guard of requests and the guard of replies. Nothing here waits: Redis and the webhook have threads of
their own.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from tenantgate.guard.core.answers import safe_id
from tenantgate.guard.core.decision import Action, Decision, Exempt, Hit, nothing_exempt
from tenantgate.guard.core.examples import example
from tenantgate.guard.core.exemptions import covering
from tenantgate.guard.registry import shared
from tenantgate.guard.stored import Keys
from tenantgate.guard.webhook import shared as webhook
from tenantgate.store.sealing import TenantSealer
from tenantgate.store.shared import Shared
from tenantgate.telemetry import metrics

if TYPE_CHECKING:
    from tenantgate.guard.config import GuardConfig, ReplyGuardConfig, RuleConfig
    from tenantgate.guard.core.exemptions import Exemption
    from tenantgate.guard.registry import Registry
    from tenantgate.kong import Host
    from tenantgate.tenant import TenantId

__all__ = ["Notes", "fingerprint", "hits", "sealer"]

_MOST_HASHES: Final = 3  # of a rule, in an event

hits: Final = metrics.counter(
    "tenantgate_guard_hits_total",
    "Requests and replies in which a rule found something.",
    ("tenant", "rule", "mode"),
)
_found: Final = metrics.counter(
    "tenantgate_guard_findings_total", "Findings by detector and kind.", ("detector", "kind")
)


class Notes:
    """The notes of one configuration; what is costly is shared by all of a process."""

    def __init__(self, config: GuardConfig | ReplyGuardConfig) -> None:
        self._config = config
        self._registry = shared(config.redis) if config.exemptions else None
        self._webhook = webhook(config.webhook) if config.webhook.url else None

    def exempt(self, tenant: TenantId | None) -> Exempt:
        """The exemptions of the tenant that are in force; none without a key, which shows that they are genuine."""
        if tenant is None or self._registry is None or not self._config.encryption_key:
            return nothing_exempt
        keys = sealer(self._config.encryption_key, tenant)
        exemptions = self._registry.exemptions(tenant, keys, approval=self._config.approval)

        def exempt(rule: RuleConfig, text: str) -> Exemption | None:
            return covering(exemptions, rule.name, lambda: fingerprint(keys, rule.name, text))

        return exempt

    def note(self, host: Host, tenant: TenantId | None, decision: Decision, *, of: str = "request") -> None:
        """Note a decision on a request, or `of` a ``reply``."""
        found = [hit for hit in decision.hits if hit.findings]
        for hit in found:
            hits.inc(tenant=tenant.slug if tenant else "", rule=hit.rule.name, mode=hit.rule.mode)
            for kind, n in Counter(f.kind for f in hit.findings).items():
                _found.inc(n, detector=hit.rule.detector, kind=kind)
        if tenant is None:
            return
        if self._webhook is not None:
            for hit in found:
                self._webhook.alert(tenant, hit.rule.name, self._alert(host, hit, of))
        if self._registry is not None:
            counts = (name for hit in decision.hits for name in _counted(hit))
            self._registry.count(tenant, [f"|{of}|all", *counts])
            for hit in decision.hits:
                self._register(self._registry, tenant, hit)

    def _register(self, registry: Registry, tenant: TenantId, hit: Hit) -> None:
        """The events and the example of one hit."""
        for identifier in hit.exemptions:
            registry.event(tenant, {"event": "used", "id": identifier, "rule": hit.rule.name})
        if hit.action is Action.BLOCK:
            registry.event(tenant, self._blocked(tenant, hit))
        elif hit.action is Action.ALERT and self._config.report_examples and self._config.encryption_key:
            text = example(hit.passage.text, hit.findings[0])
            if text is not None:
                name = Keys(tenant).examples(hit.rule.name)
                keys = sealer(self._config.encryption_key, tenant)
                sealed = keys.seal(text.encode("utf-8", "replace"), key=name.encode())
                registry.example(tenant, hit.rule.name, sealed, most=self._config.report_examples)

    def _alert(self, host: Host, hit: Hit, of: str) -> dict[str, Any]:
        request_id = None
        if host.phase == "access":
            request_id = safe_id(host.request_id(self._config.correlation_header))
        return {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "route_id": host.config_keys.get("route_id"),
            "request_id": request_id,
            "detector": hit.rule.detector,
            "target": "reply" if of == "reply" else hit.rule.target,
            "mode": hit.rule.mode,
            "kinds": dict(sorted(Counter(f.kind for f in hit.findings).items())),
            "score": round(max(f.score for f in hit.findings), 2),
        }

    def _blocked(self, tenant: TenantId, hit: Hit) -> dict[str, str]:
        kinds = ",".join(sorted({f.kind for f in hit.findings}))
        event = {"event": "blocked", "rule": hit.rule.name, "kinds": kinds}
        if self._config.encryption_key:
            keys = sealer(self._config.encryption_key, tenant)
            found = hit.findings[:_MOST_HASHES]
            event["hashes"] = ",".join(fingerprint(keys, hit.rule.name, hit.text(f)) for f in found)
        return event


def _counted(hit: Hit) -> list[str]:
    """The names that a hit is counted under: ``rule|mode|what``."""
    head = f"{hit.rule.name}|{hit.rule.mode}|"
    names = [head + "exempted"] if hit.exempted else []
    if hit.findings:
        names += [head + "hits", *(head + kind for kind in {f.kind for f in hit.findings})]
    return names


def fingerprint(keys: TenantSealer, rule: str, text: str) -> str:
    """Digest of a matched text under the tenant's key, by which an exemption names it: 32 hexadecimal digits."""
    return keys.name(b"guard\0" + rule.encode() + b"\0" + text.encode("utf-8", "surrogatepass"))


_sealers: Final[Shared[TenantSealer]] = Shared(1024)


def sealer(encryption_key: str, tenant: TenantId) -> TenantSealer:
    """The tenant's keys."""
    return _sealers.get((encryption_key, tenant), lambda: TenantSealer(encryption_key, tenant))
