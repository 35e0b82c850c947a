"""The rate limits in their phase: the limits of a request, joined with the host and the counters.

Calls to Kong: the consumer, the credential where a key has a limit, then headers; or, if refused, verdict and answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

from tenantgate.limits.core.keys import counter_key
from tenantgate.limits.core.limit import Subject, limits_of
from tenantgate.limits.core.ports import NotCountedError
from tenantgate.limits.core.reply import headers, reached, refusal
from tenantgate.limits.local_counters import LocalCounters
from tenantgate.limits.redis_counters import RedisCounters
from tenantgate.llm.chat import JSON_TYPE
from tenantgate.store.redis_nodes import connect
from tenantgate.store.shared import Shared
from tenantgate.telemetry import metrics

if TYPE_CHECKING:
    from tenantgate.kong import Host
    from tenantgate.limits.config import LimitsConfig
    from tenantgate.limits.core.ports import Counters
    from tenantgate.limits.core.window import Decision

__all__ = ["PLUGIN", "RateLimits"]

PLUGIN: Final = "tenant-rate-limits"
_REDISES: Final = 64  # of a process

_requests: Final = metrics.counter(
    "tenantgate_limits_requests_total",
    "Requests by what the rate limits did: counted, refused, uncounted (Redis failed), no_tenant.",
    ("outcome",),
)
_refusals: Final = metrics.counter(
    "tenantgate_limits_refusals_total", "Requests that were refused, by the limit.", ("subject", "period")
)


class RateLimits:
    """The limits of one configuration; counters are shared by all of a process."""

    def __init__(self, config: LimitsConfig) -> None:
        self._config = config
        self._limits = limits_of(config.tenant, config.model, config.key)
        self._by_key = any(limit.subject is Subject.KEY for limit in self._limits)
        self._counters: Counters = _LOCAL
        if config.policy == "redis" and (where := config.redis) is not None:
            self._counters = _by_redis.get(where, lambda: RedisCounters(connect(where)))

    def access(self, host: Host) -> None:
        """Count the request, or refuse it.

        Raises:
            NotCountedError: it can't be counted, and ``on_error`` is ``reject``.
        """
        tenant = host.tenant()
        if tenant is None:
            self._uncounted("no_tenant", NotCountedError("a request without a tenant can't be counted"))
            return
        credential, model = host.credential() if self._by_key else None, self._config.model_name or ""
        keys = [counter_key(tenant, limit, model=model, credential=credential) for limit in self._limits]
        try:
            decision = self._counters.count(keys, self._limits)
        except NotCountedError as failure:
            self._uncounted("uncounted", failure)
            return
        if not decision.counted:
            self._refuse(host, decision)
        _requests.inc(outcome="counted")
        host.set_headers(headers(decision))

    def _uncounted(self, outcome: str, failure: NotCountedError) -> None:
        _requests.inc(outcome=outcome)
        if self._config.on_error == "reject":
            raise failure

    def _refuse(self, host: Host, decision: Decision) -> NoReturn:
        limit = reached(decision).limit
        subject, period = limit.subject.value, limit.period.word
        _requests.inc(outcome="refused")
        _refusals.inc(subject=subject, period=period)
        host.put_verdict(PLUGIN, {"refused": True, "limit": subject, "period": period})
        host.answer(429, refusal(decision), {"Content-Type": JSON_TYPE, **headers(decision)})


# -- of the process --------------------------------------------------------------------------------------

_LOCAL: Final = LocalCounters()
_by_redis: Final[Shared[RedisCounters]] = Shared(_REDISES, weak=True)
