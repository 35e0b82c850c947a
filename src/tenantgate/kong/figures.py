"""What a plugin server counts."""

from __future__ import annotations

from typing import Final

from tenantgate.telemetry import metrics

__all__ = [
    "connections",
    "event_seconds",
    "events",
    "instances",
    "passed",
    "ready",
    "rpc_errors",
    "running",
    "stuck",
    "waiting",
]

events: Final = metrics.counter(
    "tenantgate_events_total", "Events from Kong by how they ended.", ("phase", "outcome")
)
event_seconds: Final = metrics.histogram(
    "tenantgate_event_seconds", "From the arrival of an event to its last answer.", ("phase",)
)
rpc_errors: Final = metrics.counter(
    "tenantgate_rpc_errors_total", "Calls that were answered with an error.", ("reason",)
)
passed: Final = metrics.counter(
    "tenantgate_passed_calls_total",
    "Calls given to another process: an event that has come to one with less to do, a step to its event.",
    ("call",),
)
connections: Final = metrics.gauge("tenantgate_connections", "Open connections from Kong.", total=True)
instances: Final = metrics.gauge("tenantgate_instances", "Plugin instances.")
running: Final = metrics.gauge("tenantgate_events_in_progress", "Events that have not ended.", total=True)
waiting: Final = metrics.gauge(
    "tenantgate_events_waiting", "Events that wait for a worker thread.", total=True
)
stuck: Final = metrics.gauge(
    "tenantgate_stuck_threads", "Worker threads that have not come back.", total=True
)
ready: Final = metrics.gauge(
    "tenantgate_ready", "1 when the server takes events, isn't overloaded and misses nothing."
)
