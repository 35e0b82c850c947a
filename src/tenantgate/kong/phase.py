"""The `phase` decorator: between Kong's PDK and a plugin's method.

Whatever the method does, the phase ends in order, under Tenantgate's server and under kong-pdk's own (where
an exception would otherwise leave the request, and at times the whole server, hanging).
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from tenantgate.errors import TenantgateError
from tenantgate.kong.host import Answered, DeadlineError, Host
from tenantgate.kong.pdk import Abandoned
from tenantgate.kong.policy import LOG_DEADLINE_MS, UNAVAILABLE, PhasePolicy
from tenantgate.telemetry import logs, metrics

__all__ = ["attempt", "phase"]

P = TypeVar("P")

_log: Final = logging.getLogger("tenantgate.phase")
_seconds: Final = metrics.histogram(
    "tenantgate_phase_seconds", "Time in a plugin's phase, PDK calls included.", ("plugin", "phase")
)
_outcomes: Final = metrics.counter(
    "tenantgate_phases_total",
    "Phases by how they ended: done, answered, failed, late.",
    ("plugin", "phase", "outcome"),
)
_calls: Final = metrics.counter(
    "tenantgate_pdk_calls_total", "Calls from phases to Kong.", ("plugin", "phase")
)


def phase(method: Callable[[P, Host], None]) -> Callable[[P, Any], None]:
    """Make ``def access(self, host: Host)`` a phase that kong-pdk can call as ``access(self, kong)``.

    From the plugin object it reads `policy` (or `config.on_error` and `config.deadline_ms`), `config_error`
    (then the method isn't called at all) and `config_keys`; a `TenantPlugin` has them all. Any exception is
    counted and logged by type and place only. Then ``on_error: reject`` answers 503, ``pass`` returns.
    """
    name = method.__name__

    @functools.wraps(method)
    def run(self: P, kong: Any) -> None:
        policy = PhasePolicy.of(self)
        limit = LOG_DEADLINE_MS if name == "log" else policy.deadline_ms
        host = Host(kong, name, deadline_ms=limit, config_keys=getattr(self, "config_keys", None))

        def work() -> None:
            _check_config(self)
            method(self, host)

        attempt(work, host, policy, plugin=type(self).__module__.rpartition(".")[2])

    return run


def attempt(work: Callable[[], object], host: Host, policy: PhasePolicy, *, plugin: str) -> None:
    """Do the work of a plugin in the phase of `host`, counted and timed under the plugin's name.

    An exception is logged by type and place; then ``on_error: reject`` answers 503, ``pass`` returns.

    Raises:
        Abandoned: the event is over.
    """
    started, calls, outcome = time.monotonic(), host.pdk_calls, "done"
    try:
        outcome = _outcome(work, host, policy, plugin)
    except Abandoned:
        outcome = "late"
        raise
    finally:
        _seconds.observe(time.monotonic() - started, plugin=plugin, phase=host.phase)
        _outcomes.inc(plugin=plugin, phase=host.phase, outcome=outcome)
        _calls.inc(host.pdk_calls - calls, plugin=plugin, phase=host.phase)


def _outcome(work: Callable[[], object], host: Host, policy: PhasePolicy, plugin: str) -> str:
    try:
        work()
    except Answered:
        return "answered"
    except Abandoned:
        raise
    except BaseException as error:  # noqa: BLE001 - kong-pdk's server would hang on SystemExit as well
        late = isinstance(error, DeadlineError)
        logs.event(
            _log, logging.WARNING, "phase failed", plugin=plugin, phase=host.phase, **logs.describe(error)
        )
        _reject(host, policy)
        return "late" if late else "failed"
    return "done"


def _check_config(plugin: object) -> None:
    problem = getattr(plugin, "config_error", None)
    if isinstance(problem, TenantgateError):
        raise problem.with_traceback(None)


def _reject(host: Host, policy: PhasePolicy) -> None:
    if host.answered is not None or not policy.rejects(host.phase):
        return
    status, body, headers = UNAVAILABLE
    try:
        host.answer(status, body, headers, overtime=True)
    except Answered:
        pass
    except Exception as error:  # noqa: BLE001 - nothing more can be done for this request here
        logs.event(_log, logging.ERROR, "phase could not reject", phase=host.phase, **logs.describe(error))
